"""The web process tells systemd that it is ready and, while its event loop turns, that it lives. Elsewhere it does nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from qanun.api import Lifespan, Runtime


def tell(state: str) -> None:
    """One datagram to whoever started us (sd_notify's protocol); nobody is told when nobody asked."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.connect("\0" + address[1:] if address.startswith("@") else address)
        line.send(state.encode("ascii"))


async def _live(every: float) -> None:
    while True:
        tell("WATCHDOG=1")
        await asyncio.sleep(every)


@asynccontextmanager
async def _open(runtime: Runtime) -> AsyncIterator[None]:
    limit = os.environ.get("WATCHDOG_USEC", "")
    beating = asyncio.create_task(_live(int(limit) / 3_000_000)) if limit.isdigit() and int(limit) else None
    tell("READY=1")
    try:
        yield None
    finally:
        tell("STOPPING=1")
        if beating is not None:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)


#: Last of all: ready means that everything else is open.
LIFESPAN = Lifespan(id="appliance.watchdog", open=_open, order=1000)
