"""Vital signs, allergies, problems and medicines: refused at their field, never cut short, taken back but not deleted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from uuid import UUID

from sqlalchemy import select

from qanun.api import (
    N_,
    Context,
    Invalid,
    NotFound,
    ResourceRef,
    must_be_open,
    new_id,
    parse_decimal,
    patient,
    to_ascii_digits,
)
from qanun_emr.models import AllergyIntolerance, Condition, MedicationStatement, Observation
from qanun_emr.vitals import DIASTOLIC, VITALS

_PARTIAL_DATE = re.compile(r"[0-9]{4}(-[0-9]{2}(-[0-9]{2})?)?")


async def record_vitals(
    ctx: Context, patient_id: UUID, typed: Mapping[str, str], *, encounter_id: UUID | None = None
) -> list[Observation]:
    """Store the vital signs that were filled in. Raises Invalid naming each field that cannot be right; then none is stored."""
    person = await patient(ctx, patient_id)
    faults: dict[str, object] = {}
    found: list[Observation] = []

    def read(field: str, low: Decimal, high: Decimal) -> Decimal | None:
        text = str(typed.get(field, "")).strip()
        if not text:
            return None
        try:
            value = parse_decimal(text)
        except ValueError:
            faults[field] = N_("Enter a number.")
            return None
        if not low <= value <= high:
            faults[field] = N_("This value is not possible. Check the number and the unit.")
            return None
        return value

    for vital in VITALS:
        value = read(vital.field, vital.low, vital.high)
        second = read(vital.second, *DIASTOLIC) if vital.second else None
        if vital.second and (value is None) != (second is None) and not {vital.field, vital.second} & set(faults):
            faults[vital.second if second is None else vital.field] = N_("Enter both pressures.")
        if value is not None and second is not None and second >= value:
            faults[vital.second] = N_("The lower pressure must be below the upper one.")
        if value is not None:
            found.append(
                Observation(
                    id=new_id(),
                    patient_id=person.id,
                    encounter_id=encounter_id,
                    code=vital.code,
                    value=value,
                    value2=second,
                    unit=vital.unit,
                    effective=ctx.now,
                    recorded_by=ctx.actor.id,
                )
            )
    if not found and not faults:
        faults["systolic"] = N_("Enter at least one value.")
    if faults:
        raise Invalid(faults)
    ctx.db.add_all(found)
    ctx.audit("emr.observation.record", patient_id=person.id, detail={"codes": [entry.code for entry in found]})
    ctx.notify("emr.record", patient=person.id)
    return found


async def record_allergy(ctx: Context, patient_id: UUID, typed: Mapping[str, str]) -> AllergyIntolerance:
    """Store an allergy. Raises Invalid for a missing substance, an unknown code, or one that is recorded already."""
    person = await patient(ctx, patient_id)
    faults: dict[str, object] = {}
    substance = str(typed.get("substance", "")).strip()
    reaction = str(typed.get("reaction", "")).strip()
    criticality = str(typed.get("criticality", "unable-to-assess"))
    severity = str(typed.get("severity", ""))
    if not substance or len(substance) > 200:
        faults["substance"] = N_("Enter the substance.")
    if criticality not in {"low", "high", "unable-to-assess"}:
        faults["criticality"] = N_("Choose one of the listed values.")
    if severity not in {"", "mild", "moderate", "severe"}:
        faults["severity"] = N_("Choose one of the listed values.")
    if len(reaction) > 500:
        faults["reaction"] = N_("This text is too long.")
    known = select(AllergyIntolerance.substance).where(
        AllergyIntolerance.patient_id == person.id, AllergyIntolerance.voided_at.is_(None)
    )
    if substance and substance.casefold() in {s.casefold() for s in (await ctx.db.execute(known)).scalars()}:
        faults["substance"] = N_("This allergy is recorded already.")
    if faults:
        raise Invalid(faults)
    allergy = AllergyIntolerance(
        id=new_id(),
        patient_id=person.id,
        substance=substance,
        criticality=criticality,
        severity=severity,
        reaction=reaction,
        recorded_by=ctx.actor.id,
    )
    ctx.db.add(allergy)
    ctx.audit("emr.allergy.record", patient_id=person.id, entity=ResourceRef("AllergyIntolerance", allergy.id))
    ctx.notify("emr.record", patient=person.id)
    return allergy


async def record_condition(ctx: Context, patient_id: UUID, typed: Mapping[str, str]) -> Condition:
    """Add to the problem list. Raises Invalid when nothing is named, or since when cannot be right."""
    person = await patient(ctx, patient_id)
    faults: dict[str, object] = {}
    text = str(typed.get("text", "")).strip()
    onset = to_ascii_digits(str(typed.get("onset", ""))).strip()
    if not text:
        faults["text"] = N_("Name the problem.")
    elif len(text) > 300:
        faults["text"] = N_("This text is too long.")
    if onset and not _possible_onset(onset, ctx.local(ctx.now).date()):
        faults["onset"] = N_("Enter a year, a month or a day up to today, for example 2024 or 2024-05.")
    if faults:
        raise Invalid(faults)
    condition = Condition(
        id=new_id(),
        patient_id=person.id,
        text=text,
        onset=onset,
        recorded_by=ctx.actor.id,
    )
    ctx.db.add(condition)
    ctx.audit("emr.condition.record", patient_id=person.id, entity=ResourceRef("Condition", condition.id))
    ctx.notify("emr.record", patient=person.id)
    return condition


def _possible_onset(text: str, today: date) -> bool:
    """A year, a month or a day (FHIR dateTime's partial dates), not before anybody's birth and not to come."""
    if not _PARTIAL_DATE.fullmatch(text):
        return False
    try:
        first_day = date.fromisoformat(text + "-01-01"[(len(text) - 4) :])
    except ValueError:
        return False
    return first_day.year >= 1880 and first_day <= today


async def record_medication(ctx: Context, patient_id: UUID, typed: Mapping[str, str]) -> MedicationStatement:
    """Note down what the patient takes. Raises Invalid when nothing is named or a text is too long: a dose is never cut."""
    person = await patient(ctx, patient_id)
    text = str(typed.get("text", "")).strip()
    strength = str(typed.get("strength", "")).strip()
    dosage = str(typed.get("dosage", "")).strip()
    limits = {"text": (text, 300), "strength": (strength, 60), "dosage": (dosage, 200)}
    faults: dict[str, object] = {
        name: N_("This text is too long.") for name, (typed_text, most) in limits.items() if len(typed_text) > most
    }
    if not text:
        faults["text"] = N_("Name the medicine.")
    if faults:
        raise Invalid(faults)
    medication = MedicationStatement(
        id=new_id(),
        patient_id=person.id,
        text=text,
        strength=strength,
        dosage=dosage,
        recorded_by=ctx.actor.id,
    )
    ctx.db.add(medication)
    ctx.audit("emr.medication.record", patient_id=person.id, entity=ResourceRef("MedicationStatement", medication.id))
    ctx.notify("emr.record", patient=person.id)
    return medication


VOIDABLE: dict[str, type[AllergyIntolerance | Condition | MedicationStatement | Observation]] = {
    "allergy": AllergyIntolerance,
    "condition": Condition,
    "medication": MedicationStatement,
    "observation": Observation,
}


async def void_entry(ctx: Context, kind: str, entry_id: UUID, reason: str) -> UUID:
    """Take an entry back as entered in error; the patient's id. Raises NotFound, and Invalid without a reason."""
    model = VOIDABLE.get(kind)
    found: object = None
    if model is not None:
        statement = select(model).where(model.id == entry_id).with_for_update()
        found = (await ctx.db.execute(statement)).scalar_one_or_none()
    if not isinstance(found, AllergyIntolerance | Condition | MedicationStatement | Observation):
        raise NotFound(kind)
    await must_be_open(ctx, found.patient_id)
    if not reason.strip():
        raise Invalid({"reason": N_("Say why this entry is wrong.")})
    if len(reason.strip()) > 500:
        raise Invalid({"reason": N_("This text is too long.")})
    if found.voided_at is None:
        found.voided_at, found.voided_by, found.void_reason = ctx.now, ctx.actor.id, reason.strip()
        ctx.audit(f"emr.{kind}.void", patient_id=found.patient_id, entity=ResourceRef(type(found).__name__, found.id))
        ctx.notify("emr.record", patient=found.patient_id)
    return found.patient_id
