"""The drill: the newest backup, restored into a copy every night and compared to the last row. Until then it is a hope."""

from __future__ import annotations

import random
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from qanun.api import Unavailable
from qanun_appliance.backup.facts import differences, rows
from qanun_appliance.backup.rebuild import chosen, database_of, facts_now, facts_of, refuse, verify_audit
from qanun_appliance.backup.restic import Damaged, Restic
from qanun_appliance.backup.sets import BackupSet
from qanun_appliance.backup.store import repository
from qanun_appliance.backup.take import BASE, Say, held
from qanun_appliance.places import Places
from qanun_appliance.reports import note
from qanun_appliance.site import Site

_SAMPLES = 25


def drill(site: Site, places: Places, *, say: Say = print) -> dict[str, Any]:
    """Returns the report, also written for the pages. Raises Damaged when anything differs, and says what."""
    began = time.monotonic()
    scratch = places.data / "drill"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        store = repository(site, places)
        with held(places):
            facts, one = _proven(store, places, scratch, say)
    except Exception as error:
        note(places, "drill", {"well": False, "why": (str(error).splitlines() or ["?"])[0][:500]})
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    report = {
        "well": True, "set": one.name, "rows": rows(facts), "tables": len(facts["tables"]), "files": facts["files"],
        "clinics": len(facts["audit"]), "age": round((datetime.now(UTC) - one.at).total_seconds()),
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip
    note(places, "drill", report)
    return report


def _proven(store: Restic, places: Places, scratch: Path, say: Say) -> tuple[dict[str, Any], BackupSet]:
    """Restore and compare; what was found, and the set. Raises Damaged."""
    say("every byte of the backup")
    store.examine()
    one = chosen(store)
    facts = facts_of(store, one)
    _room(store, one, places)
    say(f"database of {one.at:%Y-%m-%d %H:%M} UTC")
    with database_of(store, one, places, scratch, int(facts["major"])) as running:
        wrong = differences(facts, facts_now(running))
        say("files, keys and the audit")
        keys = _files(store, one, places, scratch, wrong)
        wrong += verify_audit(running, places, keys, scratch)
    refuse(wrong)
    return facts, one


def _room(store: Restic, one: BackupSet, places: Places) -> None:
    need = sum(size for path, size in store.list_files(one.parts["base"]) if path.endswith(BASE))
    need += sum(size for _, size in store.list_files(one.parts["wal"]))
    free = shutil.disk_usage(places.data).free
    if free < need * 1.2 + 256 * 1024 * 1024:
        raise Unavailable(f"the drill needs {need * 1.2 / 1e9:.1f} GB of free disk, there are {free / 1e9:.1f}")


def _files(store: Restic, one: BackupSet, places: Places, scratch: Path, wrong: list[str]) -> Path:
    """Keys whole, of the rest a sample, compared with what lies here; returns the restored keys' folder."""
    listed = store.list_files(one.parts["files"])
    prefix = str(places.data)
    keys = [
        path
        for path, _ in listed
        if path.startswith((f"{prefix}/keys/", f"{prefix}/secrets/")) or path == f"{prefix}/site.toml"
    ]
    rest = [path for path, _ in listed if path not in set(keys)]
    picked = [*keys, *random.Random().sample(rest, min(_SAMPLES, len(rest)))]
    target = scratch / "files"
    store.restore(one.parts["files"], target, include=picked)
    for name in picked:
        there, here = target / name.lstrip("/"), Path(name)
        if not there.is_file():
            wrong.append(f"{name} does not come out of the backup")
        elif here.is_file() and here.stat().st_mtime < one.at.timestamp() and there.read_bytes() != here.read_bytes():
            wrong.append(f"{name} is not what it was")
    restored = target / prefix.lstrip("/") / "keys"
    if not (restored / "master.key").is_file():
        raise Damaged("the backup holds no master key: nothing that is encrypted would open")
    return restored
