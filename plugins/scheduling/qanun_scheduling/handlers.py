"""Reactions to other plugins' events: who waits has arrived, whose visit has ended is done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from qanun.api import Conflict, Context, EventHandler, NotFound
from qanun_scheduling import service


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


HANDLERS = [
    EventHandler(id="scheduling.waiting", event="telemedicine.patient.waiting", handle=_move("arrived")),
    EventHandler(id="scheduling.ended", event="telemedicine.consultation.ended", handle=_move("fulfilled")),
]
