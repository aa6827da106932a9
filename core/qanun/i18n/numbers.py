"""Numbers as people type them and as clinics must read them."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal, InvalidOperation

_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_NUMBER = re.compile(r"[+-]?\d{1,12}(?:\.\d{1,9})?")


def to_ascii_digits(text: str) -> str:
    """Arabic-Indic, Persian and every other decimal digit as ASCII; the Arabic decimal and thousands marks too."""
    if not _NOT_ASCII.search(text):
        return text
    out = []
    for character in text:
        digit = unicodedata.decimal(character, None)
        out.append(str(digit) if digit is not None else {"٫": ".", "٬": ",", "−": "-"}.get(character, character))
    return "".join(out)


def parse_decimal(text: str) -> Decimal:
    """The number somebody typed, in any digits, with `.`, `٫` or a single `,` as decimal mark. Raises ValueError."""
    cleaned = to_ascii_digits(text).strip().replace("\u00a0", "").replace(" ", "")
    if cleaned.count(",") == 1 and "." not in cleaned:
        cleaned = cleaned.replace(",", ".")
    if not _NUMBER.fullmatch(cleaned):
        raise ValueError("not a number")
    try:
        return Decimal(cleaned)
    except InvalidOperation:
        raise ValueError("not a number") from None


def format_number(value: Decimal | int | float, places: int | None = None) -> str:
    """Latin digits, a leading zero always, a trailing zero never (ISMP's rule for doses), unless `places` is given."""
    number = Decimal(str(value))
    if places is not None:
        return f"{number:.{places}f}"
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
