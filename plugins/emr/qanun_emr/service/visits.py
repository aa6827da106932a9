"""Visits: begun once per appointment, found only in their own clinic, finished with who took part."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select

from qanun.api import N_, Conflict, Context, Invalid, NotFound, Patient, ResourceRef, must_be_open, new_id, patient
from qanun_emr.models import Encounter, EncounterParticipant, Note


async def hold_patient(ctx: Context, patient_id: UUID) -> Patient:
    """The patient, held until this transaction ends: of two presses of one button the second waits for the first, and
    then finds the visit that it started."""
    person = await patient(ctx, patient_id)
    await ctx.db.execute(select(Patient.id).where(Patient.id == person.id).with_for_update(key_share=True))
    return person


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
    person = await hold_patient(ctx, patient_id)
    if class_code not in {"AMB", "VR"}:
        raise Invalid({"class": N_("Choose one of the listed values.")})
    if appointment:
        known = select(Encounter).where(Encounter.appointment == appointment)
        found = (await ctx.db.execute(known)).scalar_one_or_none()
        if found is not None:
            if found.patient_id != person.id:
                raise Conflict("the appointment's visit is another patient's")
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
    await must_be_open(ctx, found.patient_id)
    return found


async def note_of(ctx: Context, encounter_id: UUID, *, lock: bool = False) -> Note:
    statement = select(Note).where(Note.encounter_id == encounter_id)
    found = (await ctx.db.execute(statement.with_for_update() if lock else statement)).scalar_one_or_none()
    if found is None:
        raise NotFound("note")
    await must_be_open(ctx, found.patient_id)
    return found


async def finish_encounter(
    ctx: Context, encounter_id: UUID, *, participants: list[Mapping[str, Any]] | None = None, finish: bool = True,
    at: datetime | None = None,
) -> Encounter:  # fmt: skip
    """End the visit's time. Signing the note is another act, before or after. Repeating it changes nothing but who came.

    `finish` False: only who came is written down; the visit goes on. `at`: when it was over, if that was earlier than now.
    """
    encounter = await encounter_of(ctx, encounter_id, lock=True)
    if participants is not None:
        old = select(EncounterParticipant).where(EncounterParticipant.encounter_id == encounter_id)
        for row in (await ctx.db.execute(old)).scalars():
            await ctx.db.delete(row)
        for entry in participants:
            ctx.db.add(EncounterParticipant(encounter_id=encounter_id, **entry))
    if finish and encounter.status != "finished":
        encounter.status, encounter.end = "finished", min(ctx.now, max(at or ctx.now, encounter.start))
        ctx.audit(
            "emr.encounter.finish", patient_id=encounter.patient_id, entity=ResourceRef("Encounter", encounter.id)
        )
    ctx.notify("emr.encounter", patient=encounter.patient_id, encounter=encounter.id)
    return encounter
