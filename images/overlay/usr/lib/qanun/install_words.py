"""What the installer says, in English and Arabic, and where its sentences go.

A text console draws letters apart and from the left: Arabic is offered to terminals on a serial line alone, which draw it
themselves. The screen says so and stays English.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

_WORDS = {
    "welcome": (
        "\nQanun {version}: installation onto this machine's disk\n",
        "\nقانون {version}: التثبيت على قرص هذا الجهاز\n",
    ),
    "no-arabic-here": (
        "(This screen cannot draw Arabic. What you install speaks Arabic and English.)",
        "",
    ),
    "site-there": (
        "The stick brings a site.toml: the machine will know what it is for.",
        "تحمل الذاكرة ملف site.toml: سيعرف الجهاز ما هو مخصّص له.",
    ),
    "site-missing": (
        "The stick brings no site.toml (folder qanun): the machine will ask what it has to know in a browser.",
        "لا تحمل الذاكرة ملف site.toml (في المجلد qanun): سيسأل الجهاز عمّا يحتاج إليه في المتصفح.",
    ),
    "disks": ("\nDisks of this machine:", "\nأقراص هذا الجهاز:"),
    "is-stick": ("the stick that you started from", "الذاكرة التي بدأت منها"),
    "is-read-only": ("cannot be written", "لا يمكن الكتابة عليه"),
    "is-in-use": ("in use", "قيد الاستعمال"),
    "is-small": ("too small", "صغير جدًا"),
    "is-empty": ("empty", "فارغ"),
    "which": (
        "\nOnto which disk? Type its name, or Enter to look again:",
        "\nعلى أي قرص؟ اكتب اسمه، أو اضغط Enter لإعادة البحث:",
    ),
    "sure": (
        "Everything on {name} will be lost: {what}\nType {name} once more to begin, anything else to go back:",
        "سيُمحى كل ما على {name}: {what}\nاكتب {name} مرة أخرى للبدء، أو أي شيء آخر للرجوع:",
    ),
    "not-sure": ("Nothing was changed.", "لم يتغيّر شيء."),
    "nobody": ("nobody is at this console", "لا أحد أمام هذه الشاشة"),
    "not-one": (
        '"only" wants exactly one disk that can be used; there are {count}: name it',
        'تتطلب "only" قرصًا واحدًا فقط صالحًا؛ يوجد {count}: اذكر اسمه',
    ),
    "no-such": ("there is no disk called {name}", "لا يوجد قرص باسم {name}"),
    "busy-stick": ("{name} is the stick that you started from", "{name} هو الذاكرة التي بدأت منها"),
    "busy-read-only": ("{name} cannot be written", "لا يمكن الكتابة على {name}"),
    "busy-in-use": ("{name} is in use", "{name} قيد الاستعمال"),
    "busy-small": ("{name} has less than {least} GiB", "سعة {name} أقل من {least} غيغابايت"),
    "holds-qanun": (
        "{name} holds a Qanun ({what}). If it shall be overwritten, with every record on it, name it once more: replace",
        "على {name} نظام قانون ({what}). لمحوه مع كل السجلات التي عليه اذكر اسمه مرة أخرى: replace",
    ),
    "holds": (
        "{name} is not empty ({what}). If it shall be overwritten, name it once more: replace",
        "{name} ليس فارغًا ({what}). لمحوه اذكر اسمه مرة أخرى: replace",
    ),
    "partitions": ("{name}: partitions", "{name}: التقسيم"),
    "copied": ("copied: {percent} %", "نُسخ: {percent} %"),
    "reading-back": ("reading back what was written", "قراءة ما كُتب للتحقق منه"),
    "start-up": ("what starts the machine", "ملفات بدء التشغيل"),
    "bad-source": (
        "the stick does not hold what it should: write it anew, or take another",
        "محتوى الذاكرة ليس كما يجب: اكتبها من جديد أو استعمل غيرها",
    ),
    "bad-disk": (
        "{name} does not give back what was written: it wants replacing",
        "لا يعيد {name} ما كُتب عليه: يجب استبداله",
    ),
    "done": ("Qanun is on {name}.", "قانون مثبَّت على {name}."),
    "next": (
        "\nQanun is installed. Take the stick out and start the machine; the first start takes some minutes.",
        "\nاكتمل تثبيت قانون. انزع الذاكرة وشغّل الجهاز؛ يستغرق التشغيل الأول بضع دقائق.",
    ),
    "open": (
        "Then open https://{name} in a browser. The operator's guide says how to sign in and how to keep the recovery key.",
        "ثم افتح https://{name} في المتصفح. يشرح دليل المشغّل طريقة الدخول وحفظ مفتاح الاسترداد.",
    ),
    "later": (
        "Its screen will show an address and a code: open the address on a computer or phone in the same network.",
        "ستعرض شاشته عنوانًا ورمزًا: افتح العنوان على حاسوب أو هاتف في الشبكة نفسها.",
    ),
    "press": ("Enter starts the machine again:", "اضغط Enter لإعادة التشغيل:"),
    "stopped": ("\nNot installed: {why}", "\nلم يكتمل التثبيت: {why}"),
    "language": ("1 English   2 العربية :", "1 English   2 العربية :"),
}


def word(language: str, name: str) -> str:
    english, arabic = _WORDS[name]
    return arabic if language == "ar" and arabic else english


def names() -> list[str]:
    return list(_WORDS)


class Stop(Exception):
    """Nothing more is done; the sentence says why."""


@dataclass(slots=True)
class Voice:
    """Where sentences go: this terminal, or every console when nobody was asked; and a note of all of them."""

    language: str = "en"
    consoles: Sequence[Path] = ()
    said: list[str] = field(default_factory=list)

    def say(self, sentence: str, /, **values: object) -> None:
        self.line(word(self.language, sentence).format(**values))

    def line(self, text: str) -> None:
        self.said.append(text)
        if not self.consoles:
            print(text, flush=True)
        for console in self.consoles:
            with contextlib.suppress(OSError), console.open("w", encoding="utf-8") as out:
                out.write(text + "\r\n")

    def ask(self, sentence: str, /, **values: object) -> str:
        try:
            return input(word(self.language, sentence).format(**values) + " ").strip()
        except EOFError:
            raise Stop(word(self.language, "nobody")) from None
