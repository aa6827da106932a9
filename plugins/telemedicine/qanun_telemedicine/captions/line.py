"""A web process's line to the process that writes captions, and which of its sockets listens to which room."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from qanun.api import Lifespan, Runtime
from qanun_telemedicine.ears import Ears

SERVICE = "telemedicine.captions"
_MOST_LINES = 64
_PAUSES = (0.5, 1.0, 2.0, 5.0)


class Caption(msgspec.Struct):
    """What somebody said. `id` is the same in every web process; `began`: when they began to, in seconds since 1970."""

    room: str
    participant: str
    text: str
    id: str = ""
    began: float = 0.0


def inbox(path: Path) -> Path:
    """Where packets come in, beside where words go out."""
    return path.with_name(path.name + ".in")


class CaptionLine:
    """`available` while the other process answers; `listen(room)` gives a socket of this process that room's captions."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ears: Ears[Caption] = Ears(_MOST_LINES)
        self.listen = self._ears.listen
        self.available = False

    @property
    def inbox(self) -> Path:
        """Where the media worker's tap sends what it hears."""
        return inbox(self._path)

    async def run(self) -> None:
        """Until cancelled; comes back by itself."""
        tries = 0
        while True:
            with contextlib.suppress(OSError, msgspec.DecodeError, ValueError):
                reader, writer = await asyncio.open_unix_connection(self._path)
                tries, self.available = 0, True
                try:
                    while line := await reader.readline():
                        caption = msgspec.json.decode(line, type=Caption)
                        self._ears.tell(caption, caption.room)
                finally:
                    self.available = False
                    writer.close()
            await asyncio.sleep(_PAUSES[min(tries, len(_PAUSES) - 1)])
            tries += 1


@asynccontextmanager
async def _open(runtime: Runtime) -> AsyncIterator[CaptionLine | None]:
    """None on a machine without a recogniser: captions are not offered there."""
    path = runtime.config.captions_socket
    if path is None:
        yield None
        return
    line = CaptionLine(path)
    task = asyncio.create_task(line.run())
    try:
        yield line
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


LIFESPAN = Lifespan(id=SERVICE, open=_open)


def captions_line(runtime: Any) -> CaptionLine | None:
    """None where captions cannot be had right now."""
    line: CaptionLine | None = runtime.services.get(SERVICE)
    return line if line is not None and line.available else None
