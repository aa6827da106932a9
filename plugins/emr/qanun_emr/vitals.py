"""Vital signs: codes (LOINC), units (UCUM), the plausible and the usual.

Plausible limits refuse a slip of the finger, not a sick patient: they are the extremes that have been survived or that an
instrument can show. Usual bands are for adults at rest and only colour a value; they are no diagnosis.

Sources: LOINC 2.77 vital-sign panel codes; HL7 FHIR R4 vital-signs profiles for codes and units; usual bands from the
Royal College of Physicians' NEWS2 (2017), the columns that score 0; blood pressure 90–139/60–89 from the ESH 2023
guideline's grade-1 threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from qanun.api import N_


@dataclass(frozen=True, slots=True)
class Vital:
    """`field` is the form field; `low`/`high` refuse outside, `usual` colours. `second` is the lower pressure's field."""

    code: str
    field: str
    label: object
    unit: str
    shown_unit: str
    low: Decimal
    high: Decimal
    usual: tuple[float, float] | None = None
    second: str = ""
    places: int | None = None


VITALS = (
    Vital(
        "85354-9", "systolic", N_("Blood pressure"), "mm[Hg]", "mmHg", Decimal(30), Decimal(300), (90, 139), "diastolic"
    ),
    Vital("8867-4", "heart_rate", N_("Heart rate"), "/min", "/min", Decimal(10), Decimal(350), (51, 90)),
    Vital("8310-5", "temperature", N_("Temperature"), "Cel", "°C", Decimal(25), Decimal(45), (36.1, 38.0), places=1),
    Vital("59408-5", "spo2", N_("SpO₂"), "%", "%", Decimal(30), Decimal(100), (96, 100)),
    Vital("29463-7", "weight", N_("Weight"), "kg", "kg", Decimal("0.2"), Decimal(500)),
    Vital("8302-2", "height", N_("Height"), "cm", "cm", Decimal(20), Decimal(275)),
)
BY_CODE = {vital.code: vital for vital in VITALS}
DIASTOLIC = (Decimal(10), Decimal(200))
