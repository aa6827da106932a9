"""Consultations in writing: a question with photos and documents, answered by a promised time. The same consultation
otherwise: it is taken up by a clinician who says how they know who asks, has an encounter, and its end is told like a call's.

Waiting is `waiting`, being answered is `in-progress`; nobody sits in a waiting room and no media ever flows.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select

from qanun.api import N_, Conflict, Context, Invalid, Patient, Practitioner, new_id, random_token
from qanun_telemedicine.models import (
    ENDED,
    IN_PROGRESS,
    OPEN,
    WAITING,
    WRITTEN,
    ChatMessage,
    Consultation,
    IdentityCheck,
    Participant,
)
from qanun_telemedicine.service.attachments import attach
from qanun_telemedicine.service.chat import MOST_LETTERS, say
from qanun_telemedicine.service.consultations import admit, changed, reference
from qanun_telemedicine.service.presence import attend

#: What the patient is promised: an answer within two days.
PROMISE = timedelta(hours=48)
#: Open questions of one patient at a time; more belong into the same thread or into a visit.
MOST_OPEN = 3
#: What stands behind a question from the portal: the account was opened with the date of birth, and they signed in to it.
ACCOUNT = ({"identifier": "account", "how": "signed-in"}, {"identifier": "birth-date", "how": "account"})


@dataclass(frozen=True, slots=True)
class Asked:
    """A line of the clinic's list. `answered`: somebody of the clinic has written; `late`: the promise is broken."""

    consultation: Consultation
    patient: Patient
    practitioner: Practitioner
    answered: bool
    late: bool


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
    row = Consultation(
        id=new_id(), mode=WRITTEN, appointment_id=None, patient_id=patient_id, practitioner_id=practitioner_id,
        starts_at=ctx.now, ends_at=ctx.now + PROMISE, answer_by=ctx.now + PROMISE, state=WAITING, waiting_since=ctx.now,
        room=random_token(), concern="",
    )  # fmt: skip
    ctx.db.add(row)
    await ctx.db.flush()
    person = await attend(ctx, row)
    await say(ctx, row, person, uuid.uuid4(), text)
    for name, content in files:
        await attach(ctx, row, person, uuid.uuid4(), name, content)
    ctx.audit("telemedicine.written.ask", patient_id=row.patient_id, entity=reference(row))
    changed(ctx, row)
    return row


async def write(ctx: Context, row: Consultation, text: str, files: Sequence[tuple[str, bytes]] = ()) -> None:
    """Another line from either side. The clinic's first one keeps the promise.

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


async def take_up(ctx: Context, row: Consultation, *, known: bool) -> None:
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
        consultation_id=row.id, outcome="confirmed", identifiers=[dict(one) for one in ACCOUNT], note="",
        checked_by=ctx.actor.id, checked_by_name=ctx.actor.name, checked_at=ctx.now,
    )  # fmt: skip
    ctx.db.add(check)
    await ctx.db.flush()
    ctx.audit(
        "telemedicine.identity.confirm", patient_id=row.patient_id, entity=reference(row),
        detail={"check": str(check.id), "identifiers": [f"{one['identifier']}:{one['how']}" for one in ACCOUNT]},
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
    replied = select(ChatMessage.consultation_id).join(Participant, Participant.id == ChatMessage.participant_id).where(
        ChatMessage.consultation_id.in_([row[0].id for row in rows]), Participant.kind.in_(("practitioner", "staff"))
    )  # fmt: skip
    answered = set((await ctx.db.execute(replied)).scalars()) if rows else set()
    return [
        Asked(row, patient, practitioner, row.id in answered, _late(ctx, row, row.id in answered))
        for row, patient, practitioner in rows
    ]


def _late(ctx: Context, row: Consultation, answered: bool) -> bool:
    return row.state != ENDED and not answered and row.answer_by is not None and row.answer_by < ctx.now
