"""What was proven takes the place of the present: renames within one disk, and whoever is cut off among them goes on later.

What is to be done lies in a file before the first rename, and is done when that file is gone. `settle` does what is left of it:
at a machine's start, before anything else looks at the data (`qanun-restored.service`), and before another restore. What was cut
off before it was proven is of no use, and as large as the clinic: `clear` takes it away at the same moments.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from qanun.api import Conflict
from qanun_appliance.places import BUILDS, PROVEN, Places
from qanun_appliance.postgres import hand_over, write_marker
from qanun_appliance.secrets import give, write_private

#: (folder, account): what is put in place of the present.
_PARTS = (("blobs", "qanun"), ("recordings", "qanun"), ("keys", "qanun"), ("secrets", "root"), ("ssh", "root"))
#: Of this machine and no other, whatever a backup says: the key of its disk, until somebody has it on paper.
_OWN = ("recovery-key",)


def exchange(
    places: Places, root: Path, scratch: Path, major: int, name: str, site: Callable[[str], str] | None = None
) -> list[Path]:  # fmt: skip
    """Put the data folder `root` and the cluster, both in `scratch`, in place of what is here; returns what was kept.

    `name` is the backup's. A machine without a site file gets the backup's, through `site` when another machine wants another
    text; what that raises is raised before anything moves.
    """
    if not places.site.exists():
        text = (root / "site.toml").read_text(encoding="utf-8")
        mine = scratch / "site.toml"
        write_private(mine, (site(text) if site else text).encode(), 0o640)
        give(mine, places, "root", "qanun")
    order = {
        "set": name, "major": major, "root": str(root.relative_to(scratch)),
        "parts": [part for part, _ in _PARTS if (root / part).exists()],
    }  # fmt: skip
    os.sync()  # nobody relies on what is not on the disk
    write_private(scratch / PROVEN, json.dumps(order).encode())
    return finish(places, scratch)


def unfinished(places: Places) -> list[Path]:
    """Folders whose content was proven and is not, or not wholly, in place; the oldest first."""
    return sorted(path.parent for path in places.data.glob(f"{BUILDS}/{PROVEN}"))


@contextlib.contextmanager
def workplace(places: Places, name: str) -> Iterator[Path]:
    """A folder beside the present for what a restore builds, named after its moment. It is gone at the end, unless what was proven in it could not be put
    in place: that waits for the next start. Raises Conflict while another restore is at work."""
    clear(places)
    scratch = places.data / f"restore-{name}"
    scratch.mkdir(mode=0o711)
    scratch.chmod(0o711)  # PostgreSQL's account passes through it
    with _held(scratch):
        try:
            yield scratch
        finally:
            if scratch not in unfinished(places):
                shutil.rmtree(scratch, ignore_errors=True)


def clear(places: Places) -> None:
    """Take away what was neither proven nor is worked on. Raises Conflict while another restore is at work."""
    for scratch in sorted(set(places.data.glob(f"{BUILDS}/")) - set(unfinished(places))):
        with _held(scratch):
            shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def _held(scratch: Path) -> Iterator[None]:
    """Nobody else works in this folder during the block. A process that is gone holds nothing."""
    folder = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Conflict(f"another restore is at work here, in {scratch}: this one changed nothing") from None
    finally:
        os.close(folder)


def settle(places: Places) -> str:
    """Finish what was cut off. Returns the backup's name, or nothing when nothing was. Raises Conflict while that is at work."""
    name = ""
    for scratch in unfinished(places):
        with _held(scratch):
            name = str(_order(scratch)["set"])
            finish(places, scratch)
    return name


def finish(places: Places, scratch: Path) -> list[Path]:
    """Every step that is not done yet; what was there keeps its bytes under another name. Takes no time and little room."""
    order = _order(scratch)
    ending = f"before-{scratch.name}"
    root, major = scratch / str(order["root"]), int(order["major"])
    _cluster(places, scratch / "data", major, ending)
    for name, owner in _PARTS:
        _part(places, root, name, owner, ending, brought=name in order["parts"])
    for name in _OWN:
        mine = places.data / f"secrets.{ending}" / name
        (places.secrets / name).unlink(missing_ok=True)
        if mine.exists():
            write_private(places.secrets / name, mine.read_bytes())
    # The restored database writes a history of its own; the old one's pieces must not lie in its way.
    _aside(places.wal, ending)
    places.wal.mkdir(mode=0o700, exist_ok=True)
    hand_over(places.wal)
    write_marker(places, major)
    # Last, because with it the machine is a clinic's.
    if (scratch / "site.toml").exists() and not places.site.exists():
        (scratch / "site.toml").rename(places.site)
    os.sync()
    (scratch / PROVEN).unlink()
    shutil.rmtree(scratch, ignore_errors=True)
    return sorted([*places.data.glob(f"*.{ending}*"), *places.clusters.glob(f"*.{ending}*")])


def _order(scratch: Path) -> dict[str, Any]:
    return dict(json.loads((scratch / PROVEN).read_text(encoding="utf-8")))


def _cluster(places: Places, proven: Path, major: int, ending: str) -> None:
    places.clusters.mkdir(mode=0o700, parents=True, exist_ok=True)
    hand_over(places.clusters)
    if not proven.exists():
        return
    for old in [path.parent for path in places.clusters.glob("*/PG_VERSION") if path.parent.name.isdigit()]:
        _aside(old, ending)
    proven.rename(places.clusters / str(major))


def _part(places: Places, root: Path, name: str, owner: str, ending: str, *, brought: bool) -> None:
    source, target = root / name, places.data / name
    # What the backup does not have is an empty folder here; the present went aside once, and only once.
    if source.exists() or (not brought and not target.with_name(f"{name}.{ending}").exists()):
        _aside(target, ending)
    if source.exists():
        source.rename(target)
    target.mkdir(mode=0o700, exist_ok=True)
    target.chmod(0o700)
    for path in (target, *target.rglob("*")):
        give(path, places, owner, owner)


def _aside(path: Path, ending: str) -> None:
    """An empty folder is no loss. What was made anew after the present had gone aside goes aside, too, under one more name."""
    kept = path.with_name(f"{path.name}.{ending}")
    while kept.exists():
        kept = kept.with_name(f"{kept.name}-again")
    if path.exists() and not any(path.iterdir()):
        path.rmdir()
    elif path.exists():
        path.rename(kept)
