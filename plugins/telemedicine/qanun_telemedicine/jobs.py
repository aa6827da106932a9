"""Background work: ending guests' sessions and calls that everybody left, with their rooms, and keeping a finished recording's
index, so that opening it costs nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import UUID

from qanun.api import Context, Job, Key
from qanun_telemedicine import media
from qanun_telemedicine.nodes.witness import witness
from qanun_telemedicine.recording import player
from qanun_telemedicine.service import call_of, deletion, recording, recording_key, retention, shut
from qanun_telemedicine.service.abandoned import abandoned, end_abandoned
from qanun_telemedicine.service.recording import binding, close_abandoned, folder
from qanun_telemedicine.service.reviews import ask_about


async def finish_recording(ctx: Context, recording_id: str) -> None:
    """Idempotent. A recording in which nothing was recorded has no index, and that is no failure."""
    record = await recording(ctx, UUID(recording_id))
    key = await recording_key(ctx, record)
    duration = await asyncio.to_thread(_finish, folder(ctx, record), key, binding(ctx, record))
    if duration is not None:
        record.duration_ms = duration
    await retention.reckon(ctx, record.id)


def _finish(place: Path, key: Key, bound: bytes) -> int | None:
    try:
        with player.Recording(place, key, bound) as opened:
            opened.finish()
            return opened.duration_ms
    except player.Empty:
        return None


async def close_guests(ctx: Context, consultation_id: str) -> None:
    """The sessions of a finished visit's guests end. Idempotent."""
    await shut(ctx, await call_of(ctx, UUID(consultation_id)))


async def look_for_abandoned(ctx: Context) -> None:
    """Calls that everybody left long ago end, each in a transaction of its own."""
    for id in await abandoned(ctx):
        ctx.defer("telemedicine.end_abandoned", consultation_id=str(id))


async def end_one_abandoned(ctx: Context, consultation_id: str) -> None:
    """Idempotent; whoever came back meanwhile keeps their visit."""
    id = UUID(consultation_id)
    if await end_abandoned(ctx, id):
        # A camera of its own has no page that would notice, and sends on.
        ctx.defer("telemedicine.close_room", room=(await call_of(ctx, id)).room)


async def close_room(ctx: Context, room: str) -> None:
    """The media room of a call that is over. Idempotent; tried again while no worker answers."""
    await media.close_room(ctx.runtime, room)


async def reckon(ctx: Context) -> None:
    """Write anew until when every recording is kept."""
    await retention.reckon(ctx)


async def look_through(ctx: Context) -> None:
    """Every night: list what is due and what was put off until today; where the clinic wants no review, have it destroyed,
    each in a transaction of its own."""
    await close_abandoned(ctx)
    await retention.reckon(ctx)
    policy = await retention.current_policy(ctx)
    asked = leaving = 0
    for record, born in await retention.due(ctx) if policy is not None else []:
        assert policy is not None
        if await retention.put_off_by_visits(ctx, record, policy, born):
            continue
        if policy.review:
            asked += await ask_about(ctx, record, "due")
        else:
            ctx.defer("telemedicine.destroy_due", recording_id=str(record.id))
            leaving += 1
    for record in await retention.put_off_again(ctx):
        asked += await ask_about(ctx, record, "withdrawn" if record.withdrawn_at else "due")
    ctx.audit("telemedicine.retention.run", detail={"asked": asked, "leaving": leaving})


async def destroy_due(ctx: Context, recording_id: str) -> None:
    """Destroy one recording whose time is over, if that is still so: rules, holds and birth dates change in between."""
    record, policy = await recording(ctx, UUID(recording_id)), await retention.current_policy(ctx)
    today = ctx.local(ctx.now).date()
    over = record.keep_until is not None and record.keep_until <= today
    by_rule = policy is not None and not policy.review and over and record.state in retention.FINISHED
    if by_rule and not await retention.held(ctx, record):
        await deletion.destroy(ctx, record, why="due")


async def erase_files(ctx: Context, recording_id: str) -> None:
    """The files of a destroyed recording go. Idempotent; never those of a recording that still has its key."""
    record = await recording(ctx, UUID(recording_id))
    if record.state == "deleted":
        await asyncio.to_thread(deletion.erase, folder(ctx, record))


async def erase_picture(ctx: Context, blob_id: str) -> None:
    """The bytes of a destroyed picture go. Idempotent."""
    await ctx.blobs.erase(ctx, UUID(blob_id))


JOBS = (
    Job(id="telemedicine.finish_recording", run=finish_recording),
    Job(id="telemedicine.look_for_abandoned", run=look_for_abandoned, cron="7,27,47 * * * *"),
    Job(id="telemedicine.end_abandoned", run=end_one_abandoned),
    Job(id="telemedicine.close_room", run=close_room),
    Job(id="telemedicine.reckon", run=reckon),
    Job(id="telemedicine.look_through", run=look_through, cron="40 1 * * *"),
    Job(id="telemedicine.destroy_due", run=destroy_due),
    Job(id="telemedicine.erase_files", run=erase_files),
    Job(id="telemedicine.erase_picture", run=erase_picture),
    Job(id="telemedicine.close_guests", run=close_guests),
    Job(id="telemedicine.witness_nodes", run=witness, cron="* * * * *"),
)
