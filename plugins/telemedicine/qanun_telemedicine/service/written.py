"""Consultations in writing: a question with photos and documents, answered by a promised time, or a word that the clinic
begins. The same consultation otherwise: it is taken up by a clinician who says how they know who asks, has an encounter, and
its end is told like a call's.

Waiting is `waiting`, being answered is `in-progress`; nobody sits in a waiting room and no media ever flows. Outside of the
portal a patient is told that something waits for them, and nothing of what.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select

from qanun.api import (
    N_,
    Conflict,
    Context,
    Invalid,
    Patient,
    Practitioner,
    ResourceRef,
    get_locale,
    new_id,
    notify_patient,
    patient,
    random_token,
)
from qanun_telemedicine.models import (
    IN_PROGRESS,
    OPEN,
    WAITING,
    WRITTEN,
    Consultation,
    IdentityCheck,
    WrittenTerms,
)
from qanun_telemedicine.service.attachments import attach
from qanun_telemedicine.service.chat import MOST_LETTERS, say
from qanun_telemedicine.service.consultations import NO_PRACTITIONER, admit, changed, reference
from qanun_telemedicine.service.presence import attend

#: What a patient is promised where the clinic set nothing else, and the most that it can set.
USUAL_HOURS, MOST_HOURS = 48, 336
#: A patient who was told that something waits is not told again for every line, unless they wrote in between.
QUIET = timedelta(hours=12)
WAITS = N_("A message of %(clinic)s waits for you")
WAITS_TEXT = N_(
    "%(clinic)s wrote to you. To keep it private the message itself is not in this e-mail.\n\nSign in to read it and to answer:\n%(link)s\n\nThis mailbox is not read. In an emergency call the emergency number."
)
#: Open questions of one patient at a time; more belong into the same thread or into a visit.
MOST_OPEN = 3
#: What stands behind a question from the portal: the account was opened with the date of birth, and they signed in to it.
ACCOUNT = ({"identifier": "account", "how": "signed-in"}, {"identifier": "birth-date", "how": "account"})
#: And behind what the clinic writes first: from the chart to the account that belongs to it.
ADDRESSED = ({"identifier": "account", "how": "addressed"},)


@dataclass(frozen=True, slots=True)
class Asked:
    """A line of the clinic's list. `answered`: the patient waits for nothing; `late`: the promise is broken."""

    consultation: Consultation
    patient: Patient
    practitioner: Practitioner
    answered: bool
    late: bool


# --- the promise --------------------------------------------------------------------------------------------------------


async def hours(ctx: Context) -> int:
    """Within how many hours the clinic promises an answer."""
    newest = select(WrittenTerms.hours).order_by(WrittenTerms.set_at.desc(), WrittenTerms.id.desc()).limit(1)
    return (await ctx.db.execute(newest)).scalar_one_or_none() or USUAL_HOURS


async def promise(ctx: Context) -> timedelta:
    return timedelta(hours=await hours(ctx))


async def set_hours(ctx: Context, text: str) -> None:
    """Promise something else from now on; what was promised stays. Raises Invalid naming `hours`."""
    text = text.strip()
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 5 else 0
    if not 1 <= number <= MOST_HOURS:
        raise Invalid({"hours": N_("Write a whole number of hours, from 1 to 336.")})
    if number == await hours(ctx):
        return
    row = WrittenTerms(id=new_id(), hours=number, set_by=ctx.actor.id, set_by_name=ctx.actor.name, set_at=ctx.now)
    ctx.db.add(row)
    await ctx.db.flush()
    ctx.audit("telemedicine.written.promise", entity=ResourceRef("WrittenTerms", row.id), detail={"hours": number})


# --- asking and answering -----------------------------------------------------------------------------------------------


async def answerers(ctx: Context) -> list[Practitioner]:
    """Whom a patient can ask."""
    statement = select(Practitioner).where(Practitioner.active).order_by(Practitioner.name).limit(200)
    return list((await ctx.db.execute(statement)).scalars())


async def ask(
    ctx: Context, practitioner_id: uuid.UUID, text: str, files: Sequence[tuple[str, bytes]] = ()
) -> Consultation:
    """A patient's question. Raises Invalid (nobody to ask, nothing asked, a file that is not taken, too many open)."""
    patient_id = ctx.actor.patient_id
    assert patient_id is not None
    faults: dict[str, object] = {}
    if practitioner_id not in {one.id for one in await answerers(ctx)}:
        faults["practitioner"] = N_("Choose whom you want to ask.")
    if not text.strip():
        faults["text"] = N_("Write something first.")
    elif len(text) > MOST_LETTERS:
        faults["text"] = N_("Please make it shorter: at most 2000 letters.")
    open_ = select(Consultation.id).where(
        Consultation.patient_id == patient_id, Consultation.mode == WRITTEN, Consultation.state.in_(OPEN)
    )
    if len((await ctx.db.execute(open_)).all()) >= MOST_OPEN:
        faults["text"] = N_("Three of your questions are open. Write into one of them, or call us.")
    if faults:
        raise Invalid(faults)
    row = await _new(ctx, patient_id, practitioner_id)
    row.answer_by = row.ends_at
    person = await attend(ctx, row)
    await say(ctx, row, person, uuid.uuid4(), text)
    for name, content in files:
        await attach(ctx, row, person, uuid.uuid4(), name, content)
    ctx.audit("telemedicine.written.ask", patient_id=row.patient_id, entity=reference(row))
    changed(ctx, row)
    return row


async def begin(
    ctx: Context, patient_id: uuid.UUID, text: str, files: Sequence[tuple[str, bytes]] = ()
) -> Consultation:  # fmt: skip
    """The clinician writes first, from the patient's chart. Raises Invalid (nothing written), Conflict (treats nobody here)
    and NotFound (unknown patient)."""
    if ctx.actor.practitioner_id is None:
        raise Conflict(NO_PRACTITIONER)
    person = await patient(ctx, patient_id)
    if not text.strip():
        raise Invalid({"text": N_("Write something first.")})
    if len(text) > MOST_LETTERS:
        raise Invalid({"text": N_("Please make it shorter: at most 2000 letters.")})
    row = await _new(ctx, person.id, ctx.actor.practitioner_id)
    await take_up(ctx, row, known=True, by=ADDRESSED)
    ctx.audit("telemedicine.written.begin", patient_id=row.patient_id, entity=reference(row))
    await write(ctx, row, text, files)
    return row


async def _new(ctx: Context, patient_id: uuid.UUID, practitioner_id: uuid.UUID) -> Consultation:
    row = Consultation(
        id=new_id(), mode=WRITTEN, appointment_id=None, patient_id=patient_id, practitioner_id=practitioner_id,
        starts_at=ctx.now, ends_at=ctx.now + await promise(ctx), state=WAITING, waiting_since=ctx.now,
        room=random_token(), concern="",
    )  # fmt: skip
    ctx.db.add(row)
    await ctx.db.flush()
    return row


async def write(ctx: Context, row: Consultation, text: str, files: Sequence[tuple[str, bytes]] = ()) -> None:
    """Another line from either side. The clinic's keeps the promise, the patient's next one is promised an answer again.

    Raises Invalid (nothing) and Conflict: over, or the clinic has not taken the question up.
    """
    if row.mode != WRITTEN or row.state not in (WAITING, IN_PROGRESS):
        raise Conflict("nothing is written here any more")
    if ctx.actor.kind == "user" and row.state != IN_PROGRESS:
        raise Conflict("it has to be taken up first")
    if not text.strip() and not files:
        raise Invalid({"text": N_("Write something first.")})
    person = await attend(ctx, row)
    if text.strip():
        await say(ctx, row, person, uuid.uuid4(), text)
    for name, content in files:
        await attach(ctx, row, person, uuid.uuid4(), name, content)
    if ctx.actor.kind == "user":
        row.answer_by = None
        await _tell_outside(ctx, row)
    else:
        row.answer_by = row.answer_by or ctx.now + await promise(ctx)
        row.told_at = None


async def _tell_outside(ctx: Context, row: Consultation) -> None:
    """Word by whatever channel reaches the patient, in their language; not for every line."""
    if row.told_at is not None and ctx.now - row.told_at < QUIET:
        return
    person = await patient(ctx, row.whose)
    locale = get_locale(person.language or ctx.tenant.locale)
    values = {
        "clinic": ctx.tenant.name,
        "link": f"{ctx.runtime.config.base_url}/portal/{ctx.tenant.slug}/written/{row.id}",
    }
    if await notify_patient(ctx, person.id, locale.resolve(WAITS) % values, locale.resolve(WAITS_TEXT) % values):
        row.told_at = ctx.now


async def take_up(ctx: Context, row: Consultation, *, known: bool, by: Sequence[Mapping[str, str]] = ACCOUNT) -> None:
    """The clinician answers from here on; with that the encounter begins. `known`: they have looked whose question it is.

    Raises Invalid (not looked) and Conflict (not a question that waits). A second press changes nothing.
    """
    if row.mode != WRITTEN:
        raise Conflict("this is a call")
    if row.state == IN_PROGRESS:
        return
    if not known:
        raise Invalid({"known": N_("Make sure first that this is the right patient’s record.")})
    if row.state != WAITING:
        raise Conflict("nobody waits for this consultation")
    check = IdentityCheck(
        consultation_id=row.id, outcome="confirmed", identifiers=[dict(one) for one in by], note="",
        checked_by=ctx.actor.id, checked_by_name=ctx.actor.name, checked_at=ctx.now,
    )  # fmt: skip
    ctx.db.add(check)
    await ctx.db.flush()
    ctx.audit(
        "telemedicine.identity.confirm", patient_id=row.patient_id, entity=reference(row),
        detail={"check": str(check.id), "identifiers": [f"{one['identifier']}:{one['how']}" for one in by]},
    )  # fmt: skip
    await admit(ctx, row)


async def asked(ctx: Context, *, patient_id: uuid.UUID | None = None) -> list[Asked]:
    """Open questions, the one that is promised first first; with a patient, theirs, and the answered ones, newest first."""
    conditions = [Consultation.mode == WRITTEN]
    conditions.append(Consultation.patient_id == patient_id if patient_id else Consultation.state.in_(OPEN))
    statement = (
        select(Consultation, Patient, Practitioner)
        .join(Patient, Patient.id == Consultation.patient_id)
        .join(Practitioner, Practitioner.id == Consultation.practitioner_id)
        .where(*conditions)
        .order_by(Consultation.starts_at.desc() if patient_id else Consultation.answer_by)
        .limit(100)
    )
    rows = (await ctx.db.execute(statement)).all()
    return [
        Asked(row, person, practitioner, row.answer_by is None, late(ctx, row)) for row, person, practitioner in rows
    ]


def late(ctx: Context, row: Consultation) -> bool:
    """The patient waits longer than they were promised."""
    return row.state in OPEN and row.answer_by is not None and row.answer_by < ctx.now


async def overdue(ctx: Context, practitioner_id: uuid.UUID | None = None) -> int:
    """How many wait longer than promised, for one practitioner or all; counted as far as a hundred."""
    conditions = [Consultation.mode == WRITTEN, Consultation.state.in_(OPEN), Consultation.answer_by < ctx.now]
    if practitioner_id is not None:
        conditions.append(Consultation.practitioner_id == practitioner_id)
    return len((await ctx.db.execute(select(Consultation.id).where(*conditions).limit(100))).all())
