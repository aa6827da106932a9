"""Disks for backups: which ones are plugged in beside the machine's own, what is on them, and making an empty one ready.

Nothing that holds anything is ever erased here: a disk with a file system is used as it is, a disk with nothing at all gets one. What
the pages show comes from what the machine knows already; root looks at the disk itself before it writes.
"""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qanun.api import ConfigurationError, Unavailable, isolate
from qanun_appliance.site import BACKUP_MOUNT

_COLUMNS = "NAME,PATH,TYPE,SIZE,FSTYPE,LABEL,UUID,MODEL,SERIAL,RO,PTTYPE,PARTLABEL,MOUNTPOINTS"
#: What the box can keep a backup on as it is.
_USABLE = frozenset({"ext3", "ext4", "xfs", "btrfs", "vfat", "exfat"})
_LEAST = 1_000_000_000
#: What is looked at before a disk counts as empty: whatever begins with something is left alone.
_LOOKED_AT = 4 * 1024 * 1024
#: Backups have a folder of their own on the disk.
TARGET = f"{BACKUP_MOUNT}/qanun"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupDisk:
    """`choice` is what the page sends: `disk:UUID`, `blank:SERIAL`, or empty for what cannot be used. `kind` is the file system."""

    choice: str
    name: str
    size: int
    label: str
    kind: str
    path: str

    @property
    def blank(self) -> bool:
        return self.choice.startswith("blank:")

    @property
    def shown(self) -> str:
        """The maker's name amid words of any direction."""
        return isolate(self.name)

    @property
    def gigabytes(self) -> str:
        return f"{self.size / 1e9:.0f}"


def found(
    listing: Sequence[Mapping[str, Any]] | None = None, kinds: frozenset[str] = frozenset({"disk"})
) -> list[BackupDisk]:
    """Every disk that is not the machine's own, with what could be done with it."""
    result = []
    for disk in _listed() if listing is None else listing:
        if disk.get("type") not in kinds or disk.get("ro") or int(disk.get("size") or 0) < _LEAST or _ours(disk):
            continue
        parts = [one for one in _all(disk) if one.get("fstype")]
        result += [_with_files(disk, one) for one in parts]
        if not parts:
            name = str(disk.get("serial") or disk.get("name"))
            empty = not disk.get("pttype") and not disk.get("children")
            result.append(_one(disk, disk, choice=f"blank:{name}" if empty else ""))
    return result


def _with_files(disk: Mapping[str, Any], part: Mapping[str, Any]) -> BackupDisk:
    usable = part["fstype"] in _USABLE and part.get("uuid")
    return _one(disk, part, choice=f"disk:{part['uuid']}" if usable else "")


def _one(disk: Mapping[str, Any], part: Mapping[str, Any], choice: str) -> BackupDisk:
    return BackupDisk(
        choice=choice, name=str(disk.get("model") or disk.get("name") or "").strip(), size=int(part.get("size") or 0),
        label=str(part.get("label") or ""), kind=str(part.get("fstype") or ""), path=str(part.get("path") or ""),
    )  # fmt: skip


def _listed() -> list[dict[str, Any]]:
    words = ["lsblk", "--json", "--bytes", "--output", _COLUMNS]
    try:
        done = subprocess.run(words, capture_output=True, check=False, timeout=15)
        listed = json.loads(done.stdout or b"{}").get("blockdevices", [])
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return []
    return listed if isinstance(listed, list) else []


def _all(disk: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield disk
    for child in disk.get("children", ()):
        yield from _all(child)


def _ours(disk: Mapping[str, Any]) -> bool:
    """Whether the system lives on it, or something that is not simply files (a volume group, an array)."""
    for one in _all(disk):
        mounted = [where for where in one.get("mountpoints") or () if where]
        elsewhere = [where for where in mounted if not where.startswith((f"{BACKUP_MOUNT}", "/media/", "/mnt/"))]
        label = str(one.get("partlabel") or "")
        if elsewhere or one.get("type") not in {"disk", "part", "loop"} or label.startswith(("qanun-", "_")):
            return True
    return False


def uuid_of(choice: str) -> str:
    """The file system's name by which it is mounted: the one that it has, or will have."""
    kind, _, name = choice.partition(":")
    return name if kind == "disk" else str(uuid.uuid5(uuid.NAMESPACE_OID, choice))


def is_choice(kind: str) -> bool:
    return kind.startswith(("disk:", "blank:"))


def make_ready(choice: str, disks: Sequence[BackupDisk] | None = None) -> None:
    """Root's part: a file system onto a disk that holds nothing at all. Raises ConfigurationError when it holds something."""
    if not choice.startswith("blank:"):
        return
    disk = next((one for one in (found() if disks is None else disks) if one.choice == choice), None)
    if disk is None:
        if _made_before(uuid_of(choice)):
            return  # a second try after a failure
        raise ConfigurationError("the disk for backups is not plugged in any more, or is not empty any more")
    probed = subprocess.run(["blkid", "--probe", disk.path], capture_output=True, check=False, timeout=60)
    with Path(disk.path).open("rb") as device:
        beginning = device.read(_LOOKED_AT)
    if probed.returncode != 2 or beginning.strip(b"\0"):
        raise ConfigurationError(f"{disk.path} is not empty; nothing on it was changed")
    words = ["mkfs.ext4", "-q", "-m", "0", "-L", "QANUN-BACKUP", "-U", uuid_of(choice), disk.path]
    made = subprocess.run(words, capture_output=True, text=True, check=False, timeout=1800, stdin=subprocess.DEVNULL)
    if made.returncode:
        raise Unavailable(f"mkfs.ext4: {made.stderr.strip()[-300:]}")


def _made_before(name: str) -> bool:
    asked = subprocess.run(["blkid", "--uuid", name], capture_output=True, check=False, timeout=60)
    return asked.returncode == 0
