"""Background work: ending guests' sessions, and keeping a finished recording's index, so that opening it costs nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import UUID

from qanun.api import Context, Job, Key
from qanun_telemedicine.recording import player
from qanun_telemedicine.service import consultation, recording, recording_key, shut
from qanun_telemedicine.service.recording import binding, folder


async def finish_recording(ctx: Context, recording_id: str) -> None:
    """Idempotent. A recording in which nothing was recorded has no index, and that is no failure."""
    record = await recording(ctx, UUID(recording_id))
    key = await recording_key(ctx, record)
    duration = await asyncio.to_thread(_finish, folder(ctx, record), key, binding(ctx, record))
    if duration is not None:
        record.duration_ms = duration


def _finish(place: Path, key: Key, bound: bytes) -> int | None:
    try:
        with player.Recording(place, key, bound) as opened:
            opened.finish()
            return opened.duration_ms
    except player.Empty:
        return None


async def close_guests(ctx: Context, consultation_id: str) -> None:
    """The sessions of a finished visit's guests end. Idempotent."""
    await shut(ctx, await consultation(ctx, UUID(consultation_id)))


JOBS = (
    Job(id="telemedicine.finish_recording", run=finish_recording),
    Job(id="telemedicine.close_guests", run=close_guests),
)
