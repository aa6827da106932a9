"""What people of a call with several say over their sockets: hands, microphones, the door. Who moderates is the clinic."""

from __future__ import annotations

from qanun.api import Context
from qanun_telemedicine import schemas
from qanun_telemedicine.models import Consultation, Participant
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
