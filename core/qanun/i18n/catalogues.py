"""Finding and loading translations: `locale/<language>/LC_MESSAGES/<domain>.po`, one domain per distribution.

The compiled `.mo` is used when it is at least as new as its `.po`; otherwise the `.po` is compiled in memory, so a
checkout works without a build step.
"""

from __future__ import annotations

import gettext
import io
import os
from functools import cache
from pathlib import Path

import qanun


def locale_dir() -> Path:
    """`QANUN_LOCALE_DIR`, the checkout's `locale/`, or what a wheel carries."""
    named = os.environ.get("QANUN_LOCALE_DIR")
    if named:
        return Path(named)
    package = Path(qanun.__file__).parent
    checkout = package.parent.parent / "locale"
    return checkout if checkout.is_dir() else package / "locale"


def po_file(language: str, domain: str) -> Path:
    return locale_dir() / language / "LC_MESSAGES" / f"{domain}.po"


def compile_in_memory(po: Path, language: str) -> bytes:
    # Only a checkout comes here; every command of a box would load it.
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import read_po

    with po.open("rb") as source:
        catalogue = read_po(source, locale=language)
    target = io.BytesIO()
    write_mo(target, catalogue)
    return target.getvalue()


@cache
def translations(language: str, domain: str) -> gettext.NullTranslations:
    """The catalogue, or one that gives back the English text when there is none."""
    po = po_file(language, domain)
    mo = po.with_suffix(".mo")
    if mo.exists() and (not po.exists() or mo.stat().st_mtime >= po.stat().st_mtime):
        return gettext.GNUTranslations(io.BytesIO(mo.read_bytes()))
    if po.exists():
        return gettext.GNUTranslations(io.BytesIO(compile_in_memory(po, language)))
    return gettext.NullTranslations()
