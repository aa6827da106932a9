"""Invented names for demonstration patients, in Latin and Arabic script."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

_FEMALE = (
    ("Amina", "أمينة"), ("Fatima", "فاطمة"), ("Khadija", "خديجة"), ("Maryam", "مريم"), ("Huda", "هدى"), ("Nour", "نور"),
    ("Salma", "سلمى"), ("Zainab", "زينب"), ("Aisha", "عائشة"), ("Rania", "رانيا"), ("Samira", "سميرة"), ("Hanan", "حنان"),
    ("Iman", "إيمان"), ("Asma", "أسماء"), ("Layan", "ليان"), ("Dalia", "داليا"), ("Rim", "ريم"), ("Yara", "يارا"),
)  # fmt: skip
_MALE = (
    ("Omar", "عمر"), ("Youssef", "يوسف"), ("Ahmad", "أحمد"), ("Khalid", "خالد"), ("Hassan", "حسن"), ("Ibrahim", "إبراهيم"),
    ("Mustafa", "مصطفى"), ("Samir", "سمير"), ("Tariq", "طارق"), ("Bilal", "بلال"), ("Idris", "إدريس"), ("Anas", "أنس"),
    ("Ziad", "زياد"), ("Rami", "رامي"), ("Adil", "عادل"), ("Karim", "كريم"), ("Reda", "رضا"), ("Daniel", "دانيال"),
)  # fmt: skip
_FAMILY = (
    ("Haddad", "حداد"), ("Mansour", "منصور"), ("Khoury", "خوري"), ("Nasser", "ناصر"), ("Alami", "العلمي"),
    ("Benali", "بنعلي"), ("Saleh", "صالح"), ("Darwish", "درويش"), ("Fares", "فارس"), ("Amrani", "العمراني"),
    ("Qasim", "قاسم"), ("Tazi", "التازي"), ("Hamdan", "حمدان"), ("Rahal", "رحال"), ("Sabbagh", "صباغ"),
    ("Zaki", "زكي"), ("Othman", "عثمان"), ("Diallo", "ديالو"), ("Najjar", "النجار"), ("Yassin", "ياسين"),
)  # fmt: skip

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class NameList:
    """Pairs of (name as registered, name in the other script)."""

    female: Pairs
    male: Pairs
    family: Pairs
    dial: str
    languages: tuple[str, ...]

    def language(self, rng: Random) -> str:
        return rng.choice(self.languages)


def _turned(pairs: Pairs) -> Pairs:
    return tuple((other, first) for first, other in pairs)


LATIN = NameList(_FEMALE, _MALE, _FAMILY, "+212 6", ("ar", "ar", "ar", "en"))
ARABIC = NameList(_turned(_FEMALE), _turned(_MALE), _turned(_FAMILY), "+962 7", ("ar", "ar", "ar", "ar", "en"))
