"""Single pictures from a call into the chart: asked for, agreed to by whom they show, then taken, sealed and kept.

Consent is for one picture at a time. Somebody who takes it back is not shown any more; whether the bytes are destroyed
is then decided by a person, as with recordings.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import select

from qanun.api import (
    N_,
    AuditEvent,
    Conflict,
    Context,
    Forbidden,
    Invalid,
    Locale,
    NotFound,
    Patient,
    ResourceRef,
    new_id,
)
from qanun_telemedicine.models import IN_PROGRESS, Consultation, Participant
from qanun_telemedicine.models_kept import LegalHold, Snapshot
from qanun_telemedicine.permissions import Telemedicine
from qanun_telemedicine.service import encryption
from qanun_telemedicine.service.jpeg import cleaned
from qanun_telemedicine.service.presence import present

#: Change it whenever one of the sentences changes: consent was given to particular words.
PICTURE_WORDING = "2026-1"
QUESTION = N_("May we keep a picture of this moment?")
SENTENCES = (
    N_("One still picture of what your camera shows right now goes into the patient’s record."),
    N_("Only people of the clinic who may see the record can see it. It is encrypted."),
    N_("Saying no changes nothing about your care."),
    N_("You can take your consent back on the page of this visit; the picture is then not shown any more."),
)
#: How long a question waits, and how long after a yes the picture may still arrive.
OPEN_FOR = timedelta(minutes=2)
#: The chart shows it again and again; within this time that is one look.
_SITTING = timedelta(minutes=10)
_MOST_NOTE = 500


def picture_wording(locale: Locale) -> tuple[str, list[str]]:
    """The question and its sentences in one language, exactly as they are shown and kept."""
    return locale.resolve(QUESTION), [locale.resolve(text) for text in SENTENCES]


async def ask_picture(ctx: Context, row: Consultation, participant_id: uuid.UUID) -> Snapshot:
    """Ask somebody in the call for a picture. While the question is open, asking again gives the same one.

    Raises Forbidden (only who holds the visit asks), Conflict (it does not run, they are not in the call, or said no a
    moment ago) and NotFound.
    """
    ctx.require(Telemedicine.CONSULTATION_HOLD)
    if row.state != IN_PROGRESS:
        raise Conflict("the consultation is not in progress")
    encryption.refuse(row)
    here = {person.id: person for person, stay in await present(ctx, row.id) if stay.place == "call"}
    person = here.get(participant_id)
    if person is None or person.subject == f"User/{ctx.actor.id}":
        raise Conflict("they are not in the call")
    row = await _visit_of(ctx, row, person)
    statement = select(Snapshot).where(
        Snapshot.consultation_id == row.id, Snapshot.participant_id == person.id, Snapshot.decision == "open",
        Snapshot.asked_at > ctx.now - OPEN_FOR,
    )  # fmt: skip
    found = (await ctx.db.execute(statement.limit(1))).scalar_one_or_none()
    if found is not None:
        return found
    made = Snapshot(
        id=new_id(), consultation_id=row.id, patient_id=row.whose, encounter_id=row.encounter_id,
        participant_id=person.id, asked_by=ctx.actor.id, asked_by_name=ctx.actor.name, asked_at=ctx.now, decision="open",
    )  # fmt: skip
    ctx.db.add(made)
    await ctx.db.flush()
    _note(ctx, made, "telemedicine.picture.ask", {"participant": str(person.id)})
    return made


async def _visit_of(ctx: Context, row: Consultation, person: Participant) -> Consultation:
    """In whose record the picture goes: in a group in that of whom it shows. Raises Conflict for who has none there."""
    if row.patient_id is not None:
        return row
    theirs = select(Consultation).where(
        Consultation.group_id == row.id, Consultation.patient_id == person.patient_id, Consultation.state == IN_PROGRESS
    )
    found = (await ctx.db.execute(theirs)).scalar_one_or_none() if person.patient_id else None
    if found is None:
        raise Conflict("nobody's record")
    return found


def _held_in(row: Consultation) -> Any:
    """Pictures of a visit; of a group's call those of all its visits."""
    if row.patient_id is not None:
        return Snapshot.consultation_id == row.id
    return Snapshot.consultation_id.in_(select(Consultation.id).where(Consultation.group_id == row.id))


async def answer_picture(
    ctx: Context, row: Consultation, person: Participant, id: uuid.UUID, decision: str, version: str
) -> None:
    """The answer of the person whom it shows, kept with the words. Raises Invalid (no such answer, other words),
    NotFound (not their question) and Conflict (too late, answered)."""
    if decision not in ("given", "refused"):
        raise Invalid({"decision": N_("Choose one of the listed values.")})
    if version != PICTURE_WORDING:
        raise Invalid({"version": N_("The wording has changed. Please read it again.")})
    found = await _picture(ctx, row, id, lock=True)
    if found.participant_id != person.id:
        raise NotFound("picture")
    if found.decision != "open" or ctx.now - found.asked_at > OPEN_FOR or row.state != IN_PROGRESS:
        raise Conflict("this question is over")
    question, sentences = picture_wording(ctx.locale)
    found.decision, found.decided_at = decision, ctx.now
    found.wording, found.wording_version = "\n".join((question, *sentences)), PICTURE_WORDING
    found.language = ctx.locale.code
    await ctx.db.flush()
    _note(
        ctx, found, f"telemedicine.picture.{decision}",
        {"participant": str(person.id), "wording": PICTURE_WORDING, "language": ctx.locale.code},
    )  # fmt: skip


async def keep_picture(ctx: Context, row: Consultation, id: uuid.UUID, data: bytes, note: str = "") -> Snapshot:
    """Store the picture of a question that was answered with yes. Sent twice, it is kept once.

    Raises Invalid (no picture), NotFound, Forbidden (somebody else asked) and Conflict (no consent, or too late).
    """
    found = await _picture(ctx, row, id, lock=True)
    if found.asked_by != ctx.actor.id:
        raise Forbidden("somebody else asked for this picture")
    if found.taken_at is not None:
        return found
    if found.decision != "given" or found.decided_at is None or ctx.now - found.decided_at > OPEN_FOR:
        raise Conflict("nobody agreed to this picture")
    if len(note) > _MOST_NOTE:
        raise Invalid({"note": N_("This text is too long.")})
    clean, width, height = cleaned(data)
    blob = await ctx.blobs.put(
        ctx, clean, owner=ResourceRef("Snapshot", found.id), content_type="image/jpeg", patient_id=found.patient_id
    )
    found.blob_id, found.width, found.height, found.taken_at, found.note = blob.id, width, height, ctx.now, note.strip()
    await ctx.db.flush()
    _note(ctx, found, "telemedicine.picture.take", {"blob": str(blob.id), "width": width, "height": height})
    return found


async def void_picture(ctx: Context, row: Consultation, id: uuid.UUID, reason: str) -> None:
    """The picture counts as taken in error: it stays, marked, and is not shown. Twice changes nothing."""
    found = await _picture(ctx, row, id, lock=True)
    if found.taken_at is None:
        raise NotFound("picture")
    if found.voided_at is not None:
        return
    if not 3 <= len(reason.strip()) <= _MOST_NOTE:
        raise Invalid({"reason": N_("Write why, in a few words.")})
    found.voided_at, found.voided_by, found.voided_by_name = ctx.now, ctx.actor.id, ctx.actor.name
    found.void_reason = reason.strip()
    _note(ctx, found, "telemedicine.picture.void", {})


async def take_picture_back(ctx: Context, row: Consultation, person: Participant, id: uuid.UUID) -> None:
    """Whom it shows takes the consent back: it is not shown any more. Twice changes nothing."""
    found = await _picture(ctx, row, id, lock=True)
    if found.participant_id != person.id or found.decision not in ("given", "taken-back"):
        raise NotFound("picture")
    if found.decision == "given":
        found.decision = "taken-back"
        _note(ctx, found, "telemedicine.picture.taken_back", {"participant": str(person.id)})


async def destroy_picture(ctx: Context, id: uuid.UUID, note: str) -> None:
    """Destroy a picture whose consent was taken back: its key goes now, its bytes in the background. Twice changes nothing.

    Raises NotFound (unknown, another clinic's, or a consent that stands), Invalid without a reason, and Conflict while a
    legal hold stands on all of the patient.
    """
    statement = select(Snapshot).where(Snapshot.id == id, Snapshot.decision == "taken-back").with_for_update()
    found = (await ctx.db.execute(statement)).scalar_one_or_none()
    if found is None:
        raise NotFound("picture")
    if found.blob_id is None:
        return
    if not 3 <= len(note.strip()) <= _MOST_NOTE:
        raise Invalid({"reason": N_("Write why, in a few words.")})
    holds = select(LegalHold.id).where(
        LegalHold.patient_id == found.patient_id, LegalHold.recording_id.is_(None), LegalHold.released_at.is_(None)
    )
    if (await ctx.db.execute(holds.limit(1))).first() is not None:
        raise Conflict("a legal hold stands on this patient")
    blob_id, found.blob_id = found.blob_id, None
    await ctx.db.flush()
    digest = await ctx.blobs.destroy(ctx, blob_id)
    found.void_reason = note.strip()
    found.voided_at, found.voided_by, found.voided_by_name = ctx.now, ctx.actor.id, ctx.actor.name
    ctx.defer("telemedicine.erase_picture", blob_id=str(blob_id))
    _note(ctx, found, "telemedicine.picture.destroy", {"sha256": digest.hex()})


async def pictures_taken_back(ctx: Context) -> list[tuple[Snapshot, Patient]]:
    """Pictures whose consent was taken back and that are not destroyed yet, the oldest first."""
    statement = (
        select(Snapshot, Patient)
        .join(Patient, Patient.id == Snapshot.patient_id)
        .where(Snapshot.decision == "taken-back", Snapshot.blob_id.is_not(None))
        .order_by(Snapshot.taken_at)
        .limit(200)
    )
    return [(picture, person) for picture, person in (await ctx.db.execute(statement)).all()]


async def picture_bytes(ctx: Context, row: Consultation, id: uuid.UUID, *, mine: Participant | None = None) -> bytes:
    """The JPEG. Raises NotFound for one that was never taken, is voided or was taken back; with `mine`, for any but theirs."""
    found = await _picture(ctx, row, id)
    if found.blob_id is None or not shown(found) or (mine is not None and found.participant_id != mine.id):
        raise NotFound("picture")
    _, content = await ctx.blobs.get(ctx, found.blob_id)
    entity = ResourceRef("Snapshot", found.id)
    recently = select(AuditEvent.id).where(
        AuditEvent.type == "telemedicine.picture.view", AuditEvent.entity == str(entity),
        AuditEvent.actor_id == ctx.actor.id, AuditEvent.at > ctx.now - _SITTING,
    )  # fmt: skip
    if (await ctx.db.execute(recently.limit(1))).first() is None:
        ctx.audit("telemedicine.picture.view", patient_id=found.patient_id, entity=entity)
    return bytes(content)


def shown(picture: Snapshot) -> bool:
    """Whether a picture that was taken may still be seen."""
    return picture.taken_at is not None and picture.voided_at is None and picture.decision == "given"


# --- lists --------------------------------------------------------------------------------------------------------------


async def pictures_of(ctx: Context, consultation_id: uuid.UUID) -> Sequence[Snapshot]:
    """Every picture that was taken in a visit, the oldest first, those that are not shown any more as well."""
    statement = select(Snapshot).where(Snapshot.consultation_id == consultation_id, Snapshot.taken_at.is_not(None))
    return (await ctx.db.execute(statement.order_by(Snapshot.taken_at).limit(100))).scalars().all()


async def pictures_of_patient(ctx: Context, patient_id: uuid.UUID, *, limit: int = 12) -> Sequence[Snapshot]:
    """What may be seen of a patient's pictures, the newest first."""
    statement = select(Snapshot).where(
        Snapshot.patient_id == patient_id, Snapshot.taken_at.is_not(None), Snapshot.voided_at.is_(None),
        Snapshot.decision == "given",
    )  # fmt: skip
    return (await ctx.db.execute(statement.order_by(Snapshot.taken_at.desc()).limit(limit))).scalars().all()


@dataclass(frozen=True, slots=True)
class Asked:
    """What a page of the call needs of open questions: `question` is put to this person, `mine` were asked by them."""

    question: dict[str, Any] | None
    mine: list[dict[str, Any]]


async def pictures_asked(ctx: Context, row: Consultation, me: Participant) -> Asked:
    """The questions of the last minutes that concern this person, and nobody else's."""
    if row.state != IN_PROGRESS:
        return Asked(None, [])
    statement = (
        select(Snapshot)
        .where(_held_in(row), Snapshot.asked_at > ctx.now - 2 * OPEN_FOR)
        .order_by(Snapshot.asked_at)
        .limit(50)
    )
    found = (await ctx.db.execute(statement)).scalars().all()
    to_me = [
        one for one in found
        if one.participant_id == me.id and one.decision == "open" and ctx.now - one.asked_at <= OPEN_FOR
    ]  # fmt: skip
    mine = [one for one in found if ctx.actor.kind == "user" and one.asked_by == ctx.actor.id]
    return Asked(
        {"id": str(to_me[0].id), "by": to_me[0].asked_by_name, "wording": PICTURE_WORDING} if to_me else None,
        [
            {
                "id": str(one.id), "visit": str(one.consultation_id), "participant": str(one.participant_id), "taken": one.taken_at is not None,
                "decision": "expired" if one.decision == "open" and ctx.now - one.asked_at > OPEN_FOR else one.decision,
            }
            for one in mine
        ],
    )  # fmt: skip


async def _picture(ctx: Context, row: Consultation, id: uuid.UUID, *, lock: bool = False) -> Snapshot:
    statement = select(Snapshot).where(Snapshot.id == id, _held_in(row))
    if lock:
        statement = statement.with_for_update()
    found = (await ctx.db.execute(statement)).scalar_one_or_none()
    if found is None:
        raise NotFound("picture")
    return found


def _note(ctx: Context, picture: Snapshot, type: str, detail: dict[str, Any]) -> None:
    ctx.audit(
        type, patient_id=picture.patient_id, entity=ResourceRef("Consultation", picture.consultation_id),
        detail={"picture": str(picture.id), **detail},
    )  # fmt: skip
    ctx.notify("telemedicine.consultation", consultation=picture.consultation_id, patient=picture.patient_id)
