"""Dates and times as the reader writes them, through ICU: Gregorian, Umm al-Qura and Persian calendars, Latin digits.

Stored and exchanged values stay ISO 8601 and UTC; this is for eyes only.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from functools import cache
from zoneinfo import ZoneInfo

import icu

from qanun.i18n.locales import Locale
from qanun.i18n.values import isolate

_CALENDARS = {"gregorian": "gregory", "umm-al-qura": "islamic-umalqura", "persian": "persian"}


@cache
def _formatter(code: str, calendar: str, skeleton: str) -> icu.SimpleDateFormat:
    # Latin digits in every language: the product's figures are set in them, and mixed digits are misread.
    locale = icu.Locale.forLanguageTag(f"{code}-u-ca-{_CALENDARS[calendar]}-nu-latn")
    pattern = icu.DateTimePatternGenerator.createInstance(locale).getBestPattern(skeleton)
    formatter = icu.SimpleDateFormat(pattern, locale)
    formatter.setTimeZone(icu.TimeZone.getGMT())
    return formatter


def _write(locale: Locale, moment: datetime, skeleton: str, zone: ZoneInfo) -> str:
    code = "en-GB" if locale.language == "en" else locale.language
    # ICU carries time zone rules of its own, and of another age: it gets the clock on the clinic's wall and only writes it,
    # or a date and the time beside it could stand on two sides of midnight.
    wall = moment.astimezone(zone).replace(tzinfo=UTC)
    return str(_formatter(code, locale.calendar, skeleton).format(wall.timestamp()))


def long_date(locale: Locale, moment: date | datetime, zone: ZoneInfo) -> str:
    """`Tuesday 12 May` / `الثلاثاء، 12 مايو`."""
    return _write(locale, _at_noon(moment, zone), "EEEEdMMMM", zone)


def medium_date(locale: Locale, moment: date | datetime, zone: ZoneInfo) -> str:
    """`12 May 2026`."""
    return _write(locale, _at_noon(moment, zone), "dMMMy", zone)


def short_date(locale: Locale, moment: date | datetime, zone: ZoneInfo) -> str:
    """`12 May`."""
    return _write(locale, _at_noon(moment, zone), "dMMM", zone)


def clock(moment: datetime, zone: ZoneInfo) -> str:
    """`14:05`, in the clinic's zone."""
    return f"{moment.astimezone(zone):%H:%M}"


def _at_noon(moment: date | datetime, zone: ZoneInfo) -> datetime:
    # A calendar date has no zone: noon keeps it on its day.
    return moment if isinstance(moment, datetime) else datetime.combine(moment, time(12), zone)


def age(born: date, today: date) -> tuple[int, str]:
    """A completed age with its unit: years from two on, months from one month on, else days."""
    months = (today.year - born.year) * 12 + today.month - born.month - (today.day < born.day)
    if months >= 24:
        return months // 12, "year"
    if months >= 1:
        return months, "month"
    return max((today - born).days, 0), "day"


def age_text(locale: Locale, born: date, today: date) -> str:
    """`34 y`, `7 mo`, `12 d` in the reader's language."""
    number, unit = age(born, today)
    text = {
        "year": locale.ngettext("%(number)s y", "%(number)s y", number),
        "month": locale.ngettext("%(number)s mo", "%(number)s mo", number),
        "day": locale.ngettext("%(number)s d", "%(number)s d", number),
    }[unit]
    return text % {"number": isolate(number) if locale.rtl else number}


def relative(locale: Locale, moment: datetime, now: datetime) -> str:
    """`in 4 min`, `12 min ago`, `in 3 h`, `9 days ago`."""
    minutes = round((moment - now).total_seconds() / 60)
    if minutes == 0:
        return locale.gettext("now")
    size, unit = (abs(minutes), "min") if abs(minutes) < 90 else (round(abs(minutes) / 60), "h")
    if size >= 48 and unit == "h":
        size, unit = round(abs(minutes) / 60 / 24), "days"
    number = isolate(size) if locale.rtl else size
    if unit == "min":
        later = locale.ngettext("in %(number)s min", "in %(number)s min", size)
        earlier = locale.ngettext("%(number)s min ago", "%(number)s min ago", size)
    elif unit == "days":
        later = locale.ngettext("in %(number)s day", "in %(number)s days", size)
        earlier = locale.ngettext("%(number)s day ago", "%(number)s days ago", size)
    else:
        later = locale.ngettext("in %(number)s h", "in %(number)s h", size)
        earlier = locale.ngettext("%(number)s h ago", "%(number)s h ago", size)
    return (later if minutes > 0 else earlier) % {"number": number}
