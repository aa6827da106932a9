"""The two slots of a disk and the boot files beside them: what runs, what is spare, and the few writes that change that.

Works on a disk and on an image of one alike: labels through `sfdisk`, bytes through the partition's own device or at its
offset. Nothing here decides whether a release is good.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from qanun.api import ConfigurationError, Unavailable
from qanun_appliance.places import Places

EMPTY, UPDATING = "_empty", "_updating"
_ROOT = "qanun-root-"
_BOOT_FILE = re.compile(r"qanun_(?P<version>[^+]+?)(?:\+(?P<left>\d+)(?:-(?P<used>\d+))?)?\.efi")
_SECTOR = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One of the two. `start` and `size` in bytes; `node` its own device, when the disk is one."""

    number: int
    label: str
    start: int
    size: int
    node: Path | None

    @property
    def version(self) -> str:
        return self.label.removeprefix(_ROOT) if self.label.startswith(_ROOT) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootFile:
    """`left` tries of those that were given; None once a boot was judged good."""

    path: Path
    version: str
    left: int | None
    used: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """`device` is the disk or its image, `esp` the folder in which the boot partition is mounted, `running` the label of
    the slot that this system was started from."""

    device: Path
    esp: Path
    running: str

    def slots(self) -> list[Slot]:
        try:
            listed = subprocess.run(
                ["sfdisk", "--json", str(self.device)], capture_output=True, check=False, timeout=60
            )
            table = json.loads(listed.stdout or b"{}").get("partitiontable", {})
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            raise Unavailable(f"{self.device}: {error}") from None
        is_device = stat.S_ISBLK(self.device.stat().st_mode)
        found = []
        for number, entry in enumerate(table.get("partitions", []), start=1):
            label = str(entry.get("name", ""))
            if label.startswith(_ROOT) or label in {EMPTY, UPDATING}:
                node = Path(entry["node"]) if is_device else None
                size, start = int(entry["size"]) * _SECTOR, int(entry["start"]) * _SECTOR
                found.append(Slot(number=number, label=label, start=start, size=size, node=node))
        return found

    def spare(self) -> Slot:
        """The slot that this system does not run from. Raises ConfigurationError when the disk is not as we made it."""
        slots = self.slots()
        running = [slot for slot in slots if slot.label == self.running]
        others = [slot for slot in slots if slot.label != self.running]
        if len(slots) != 2 or len(running) != 1 or len(others) != 1:
            labels = ", ".join(slot.label for slot in slots) or "none"
            raise ConfigurationError(f"{self.device} has not two slots of which {self.running} runs (found: {labels})")
        return others[0]

    def relabel(self, slot: Slot, label: str) -> None:
        words = ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--force", "--part-label", str(self.device),
                 str(slot.number), label]  # fmt: skip
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            raise Unavailable(f"sfdisk: {done.stderr.strip()[-300:]}")
        self.sync()

    @contextlib.contextmanager
    def open_slot(self, slot: Slot, mode: str) -> Iterator[IO[bytes]]:
        """The slot's bytes, at its beginning; what was written is on the disk at the end."""
        with (slot.node or self.device).open(mode) as file:
            file.seek(0 if slot.node else slot.start)
            yield file
            if "+" in mode:
                file.flush()
                os.fsync(file.fileno())

    def drop_cache(self, slot: Slot) -> None:
        """So that reading back reads the disk and not our memory of it."""
        with (slot.node or self.device).open("rb") as file, contextlib.suppress(OSError):
            os.posix_fadvise(file.fileno(), 0 if slot.node else slot.start, slot.size, os.POSIX_FADV_DONTNEED)

    # --- boot files ------------------------------------------------------------------------------------------------

    @property
    def entries(self) -> Path:
        return self.esp / "EFI" / "Linux"

    def boot_files(self) -> list[BootFile]:
        found = []
        for path in sorted(self.entries.glob("qanun_*.efi")):
            match = _BOOT_FILE.fullmatch(path.name)
            if match:
                left = match["left"]
                found.append(
                    BootFile(
                        path=path, version=match["version"], left=None if left is None else int(left),
                        used=int(match["used"] or 0),
                    )
                )  # fmt: skip
        return found

    def remove_boot_files(self, version: str) -> None:
        for file in self.boot_files():
            if file.version == version:
                file.path.unlink()
        for draft in self.entries.glob(".*.new"):
            draft.unlink()
        self.sync()

    def add_boot_file(self, source: Path, version: str, tries: int) -> Path:
        """Beside first, then by its name: a half-written one never starts."""
        self.entries.mkdir(parents=True, exist_ok=True)
        target = self.entries / f"qanun_{version}+{tries}.efi"
        draft = self.entries / f".{version}.new"
        with source.open("rb") as reading, draft.open("wb") as writing:
            shutil.copyfileobj(reading, writing, 1024 * 1024)
            writing.flush()
            os.fsync(writing.fileno())
        draft.replace(target)
        self.sync()
        return target

    def exhaust(self, version: str) -> None:
        """No try is left to this version: the loader prefers every other."""
        for file in self.boot_files():
            if file.version == version:
                file.path.rename(self.entries / f"qanun_{version}+0.efi")
        self.sync()

    def sync(self) -> None:
        for path in (self.entries, self.device):
            with contextlib.suppress(OSError):
                descriptor = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)


def this_disk(places: Places) -> Disk:
    """The disk that this system was started from. Raises ConfigurationError on a server that is not the image."""
    words = places.real("/proc/cmdline").read_text(encoding="ascii", errors="replace").split()
    named = [word.partition("=")[2] for word in words if word.startswith(("qanun.slot=", "root=PARTLABEL="))]
    running = next((label.removeprefix("PARTLABEL=") for label in named if _ROOT in label), "")
    if not running:
        raise ConfigurationError(
            "this server was not started from a slot of the image: it is upgraded by Ansible (ansible/upgrade.yml)"
        )
    # Of the disk that this start came from: another one may hold a release of the same name.
    link = places.real(f"/dev/disk/by-qanun/{running}")
    listed = subprocess.run(
        ["lsblk", "--noheadings", "--nodeps", "--output", "PKNAME", str(link.resolve())], capture_output=True, text=True,
        check=False, timeout=30,
    )  # fmt: skip
    parent = listed.stdout.strip().splitlines()[:1]
    if not parent:
        raise ConfigurationError(f"the disk of {running} is not found")
    return Disk(device=places.real(f"/dev/{parent[0]}"), esp=places.real("/efi"), running=running)
