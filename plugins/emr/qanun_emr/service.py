"""The verbs of the record: start a visit, write and sign its note, record and void facts.

Every verb takes the context first, checks what must hold, and writes audit and events with the change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import select

from qanun.api import N_, Conflict, Context, Invalid, NotFound, ResourceRef, new_id, parse_decimal, patient
from qanun_emr.events import EncounterSigned
from qanun_emr.models import (
    AllergyIntolerance,
    Condition,
    Encounter,
    EncounterParticipant,
    MedicationStatement,
    Note,
    NoteAddendum,
    Observation,
)
from qanun_emr.vitals import DIASTOLIC, VITALS

SECTIONS = ("subjective", "objective", "assessment", "plan")
LEASE = timedelta(seconds=45)
LONGEST = 20_000


# --- visits ---------------------------------------------------------------------------------------------------------------


async def start_encounter(
    ctx: Context,
    patient_id: UUID,
    *,
    class_code: str = "AMB",
    practitioner_id: UUID | None = None,
    appointment: str = "",
    reason: str = "",
) -> Encounter:
    """The open visit for that appointment, else a new one. Raises NotFound for a patient who is not this clinic's."""
    person = await patient(ctx, patient_id)
    if appointment:
        known = select(Encounter).where(Encounter.appointment == appointment)
        found = (await ctx.db.execute(known)).scalar_one_or_none()
        if found is not None:
            return found
    encounter = Encounter(
        id=new_id(),
        patient_id=person.id,
        practitioner_id=practitioner_id or ctx.actor.practitioner_id,
        class_code=class_code,
        status="in-progress",
        start=ctx.now,
        appointment=appointment,
        reason=reason[:500],
    )
    ctx.db.add(encounter)
    ctx.db.add(Note(encounter_id=encounter.id, patient_id=person.id))
    ctx.audit("emr.encounter.start", patient_id=person.id, entity=ResourceRef("Encounter", encounter.id))
    ctx.notify("emr.encounter", patient=person.id, encounter=encounter.id)
    await ctx.db.flush()
    return encounter


async def encounter_of(ctx: Context, encounter_id: UUID, *, lock: bool = False) -> Encounter:
    """Raises NotFound for an unknown id and for another clinic's alike."""
    statement = select(Encounter).where(Encounter.id == encounter_id)
    found = (await ctx.db.execute(statement.with_for_update() if lock else statement)).scalar_one_or_none()
    if found is None:
        raise NotFound("encounter")
    return found


async def note_of(ctx: Context, encounter_id: UUID, *, lock: bool = False) -> Note:
    statement = select(Note).where(Note.encounter_id == encounter_id)
    found = (await ctx.db.execute(statement.with_for_update() if lock else statement)).scalar_one_or_none()
    if found is None:
        raise NotFound("note")
    return found


async def finish_encounter(
    ctx: Context, encounter_id: UUID, *, participants: list[Mapping[str, Any]] | None = None
) -> Encounter:
    """End the visit's time. Signing the note is another act, before or after. Repeating it changes nothing but who came."""
    encounter = await encounter_of(ctx, encounter_id, lock=True)
    if participants is not None:
        old = select(EncounterParticipant).where(EncounterParticipant.encounter_id == encounter_id)
        for row in (await ctx.db.execute(old)).scalars():
            await ctx.db.delete(row)
        for entry in participants:
            ctx.db.add(EncounterParticipant(encounter_id=encounter_id, **entry))
    if encounter.status != "finished":
        encounter.status, encounter.end = "finished", ctx.now
        ctx.audit(
            "emr.encounter.finish", patient_id=encounter.patient_id, entity=ResourceRef("Encounter", encounter.id)
        )
    ctx.notify("emr.encounter", patient=encounter.patient_id, encounter=encounter.id)
    return encounter


# --- the note -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Saved:
    """A stored draft: the version to send with the next change."""

    version: int
    at: Any


class NoteConflict(Conflict):
    """Somebody else saved meanwhile. `note` is what is stored now: both texts are shown, nothing is overwritten."""

    def __init__(self, note: Note) -> None:
        super().__init__("the note was changed by somebody else")
        self.note = note


async def save_note(ctx: Context, encounter_id: UUID, *, version: int, sections: Mapping[str, str]) -> Saved:
    """Store a draft that grew from `version`. Raises NoteConflict when another version is stored, Invalid when too long.

    A repeated send of the same text (the answer got lost on the way) is recognised and answered again.
    """
    note = await note_of(ctx, encounter_id, lock=True)
    texts = {name: str(sections.get(name, "")).rstrip() for name in SECTIONS}
    long = {name: N_("This text is too long.") for name, text in texts.items() if len(text) > LONGEST}
    if long:
        raise Invalid(long)
    same = all(getattr(note, name) == text for name, text in texts.items())
    if note.signed_at is not None or (note.version != version and not same):
        raise NoteConflict(note)
    if not same:
        for name, text in texts.items():
            setattr(note, name, text)
        note.version += 1
        note.saved_at, note.saved_by, note.saved_name = ctx.now, ctx.actor.id, ctx.actor.name
        ctx.audit(
            "emr.note.draft",
            patient_id=note.patient_id,
            entity=ResourceRef("Encounter", encounter_id),
            detail={"version": note.version},
        )
    note.lease_by, note.lease_name, note.lease_until = ctx.actor.id, ctx.actor.name, ctx.now + LEASE
    return Saved(note.version, note.saved_at or ctx.now)


def written_by_another(ctx: Context, note: Note) -> str:
    """The name of somebody else who is writing this note right now; empty when nobody is."""
    busy = note.lease_until is not None and note.lease_until > ctx.now and note.lease_by != ctx.actor.id
    return note.lease_name if busy else ""


async def sign_encounter(ctx: Context, encounter_id: UUID, *, version: int | None = None) -> Encounter:
    """Sign the visit: its note no longer changes. Raises Invalid when the note is empty, NoteConflict when the signer has
    not seen the latest text. Signing twice is signing once."""
    encounter = await encounter_of(ctx, encounter_id, lock=True)
    note = await note_of(ctx, encounter_id, lock=True)
    if encounter.signed_at is not None:
        return encounter
    if version is not None and note.version != version:
        raise NoteConflict(note)
    if not any(getattr(note, name).strip() for name in SECTIONS):
        raise Invalid({"note": N_("Write the note before signing.")})
    encounter.signed_at = note.signed_at = ctx.now
    encounter.signed_by, encounter.signed_name = ctx.actor.id, ctx.actor.name
    note.lease_until = None
    if encounter.class_code == "AMB" and encounter.status != "finished":
        encounter.status, encounter.end = "finished", ctx.now
    ctx.audit("emr.encounter.sign", patient_id=encounter.patient_id, entity=ResourceRef("Encounter", encounter.id))
    ctx.emit(
        EncounterSigned(encounter_id=encounter.id, patient_id=encounter.patient_id, appointment=encounter.appointment)
    )
    ctx.notify("emr.encounter", patient=encounter.patient_id, encounter=encounter.id)
    return encounter


async def add_addendum(ctx: Context, encounter_id: UUID, text: str) -> NoteAddendum:
    """Add to a signed note. Raises Invalid when there is nothing to add or the note is not signed yet."""
    note = await note_of(ctx, encounter_id)
    if note.signed_at is None:
        raise Invalid({"text": N_("This note is still a draft: change it directly.")})
    if not text.strip() or len(text) > LONGEST:
        raise Invalid({"text": N_("Write what is to be added.")})
    addendum = NoteAddendum(
        note_id=note.id, text=text.strip(), author_id=ctx.actor.id, author_name=ctx.actor.name, at=ctx.now
    )
    ctx.db.add(addendum)
    ctx.audit("emr.note.addendum", patient_id=note.patient_id, entity=ResourceRef("Encounter", encounter_id))
    return addendum


# --- facts ----------------------------------------------------------------------------------------------------------------


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
    criticality = str(typed.get("criticality", "unable-to-assess"))
    severity = str(typed.get("severity", ""))
    if not substance or len(substance) > 200:
        faults["substance"] = N_("Enter the substance.")
    if criticality not in {"low", "high", "unable-to-assess"}:
        faults["criticality"] = N_("Choose one of the listed values.")
    if severity not in {"", "mild", "moderate", "severe"}:
        faults["severity"] = N_("Choose one of the listed values.")
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
        reaction=str(typed.get("reaction", "")).strip()[:500],
        recorded_by=ctx.actor.id,
    )
    ctx.db.add(allergy)
    ctx.audit("emr.allergy.record", patient_id=person.id, entity=ResourceRef("AllergyIntolerance", allergy.id))
    ctx.notify("emr.record", patient=person.id)
    return allergy


async def record_condition(ctx: Context, patient_id: UUID, typed: Mapping[str, str]) -> Condition:
    """Add to the problem list. Raises Invalid when nothing is named."""
    person = await patient(ctx, patient_id)
    text = str(typed.get("text", "")).strip()
    if not text or len(text) > 300:
        raise Invalid({"text": N_("Name the problem.")})
    condition = Condition(
        id=new_id(),
        patient_id=person.id,
        text=text,
        onset=str(typed.get("onset", "")).strip()[:10],
        recorded_by=ctx.actor.id,
    )
    ctx.db.add(condition)
    ctx.audit("emr.condition.record", patient_id=person.id, entity=ResourceRef("Condition", condition.id))
    ctx.notify("emr.record", patient=person.id)
    return condition


async def record_medication(ctx: Context, patient_id: UUID, typed: Mapping[str, str]) -> MedicationStatement:
    """Note down what the patient takes. Raises Invalid when nothing is named."""
    person = await patient(ctx, patient_id)
    text = str(typed.get("text", "")).strip()
    if not text or len(text) > 300:
        raise Invalid({"text": N_("Name the medicine.")})
    medication = MedicationStatement(
        id=new_id(),
        patient_id=person.id,
        text=text,
        strength=str(typed.get("strength", "")).strip()[:60],
        dosage=str(typed.get("dosage", "")).strip()[:200],
        recorded_by=ctx.actor.id,
    )
    ctx.db.add(medication)
    ctx.audit("emr.medication.record", patient_id=person.id, entity=ResourceRef("MedicationStatement", medication.id))
    ctx.notify("emr.record", patient=person.id)
    return medication


VOIDABLE: dict[str, type[AllergyIntolerance | Condition | MedicationStatement]] = {
    "allergy": AllergyIntolerance,
    "condition": Condition,
    "medication": MedicationStatement,
}


async def void_entry(ctx: Context, kind: str, entry_id: UUID, reason: str) -> UUID:
    """Take an entry back as entered in error; the patient's id. Raises NotFound, and Invalid without a reason."""
    model = VOIDABLE.get(kind)
    found: object = None
    if model is not None:
        found = (await ctx.db.execute(select(model).where(model.id == entry_id))).scalar_one_or_none()
    if not isinstance(found, AllergyIntolerance | Condition | MedicationStatement):
        raise NotFound(kind)
    if not reason.strip():
        raise Invalid({"reason": N_("Say why this entry is wrong.")})
    if found.voided_at is None:
        found.voided_at, found.voided_by, found.void_reason = ctx.now, ctx.actor.id, reason.strip()[:500]
        ctx.audit(f"emr.{kind}.void", patient_id=found.patient_id)
        ctx.notify("emr.record", patient=found.patient_id)
    return found.patient_id
