"""A call with several people: who asks to speak, who is muted, whether the door is shut, and how many fit."""

from __future__ import annotations

import uuid

from sqlalchemy import select

from qanun.api import Conflict, Context, Forbidden, NotFound, ResourceRef
from qanun_telemedicine.models import IN_PROGRESS, WRITTEN, Consultation, Participant, Presence
from qanun_telemedicine.service import presence

MOST = 12


async def may_come(ctx: Context, row: Consultation, person: Participant) -> None:
    """Whether there is room, and the door is open, for this person. Raises Forbidden (`locked`, `full`).

    Who was in the call before, and the patient whose visit it is, are not kept out by a lock.
    """
    if row.mode == WRITTEN:
        raise Conflict("this consultation is held in writing")
    others = {
        one.id for one, stay in await presence.present(ctx, row.id) if stay.place == "call" and one.id != person.id
    }
    if len(others) >= MOST:
        raise Forbidden("the call is full", code="full")
    if row.locked_at is None or person.kind == "patient":
        return
    before = select(Presence.id).where(Presence.participant_id == person.id, Presence.place == "call").limit(1)
    if (await ctx.db.execute(before)).first() is None:
        raise Forbidden("the call is locked", code="locked")


async def lock(ctx: Context, row: Consultation, on: bool) -> None:
    """Shut the door for who was not in yet, or open it again. Raises Conflict when no call runs."""
    if row.state != IN_PROGRESS:
        raise Conflict("the consultation is not in progress")
    if on == (row.locked_at is not None):
        return
    row.locked_at = ctx.now if on else None
    _note(ctx, row, "telemedicine.call.lock" if on else "telemedicine.call.unlock", {})


async def raise_hand(ctx: Context, row: Consultation, person: Participant, on: bool) -> None:
    """Ask to speak, or do not any more. Raises Conflict for who is not in the call."""
    await _inside(ctx, row, person)
    if on != (person.hand_at is not None):
        person.hand_at = ctx.now if on else None
        _changed(ctx, row)


async def say_muted(ctx: Context, row: Consultation, person: Participant, on: bool) -> None:
    """Their page says that the microphone is off, or on again."""
    await _inside(ctx, row, person)
    if on != person.muted:
        person.muted = on
        _changed(ctx, row)


async def mute(ctx: Context, row: Consultation, who: uuid.UUID | None) -> None:
    """Mute one person, or everybody but staff: their pages obey at once; they can speak again when they choose to."""
    muted = [
        one
        for one in await _people(ctx, row)
        if (one.id == who if who is not None else one.kind in ("patient", "guest"))
    ]
    if who is not None and not muted:
        raise NotFound("participant")
    for one in muted:
        one.mute_asked_at = ctx.now
    _note(ctx, row, "telemedicine.call.mute", {"participants": [str(one.id) for one in muted]})


async def lower_hand(ctx: Context, row: Consultation, who: uuid.UUID) -> None:
    """The moderator has heard them. Raises NotFound for who is not in the call."""
    found = [one for one in await _people(ctx, row) if one.id == who]
    if not found:
        raise NotFound("participant")
    found[0].hand_at = None
    _changed(ctx, row)


async def _people(ctx: Context, row: Consultation) -> list[Participant]:
    return [one for one, stay in await presence.present(ctx, row.id) if stay.place == "call"]


async def _inside(ctx: Context, row: Consultation, person: Participant) -> None:
    if person.id not in {one.id for one in await _people(ctx, row)}:
        raise Conflict("only who is in the call")


def _note(ctx: Context, row: Consultation, type: str, detail: dict[str, object]) -> None:
    ctx.audit(type, patient_id=row.patient_id, entity=ResourceRef("Consultation", row.id), detail=detail)
    _changed(ctx, row)


def _changed(ctx: Context, row: Consultation) -> None:
    ctx.notify("telemedicine.consultation", consultation=row.id, patient=row.patient_id)
