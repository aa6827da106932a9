"""The languages Qanun is offered in, and choosing one.

A language is offered when its catalogues are complete; `python -m qanun.i18n check` decides that, `OFFERED` records it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

from qanun.i18n.catalogues import translations
from qanun.i18n.messages import resolve

Direction = Literal["ltr", "rtl"]


@dataclass(frozen=True, slots=True)
class Locale:
    """One language as the product knows it. `calendar` is an ICU calendar name, `icu` the locale dates are written in."""

    code: str
    name: str
    direction: Direction = "ltr"
    calendar: str = "gregorian"
    pseudo: bool = False

    @property
    def language(self) -> str:
        return self.code.split("-", 1)[0]

    @property
    def rtl(self) -> bool:
        return self.direction == "rtl"

    def gettext(self, text: str, *, domain: str = "qanun") -> str:
        """`text` in this language: from the distribution's catalogue, else core's, else as it is."""
        if self.pseudo:
            return _pseudo(text, self.rtl)
        found = translations(self.code, domain).gettext(text)
        if found == text and domain != "qanun":
            found = translations(self.code, "qanun").gettext(text)
        return found

    def ngettext(self, one: str, many: str, number: int, *, domain: str = "qanun") -> str:
        if self.pseudo:
            return _pseudo(one if number == 1 else many, self.rtl)
        return translations(self.code, domain).ngettext(one, many, number)

    def pgettext(self, context: str, text: str, *, domain: str = "qanun") -> str:
        if self.pseudo:
            return _pseudo(text, self.rtl)
        found = translations(self.code, domain).pgettext(context, text)
        if found == text and domain != "qanun":
            found = translations(self.code, "qanun").pgettext(context, text)
        return found

    def npgettext(self, context: str, one: str, many: str, number: int, *, domain: str = "qanun") -> str:
        if self.pseudo:
            return _pseudo(one if number == 1 else many, self.rtl)
        return translations(self.code, domain).npgettext(context, one, many, number)

    def resolve(self, value: object) -> str:
        """A marked message in this language; any other value as text."""
        return resolve(value, self)


OFFERED = (
    Locale("en", "English"),
    Locale("ar", "العربية", "rtl"),
)
# For tests: longer texts with accents, and a right-to-left English, to see what breaks before a translator does.
PSEUDO = (Locale("en-XA", "Accented", pseudo=True), Locale("ar-XB", "Turned", "rtl", pseudo=True))


def locales() -> tuple[Locale, ...]:
    """The languages a person can choose."""
    return OFFERED


@cache
def get_locale(code: str) -> Locale:
    """The locale of `code` (`ar-MA` finds `ar`), English when it is not offered."""
    known = {locale.code: locale for locale in (*OFFERED, *PSEUDO)}
    return known.get(code) or known.get(code.split("-", 1)[0]) or OFFERED[0]


def negotiate(accept_language: str, offered: list[str], default: str) -> Locale:
    """The best offered language for an `Accept-Language` header (RFC 9110); malformed parts are skipped."""
    wanted: list[tuple[float, int, str]] = []
    for position, part in enumerate(accept_language[:500].split(",")[:20]):
        tag, _, parameters = part.strip().partition(";")
        try:
            quality = float(parameters.strip().removeprefix("q=")) if parameters else 1.0
        except ValueError:
            continue
        language = tag.strip().lower().split("-", 1)[0]
        if language in offered and 0 < quality <= 1:
            wanted.append((-quality, position, language))
    return get_locale(min(wanted)[2] if wanted else default)


_ACCENTS = str.maketrans("aeiouyAEIOUYcnCN", "àéîöûýÀÉÎÖÛÝçñÇÑ")


def _pseudo(text: str, rtl: bool) -> str:
    if rtl:
        return f"\u202e{text}\u202c"
    pieces, result, depth = text, [], 0
    for letter in pieces:  # placeholders such as %(name)s and {name} stay as they are
        depth += letter in "({"
        result.append(letter if depth else letter.translate(_ACCENTS))
        depth -= letter in ")}" and depth > 0
    return f"[{''.join(result)} ···]"
