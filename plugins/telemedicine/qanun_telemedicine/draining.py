"""`qanun telemedicine drain`: before this machine stops, its media workers take no new call and those that go on are waited for."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

from qanun.api import Config, ConfigurationError
from qanun_telemedicine.sfu.client import MediaClient, MediaError, MediaUnavailable

_LOOK_S = 2.0
_PATIENCE_S = 3.0


def command(arguments: Sequence[str]) -> int:
    """0 nobody is in a call, 1 somebody still is when the time is over. The workers themselves go on running."""
    words = argparse.ArgumentParser(prog="qanun telemedicine drain", description=__doc__)
    words.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="until nobody is in a call any more")
    words.add_argument("--off", action="store_true", help="take new calls again")
    options = words.parse_args(list(arguments))
    socket = Config.from_environment().media_socket
    if socket is None:
        raise ConfigurationError("QANUN_MEDIA_SOCKET names no media worker")
    left = asyncio.run(drain(socket, options.wait, on=not options.off))
    print("new calls are taken again" if options.off else f"in calls: {left}")
    return 0 if options.off or not left else 1


async def drain(socket: Path, wait: float, *, on: bool = True) -> int:
    """How many people are still in calls. A worker that does not answer has none."""
    deadline = time.monotonic() + wait
    while True:
        left = sum(await asyncio.gather(*(_tell(one, on=on) for one in _sockets(socket))))
        if not on or not left or time.monotonic() >= deadline:
            return left
        # Told again each time: one that was started again meanwhile knows nothing of it.
        await asyncio.sleep(min(_LOOK_S, max(0.0, deadline - time.monotonic())))


def _sockets(first: Path) -> list[Path]:
    return [first, *sorted(first.parent.glob(f"{first.stem}-*{first.suffix}"))]


async def _tell(socket: Path, *, on: bool) -> int:
    client = MediaClient(socket, timeout=_PATIENCE_S)
    try:
        with contextlib.suppress(MediaError, MediaUnavailable):
            await client.start(wait=_PATIENCE_S)
            await client.drain(on, ends=False)
            return (await client.hello()).participants
        return 0
    finally:
        await client.close()
