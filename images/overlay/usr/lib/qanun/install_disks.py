"""Which disks a machine has, and which of them may be taken: none by guessing.

The stick that the installer came from, disks in use and disks that hold something are refused unless somebody named them.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from install_words import Stop, word

MIB = 1024 * 1024
LEAST_MIB = 8192
_OURS = re.compile(r"qanun-(root-.*|var|esp)|_qanun-var")


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """`holds` says what is on it, for people; `ours` whether that is a Qanun; `busy` why it cannot be used at all."""

    name: str
    path: Path
    size: int
    model: str
    serial: str
    holds: str
    ours: bool
    busy: str

    def called(self, name: str) -> bool:
        """Whether this is what somebody wrote: its name, serial number or path, or a link to it (/dev/disk/by-id/…)."""
        if name.startswith("/"):
            return Path(name).resolve() == self.path
        return bool(name) and name in {self.name, self.serial}


def run(*words: object, text: str | None = None) -> str:
    done = subprocess.run([str(one) for one in words], capture_output=True, text=True, input=text, check=False)
    if done.returncode:
        raise Stop(f"{words[0]}: {(done.stderr or done.stdout).strip()[-400:]}")
    return done.stdout


def disks(not_this: str = "", listed: str | None = None) -> list[Disk]:
    """Every disk of this machine; `not_this` is the name of the one that the installer came from."""
    columns = "NAME,PATH,SIZE,MODEL,SERIAL,TYPE,RO,FSTYPE,LABEL,PARTLABEL,MOUNTPOINTS"
    text = listed if listed is not None else run("lsblk", "--json", "--bytes", "--output", columns)
    found = []
    for entry in json.loads(text)["blockdevices"]:
        if entry["type"] != "disk" or not entry["size"] or re.match(r"(loop|ram|zram|sr|fd|nbd)\d", entry["name"]):
            continue
        parts = list(_below(entry))
        labels = [str(part.get("partlabel") or part.get("label") or part.get("fstype") or "?") for part in parts]
        used = [str(place) for part in (entry, *parts) for place in part.get("mountpoints") or () if place]
        busy = ""
        if entry["name"] == not_this:
            busy = "stick"
        elif entry["ro"]:
            busy = "read-only"
        elif used or any(part["type"] not in {"part", "disk"} for part in parts):
            busy = "in-use"
        elif int(entry["size"]) < LEAST_MIB * MIB:
            busy = "small"
        found.append(Disk(
            name=entry["name"], path=Path(entry["path"]), size=int(entry["size"]), model=(entry.get("model") or "").strip(),
            serial=(entry.get("serial") or "").strip(), holds=", ".join(labels) or str(entry.get("fstype") or ""),
            ours=any(_OURS.fullmatch(str(part.get("partlabel") or "")) for part in parts), busy=busy,
        ))  # fmt: skip
    return found


def _below(entry: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for child in entry.get("children") or ():
        yield child
        yield from _below(child)


def chosen(found: Sequence[Disk], onto: str, replace: str, language: str = "en") -> Disk:
    """The disk that is meant. Raises Stop for every doubt: none, several, in use, or holding something nobody named."""

    def stop(sentence: str, /, **values: object) -> Stop:
        return Stop(word(language, sentence).format(**values))

    if onto == "only":
        free = [disk for disk in found if not disk.busy]
        if len(free) != 1:
            raise stop("not-one", count=len(free))
        disk = free[0]
    else:
        named = [disk for disk in found if disk.called(onto)]
        if len(named) != 1:
            raise stop("no-such", name=onto)
        disk = named[0]
    if disk.busy:
        raise stop(f"busy-{disk.busy}", name=disk.name, least=LEAST_MIB // 1024)
    if disk.holds and not disk.called(replace):
        raise stop("holds-qanun" if disk.ours else "holds", name=disk.name, what=disk.holds)
    return disk
