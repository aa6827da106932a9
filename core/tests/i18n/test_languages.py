"""Languages: names fold, digits are understood, values keep their order, catalogues are complete."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from qanun.i18n import (
    N_,
    dates,
    fold_name,
    format_number,
    get_locale,
    isolate,
    locales,
    negotiate,
    parse_decimal,
    resolve,
    to_ascii_digits,
    v,
)
from qanun.i18n.__main__ import distributions, faults

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("أحمد", "احمد"),
        ("إيمان", "ايمان"),
        ("فاطمة", "فاطمه"),
        ("ليلى", "ليلي"),
        ("کریم", "كريم"),
        ("مُحَمَّد", "محمد"),
        ("عبد الله", "عبدالله"),
        ("مـــريم", "مريم"),
        ("José", "jose"),
        ("O'Neil", "oneil"),
        ("Al-Razi", "al razi"),
        ("٠٦١٢", "0612"),
    ],
)
def test_two_spellings_of_one_name_fold_to_the_same_text(one, other):
    assert fold_name(one) == fold_name(other) != ""


def test_different_names_stay_different():
    assert fold_name("حسن") != fold_name("حسين")
    assert fold_name("Omar") != fold_name("Amr")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("٣٧٫٥", "37.5"), ("۳۷.۵", "37.5"), ("37,5", "37.5"), ("−1.5", "-1.5"), (" 120 ", "120"), ("0.5", "0.5")],
)
def test_numbers_are_understood_in_every_digit(typed, meant):
    assert parse_decimal(typed) == Decimal(meant)


@pytest.mark.parametrize("typed", ["", "1.2.3", "1,2,3", "NaN", "Infinity", "1e5", "12a", "9" * 40, "٣-٤"])
def test_what_is_not_a_number_is_refused(typed):
    with pytest.raises(ValueError):
        parse_decimal(typed)


def test_a_dose_has_a_leading_zero_always_and_a_trailing_zero_never():
    assert format_number(Decimal("0.50")) == "0.5"
    assert format_number(Decimal("5.0")) == "5"
    assert format_number(Decimal(100)) == "100"
    assert to_ascii_digits("abc") == "abc"


def test_values_are_isolated_escaped_and_nothing_stays_nothing():
    assert v("-1.5 < 3") == '<bdi dir="ltr">-1.5 &lt; 3</bdi>'
    assert v(None) == "" and v("") == "" and v(0) == '<bdi dir="ltr">0</bdi>'
    assert isolate("3.5-5.0") == "\u20663.5-5.0\u2069"


@pytest.mark.parametrize(
    ("header", "chosen"),
    [
        ("ar-MA,en;q=0.5", "ar"),
        ("fr,de;q=0.9", "en"),
        ("en;q=0.2,ar;q=0.9", "ar"),
        ("x;q=rubbish,,,;", "en"),
        ("", "en"),
    ],
)
def test_the_browsers_wish_is_heard_and_rubbish_is_ignored(header, chosen):
    assert negotiate(header, ["en", "ar"], "en").code == chosen


def test_a_marked_message_is_translated_when_it_is_shown_and_plain_text_is_left_alone():
    arabic = get_locale("ar")
    message = N_("Sign in")
    assert message == "Sign in"
    assert resolve(message, get_locale("en")) == "Sign in"
    assert resolve("Sign in", arabic) == "Sign in"
    assert arabic.gettext("Sign in") == "تسجيل الدخول"
    assert arabic.gettext("Sign in", domain="qanun_unheard_of") == "تسجيل الدخول"
    assert arabic.gettext("Never translated") == "Never translated"


def test_arabic_counts_in_its_six_forms():
    arabic = get_locale("ar")
    forms = {arabic.ngettext("in %(number)s min", "in %(number)s min", n) for n in (0, 1, 2, 5, 25, 100)}
    assert len(forms) >= 4


def test_ages_change_unit_where_clinicians_change_it():
    today = date(2026, 5, 12)
    assert dates.age(date(1991, 8, 19), today) == (34, "year")
    assert dates.age(date(2024, 5, 13), today) == (23, "month")
    assert dates.age(date(2026, 4, 13), today) == (29, "day")
    assert dates.age(date(2026, 5, 12), today) == (0, "day")


def test_dates_and_clocks_are_the_clinics_and_in_latin_digits():
    zone = ZoneInfo("Africa/Casablanca")
    moment = datetime(2026, 5, 12, 23, 30, tzinfo=UTC)
    for locale in locales():
        text = dates.long_date(locale, moment, zone)
        assert "13" in text, text  # it is already tomorrow there
        assert not any("\u0660" <= letter <= "\u06f9" for letter in text)
    assert dates.clock(moment, zone) == "00:30"
    assert dates.relative(get_locale("en"), moment + timedelta(minutes=4), moment) == "in 4 min"
    assert dates.relative(get_locale("en"), moment - timedelta(hours=3), moment) == "3 h ago"
    assert dates.relative(get_locale("en"), moment - timedelta(hours=47), moment) == "47 h ago"
    assert dates.relative(get_locale("en"), moment - timedelta(hours=48), moment) == "2 days ago"
    assert dates.relative(get_locale("en"), moment + timedelta(days=40), moment) == "in 40 days"


def test_every_offered_language_is_complete_for_every_distribution():
    assert len(list(distributions(ROOT))) >= 5
    assert faults(ROOT) == []


@pytest.mark.parametrize(
    "name", ["Africa/Casablanca", "Asia/Amman", "America/Sao_Paulo", "Asia/Tehran", "Europe/Paris"]
)
def test_a_date_and_the_clock_beside_it_are_on_the_same_side_of_midnight(name):
    """In every hour of a year: whatever rules a library carries of its own, the clinic's zone decides."""
    zone, locale = ZoneInfo(name), get_locale("en")
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    for hour in range(0, 8760, 5):
        local = (moment + timedelta(hours=hour)).astimezone(zone)
        assert dates.medium_date(locale, local, zone) == f"{local.day} {local:%b %Y}".replace("Sep ", "Sept "), local
