"""Specialties are read in the reader's language, in whichever they were written, and never changed where they are not known."""

import pytest

from qanun.i18n import get_locale, locales
from qanun.identity.specialties import SPECIALTIES, specialty_name


@pytest.mark.parametrize(
    ("written", "english", "arabic"),
    [
        ("Family medicine", "Family medicine", "طب الأسرة"),
        ("طب الأسرة", "Family medicine", "طب الأسرة"),
        ("طب الاسره", "Family medicine", "طب الأسرة"),
        ("  family   MEDICINE ", "Family medicine", "طب الأسرة"),
        ("Pediatrics", "Paediatrics", "طب الأطفال"),
        ("ENT", "Ear, nose and throat", "الأنف والأذن والحنجرة"),
        ("Medicine of the mountains", "Medicine of the mountains", "Medicine of the mountains"),
        ("Open", "Open", "Open"),
        ("", "", ""),
    ],
)
def test_a_specialty_is_read_in_the_readers_language(written, english, arabic):
    assert specialty_name(written, get_locale("en")) == english
    assert specialty_name(written, get_locale("ar")) == arabic
    assert type(specialty_name(written, get_locale("en"))) is str, "it goes into messages as it is"


def test_every_usual_specialty_has_a_name_of_its_own_in_every_language():
    for locale in locales():
        names = [specialty_name(name, locale) for name in SPECIALTIES]
        assert len(set(names)) == len(SPECIALTIES)
        assert locale.language == "en" or not set(names) & set(SPECIALTIES)
        assert [specialty_name(name, get_locale("en")) for name in names] == list(SPECIALTIES)
