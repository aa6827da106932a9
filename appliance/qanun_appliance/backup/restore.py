"""Restore: from the backup and the recovery key alone, onto a blank machine or in place of what is there.

All of it is built beside the present and proven before anything of the present moves (`exchange`); and the present is kept.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from qanun.api import Conflict, QanunError
from qanun_appliance.backup.exchange import exchange, settle, unfinished, workplace
from qanun_appliance.backup.facts import differences, rows
from qanun_appliance.backup.rebuild import chosen, database_of, facts_now, facts_of, refuse, verify_audit
from qanun_appliance.backup.restic import Damaged, Restic
from qanun_appliance.backup.take import Say
from qanun_appliance.places import Places
from qanun_appliance.postgres import read_marker
from qanun_appliance.reports import note

#: Whatever writes to what is exchanged, or saves it meanwhile; the target brings all of it back.
_UNITS = ("qanun.target", "qanun-wal.timer", "qanun-backup.timer", "qanun-drill.timer", "qanun-wal.service", "qanun-web.service",
          "qanun-jobs.service", "qanun-media@*.service", "qanun-turn.service", "qanun-migrate.service", "qanun-first-boot.service",
          "qanun-postgresql.service", "qanun-prepare.service")  # fmt: skip


#: Called with the name of each part when it begins, and until when people's writing is in this backup, once that is known.
At = Callable[[str, datetime | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """`name` picks a set (the newest when empty). `latest` adds what was written after it; without it the set's own
    moment is restored and compared to the last row. `replace` is the clinic's short name, typed by whoever means it."""

    name: str = ""
    latest: bool = True
    replace: str = ""


def restore(
    store: Restic, places: Places, wish: Wish, *, say: Say = print, at: At | None = None,
    services: Callable[[str], None] | None = None, site: Callable[[str], str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Returns the report. Raises Damaged, WrongBackupKey or Conflict; in all those cases nothing here has changed.

    `say` gets sentences, `at` the name of each part when it begins (`examine`, `files`, `rows`, `place`), for a page.
    `services("stop" | "start")` is called around the exchange; systemd's by default on a real machine. `site` gets the
    text of the backup's site file and gives the one for a machine that has none.
    """
    reached = at or (lambda _, __: None)
    change = services or (_systemd if places.is_machine else _nobody)
    began = time.monotonic()
    if unfinished(places):
        change("stop")
        say(f"a restore that was cut off, of {settle(places)}, is in place now")
        change("start")
    present = bool(read_marker(places)) or any(places.clusters.glob("*/PG_VERSION"))
    if present and not wish.replace:
        raise Conflict(
            "this machine has a clinic's data. To put the backup in its place (it is kept beside), say so with --replace "
            "and the clinic's short name"
        )
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    with workplace(places, stamp) as scratch:
        reached("examine", _until(store, wish.name))
        say("every byte of the backup")
        store.examine()
        one = chosen(store, wish.name)
        facts = facts_of(store, one)
        reached("files", one.until)
        say(f"files, recordings and keys of {one.at:%Y-%m-%d %H:%M} UTC")
        files = scratch / "files"
        later = one.later[-1] if wish.latest and one.later else one.parts["files"]
        store.restore(later, files)
        root = _root_of(files)
        if present:
            _means_it(root, wish.replace)
        reached("rows", one.until)
        say("database")
        major = int(facts["major"])
        with database_of(store, one, places, scratch, major, latest=wish.latest) as running:
            now = facts_now(running)
            wrong = _behind(facts, now) if wish.latest else differences(facts, now)
            wrong += verify_audit(running, places, root / "keys", scratch)
        refuse(wrong)
        reached("place", one.until)
        say("all of it is whole; putting it in place")
        change("stop")
        kept = exchange(places, root, scratch, major, one.name, site)
        change("start")
    report = {
        "well": True, "set": one.name, "rows": rows(now), "clinics": len(now["audit"]), "kept": [str(path) for path in kept],
        "latest": wish.latest, "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip
    note(places, "restore", report)
    return report


def _until(store: Restic, name: str) -> datetime | None:
    """For whoever waits. What is wrong with the backup is said by who examines it."""
    try:
        return chosen(store, name).until
    except QanunError:
        return None


def _root_of(files: Path) -> Path:
    """The data folder inside the restored tree, wherever the other machine had it."""
    found = next(iter(sorted(files.rglob("keys/master.key"))), None)
    if found is None:
        raise Damaged("the backup holds no master key: nothing that is encrypted would open")
    return found.parent.parent


def _means_it(root: Path, typed: str) -> None:
    import tomllib

    slug = tomllib.loads((root / "site.toml").read_text(encoding="utf-8")).get("clinic", {}).get("slug", "")
    if typed != slug:
        raise Conflict(f"the backup is of the clinic {slug}, not {typed}: nothing was changed")


def _behind(facts: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """After the mark rows come and go, but no chain gets shorter and no table disappears."""
    wrong = [f"table {name} is missing" for name in facts["tables"] if name not in now["tables"]]
    for tenant, (seq, _) in facts["audit"].items():
        reached = now["audit"].get(tenant, [0, ""])[0]
        if reached < seq:
            wrong.append(f"the audit of clinic {tenant} ends at {reached}, before {seq}")
    return wrong


def _systemd(what: str) -> None:
    if what == "stop":
        subprocess.run(["systemctl", "stop", *_UNITS], capture_output=True, check=False, timeout=180)
    else:
        subprocess.run(["systemctl", "start", "qanun.target"], capture_output=True, check=False, timeout=600)


def _nobody(what: str) -> None:
    """A tree that is not a machine has no services."""
