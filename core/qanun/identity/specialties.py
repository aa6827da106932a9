"""What clinicians are specialised in: the usual names, so that each reader reads them in their own language.

A clinic writes a specialty as it likes, in any language; a usual one is known in all of them. What is not known stays as it was
written. This is no terminology: nothing is coded by it and no rule depends on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from qanun.i18n import N_, Locale, fold_name, locales

#: In the order in which they are offered.
SPECIALTIES: tuple[str, ...] = (
    N_("General practice"),
    N_("Family medicine"),
    N_("Internal medicine"),
    N_("Paediatrics"),
    N_("Obstetrics and gynaecology"),
    N_("Midwifery"),
    N_("Cardiology"),
    N_("Dermatology"),
    N_("Ear, nose and throat"),
    N_("Emergency medicine"),
    N_("Endocrinology"),
    N_("Gastroenterology"),
    N_("General surgery"),
    N_("Haematology"),
    N_("Infectious diseases"),
    N_("Nephrology"),
    N_("Neurology"),
    N_("Nutrition"),
    N_("Oncology"),
    N_("Ophthalmology"),
    N_("Orthopaedics"),
    N_("Physiotherapy"),
    N_("Psychiatry"),
    N_("Psychology"),
    N_("Pulmonology"),
    N_("Radiology"),
    N_("Rheumatology"),
    N_("Urology"),
    N_("Dentistry"),
)
#: The same by another spelling.
_ALSO = {"Pediatrics": "Paediatrics", "Obstetrics and gynecology": "Obstetrics and gynaecology", "ENT": "Ear, nose and throat",
         "Hematology": "Haematology", "Orthopedics": "Orthopaedics", "GP": "General practice"}  # fmt: skip


def specialty_name(text: str, locale: Locale) -> str:
    """A specialty in the reader's language, in whichever it was written; as it was written where it is not a usual one."""
    known = _known().get(fold_name(text))
    # In the language of the source the marked message itself comes back, which is more than the text that was asked for.
    return str(locale.gettext(known)) if known else text


@cache
def _known() -> Mapping[str, str]:
    """Folded name in any language → the name that is translated."""
    found = {fold_name(also): name for also, name in _ALSO.items()}
    for name in SPECIALTIES:
        found[fold_name(name)] = name
        found |= {fold_name(locale.gettext(name)): name for locale in locales() if not locale.pseudo}
    return found
