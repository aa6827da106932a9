"""Makes the media worker record exactly what may be recorded right now — no more, for no longer.

Called after everything that can change it: a consent, somebody coming or leaving, a restarted worker, the end. It may run
in several web processes at once; the consultation's row is the lock. Stopping and pausing happen before the database
says so, starting after the key is safely stored.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import select

from qanun.api import Context, Key, OpenContext, Unavailable
from qanun_telemedicine.media import RECORDER, Media, media_of
from qanun_telemedicine.models import Consultation, Participant, Recording
from qanun_telemedicine.recording.recorder import options
from qanun_telemedicine.service import call_of, new_recording, plan, recording_key
from qanun_telemedicine.service.recording import binding, folder, paused, stopped
from qanun_telemedicine.sfu.client import MediaError

log = structlog.get_logger("qanun.telemedicine")


async def settle(open_context: OpenContext, media: Media, consultation_id: uuid.UUID) -> None:
    """Bring the recording in line with the consents. Raises MediaError when it could not be started."""
    async with open_context() as ctx:
        row = await call_of(ctx, consultation_id, lock=True)
        begin = await settle_in(ctx, media, row)
    if begin is not None:
        await _begin(open_context, media, consultation_id, *begin)


async def settle_in(ctx: Context, media: Media, row: Consultation) -> tuple[Recording, dict[str, Any]] | None:
    """The part that is done inside a transaction that holds the row: stop, pause, resume. What is to be started is
    given back, for after the commit."""
    wanted = await plan(ctx, row)
    record = wanted.running
    if wanted.want == "stop" and record is not None:
        last = await _tell(media.client.stop_recording(str(record.id)))
        stopped(ctx, row, record, last, because=wanted.because)
    elif wanted.want == "pause" and record is not None and record.state == "recording":
        await _tell(media.client.pause_recording(str(record.id), True))
        paused(ctx, row, record, True)
    elif wanted.want == "run":
        if record is None:
            record, key = await new_recording(ctx, row)
            return record, _options(ctx, record, key)
        key = await recording_key(ctx, record)
        status = await _status(media, record)
        if status is None:  # the worker was restarted: the recording goes on in a new part of the same folder
            if record.state == "paused":
                paused(ctx, row, record, False)
            return record, _options(ctx, record, key)
        if record.state == "paused":
            await _tell(media.client.pause_recording(str(record.id), False))
            paused(ctx, row, record, False)
    return None


def _options(ctx: Context, record: Recording, key: Key) -> dict[str, Any]:
    place: Path = folder(ctx, record)
    return options(place, key, binding(ctx, record))


async def _begin(
    open_context: OpenContext, media: Media, consultation_id: uuid.UUID, record: Recording, how: dict[str, Any]
) -> None:
    async with open_context() as ctx:
        row = await call_of(ctx, consultation_id, lock=True)
        wanted = await plan(ctx, row)
        # A consent may have been withdrawn, or somebody may have come, between the two transactions.
        if wanted.want != "run" or wanted.running is None or wanted.running.id != record.id:
            return
        try:
            # After a restart of the worker the first who comes back finds no room yet.
            await media.client.open_room(row.room)
            await media.client.start_recording(row.room, str(record.id), RECORDER, how)
        except MediaError as error:
            if error.code == "exists":
                return
            log.warning("recording_not_started", code=error.code)
            stopped(ctx, row, wanted.running, {}, because="fault", problem=error.code)
            row.recording_asked_at = row.recording_asked_by = row.recording_paused_at = None


async def recording_failed(open_context: OpenContext, consultation_id: uuid.UUID, media: Media, problem: str) -> None:
    """The recorder stopped by itself (a full disk): everybody is told, the call goes on."""
    async with open_context() as ctx:
        row = await call_of(ctx, consultation_id, lock=True)
        wanted = await plan(ctx, row)
        if wanted.running is not None:
            status = await _tell(media.client.stop_recording(str(wanted.running.id)))
            stopped(ctx, row, wanted.running, status, because="fault", problem=problem)
            row.recording_asked_at = row.recording_asked_by = row.recording_paused_at = None


async def out_of_the_media(open_context: OpenContext, call_id: uuid.UUID, subject: str) -> None:
    """Somebody was put out: their page would leave by itself; a page that does not is not asked."""
    async with open_context() as ctx:
        row = await call_of(ctx, call_id)
        found = select(Participant.id).where(Participant.consultation_id == row.id, Participant.subject == subject)
        person, room, runtime = (await ctx.db.execute(found)).scalar_one_or_none(), row.room, ctx.runtime
    if person is not None:
        try:
            await media_of(runtime).client.leave(room, str(person))
            # Whoever was still to answer is not waited for any more.
            await settle(open_context, media_of(runtime), call_id)
        except (MediaError, Unavailable) as error:
            log.info("not_in_media", code=error.code)


async def _tell(request: Any) -> dict[str, Any]:
    """A worker that has no such recording records nothing: that is what was wanted. One that does not answer may still
    record, so its silence is passed on and the act is tried again."""
    try:
        return dict(await request)
    except MediaError as error:
        if error.code == "no-recording":
            return {}
        raise


async def _status(media: Media, record: Recording) -> dict[str, Any] | None:
    try:
        return await media.client.recording_status(str(record.id))
    except MediaError as error:
        if error.code == "no-recording":
            return None
        raise
