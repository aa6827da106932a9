"""Who is where, from when to when: stays in the lobby and in the call that survive cuts, kills and several processes.

A stay belongs to one connection. When that goes away the stay stays open for a while: whoever comes back continues it.
A process that was killed cannot say goodbye; `seen_at` then tells until when its people were there.
"""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from qanun.api import Conflict, Context, NotFound, Patient, ResourceRef, new_id
from qanun_telemedicine.models import REMOVED, Consultation, Guest, Participant, Presence

#: Coming back within this time continues the stay.
AWAY = timedelta(minutes=2)
#: A connection is believed to be alive this long after it was last heard.
HEARD = timedelta(seconds=30)


async def acting_guest(ctx: Context, consultation_id: uuid.UUID) -> Guest:
    """The acting guest's own row. Raises NotFound for every other visit than the one they are invited to."""
    statement = select(Guest).where(
        Guest.pass_id == ctx.actor.id, Guest.consultation_id == consultation_id, Guest.state != REMOVED
    )
    found = (await ctx.db.execute(statement)).scalar_one_or_none()
    if ctx.actor.kind != "guest" or found is None:
        raise NotFound("consultation")
    return found


async def attend(ctx: Context, row: Consultation) -> Participant:
    """The acting person as a participant of this consultation; made on first use."""
    actor = ctx.actor
    name, role = actor.name, ""
    if actor.kind == "guest":
        guest = await acting_guest(ctx, row.id)
        subject, kind, name, role = f"Guest/{guest.id}", "guest", guest.name, guest.role
    elif actor.kind == "patient":
        subject, kind = f"Patient/{actor.patient_id}", "patient"
    elif actor.kind == "user":
        subject, kind = f"User/{actor.id}", "practitioner" if actor.practitioner_id else "staff"
    else:
        raise Conflict("the system does not take part in consultations")
    statement = select(Participant).where(Participant.consultation_id == row.id, Participant.subject == subject)
    found = (await ctx.db.execute(statement)).scalar_one_or_none()
    if found is not None:
        return found
    person = Participant(
        id=new_id(), consultation_id=row.id, subject=subject, kind=kind, name=name, role=role,
        patient_id=actor.patient_id, practitioner_id=actor.practitioner_id,
    )  # fmt: skip
    if actor.kind == "patient":
        person.name = await _patient_name(ctx, row)
    try:
        async with ctx.db.begin_nested():
            ctx.db.add(person)
            await ctx.db.flush()
    except IntegrityError:
        # Two connections of one person at once: the other one made it.
        return (await ctx.db.execute(statement)).scalar_one()
    return person


async def _patient_name(ctx: Context, row: Consultation) -> str:
    """In a group what they chose to be called there, which may be nothing yet."""
    if row.patient_id is None:
        mine = (Consultation.group_id == row.id, Consultation.patient_id == ctx.actor.patient_id)
        chosen = select(Consultation.shown_as).where(*mine).order_by(Consultation.created_at.desc()).limit(1)
        return (await ctx.db.execute(chosen)).scalar_one_or_none() or ""
    return (await ctx.db.execute(select(Patient).where(Patient.id == row.patient_id))).scalar_one().name


async def _open(ctx: Context, person: Participant) -> list[Presence]:
    statement = select(Presence).where(Presence.participant_id == person.id, Presence.left_at.is_(None))
    return list((await ctx.db.execute(statement.with_for_update())).scalars())


async def arrive(ctx: Context, row: Consultation, person: Participant, place: str, connection: str) -> Presence:
    """The person is in `place` through `connection`; a stay that is open there is continued and taken over."""
    continued = None
    for stay in await _open(ctx, person):
        if stay.place == place and ctx.now - stay.seen_at <= AWAY and continued is None:
            continued = stay
        else:
            await _close(ctx, row, stay, at_last_sight=stay.place == place)
    if continued is not None:
        continued.connection, continued.seen_at = connection, max(ctx.now, continued.seen_at)
    else:
        continued = Presence(
            id=new_id(), consultation_id=row.id, participant_id=person.id, place=place, connection=connection,
            joined_at=ctx.now, seen_at=ctx.now,
        )  # fmt: skip
        ctx.db.add(continued)
        person.hand_at, person.muted = None, False
        if place == "call":
            _note(ctx, row, person.id, person.patient_id, "telemedicine.participant.join")
    await ctx.db.flush()
    ctx.notify("telemedicine.consultation", consultation=row.id, patient=row.patient_id)
    return continued


async def seen(ctx: Context, person_id: uuid.UUID, connection: str) -> None:
    """The connection is alive."""
    statement = select(Presence).where(
        Presence.participant_id == person_id, Presence.left_at.is_(None), Presence.connection == connection
    )
    for stay in (await ctx.db.execute(statement)).scalars():
        stay.seen_at = max(ctx.now, stay.seen_at)


async def loosen(ctx: Context, row: Consultation, person: Participant, connection: str) -> None:
    """The connection went away without a word: the stay waits to be continued. A newer connection's stay is not touched."""
    for stay in await _open(ctx, person):
        if stay.connection == connection:
            stay.connection, stay.seen_at = "", max(ctx.now, stay.seen_at)
            ctx.notify("telemedicine.consultation", consultation=row.id, patient=row.patient_id)


async def depart(ctx: Context, row: Consultation, person: Participant, connection: str | None = None) -> None:
    """The person left on purpose. With `connection`, only when no newer one has taken over."""
    for stay in await _open(ctx, person):
        if connection is None or stay.connection in (connection, ""):
            await _close(ctx, row, stay)
            ctx.notify("telemedicine.consultation", consultation=row.id, patient=row.patient_id)


async def sweep(ctx: Context, row: Consultation) -> bool:
    """Close the stays of people who did not come back. True when there were any."""
    statement = select(Presence).where(
        Presence.consultation_id == row.id, Presence.left_at.is_(None), Presence.seen_at < ctx.now - AWAY
    )
    gone = list((await ctx.db.execute(statement.with_for_update(skip_locked=True))).scalars())
    for stay in gone:
        await _close(ctx, row, stay, at_last_sight=True)
    if gone:
        ctx.notify("telemedicine.consultation", consultation=row.id, patient=row.patient_id)
    return bool(gone)


async def close_all(ctx: Context, row: Consultation) -> None:
    """Nobody is there any more: those who had gone left when they were last seen, the others now."""
    statement = select(Presence).where(Presence.consultation_id == row.id, Presence.left_at.is_(None))
    for stay in (await ctx.db.execute(statement.with_for_update())).scalars():
        await _close(ctx, row, stay, at_last_sight=not stay.connection or ctx.now - stay.seen_at > HEARD)
    await ctx.db.flush()


async def close_member(ctx: Context, call: Consultation, patient_id: uuid.UUID) -> None:
    """One patient of a group is not in its call any more."""
    statement = select(Participant).where(
        Participant.consultation_id == call.id, Participant.subject == f"Patient/{patient_id}"
    )
    person = (await ctx.db.execute(statement)).scalar_one_or_none()
    if person is not None:
        for stay in await _open(ctx, person):
            away = not stay.connection or ctx.now - stay.seen_at > HEARD
            await _close(ctx, call, stay, at_last_sight=away)
        await ctx.db.flush()


async def _close(ctx: Context, row: Consultation, stay: Presence, *, at_last_sight: bool = False) -> None:
    stay.left_at = max(stay.joined_at, stay.seen_at if at_last_sight else ctx.now)
    stay.connection = ""
    if stay.place == "call":
        whose = row.patient_id
        if whose is None:
            person = select(Participant.patient_id).where(Participant.id == stay.participant_id)
            whose = (await ctx.db.execute(person)).scalar_one()
        _note(ctx, row, stay.participant_id, whose, "telemedicine.participant.leave")


def _note(ctx: Context, row: Consultation, person_id: uuid.UUID, patient_id: uuid.UUID | None, type: str) -> None:
    """In the record of whose visit it is; in a group, of who comes and goes."""
    ctx.audit(
        type,
        patient_id=row.patient_id or patient_id,
        entity=ResourceRef("Consultation", row.id),
        detail={"participant": str(person_id)},
    )


async def present(ctx: Context, consultation_id: uuid.UUID) -> list[tuple[Participant, Presence]]:
    """Open stays with their people, in the order of coming."""
    return await _stays(ctx, Presence.consultation_id == consultation_id, Presence.left_at.is_(None))


async def stays(ctx: Context, row: Consultation) -> list[tuple[Participant, Presence]]:
    """Every stay there was. For a patient's visit in a group their own and those of who treated them, while it ran; of the
    other patients nothing."""
    if row.group_id is None or row.admitted_at is None:
        return await _stays(ctx, Presence.consultation_id == row.id)
    there = (
        (Presence.consultation_id == row.group_id)
        & (Presence.left_at.is_(None) | (Presence.left_at > row.admitted_at))
        & (Presence.joined_at <= (row.ended_at or ctx.now))
        & ((Participant.patient_id == row.patient_id) | Participant.kind.in_(("practitioner", "staff")))
    )
    return await _stays(ctx, (Presence.consultation_id == row.id) | there)


async def _stays(ctx: Context, *conditions: Any) -> list[tuple[Participant, Presence]]:
    statement = (
        select(Participant, Presence)
        .join(Presence, Presence.participant_id == Participant.id)
        .where(*conditions)
        .order_by(Presence.joined_at, Presence.id)
        .limit(500)
    )
    return [(person, stay) for person, stay in (await ctx.db.execute(statement)).all()]


def connected(ctx: Context, stay: Presence) -> bool:
    """Whether the person behind an open stay can be reached right now."""
    return bool(stay.connection) and ctx.now - stay.seen_at <= HEARD
