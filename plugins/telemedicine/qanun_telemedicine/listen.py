"""Makes the media worker pass on exactly the sound that may be written along right now, and no more.

As with recordings (`settle`): called after everything that can change it, by several web processes at once; the row is the
lock. Who may be heard is part of the tap's name, so that a changed answer always means another tap.
"""

from __future__ import annotations

import contextlib
import hashlib
import uuid

import structlog

from qanun.api import OpenContext
from qanun_telemedicine.captions.ear import PATH
from qanun_telemedicine.captions.line import captions_line
from qanun_telemedicine.media import Media
from qanun_telemedicine.service import call_of, captions
from qanun_telemedicine.sfu.client import MediaError

log = structlog.get_logger("qanun.telemedicine")


async def listen(open_context: OpenContext, media: Media, consultation_id: uuid.UUID) -> None:
    """Bring the tap in line with the answers. A worker that does not answer is told again by the next call of this."""
    async with open_context() as ctx:
        row = await call_of(ctx, consultation_id, lock=True)
        line = captions_line(ctx.runtime)
        who = sorted(str(one) for one in await captions.heard(ctx, row)) if line is not None else []
        name = f"captions-{row.id}-{hashlib.sha256(' '.join(who).encode()).hexdigest()[:16]}" if who else ""
        if not name and not row.captions_tap:
            return
        if name == row.captions_tap:
            # Gone with a worker that was restarted, if anything.
            with contextlib.suppress(MediaError):
                await media.client.recording_status(name)
                return
        elif row.captions_tap:
            await _stop(media, row.captions_tap)
        row.captions_tap = ""
        if name and line is not None:
            options = {"socket": str(line.inbox), "room": row.room}
            try:
                await media.client.start_recording(row.room, name, PATH, options, participants=who)
            except MediaError as error:
                if error.code != "exists":
                    log.warning("captions_not_started", code=error.code)
                    return
            row.captions_tap = name


async def _stop(media: Media, name: str) -> None:
    """Nobody listens who must not: raises MediaError when the worker does not say so."""
    try:
        await media.client.stop_recording(name)
    except MediaError as error:
        if error.code != "no-recording":
            raise
