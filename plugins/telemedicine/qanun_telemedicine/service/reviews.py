"""The review queue: recordings about which a person must decide, because their time is over or a consent was taken back.

It only asks and lists; what a decision does is in `deletion` and `retention`.
"""

from __future__ import annotations

import uuid

from sqlalchemy import select

from qanun.api import Context, NotFound
from qanun_telemedicine.models import Recording
from qanun_telemedicine.models_kept import RecordingReview

LIMIT = 200


async def ask_about(ctx: Context, record: Recording, reason: str) -> bool:
    """Put a recording into the queue; True when it was not in it already. `reason` is `due` or `withdrawn`."""
    waits = select(RecordingReview.id).where(
        RecordingReview.recording_id == record.id, RecordingReview.decision.is_(None)
    )
    if (await ctx.db.execute(waits)).first() is not None:
        return False
    ctx.db.add(RecordingReview(recording_id=record.id, patient_id=record.patient_id, reason=reason, listed_at=ctx.now))
    await ctx.db.flush()
    ctx.notify("telemedicine.review", recording=record.id)
    return True


async def open_reviews(ctx: Context) -> list[tuple[RecordingReview, Recording]]:
    """What waits for a decision, the longest wait first; at most `LIMIT`."""
    statement = (
        select(RecordingReview, Recording)
        .join(Recording, Recording.id == RecordingReview.recording_id)
        .where(RecordingReview.decision.is_(None))
        .order_by(RecordingReview.listed_at, RecordingReview.id)
        .limit(LIMIT)
    )
    return [(review, record) for review, record in (await ctx.db.execute(statement)).all()]


async def review_of(ctx: Context, id: uuid.UUID) -> tuple[RecordingReview, Recording]:
    """One question with its recording, both locked. Raises NotFound for an unknown one and for another clinic's."""
    statement = (
        select(RecordingReview, Recording)
        .join(Recording, Recording.id == RecordingReview.recording_id)
        .where(RecordingReview.id == id)
        .with_for_update()
    )
    found = (await ctx.db.execute(statement)).first()
    if found is None:
        raise NotFound("review")
    return found[0], found[1]


async def reviews_of(ctx: Context, recording_id: uuid.UUID) -> list[RecordingReview]:
    """Every question there was about a recording, oldest first."""
    statement = select(RecordingReview).where(RecordingReview.recording_id == recording_id)
    return list((await ctx.db.execute(statement.order_by(RecordingReview.listed_at).limit(LIMIT))).scalars())
