"""Spelling of names for searching: what two people may write differently becomes the same text.

Only for comparing. Names are stored and shown as they were typed.
"""

from __future__ import annotations

import re
import unicodedata

from qanun.i18n.numbers import to_ascii_digits

# Arabic letters that are written for one another, and letters of Persian and Urdu keyboards beside Arabic ones.
_ARABIC = str.maketrans({
    "أ": "ا", "إ": "ا", "آ": "ا", "ٱ": "ا", "ء": "", "ؤ": "و", "ئ": "ي", "ى": "ي", "ی": "ي", "ې": "ي", "ے": "ي",
    "ة": "ه", "ۀ": "ه", "ہ": "ه", "ک": "ك", "ڪ": "ك", "گ": "ك", "پ": "ب", "چ": "ج", "ژ": "ز", "ڤ": "ف",
    "ـ": "", "\u200c": "", "\u200d": "", "\u200e": "", "\u200f": "",
})  # fmt: skip
_LATIN = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ł": "l", "ı": "i", "'": "", "’": "", "ʼ": "", "-": " "}
)
_SPACES = re.compile(r"\s+")


def fold_name(text: str) -> str:
    """`text` in lower case, without diacritics, tatweel and joiners, with hamza, taa marbuta, yaa and kaf variants folded.

    The same function makes the stored search column, so the database compares like with like.
    """
    lowered = to_ascii_digits(text).lower().translate(_LATIN)
    bare = "".join(c for c in unicodedata.normalize("NFKD", lowered) if not unicodedata.combining(c))
    folded = bare.translate(_ARABIC)
    # عبد الله and عبدالله are one name.
    folded = re.sub(r"\bعبد\s+(?=ال)", "عبد", folded)
    return _SPACES.sub(" ", folded).strip()
