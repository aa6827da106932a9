"""The web process's line to the media worker, and who in this process listens to which room.

It decides nothing and remembers nothing that another web process would need: rooms live in the worker, rules in the
database.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from qanun.api import Context, Lifespan, Runtime, Unavailable
from qanun_telemedicine.ears import Ears
from qanun_telemedicine.sfu.client import MediaClient
from qanun_telemedicine.sfu.pool import MediaPool
from qanun_telemedicine.sfu.protocol import Event
from qanun_telemedicine.turn import ephemeral_credentials

SERVICE = "telemedicine.media"
RECORDER = "qanun_telemedicine.recording.recorder:Recorder"
#: A page asks for new ones before these end; a call that runs keeps its allocation.
CREDENTIALS_S = 600
_MOST_EVENTS = 256


class Media:
    """`client` speaks to the worker; `listen(room)` gives that room's events to a socket of this process."""

    def __init__(self, client: MediaClient | MediaPool) -> None:
        self.client = client
        self._ears: Ears[Event] = Ears(_MOST_EVENTS)
        self.listen = self._ears.listen

    def heard(self, event: Event) -> None:
        """An event of a worker; the restart of the only one concerns every room."""
        self._ears.tell(event, None if event.event == "worker.restarted" and not event.room else event.room)


@asynccontextmanager
async def _open(runtime: Runtime) -> AsyncIterator[Media | None]:
    """None on a machine without a media worker: visits can be booked and waited for, not held."""
    socket = runtime.config.media_socket
    if socket is None:
        yield None
        return
    media: Media

    def heard(event: Event) -> None:
        media.heard(event)

    client = MediaPool(socket, heard)
    media = Media(client)
    # Not waited for: the web server starts, and serves records, whether or not calls are possible right now.
    await client.start(wait=None)
    try:
        yield media
    finally:
        await client.close()


LIFESPAN = Lifespan(id=SERVICE, open=_open)


def media_of(runtime: Any) -> Media:
    """Raises Unavailable when this machine has no media worker."""
    media: Media | None = runtime.services.get(SERVICE)
    if media is None:
        raise Unavailable("video is not set up on this server")
    return media


async def close_room(runtime: Runtime, room: str) -> None:
    """Whoever is still in the room is out of it, from whatever process of this machine; a room that is not there is closed.
    Raises MediaError when no worker answers."""
    media: Media | None = runtime.services.get(SERVICE)
    if media is not None:
        await media.client.close_room(room)
        return
    socket = runtime.config.media_socket
    if socket is None:
        return
    pool = MediaPool(socket)
    try:
        await pool.start()
        await pool.close_room(room)
    finally:
        await pool.close()


def ice_servers(ctx: Context, participant: str) -> list[dict[str, Any]]:
    """The relay, with credentials that live minutes and name the participant; empty when there is none."""
    config = ctx.runtime.config
    if not config.turn_urls or config.turn_secret_file is None:
        return []
    secret = config.turn_secret_file.read_text().strip()
    lent = ephemeral_credentials(secret, participant, CREDENTIALS_S)
    return [{"urls": list(config.turn_urls), "username": lent.username, "credential": lent.password}]
