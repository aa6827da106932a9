"""A release on its way in from a browser: pieces of one file, in order, with limits. Nothing of it is believed here; root takes the
whole file away and proves it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from qanun.api import N_, Conflict, Invalid

PIECE = 8 * 1024 * 1024
_MOST = 5 * 1024**3
#: What of the disk stays free whatever somebody sends.
_RESERVE = 0.10
WHOLE, PART = "release.tar", "release.part"


def folder(state: Path) -> Path:
    return state / "incoming"


def received(state: Path) -> int:
    """How far the file is that is on its way; 0 when there is none."""
    try:
        return (folder(state) / PART).stat().st_size
    except OSError:
        return 0


def is_whole(state: Path) -> bool:
    return (folder(state) / WHOLE).exists()


async def take(state: Path, offset: int, size: int, pieces: AsyncIterator[bytes]) -> bool:
    """Append one piece; True when the file is whole. Raises Conflict when the piece does not follow what is there, Invalid for
    what cannot be a release or does not fit."""
    if not 0 < size <= _MOST or not 0 <= offset < size:
        raise Invalid({"file": N_("This file is too large for a release.")})
    place = folder(state)
    place.mkdir(mode=0o700, exist_ok=True)
    usage = shutil.disk_usage(place)
    if usage.free - (size - offset) < usage.total * _RESERVE:
        raise Invalid({"file": N_("The machine has no room for this file.")})
    part = place / PART
    if offset == 0:
        part.unlink(missing_ok=True)
        (place / WHOLE).unlink(missing_ok=True)
    if offset != received(state):
        raise Conflict("another piece is waited for")
    came = 0
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "ab") as file:
        async for block in pieces:
            came += len(block)
            if came > PIECE or offset + came > size:
                raise Invalid({"file": N_("This piece is larger than it was said to be.")})
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    if offset + came < size:
        return False
    part.replace(place / WHOLE)
    return True
