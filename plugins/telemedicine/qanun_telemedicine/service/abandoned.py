"""Calls that everybody left and nobody ended: after a while they end by themselves, as of when the last one left.

Leaving is not ending, so that whoever was cut off or stepped out goes on in the same visit. But a visit that nobody ends would
never reach its encounter, its appointment and its invoice, and what everybody agreed to keep of it would never reach the record.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select

from qanun.api import SYSTEM, Context
from qanun_telemedicine.models import IN_PROGRESS, WRITTEN, Consultation, Presence
from qanun_telemedicine.service import consultations, together
from qanun_telemedicine.service.recording import abandon, running

#: So long nobody was there: longer than a break, shorter than a day's work.
ALONE = timedelta(hours=3)
LIMIT = 200


async def abandoned(ctx: Context) -> list[uuid.UUID]:
    """The calls of visits and of groups that run and in which nobody was for so long. A visit in a group ends with it."""
    last = select(_last_seen()).where(Presence.consultation_id == Consultation.id).correlate(Consultation)
    statement = select(Consultation.id).where(
        Consultation.state == IN_PROGRESS, Consultation.mode != WRITTEN, Consultation.group_id.is_(None),
        Consultation.admitted_at < ctx.now - ALONE,
        func.coalesce(last.scalar_subquery(), Consultation.admitted_at) < ctx.now - ALONE,
    )  # fmt: skip
    return list((await ctx.db.execute(statement.order_by(Consultation.admitted_at).limit(LIMIT))).scalars())


async def end_abandoned(ctx: Context, id: uuid.UUID) -> bool:
    """End this one, if nobody has come back or ended it since. Twice changes nothing. Whether it was ended."""
    # Visits of a group are locked before its call, as everywhere.
    await together.members_of(ctx, await consultations.call_of(ctx, id), lock=True)
    row = await consultations.call_of(ctx, id, lock=True)
    if row.state != IN_PROGRESS or row.mode == WRITTEN or row.group_id is not None or row.admitted_at is None:
        return False
    seen = (await ctx.db.execute(select(_last_seen()).where(Presence.consultation_id == row.id))).scalar_one()
    left_at: datetime = max(seen or row.admitted_at, row.admitted_at)
    if left_at >= ctx.now - ALONE:
        return False
    if row.patient_id is None:
        await together.end(ctx, row, at=left_at)
        return True
    await consultations.end(ctx, row, at=left_at)
    record = await running(ctx, row.id)
    if record is not None:
        abandon(ctx, row, record, left_at)
    return True


def by_itself(row: Consultation) -> bool:
    """Whether a visit that is over was ended by nobody."""
    return row.ended_by == SYSTEM.id


def _last_seen() -> Any:
    return func.max(func.greatest(Presence.seen_at, func.coalesce(Presence.left_at, Presence.seen_at)))
