"""The device check's round trip: a page's own sound and picture through the media worker and back to that page alone.

It is a room of its own with two seats of one page, named by the connection: nobody else can come in, nothing is recorded,
no visit knows of it. It ends with the page's word, with the connection, or by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from qanun.api import TooMany
from qanun_telemedicine import schemas
from qanun_telemedicine.media import Media
from qanun_telemedicine.sfu.client import MediaError

SEATS = ("out", "back")
#: Long enough for the slowest answer that would still make a call.
LASTS_S = 25.0
#: A page that is looked at again and again is checked again and again, but not for ever.
MOST = 12

Send = Callable[[dict[str, Any]], Awaitable[None]]


class RoundTrip:
    """One page's check. `step` does what the page asks; `end` closes the room, at any time and more than once."""

    def __init__(self, media: Media, connection: str, send: Send) -> None:
        self._media = media
        self._room = f"check/{connection}"
        self._send = send
        self._number = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def step(self, message: schemas.Check) -> None:
        """Raises TooMany; a refusal of the worker is told to the page."""
        if message.step == "leave":
            await self.end()
            return
        if message.step == "join" and message.seat == "out":
            self._number += 1
            if self._number > MOST:
                raise TooMany("the devices were checked often enough")
            await self.end()
            self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._expire())]
            await asyncio.sleep(0)
        ask = self._media.client.join if message.step == "join" else self._media.client.offer
        try:
            described = await ask(self._room, message.seat, message.sdp, message.sources)
        except MediaError as error:
            await self._tell(message.seat, {"type": "error", "number": message.number, "code": error.code})
            return
        answer = {
            "type": "answer", "number": message.number, "sdp": described.sdp, "wanted": described.wanted,
            "tracks": [msgspec.to_builtins(track) for track in described.tracks],
            "connection": described.connection, "revision": described.revision,
        }  # fmt: skip
        await self._tell(message.seat, answer)

    async def end(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            if task is not asyncio.current_task():
                task.cancel()
        if tasks:
            with contextlib.suppress(MediaError):
                await self._media.client.close_room(self._room)

    async def _tell(self, seat: str, message: dict[str, Any]) -> None:
        await self._send({"type": "check", "seat": seat, "message": message})

    async def _listen(self) -> None:
        with self._media.listen(self._room) as queue:
            while True:
                event = await queue.get()
                if event.event == "participant.tracks" and event.participant in SEATS:
                    await self._tell(event.participant, {"type": "tracks", **event.data})

    async def _expire(self) -> None:
        await asyncio.sleep(LASTS_S)
        await self.end()
