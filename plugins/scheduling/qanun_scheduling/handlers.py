"""Reactions to other plugins' events: who waits has arrived, who was let in is with the doctor, whose visit is over is done."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from qanun.api import Conflict, Context, EventHandler, NotFound
from qanun_scheduling import service, sessions


def _move(status: str) -> Any:
    async def handle(ctx: Context, payload: Mapping[str, Any]) -> None:
        """Idempotent: the same step twice is one step; a step the desk has overtaken is left alone."""
        identity = payload.get("appointment_id")
        if not identity:
            return
        try:
            await service.set_status(ctx, UUID(str(identity)), status)
        except (Conflict, NotFound):
            return

    return handle


async def _admitted(ctx: Context, payload: Mapping[str, Any]) -> None:
    identity = payload.get("appointment_id")
    if not identity:
        return
    try:
        await service.call_in(ctx, UUID(str(identity)))
    except (Conflict, NotFound):
        return


async def _signed(ctx: Context, payload: Mapping[str, Any]) -> None:
    """A signed visit that belongs to an appointment fulfils it."""
    kind, _, identity = str(payload.get("appointment") or "").partition("/")
    if kind == "Appointment":
        await _move("fulfilled")(ctx, {"appointment_id": identity})


async def _group_over(ctx: Context, payload: Mapping[str, Any]) -> None:
    """A group that is over, or does not take place, gives back what is left of its time."""
    identity = payload.get("appointment_id")
    if not identity:
        return
    try:
        at = datetime.fromisoformat(str(payload.get("at") or ctx.now.isoformat()))
        await sessions.release(ctx, UUID(str(identity)), held=bool(payload.get("held")), at=at)
    except NotFound:
        return


HANDLERS = [
    EventHandler(id="scheduling.waiting", event="telemedicine.patient.waiting", handle=_move("arrived")),
    EventHandler(id="scheduling.admitted", event="telemedicine.consultation.admitted", handle=_admitted),
    EventHandler(id="scheduling.signed", event="emr.encounter.signed", handle=_signed),
    EventHandler(id="scheduling.ended", event="telemedicine.consultation.ended", handle=_move("fulfilled")),
    EventHandler(id="scheduling.group_begun", event="telemedicine.group.begun", handle=_admitted),
    EventHandler(id="scheduling.group_ended", event="telemedicine.group.ended", handle=_group_over),
]
