"""What telemedicine does when others announce something."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from qanun.api import Context, EventHandler
from qanun_telemedicine.models import SCHEDULED, WAITING
from qanun_telemedicine.service import call_of, cancel, for_appointment, together


async def _appointment_cancelled(ctx: Context, payload: Mapping[str, Any]) -> None:
    row = await for_appointment(ctx, uuid.UUID(str(payload["appointment_id"])))
    # A call that runs is not torn down from the desk: whoever holds it ends it.
    if row is None or row.state not in (SCHEDULED, WAITING):
        return
    if row.patient_id is None:
        await together.members_of(ctx, row, lock=True)
        row = await call_of(ctx, row.id, lock=True)
        if row.state == SCHEDULED:
            await together.end(ctx, row)
    else:
        await cancel(ctx, row)


HANDLERS = (
    EventHandler(
        id="telemedicine.appointment_cancelled", event="scheduling.appointment.cancelled", handle=_appointment_cancelled
    ),
)
