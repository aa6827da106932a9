"""A file that only holds room on the data disk: given free when the disk is nearly full, so that people can go on working and
somebody can delete; taken back when there is room again. It is looked after every minute.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from qanun_appliance.places import Places
from qanun_appliance.reports import note

NAME = "reserve"
REPORT = "disk"
#: Shares of the disk: what the file holds, when it is given free, when it is taken back.
_SHARE, _GIVE, _TAKE = 0.015, 0.02, 0.10
_LEAST, _MOST = 64 * 1024**2, 2 * 1024**3


@dataclass(frozen=True, slots=True)
class Room:
    total: int
    free: int


def room_of(places: Places) -> Room:
    found = shutil.disk_usage(places.data)
    return Room(found.total, found.free)


def reserve_size(total: int) -> int:
    return int(min(_MOST, max(_LEAST, total * _SHARE)))


def look_after(places: Places, room: Room | None = None) -> str:
    """`held`, `given`, `taken` or `none` (given before, and no room to take it back)."""
    found = room or room_of(places)
    path = places.data / NAME
    size = reserve_size(found.total)
    if path.exists():
        if found.free >= found.total * _GIVE and path.stat().st_size == size:
            return "held"
        path.unlink()
        if found.free < found.total * _GIVE:
            note(places, REPORT, {"well": False, "given": datetime.now(UTC).isoformat(timespec="seconds")})
            return "given"
        found = Room(found.total, found.free + size)
    if found.free < found.total * _TAKE + size:
        return "none"
    _hold(path, size)
    note(places, REPORT, {"well": True})
    return "taken"


def _hold(path: Path, size: int) -> None:
    """Real blocks, not a hole; nothing is left of a file that could not be made whole."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
        os.fsync(descriptor)
    except OSError:
        path.unlink()
        raise
    finally:
        os.close(descriptor)
