"""What is said, kept in the record on request: the clinic asks, everybody in the call agrees, then captions become a document.

As with recordings: one no stops it at once, a late joiner is asked before another word is kept. Other than with recordings, a
no while it is written throws away what was written so far, for nothing of it is in the record yet. A document is kept as long
as the record; who takes the consent back afterwards sees it shown to nobody any more, and a person decides about its end.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import delete, func, select

from qanun.api import N_, Conflict, Context, Invalid, Locale, NotFound, Patient, ResourceRef, new_id
from qanun_telemedicine.captions.line import Caption
from qanun_telemedicine.models import IN_PROGRESS, Consultation, Participant
from qanun_telemedicine.models_kept import LegalHold, Transcript, TranscriptLine
from qanun_telemedicine.service import captions, encryption
from qanun_telemedicine.service.presence import present

#: Change it whenever the words change: consent was given to particular words.
WORDING = "2026-1"
QUESTION = N_("May what is said be kept in the record?")
SENTENCES = (
    N_(
        "A machine writes along what everybody says, and the text goes into the patient’s record as a document. It can be wrong."
    ),
    N_(
        "Only people of the clinic who may see the record can read it. It is encrypted, and kept as long as the record."
    ),
    N_(
        "It is kept only if everybody in the call agrees. If one of us stops it, what was written so far is thrown away."
    ),
    N_(
        "You can also take your consent back after the visit: nobody is shown the text then, and a person decides about its end."
    ),
    N_("Saying no changes nothing about your care."),
)
GIVEN, REFUSED = "given", "refused"
#: More than is said in hours.
MOST_LINES = 5000
_SEAL = "telemedicine.transcript"
_MOST_NOTE = 500


def wording(locale: Locale) -> tuple[str, list[str]]:
    """The question and its sentences in one language."""
    return locale.resolve(QUESTION), [locale.resolve(text) for text in SENTENCES]


@dataclass(frozen=True, slots=True)
class Standing:
    """Who has to agree, who did, and since when everybody has; none while somebody has not answered."""

    needed: frozenset[uuid.UUID]
    given: frozenset[uuid.UUID]
    since: datetime | None


class Line(msgspec.Struct):
    """A line of the document."""

    at: datetime
    name: str
    text: str


class Agreed(msgspec.Struct):
    """Who agreed to it, when, and to which words."""

    name: str
    at: datetime
    language: str
    wording: str


class Document(msgspec.Struct):
    """What lies sealed."""

    lines: list[Line]
    agreed: list[Agreed]


# --- asking and answering -----------------------------------------------------------------------------------------------


async def ask(ctx: Context, row: Consultation, person: Participant, on: bool) -> None:
    """Ask everybody whether what is said may be kept, or be done with it: what was written then goes into the record.

    Captions are offered with it. Raises Conflict when no call runs, in a group and in an encrypted call.
    """
    if row.state != IN_PROGRESS:
        raise Conflict("the consultation is not in progress")
    encryption.refuse(row)
    encryption.refuse_group(row)
    if on == (row.transcript_asked_at is not None):
        return
    if not on:
        await finish(ctx, row)
        return
    await captions.ask(ctx, row, person, True)
    for one, _ in await present(ctx, row.id):
        one.transcript, one.transcript_at = "", None
    row.transcript_asked_at, row.transcript_asked_by = ctx.now, ctx.actor.id
    row.transcript_asked_by_name = ctx.actor.name
    _note(ctx, row, "telemedicine.transcript.ask", {"participant": str(person.id)})
    await _keep_answer(ctx, row, person, GIVEN)
    await ctx.db.flush()


async def answer(ctx: Context, row: Consultation, person: Participant, decision: str, version: str) -> None:
    """One person's answer; who agrees has agreed to captions of their words. One no throws away what was written.

    Raises Invalid (no such answer, other words) and Conflict (nobody asked).
    """
    if decision not in (GIVEN, REFUSED):
        raise Invalid({"decision": N_("Choose one of the listed values.")})
    if version != WORDING:
        raise Invalid({"version": N_("The wording has changed. Please read it again.")})
    if row.state != IN_PROGRESS or row.transcript_asked_at is None:
        raise Conflict("nobody asked to keep what is said")
    if person.transcript == decision:
        return
    await _keep_answer(ctx, row, person, decision)
    if decision == GIVEN:
        await captions.answer(ctx, row, person, captions.GIVEN, captions.WORDING)
    else:
        thrown = await _throw_away(ctx, row)
        row.transcript_asked_at = row.transcript_asked_by = None
        _note(ctx, row, "telemedicine.transcript.discard", {"lines": thrown})
    await ctx.db.flush()


async def _keep_answer(ctx: Context, row: Consultation, person: Participant, decision: str) -> None:
    person.transcript, person.transcript_at, person.transcript_language = decision, ctx.now, ctx.locale.code
    _note(
        ctx, row, f"telemedicine.transcript.{decision}",
        {"participant": str(person.id), "wording": WORDING, "language": ctx.locale.code},
    )  # fmt: skip


async def standing(ctx: Context, row: Consultation) -> Standing:
    """How the answers of who is in the call stand."""
    here = [one for one, stay in await present(ctx, row.id) if stay.place == "call"]
    asked = row.transcript_asked_at
    given = [
        one for one in here
        if asked is not None and one.transcript == GIVEN and one.transcript_at is not None and one.transcript_at >= asked
    ]  # fmt: skip
    moments = [one.transcript_at for one in given if one.transcript_at is not None]
    everybody = bool(here) and len(given) == len(here)
    return Standing(
        frozenset(one.id for one in here), frozenset(one.id for one in given), max(moments) if everybody else None
    )


# --- writing ------------------------------------------------------------------------------------------------------------


async def keep(ctx: Context, row: Consultation, caption: Caption) -> bool:
    """Keep what somebody said, if everybody had agreed when they began to say it. `row` is locked. False when it is not kept."""
    if row.state != IN_PROGRESS or row.transcript_asked_at is None or not caption.id or not caption.text.strip():
        return False
    stands = await standing(ctx, row)
    began = datetime.fromtimestamp(caption.began, UTC)
    speaker = uuid.UUID(caption.participant)
    if stands.since is None or began < stands.since or speaker not in stands.given:
        return False
    so_far = select(func.count()).select_from(TranscriptLine).where(TranscriptLine.consultation_id == row.id)
    if (await ctx.db.execute(so_far)).scalar_one() >= MOST_LINES:
        return False
    # Several pages of the call hear the same caption; whoever holds the row comes one after another.
    mine = select(TranscriptLine.id).where(
        TranscriptLine.consultation_id == row.id, TranscriptLine.caption == caption.id
    )
    if (await ctx.db.execute(mine)).first() is None:
        text = caption.text.strip().encode()
        sealed = await ctx.keys.seal(ctx.db, ctx.tenant.id, text, _SEAL, f"{row.id}/{caption.id}")
        ctx.db.add(
            TranscriptLine(
                id=new_id(), consultation_id=row.id, participant_id=speaker, caption=caption.id, said_at=began, sealed=sealed
            )
        )  # fmt: skip
        await ctx.db.flush()
    return True


async def finish(ctx: Context, row: Consultation) -> Transcript | None:
    """What was written goes into the record; nothing when nothing was. Nobody is asked any more. Twice changes nothing."""
    if row.transcript_asked_at is None:
        return None
    asked_by, asked_at = row.transcript_asked_by, row.transcript_asked_at
    row.transcript_asked_at = row.transcript_asked_by = None
    lines = (
        select(TranscriptLine, Participant)
        .join(Participant, Participant.id == TranscriptLine.participant_id)
        .where(TranscriptLine.consultation_id == row.id)
        .order_by(TranscriptLine.said_at, TranscriptLine.id)
        .limit(MOST_LINES)
    )
    found = (await ctx.db.execute(lines)).all()
    if not found:
        ctx.notify("telemedicine.consultation", consultation=row.id, patient=row.patient_id)
        return None
    written = []
    for line, person in found:
        text = await ctx.keys.open(ctx.db, ctx.tenant.id, line.sealed, _SEAL, f"{row.id}/{line.caption}")
        written.append(Line(line.said_at, person.name, text.decode()))
    agreed = select(Participant).where(
        Participant.consultation_id == row.id, Participant.transcript == GIVEN, Participant.transcript_at >= asked_at
    )
    document = Document(written, [
        Agreed(
            one.name, one.transcript_at, one.transcript_language,
            "\n".join((WORDING, QUESTION, *SENTENCES)),
        )
        for one in (await ctx.db.execute(agreed)).scalars()
        if one.transcript_at is not None
    ])  # fmt: skip
    id = new_id()
    blob = await ctx.blobs.put(
        ctx, msgspec.json.encode(document), owner=ResourceRef("Transcript", id), content_type="application/json",
        patient_id=row.whose,
    )  # fmt: skip
    made = Transcript(
        id=id, consultation_id=row.id, patient_id=row.whose, encounter_id=row.encounter_id,
        asked_by=asked_by or ctx.actor.id, asked_by_name=row.transcript_asked_by_name, began_at=found[0][0].said_at,
        finished_at=ctx.now, lines=len(written), blob_id=blob.id, voided_by_name="", void_reason="",
    )  # fmt: skip
    ctx.db.add(made)
    await _throw_away(ctx, row)
    await ctx.db.flush()
    _note(ctx, row, "telemedicine.transcript.keep", {"transcript": str(id), "lines": len(written)})
    return made


async def _throw_away(ctx: Context, row: Consultation) -> int:
    gone = delete(TranscriptLine).where(TranscriptLine.consultation_id == row.id).returning(TranscriptLine.id)
    return len((await ctx.db.execute(gone)).all())


# --- reading, taking back, destroying -----------------------------------------------------------------------------------


async def transcript(ctx: Context, row: Consultation, id: uuid.UUID) -> Transcript:
    """Raises NotFound for one of another visit, too."""
    statement = select(Transcript).where(Transcript.id == id, Transcript.consultation_id == row.id).with_for_update()
    found = (await ctx.db.execute(statement)).scalar_one_or_none()
    if found is None:
        raise NotFound("transcript")
    return found


async def read(ctx: Context, row: Consultation, id: uuid.UUID) -> tuple[Transcript, Document]:
    """The document, with the reading in the audit. Raises NotFound for one that is not shown any more."""
    found = await transcript(ctx, row, id)
    if found.blob_id is None or not shown(found):
        raise NotFound("transcript")
    _, content = await ctx.blobs.get(ctx, found.blob_id)
    ctx.audit("telemedicine.transcript.read", patient_id=found.patient_id, entity=ResourceRef("Transcript", found.id))
    return found, msgspec.json.decode(content, type=Document)


def shown(one: Transcript) -> bool:
    """Whether a document may still be read."""
    return one.destroyed_at is None and one.taken_back_at is None and one.voided_at is None


async def transcripts_of(ctx: Context, consultation_id: uuid.UUID) -> Sequence[Transcript]:
    """Every document of a visit, the oldest first, those that are not shown any more as well."""
    statement = select(Transcript).where(Transcript.consultation_id == consultation_id).order_by(Transcript.finished_at)
    return (await ctx.db.execute(statement.limit(100))).scalars().all()


async def transcripts_of_patient(ctx: Context, patient_id: uuid.UUID, *, limit: int = 12) -> Sequence[Transcript]:
    """What may be read of a patient's documents, the newest first."""
    statement = select(Transcript).where(
        Transcript.patient_id == patient_id, Transcript.destroyed_at.is_(None), Transcript.taken_back_at.is_(None),
        Transcript.voided_at.is_(None),
    )  # fmt: skip
    return (await ctx.db.execute(statement.order_by(Transcript.finished_at.desc()).limit(limit))).scalars().all()


async def take_back(ctx: Context, row: Consultation, person: Participant, id: uuid.UUID) -> None:
    """Who agreed takes it back: nobody is shown the text any more. Raises NotFound for who did not. Twice changes nothing."""
    found = await transcript(ctx, row, id)
    if person.transcript != GIVEN:
        raise NotFound("transcript")
    if found.taken_back_at is None:
        found.taken_back_at = ctx.now
        _note(ctx, row, "telemedicine.transcript.taken_back", {"transcript": str(id), "participant": str(person.id)})


async def void(ctx: Context, row: Consultation, id: uuid.UUID, reason: str) -> None:
    """It counts as kept in error: it stays, marked, and is not shown. Raises Invalid naming `reason`. Twice changes nothing."""
    found = await transcript(ctx, row, id)
    if found.voided_at is not None:
        return
    found.void_reason = _why(reason)
    found.voided_at, found.voided_by, found.voided_by_name = ctx.now, ctx.actor.id, ctx.actor.name
    _note(ctx, row, "telemedicine.transcript.void", {"transcript": str(id)})


async def taken_back(ctx: Context) -> list[tuple[Transcript, Patient]]:
    """Documents whose consent was taken back and that are not destroyed yet, the oldest first."""
    statement = (
        select(Transcript, Patient)
        .join(Patient, Patient.id == Transcript.patient_id)
        .where(Transcript.taken_back_at.is_not(None), Transcript.destroyed_at.is_(None))
        .order_by(Transcript.finished_at)
        .limit(200)
    )
    return [(one, person) for one, person in (await ctx.db.execute(statement)).all()]


async def destroy(ctx: Context, id: uuid.UUID, note: str) -> None:
    """Destroy a document whose consent was taken back: its key goes now, its bytes in the background. Twice changes nothing.

    Raises NotFound (unknown, or a consent that stands), Invalid without a reason, and Conflict while a legal hold stands on
    all of the patient.
    """
    statement = select(Transcript).where(Transcript.id == id, Transcript.taken_back_at.is_not(None)).with_for_update()
    found = (await ctx.db.execute(statement)).scalar_one_or_none()
    if found is None:
        raise NotFound("transcript")
    if found.blob_id is None:
        return
    reason = _why(note)
    holds = select(LegalHold.id).where(
        LegalHold.patient_id == found.patient_id, LegalHold.recording_id.is_(None), LegalHold.released_at.is_(None)
    )
    if (await ctx.db.execute(holds.limit(1))).first() is not None:
        raise Conflict("a legal hold stands on this patient")
    blob_id, found.blob_id, found.destroyed_at, found.void_reason = found.blob_id, None, ctx.now, reason
    await ctx.db.flush()
    digest = await ctx.blobs.destroy(ctx, blob_id)
    ctx.defer("telemedicine.erase_picture", blob_id=str(blob_id))
    ctx.audit(
        "telemedicine.transcript.destroy", patient_id=found.patient_id,
        entity=ResourceRef("Consultation", found.consultation_id),
        detail={"transcript": str(id), "sha256": digest.hex()},
    )  # fmt: skip


def _why(text: str) -> str:
    if not 3 <= len(text.strip()) <= _MOST_NOTE:
        raise Invalid({"reason": N_("Write why, in a few words.")})
    return text.strip()


def _note(ctx: Context, row: Consultation, type: str, detail: dict[str, Any]) -> None:
    ctx.audit(type, patient_id=row.patient_id, entity=ResourceRef("Consultation", row.id), detail=detail)
    ctx.notify("telemedicine.consultation", consultation=row.id, patient=row.patient_id)
