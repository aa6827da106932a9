"""Staging a release, and telling afterwards how it went. Putting it there and starting it are two acts.

The order protects the clinic: nothing is written before the bundle, the room and a proven backup are there; the running
slot is never touched; the boot file comes last. The power may fail anywhere.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from packaging.version import Version

from qanun.api import Conflict, Unavailable
from qanun_appliance.places import Places
from qanun_appliance.secrets import write_private
from qanun_appliance.update.bundle import SLOT, Refused, Release, opened, suits
from qanun_appliance.update.slots import EMPTY, UPDATING, Disk, Slot

TRIES = 3
#: With less free than this the data disk is in trouble already, and a backup would be what fills it.
_RESERVE = 0.05
_BLOCK = 1024 * 1024

Say = Callable[[str], None]


def stage(
    bundle: Path, places: Places, disk: Disk, *, running: Version, keys: list[bytes], revisions: Mapping[str, str],
    prove: Callable[[], None] | None, reason: str = "", say: Say = print,
) -> dict[str, Any]:  # fmt: skip
    """Put a release into the spare slot; returns what the pages show of it. Raises Refused with nothing written.

    `prove` takes a backup and restores it into a copy. Without it `reason` says why, and is kept with the release.
    """
    if prove is None and not reason.strip():
        raise Conflict("without a proven backup a release is staged only with a reason, which is kept")
    with _alone(places):
        say("signature, product and version")
        notes: dict[str, str] = {}
        with opened(bundle, keys) as (release, rest):
            suits(release, running, revisions)
            say("hashes")
            rest(lambda name, block: _note(notes, name, block))
        spare = disk.spare()
        say("room")
        _room(release, places, disk, spare)
        if prove is not None:
            say("backup, and its restore into a copy")
            prove()
        _write(bundle, places, disk, spare, release, keys, say)
        report = {
            "version": str(release.version), "at": _now(), "from": str(running), "state": "staged", "notes": notes,
            "without_backup": reason,
        }  # fmt: skip
        _remember(places, report)
    return report


def _note(notes: dict[str, str], name: str, block: bytes) -> None:
    if name.startswith("NOTES."):
        notes[name.split(".")[1]] = notes.get(name.split(".")[1], "") + block.decode(errors="replace")


def _room(release: Release, places: Places, disk: Disk, spare: Slot) -> None:
    size = release.files[SLOT].size
    if size > spare.size:
        raise Refused(f"the release needs {size} bytes, the slot has {spare.size}")
    usage = shutil.disk_usage(places.data)
    boot = release.files[release.boot_file].size
    if usage.free < usage.total * _RESERVE + boot:
        raise Refused(
            f"the data disk is nearly full ({usage.free / 1e9:.1f} GB free): make room first; nothing was written"
        )
    going = sum(
        file.path.stat().st_size for file in disk.boot_files() if file.version in {spare.version, str(release.version)}
    )
    free = shutil.disk_usage(disk.esp).free + going
    if boot > free:
        raise Refused(f"the boot partition has {free} bytes free, the release needs {boot}")


def _write(
    bundle: Path, places: Places, disk: Disk, spare: Slot, release: Release, keys: list[bytes], say: Say
) -> None:  # fmt: skip
    version = str(release.version)
    # The way into what is about to be overwritten goes first, then the label says that it is no system for now.
    for gone in {spare.version, version} - {""}:
        disk.remove_boot_files(gone)
    disk.relabel(spare, UPDATING)
    say(f"writing slot {spare.number}")
    with tempfile.TemporaryDirectory(dir=_folder(places)) as folder:
        boot = Path(folder) / "boot.efi"
        with disk.open_slot(spare, "r+b") as target, boot.open("wb") as boot_target:

            def sink(name: str, block: bytes) -> None:
                if name == SLOT:
                    target.write(block)
                elif name == release.boot_file:
                    boot_target.write(block)

            with opened(bundle, keys) as (again, rest):
                if again != release:
                    raise Refused("the bundle changed while it was read")
                rest(sink)
        say("reading it back")
        known = release.files[SLOT]
        disk.drop_cache(spare)
        if _digest_of(disk, spare, known.size) != known.sha256:
            raise Unavailable(
                "the disk does not give back what was written: the slot stays unused, the disk wants replacing"
            )
        disk.relabel(spare, f"qanun-root-{version}")
        say("boot entry")
        disk.add_boot_file(boot, version, TRIES)


def _digest_of(disk: Disk, slot: Slot, size: int) -> str:
    digest = hashlib.sha256()
    with disk.open_slot(slot, "rb") as source:
        left = size
        while left:
            block = source.read(min(_BLOCK, left))
            if not block:
                break
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()


# --- what became of it -----------------------------------------------------------------------------------------------


def status(places: Places, disk: Disk, running: str) -> dict[str, Any]:
    """What runs, what lies in the other slot, what is staged, and why a release was left again; also for the pages."""
    state = _state(places)
    last = state.get("last") or {}
    files = {file.version: file for file in disk.boot_files()}
    slots = disk.slots()
    if last.get("state") == "staged":
        last = {**last, **_outcome(places, last["version"], running, files, slots)}
        if last["state"] != "staged":
            _remember(places, last)
    other = next((slot.version for slot in slots if slot.label != disk.running), "")
    report = {
        "running": running, "other": other if other in files else "", "last": last, "at": _now(),
        "slots": [{"label": slot.label, "size": slot.size} for slot in slots],
        "interrupted": any(slot.label == UPDATING for slot in slots), "history": _state(places).get("history", []),
        "tries": {version: file.left for version, file in files.items()},
    }  # fmt: skip
    write_private(places.reports / "update.json", json.dumps(report, indent=1).encode(), 0o644)
    return report


def _outcome(places: Places, version: str, running: str, files: Mapping[str, Any], slots: list[Slot]) -> dict[str, Any]:
    file = files.get(version)
    if running == version:
        # Until its start is judged it may still be left: who looks now must not make the reason be lost.
        kept = file is None or file.left is None
        well = any(boot["version"] == version and boot["well"] for boot in _boots(places))
        return {"state": "running" if kept or well else "staged", "why": ""}
    boots = [boot for boot in _boots(places) if boot["version"] == version and not boot["well"]]
    if boots:
        faults = boots[-1]["faults"]
        return {"state": "left", "why": "; ".join(f"{name}: {said}" for name, said in sorted(faults.items()))}
    if file is not None and file.used:
        return {"state": "left", "why": "it did not start far enough to say why; see journalctl --list-boots"}
    if file is None or not any(slot.version == version for slot in slots):
        return {"state": "lost", "why": "its slot or its boot entry is gone; stage it again"}
    return {"state": "staged", "why": ""}


def tidy(places: Places, disk: Disk) -> bool:
    """After a power cut in the middle of writing: the half slot says that it is empty. True when there was one."""
    half = [slot for slot in disk.slots() if slot.label == UPDATING]
    for slot in half:
        disk.relabel(slot, EMPTY)
    for draft in disk.entries.glob(".*.new"):
        draft.unlink()
    for left in _folder(places).glob("tmp*"):
        shutil.rmtree(left, ignore_errors=True)
    return bool(half)


def reboot(places: Places, disk: Disk, running: str, act: Callable[[], None] | None = None) -> str:
    """Start into what is staged; the version. Raises Conflict when nothing is."""
    last = status(places, disk, running)["last"]
    if last.get("state") != "staged":
        raise Conflict("no release is staged; nothing to start into")
    (act or restart)()
    return str(last["version"])


def roll_back(places: Places, disk: Disk, running: str, act: Callable[[], None] | None = None) -> str:
    """Back to the release in the other slot; its version. Data stays as it is: this release's tables serve that one, too."""
    spare = disk.spare()
    files = {file.version: file for file in disk.boot_files()}
    file = files.get(spare.version)
    if not spare.version or file is None or file.left == 0:
        raise Conflict("the other slot holds no release that could start")
    disk.exhaust(running)
    last = {
        "version": running,
        "at": _now(),
        "state": "rolled back",
        "why": f"by hand, to {spare.version}",
        "notes": {},
    }
    _remember(places, last)
    (act or restart)()
    return spare.version


def restart() -> None:
    os.sync()
    subprocess.run(["systemctl", "reboot"], check=False, timeout=60)


def _boots(places: Places) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = json.loads((places.reports / "boot.json").read_text(encoding="utf-8"))["boots"]
    except (OSError, ValueError, KeyError):
        return []
    return found


def _state(places: Places) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((_folder(places) / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def _remember(places: Places, last: dict[str, Any]) -> None:
    history = _state(places).get("history", [])
    short = {name: last.get(name, "") for name in ("version", "at", "state", "why", "without_backup")}
    if history and history[-1]["version"] == short["version"] and history[-1]["state"] == "staged":
        history = history[:-1]
    history = [*history, short][-20:]
    write_private(_folder(places) / "state.json", json.dumps({"last": last, "history": history}, indent=1).encode())


def _folder(places: Places) -> Path:
    folder = places.data / "updates"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def _alone(places: Places) -> Iterator[None]:
    with (_folder(places) / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict("a release is being staged already") from None
        yield


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
