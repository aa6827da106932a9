"""From a set to a database that runs on a private socket: the one way that drill and restore share."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from qanun.api import ConfigurationError, Unavailable
from qanun_appliance.backup.facts import take_facts
from qanun_appliance.backup.restic import Damaged, Restic
from qanun_appliance.backup.sets import BackupSet, gathered
from qanun_appliance.backup.take import BASE, FACTS, mark
from qanun_appliance.places import Places
from qanun_appliance.postgres import Aside, account, hand_over

_REPLAY_S = 3 * 3600.0


def chosen(store: Restic, name: str = "") -> BackupSet:
    """The newest whole set, or the named one."""
    if not store.exists():
        raise Unavailable(f"there is no backup at {store.target}")
    whole = [one for one in gathered(store.snapshots()) if one.whole]
    found = [one for one in whole if not name or one.name == name]
    if not found:
        known = ", ".join(one.name for one in whole[-10:]) or "none"
        raise ConfigurationError(f"no whole backup {name or 'at all'} in {store.target}; there are: {known}")
    return found[-1]


def facts_of(store: Restic, one: BackupSet) -> dict[str, Any]:
    try:
        found = json.loads(store.read(one.parts["facts"], FACTS))
    except ValueError:
        raise Damaged("the backup is damaged: its numbers cannot be read") from None
    assert isinstance(found, dict)
    return found


def programs_for(places: Places, major: int) -> str:
    path = Path(f"/usr/lib/postgresql/{major}/bin")
    if not (path / "postgres").exists():
        raise ConfigurationError(f"the backup is of PostgreSQL {major}, which is not installed here")
    return str(path)


@contextmanager
def database_of(
    store: Restic, one: BackupSet, places: Places, scratch: Path, major: int, *, latest: bool = False
) -> Iterator[Aside]:
    """The set's database, running in `scratch` (its files are `scratch/data`), replayed to its mark or to the last piece
    of the log that is in the backup. Stopped cleanly at the end; the files stay."""
    scratch.mkdir(parents=True, exist_ok=True)
    scratch.chmod(0o711)  # whatever the umask is: PostgreSQL's account passes through it
    data, log = scratch / "data", scratch / "log"
    data.mkdir(mode=0o700)
    hand_over(data)
    store.unpack(one.parts["base"], BASE, data, user=account(), group=account())
    pieces = one.logs[-1] if latest and one.logs else one.parts["wal"]
    store.restore(one.parts["wal"], log)
    if pieces is not one.parts["wal"]:
        store.restore(pieces, log)
    folder = scratch / "pieces"
    folder.mkdir(mode=0o700)
    for path in log.rglob("*"):
        if path.is_file():
            shutil.move(path, folder / path.name)
    shutil.rmtree(log)
    hand_over(folder)
    data.chmod(0o700)
    (data / "recovery.signal").touch()
    hand_over(data / "recovery.signal")
    target = {} if latest else {"recovery_target_name": mark(one.name), "recovery_target_action": "promote"}
    settings = {"restore_command": f"cp {folder}/%f %p", "recovery_target_timeline": "latest", **target}
    with Aside(programs_for(places, major), data, scratch / "sockets", settings, patience=_REPLAY_S) as running:
        yield running
    shutil.rmtree(folder, ignore_errors=True)


def facts_now(running: Aside) -> dict[str, Any]:
    with psycopg.connect(running.url(), connect_timeout=10) as connection:
        return take_facts(connection)


def refuse(wrong: list[str]) -> None:
    """Raises Damaged with the first of what is wrong, if anything is."""
    if wrong:
        raise Damaged(f"the backup does not restore to what it was: {'; '.join(wrong[:5])}")


def verify_audit(running: Aside, places: Places, keys: Path, scratch: Path) -> list[str]:
    """Every clinic's chain, recomputed by the product itself; a sentence for each that does not hold."""
    copy = scratch / "master.key"
    shutil.copyfile(keys / "master.key", copy)
    copy.chmod(0o600)
    environment = {
        **os.environ, "QANUN_DATABASE_URL": running.url("qanun_app"), "QANUN_STATE_DIR": str(scratch / "state"),
        "QANUN_MASTER_KEY_FILE": str(copy),
    }  # fmt: skip
    try:
        done = subprocess.run(
            [str(places.code / "python"), "-m", "qanun", "audit", "verify"], env=environment, capture_output=True,
            text=True, check=False, timeout=_REPLAY_S,
        )  # fmt: skip
    finally:
        copy.unlink(missing_ok=True)
    faults = [line for line in done.stdout.splitlines() if not line.endswith("the chain holds")]
    if done.returncode and not faults:
        faults = [(done.stderr.strip().splitlines() or ["the audit could not be verified"])[-1]]
    return faults
