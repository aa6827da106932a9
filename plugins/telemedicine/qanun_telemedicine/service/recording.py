"""When a consultation may be recorded: everybody who is in the call has consented to the words they were shown.

One withdrawal or refusal stops it; somebody who comes later is asked first, and until they answer nothing is recorded.
The clinic may pause it at any time. What was recorded before somebody took the consent back is kept, marked, until a
person has decided about it. This decides; the media server is told elsewhere.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from sqlalchemy import func, select

from qanun.api import N_, Conflict, Context, Invalid, Key, Locale, NotFound, ResourceRef, must_be_open, new_id
from qanun_telemedicine.models import IN_PROGRESS, Consultation, Participant, Presence, Recording, RecordingConsent
from qanun_telemedicine.service import encryption
from qanun_telemedicine.service.presence import present
from qanun_telemedicine.service.reviews import ask_about

#: Change it whenever one of the sentences changes: consent was given to particular words.
WORDING_VERSION = "2026-2"
#: Staff and guests are told the same of what is not their record; their words have a version of their own.
OTHERS_VERSION = "2026-2-others"
QUESTION = N_("May we record this visit?")
SENTENCES = (
    N_("The clinic asks to record picture and sound. Saying no changes nothing about your care."),
    N_("Only people of the clinic who may see your record can watch it; every viewing is listed for you."),
    N_("It is encrypted and stays on the clinic’s own server."),
    N_("It is kept as long as the clinic’s rules say and then destroyed. You may ask for the rules at any time."),
    N_("You can stop it at any moment; it stops at once. You can also take your consent back after the visit."),
)
OTHERS_SENTENCES = (
    N_("The clinic asks to record picture and sound. You are free to say no."),
    N_("Only people of the clinic who may see the patient’s record can watch it; every viewing is written down."),
    SENTENCES[2],
    SENTENCES[3],
    N_(
        "You can stop it at any moment; it stops at once. Afterwards, tell the clinic if you want to take your consent back."
    ),
)
DECISIONS = ("given", "refused", "withdrawn")
RUNNING = ("recording", "paused")

#: Longer than a room without anybody in it stays open at the media worker.
_ABANDONED = timedelta(hours=6)

Want = Literal["nothing", "run", "pause", "stop"]
#: Why a recording stopped, as `Recording.ended_because` keeps it.
Because = Literal["clinic", "refused", "withdrawn", "end", "fault"]
#: Some tracks could not be recorded: their codec is none that a recording can hold.
SOME_TRACKS = "some-tracks"


def wording(locale: Locale, kind: str = "patient") -> tuple[str, list[str]]:
    """The question and its sentences in one language, exactly as they are shown to a participant of that kind and kept."""
    sentences = SENTENCES if kind == "patient" else OTHERS_SENTENCES
    return locale.resolve(QUESTION), [locale.resolve(text) for text in sentences]


def wording_version(kind: str = "patient") -> str:
    """The version of what `wording` gives for that kind."""
    return WORDING_VERSION if kind == "patient" else OTHERS_VERSION


@dataclass(frozen=True, slots=True)
class Plan:
    """What should be so now. `needed` are the people in the call, `given` those of them who consented; `because` says why
    it stops when it stops now, `held` that the clinic pauses it."""

    want: Want
    running: Recording | None
    needed: frozenset[uuid.UUID]
    given: frozenset[uuid.UUID]
    against: frozenset[uuid.UUID]
    because: Because
    held: bool


def unsettled(wanted: Plan) -> bool:
    """Whether what runs is not what should be so: somebody was put out, or the media worker did not answer when told."""
    state = wanted.running.state if wanted.running else ""
    match wanted.want:
        case "stop":
            return True
        case "pause":
            return state == "recording"
        case "run":
            return state != "recording"
    return False


async def decisions(ctx: Context, row: Consultation) -> dict[uuid.UUID, RecordingConsent]:
    """The newest decision of each participant since the question was asked."""
    if row.recording_asked_at is None:
        return {}
    statement = (
        select(RecordingConsent)
        .where(
            RecordingConsent.consultation_id == row.id, RecordingConsent.decided_at >= row.recording_asked_at
        )
        .order_by(RecordingConsent.decided_at, RecordingConsent.id)
    )  # fmt: skip
    return {found.participant_id: found for found in (await ctx.db.execute(statement)).scalars()}


async def consents_of(ctx: Context, consultation_id: uuid.UUID) -> list[tuple[RecordingConsent, Participant]]:
    """Every answer there was, in order."""
    statement = (
        select(RecordingConsent, Participant)
        .join(Participant, Participant.id == RecordingConsent.participant_id)
        .where(RecordingConsent.consultation_id == consultation_id)
        .order_by(RecordingConsent.decided_at)
        .limit(200)
    )
    return [(consent, person) for consent, person in (await ctx.db.execute(statement)).all()]


async def running(ctx: Context, consultation_id: uuid.UUID) -> Recording | None:
    statement = select(Recording).where(Recording.consultation_id == consultation_id, Recording.state.in_(RUNNING))
    return (await ctx.db.execute(statement)).scalar_one_or_none()


async def plan(ctx: Context, row: Consultation) -> Plan:
    """What the consents and the people in the call demand at this moment."""
    record = await running(ctx, row.id)
    needed = frozenset(person.id for person, stay in await present(ctx, row.id) if stay.place == "call")
    known = await decisions(ctx, row)
    given = frozenset(id for id in needed if id in known and known[id].decision == "given")
    against = frozenset(id for id, one in known.items() if one.decision != "given")
    held = row.recording_paused_at is not None
    want: Want
    if row.state != IN_PROGRESS or row.recording_asked_at is None or against:
        want = "stop" if record else "nothing"
    elif needed and given == needed and not held:
        want = "run"
    else:
        want = "pause" if record else "nothing"
    because: Because
    if row.state != IN_PROGRESS:
        because = "end"
    elif row.recording_asked_at is None:
        because = "clinic"
    else:
        because = "withdrawn" if any(one.decision == "withdrawn" for one in known.values()) else "refused"
    return Plan(want, record, needed, given, against, because, held)


async def ask_to_record(ctx: Context, row: Consultation) -> None:
    """Ask everybody in the call; while the question stands, asking again does nothing."""
    if row.state != IN_PROGRESS:
        raise Conflict("only a consultation in progress can be recorded")
    encryption.refuse(row)
    encryption.refuse_group(row)
    if row.recording_asked_at is not None:
        return
    row.recording_asked_at, row.recording_asked_by = ctx.now, ctx.actor.id
    _audit(ctx, row, "telemedicine.recording.ask", {})
    _changed(ctx, row)


async def stop_asking(ctx: Context, row: Consultation) -> None:
    """The clinic does not want to record (any more)."""
    if row.recording_asked_at is not None:
        row.recording_asked_at = row.recording_asked_by = row.recording_paused_at = None
        _changed(ctx, row)


async def hold(ctx: Context, row: Consultation, yes: bool) -> None:
    """The clinic pauses the recording, or lets it go on; nobody is asked anew. Raises Conflict when nobody asked to record."""
    if row.recording_asked_at is None:
        raise Conflict("nobody asked to record")
    if yes != (row.recording_paused_at is not None):
        row.recording_paused_at = ctx.now if yes else None
        _changed(ctx, row)


async def decide(ctx: Context, row: Consultation, person: Participant, decision: str, version: str) -> None:
    """Keep a participant's answer with the words it was given to.

    Raises Invalid (no such answer, or to other words than today's), Conflict (not asked).
    """
    if decision not in DECISIONS:
        raise Invalid({"decision": N_("Choose one of the listed values.")})
    if version != wording_version(person.kind):
        raise Invalid({"version": N_("The wording has changed. Please read it again.")})
    if row.state != IN_PROGRESS or row.recording_asked_at is None:
        raise Conflict("nobody asked to record")
    await _keep_answer(ctx, row, person, decision)


async def _keep_answer(ctx: Context, row: Consultation, person: Participant, decision: str) -> None:
    question, sentences = wording(ctx.locale, person.kind)
    version = wording_version(person.kind)
    marked = await _agreed_to(ctx, row, person) if decision == "withdrawn" else []
    ctx.db.add(
        RecordingConsent(
            consultation_id=row.id, participant_id=person.id, decision=decision, wording_version=version,
            wording="\n".join((question, *sentences)), language=ctx.locale.code, decided_at=ctx.now,
        )
    )  # fmt: skip
    for record in marked:
        record.withdrawn_at = record.withdrawn_at or ctx.now
        await ask_about(ctx, record, "withdrawn")
    await ctx.db.flush()
    _audit(
        ctx, row, f"telemedicine.consent.{decision}",
        {"participant": str(person.id), "wording": version, "language": ctx.locale.code,
         "recordings": [str(record.id) for record in marked]},
    )  # fmt: skip
    _changed(ctx, row)


async def _agreed_to(ctx: Context, row: Consultation, person: Participant) -> list[Recording]:
    """The recordings that were made while this person's consent stood."""
    mine = RecordingConsent.participant_id == person.id
    answers = select(RecordingConsent).where(mine).order_by(RecordingConsent.decided_at, RecordingConsent.id).limit(200)
    known = list((await ctx.db.execute(answers)).scalars())
    found = []
    for record in await recordings_of(ctx, row.id):
        earlier = [one.decision for one in known if one.decided_at <= record.started_at][-1:]
        until = record.stopped_at or ctx.now
        during = [one.decision for one in known if record.started_at < one.decided_at <= until]
        if record.state != "deleted" and "given" in (*earlier, *during):
            found.append(record)
    return found


async def withdrawable(ctx: Context, row: Consultation, person: Participant) -> list[Recording]:
    """Finished recordings of this visit to which this person's consent still stands."""
    finished = [one for one in await _agreed_to(ctx, row, person) if one.state not in RUNNING]
    newest = select(RecordingConsent).where(RecordingConsent.participant_id == person.id)
    newest = newest.order_by(RecordingConsent.decided_at.desc(), RecordingConsent.id.desc()).limit(1)
    last = (await ctx.db.execute(newest)).scalar_one_or_none()
    return finished if last is not None and last.decision == "given" else []


async def withdraw_afterwards(ctx: Context, row: Consultation, person: Participant) -> None:
    """Take a person's consent back after the visit, as themselves or for somebody who asked the clinic to: its recordings
    are marked and put before a person at once. Twice changes nothing. Raises Conflict while a question stands (the call's
    own button is for that) or when there is nothing to take back."""
    if row.state == IN_PROGRESS and row.recording_asked_at is not None:
        raise Conflict("the recording still runs")
    if await withdrawable(ctx, row, person):
        await _keep_answer(ctx, row, person, "withdrawn")
    elif not any(one.withdrawn_at for one in await recordings_of(ctx, row.id)):
        raise Conflict("there is no consent to take back")


async def new_recording(ctx: Context, row: Consultation) -> tuple[Recording, Key]:
    """The row, its folder and its data key. Commit before a byte is recorded: what no key opens must not be made."""
    id = new_id()
    key, wrapped = await ctx.keys.new_data_key(ctx.db, ctx.tenant.id, "recording", id)
    directory = f"{ctx.tenant.id}/{id}"
    record = Recording(
        id=id, consultation_id=row.id, patient_id=row.patient_id, key=wrapped, directory=directory, state="recording",
        started_at=ctx.now, started_by=row.recording_asked_by or ctx.actor.id,
    )  # fmt: skip
    ctx.db.add(record)
    folder(ctx, record).mkdir(parents=True, exist_ok=True, mode=0o700)
    _audit(ctx, row, "telemedicine.recording.start", {"recording": str(id)})
    _changed(ctx, row)
    return record, key


async def recording(ctx: Context, id: uuid.UUID) -> Recording:
    """Raises NotFound for an unknown one and for another clinic's."""
    found = (await ctx.db.execute(select(Recording).where(Recording.id == id))).scalar_one_or_none()
    if found is None:
        raise NotFound("recording")
    return found


async def readable(ctx: Context, id: uuid.UUID) -> Recording:
    """The same, for who is to see or hear it. Raises RecordClosed while its patient's record is closed to them."""
    found = await recording(ctx, id)
    await must_be_open(ctx, found.patient_id)
    return found


async def recordings_of(ctx: Context, consultation_id: uuid.UUID) -> list[Recording]:
    statement = select(Recording).where(Recording.consultation_id == consultation_id).order_by(Recording.started_at)
    return list((await ctx.db.execute(statement)).scalars())


async def recordings_of_patient(ctx: Context, patient_id: uuid.UUID, *, limit: int = 6) -> list[Recording]:
    """Finished recordings of a patient, the newest first; those that are destroyed are left out."""
    statement = select(Recording).where(Recording.patient_id == patient_id, Recording.state.in_(("stopped", "failed")))
    return list((await ctx.db.execute(statement.order_by(Recording.started_at.desc()).limit(limit))).scalars())


async def recording_key(ctx: Context, record: Recording) -> Key:
    key: Key = await ctx.keys.open_data_key(ctx.db, ctx.tenant.id, record.key, "recording", record.id)
    return key


def folder(ctx: Context, record: Recording) -> Path:
    root: Path = ctx.runtime.config.state_dir / "recordings"
    return root / record.directory


def binding(ctx: Context, record: Recording) -> bytes:
    """What ties the sealed files to this recording of this clinic."""
    return b"telemedicine.recording\0" + ctx.tenant.id.bytes + record.id.bytes


def stopped(
    ctx: Context, row: Consultation, record: Recording, status: dict[str, object], *, because: Because,
    problem: str = "",
) -> None:  # fmt: skip
    """Note that it has stopped and why, with what the recorder said last. `problem`: what failed, when it was a fault."""
    record.state, record.ended_because = "failed" if because == "fault" else "stopped", because
    record.problem = problem or str(status.get("problem") or "") or (SOME_TRACKS if status.get("refused") else "")
    record.stopped_at = ctx.now
    octets, seconds = status.get("bytes"), status.get("seconds")
    record.octets = int(octets) if isinstance(octets, int | float) else record.octets
    record.duration_ms = int(seconds * 1000) if isinstance(seconds, int | float) else record.duration_ms
    _audit(
        ctx, row, "telemedicine.recording.stop",
        {"recording": str(record.id), "because": because, "problem": record.problem},
    )  # fmt: skip
    ctx.defer("telemedicine.finish_recording", recording_id=str(record.id))
    _changed(ctx, row)


async def recording_lost(ctx: Context, row: Consultation) -> None:
    """The media worker does not answer while the visit ends: what was recorded stands until where it got."""
    record = await running(ctx, row.id)
    if record is not None:
        stopped(ctx, row, record, {}, because="fault", problem="unavailable")


async def close_abandoned(ctx: Context) -> int:
    """Recordings of visits that everybody left and nobody ended: the room is long closed, so they are, too. How many."""
    last = select(func.max(Presence.seen_at)).where(Presence.consultation_id == Recording.consultation_id)
    seen = last.correlate(Recording).scalar_subquery()
    statement = (
        select(Recording, Consultation, seen)
        .join(Consultation, Consultation.id == Recording.consultation_id)
        .where(Recording.state.in_(RUNNING), Recording.started_at < ctx.now - _ABANDONED, seen < ctx.now - _ABANDONED)
        .limit(200)
    )
    found = (await ctx.db.execute(statement)).all()
    for record, row, left_at in found:
        abandon(ctx, row, record, left_at)
    return len(found)


def abandon(ctx: Context, row: Consultation, record: Recording, left_at: datetime) -> None:
    """It ends where the last one left."""
    stopped(ctx, row, record, {}, because="fault", problem="abandoned")
    record.stopped_at = max(record.started_at, left_at)
    row.recording_asked_at = row.recording_asked_by = row.recording_paused_at = None


def paused(ctx: Context, row: Consultation, record: Recording, yes: bool) -> None:
    record.state = "paused" if yes else "recording"
    kind = "telemedicine.recording.pause" if yes else "telemedicine.recording.resume"
    _audit(ctx, row, kind, {"recording": str(record.id)})
    _changed(ctx, row)


def _audit(ctx: Context, row: Consultation, type: str, detail: Mapping[str, object]) -> None:
    ctx.audit(type, patient_id=row.patient_id, entity=ResourceRef("Consultation", row.id), detail=detail)


def _changed(ctx: Context, row: Consultation) -> None:
    ctx.notify("telemedicine.consultation", consultation=row.id, patient=row.patient_id)
