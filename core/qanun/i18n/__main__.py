"""`python -m qanun.i18n extract | update | compile | check`: what translators and CI run, in a checkout.

`extract` gathers each distribution's messages into a template (`.pot`, not committed); `update` merges them into the
catalogues; `compile` writes `.mo`; `check` says what is missing, fuzzy, or has lost a placeholder.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from qanun.i18n.catalogues import locale_dir
from qanun.i18n.locales import OFFERED

_KEYWORDS = {
    "_": None, "N_": None, "gettext": None, "ngettext": (1, 2), "pgettext": ((1, "c"), 2),
    "npgettext": ((1, "c"), 2, 3),
}  # fmt: skip
_OPTIONS = {"**/templates/**.html": {"trimmed": "true", "silent": "false"}}
_METHODS = [("**/templates/**.html", "jinja2"), ("**.py", "python")]
_PLACEHOLDER = re.compile(r"%\(\w+\)[sd]|\{\w+\}")


def distributions(root: Path) -> Iterator[tuple[str, Path]]:
    """(domain, package folder) of every distribution in the checkout."""
    yield "qanun", root / "core" / "qanun"
    for package in sorted((*root.glob("plugins/*/qanun_*"), *root.glob("appliance/qanun_*"))):
        if package.is_dir():
            yield package.name, package


def extract_catalogue(folder: Path) -> Catalog:
    """Every message of one distribution, in the order of the files."""
    catalogue = Catalog(charset="utf-8")
    for file, line, message, comments, context in extract_from_dir(
        folder, _METHODS, _OPTIONS, keywords=_KEYWORDS, comment_tags=("Translators:",), strip_comment_tags=True
    ):
        del line  # positions change with every edit and would make every commit touch every catalogue
        catalogue.add(message, None, [(file, 0)], auto_comments=comments, context=context)
    return catalogue


def _languages() -> list[str]:
    return [locale.code for locale in OFFERED if locale.code != "en"]


def update(root: Path) -> int:
    for domain, folder in distributions(root):
        template = extract_catalogue(folder)
        for language in _languages():
            po = locale_dir() / language / "LC_MESSAGES" / f"{domain}.po"
            catalogue = Catalog(locale=language, charset="utf-8")
            if po.exists():
                with po.open("rb") as source:
                    catalogue = read_po(source, locale=language)
            catalogue.update(template, no_fuzzy_matching=True)
            catalogue.obsolete.clear()
            po.parent.mkdir(parents=True, exist_ok=True)
            target = BytesIO()
            write_po(target, catalogue, omit_header=False, sort_output=True, no_location=True, width=0)
            kept = re.sub(rb'"(POT-Creation-Date|PO-Revision-Date|Generated-By|Last-Translator|Language-Team)[^\n]*\n', b"",
                          target.getvalue())  # fmt: skip
            po.write_bytes(kept)
            print(f"{language} {domain}: {len(catalogue)} messages")
    return 0


def compile_all() -> int:
    for po in sorted(locale_dir().glob("*/LC_MESSAGES/*.po")):
        with po.open("rb") as source:
            catalogue = read_po(source, locale=po.parent.parent.name)
        with po.with_suffix(".mo").open("wb") as target:
            write_mo(target, catalogue)
    return 0


def _texts(one_or_forms: str | Sequence[str] | None) -> list[str]:
    return [one_or_forms] if isinstance(one_or_forms, str) else list(one_or_forms or ())


def faults(root: Path) -> list[str]:
    """What keeps a language from being complete, one sentence each."""
    found = []
    for domain, folder in distributions(root):
        template = extract_catalogue(folder)
        for language in _languages():
            po = locale_dir() / language / "LC_MESSAGES" / f"{domain}.po"
            if not po.exists():
                if len(template):
                    found.append(f"{language} {domain}: no catalogue")
                continue
            with po.open("rb") as source:
                catalogue = read_po(source, locale=language)
            for message in template:
                if not message.id:
                    continue
                forms = _texts(message.id)
                key = forms[0]
                known = catalogue.get(key, message.context)
                texts = [] if known is None else _texts(known.string)
                if known is None or not texts or not all(texts):
                    found.append(f"{language} {domain}: not translated: {key!r}")
                elif known.fuzzy:
                    found.append(f"{language} {domain}: fuzzy: {key!r}")
                else:
                    wanted = set(_PLACEHOLDER.findall(forms[-1]))
                    # A plural form may drop the number (Arabic's one and two say it in the word); none may invent one.
                    for text in texts:
                        have = set(_PLACEHOLDER.findall(text))
                        if have - wanted or (len(texts) == 1 and wanted - have):
                            found.append(f"{language} {domain}: placeholders differ: {key!r}")
    return found


def check(root: Path) -> int:
    found = faults(root)
    for line in found:
        print(line)
    print(f"{len(found)} faults" if found else "every offered language is complete")
    return 1 if found else 0


def main(arguments: Sequence[str]) -> int:
    root = locale_dir().parent
    actions: dict[str, Callable[[], int]] = {
        "update": lambda: update(root),
        "compile": compile_all,
        "check": lambda: check(root),
    }
    if list(arguments) == ["extract"]:
        for domain, folder in distributions(root):
            print(f"{domain}: {len(extract_catalogue(folder))} messages")
        return 0
    if len(arguments) != 1 or arguments[0] not in actions:
        print("usage: python -m qanun.i18n extract | update | compile | check", file=sys.stderr)
        return 2
    return actions[arguments[0]]()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
