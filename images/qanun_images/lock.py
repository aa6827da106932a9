"""`debs.lock` and `tools.lock`: every package by name, version, architecture and hash, without any mirror's address.

The first line after the comment carries the time that the image's files get: the newest package list's when the lock was
written. A mirror keeps only current versions, so a lock grows stale; a release therefore publishes its packages. For whoever
only wants to see that Debian's present packages do, `QANUN_LOCKS` names a folder with locks of its own (`write` fills it).
"""

from __future__ import annotations

import os
from dataclasses import astuple, dataclass
from pathlib import Path

from bootstrap import Missing, Steps

from qanun_images import sources, store
from qanun_images.places import HERE
from qanun_images.sources import Deb

_HEAD = "# Written by ./images/build lock from {source}. name version architecture sha256 suite path\nepoch {epoch}\n"
PLACE = Path(os.environ.get("QANUN_LOCKS") or HERE)
DEBS, TOOLS, FIRMWARE = PLACE / "debs.lock", PLACE / "tools.lock", PLACE / "firmware.lock"


@dataclass(frozen=True, slots=True)
class Lock:
    """`epoch` in seconds since 1970."""

    epoch: int
    debs: tuple[Deb, ...]


def read(path: Path) -> Lock:
    """Raises Missing when the file is absent or not a lock."""
    if not path.exists():
        raise Missing(f"{path.name} is missing; write it with ./images/build lock")
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    word, _, epoch = lines[0].partition(" ")
    debs = [line.split(" ") for line in lines[1:]]
    if word != "epoch" or not epoch.isdigit() or any(len(fields) != 6 for fields in debs):
        raise Missing(f"{path.name} is not a lock of ours; write it anew with ./images/build lock")
    return Lock(int(epoch), tuple(Deb(*fields) for fields in debs))


def names(path: Path) -> list[str]:
    """The packages that a list asks for."""
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def gone(steps: Steps) -> list[Deb]:
    """What the locks name and nobody has any more. Raises Missing when the mirror does not answer."""
    return store.gone([*read(DEBS).debs, *read(TOOLS).debs], steps)


def write(steps: Steps) -> None:
    """Ask the machine's sources what the lists need today, and write both locks."""
    PLACE.mkdir(parents=True, exist_ok=True)
    steps.tell("reading Debian's package lists")
    sources.update(steps)
    epoch = sources.newest_release()
    for path, source in ((DEBS, HERE / "packages.txt"), (TOOLS, HERE / "tools.txt")):
        steps.tell(f"choosing versions for {source.name}")
        debs = sources.resolve(names(source))
        body = "".join(" ".join(astuple(deb)) + "\n" for deb in debs)
        path.write_text(_HEAD.format(source=source.name, epoch=epoch) + body, encoding="utf-8")


def write_firmware(steps: Steps) -> None:
    """What --firmware adds to debs.lock, which stays as it is."""
    steps.tell("reading Debian's package lists")
    sources.update(steps)
    source = HERE / "firmware.txt"
    there = {deb.name for deb in read(DEBS).debs}
    debs = [deb for deb in sources.resolve(names(source)) if deb.name not in there]
    body = "".join(" ".join(astuple(deb)) + "\n" for deb in debs)
    FIRMWARE.write_text(_HEAD.format(source=source.name, epoch=read(DEBS).epoch) + body, encoding="utf-8")


def of_box(*, firmware: bool) -> Lock:
    """What the box carries."""
    debs = read(DEBS)
    return Lock(debs.epoch, (*debs.debs, *read(FIRMWARE).debs)) if firmware else debs
