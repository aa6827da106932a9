"""Who may do what over a socket: guests nothing before they are let in, and nothing of the patient's own; the clinic moderates."""

from __future__ import annotations

from qanun.api import Context, Forbidden
from qanun_telemedicine import schemas, service
from qanun_telemedicine.models import ADMITTED, Consultation, Participant
from qanun_telemedicine.permissions import Telemedicine
from qanun_telemedicine.service import group


async def in_group(ctx: Context, row: Consultation, person: Participant, message: schemas.Message) -> None:
    """Raises Forbidden for who moderates without holding the visit."""
    match message:
        case schemas.Hand():
            await group.raise_hand(ctx, row, person, message.on)
        case schemas.Muted():
            await group.say_muted(ctx, row, person, message.on)
        case schemas.Mute():
            ctx.require(Telemedicine.CONSULTATION_HOLD)
            await group.mute(ctx, row, message.who)
        case schemas.Lower():
            ctx.require(Telemedicine.CONSULTATION_HOLD)
            await group.lower_hand(ctx, row, message.who)
        case schemas.Lock():
            ctx.require(Telemedicine.CONSULTATION_HOLD)
            await group.lock(ctx, row, message.on)


async def admitted_guest(ctx: Context, row: Consultation) -> None:
    """Raises Forbidden for a guest who has not been let in."""
    if ctx.actor.kind == "guest" and (await service.acting_guest(ctx, row.id)).state != ADMITTED:
        raise Forbidden("not admitted")


async def write_concern(ctx: Context, row: Consultation, text: str) -> None:
    """Raises Forbidden for a guest."""
    if ctx.actor.kind == "guest":
        raise Forbidden("the patient's own words")
    await service.write_concern(ctx, row, text)


async def confirm_place(ctx: Context, row: Consultation, message: schemas.Place) -> None:
    """Raises Forbidden for a guest."""
    if ctx.actor.kind == "guest":
        raise Forbidden("the patient's own place")
    await service.confirm_place(ctx, row, message.text, message.country)
