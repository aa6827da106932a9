"""What only time shows: backups and their proof, the recovery key, a release that was left again."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

from qanun_appliance.doctor.finding import Finding, crit, ok, warn
from qanun_appliance.places import Places
from qanun_appliance.reports import report
from qanun_appliance.site import Site

#: Nightly: a day and a morning without one is worth a person's look, two days are an alarm.
_BACKUP_H, _BACKUP_ALARM_H = 30, 54
_DRILL_H = 54
_LOG_MIN = 15
_SPACE = 0.15


def hours_since(moment: str, now: datetime | None = None) -> float:
    return ((now or datetime.now(UTC)) - datetime.fromisoformat(moment)).total_seconds() / 3600


def backups(site: Site, places: Places, now: datetime | None = None) -> list[Finding]:
    if not site.backup.target:
        return [crit("backup.none")]
    taken, proven, log = report(places, "backup"), report(places, "drill"), report(places, "log")
    found = [_backup(taken, now), _drill(proven, now)]
    if log.get("last_well") and taken.get("last_well"):
        minutes = round(hours_since(log["last_well"], now) * 60)
        if minutes > _LOG_MIN:
            found.append(warn("log.old", minutes=minutes))
    total, free = taken.get("total", 0), taken.get("free", 0)
    if total and free < total * _SPACE:
        make = crit if free < total * _SPACE / 3 else warn
        found.append(make("backup.disk", free=f"{free / 1e9:.1f}", total=f"{total / 1e9:.0f}"))
    return found


def backup_disk(site: Site, places: Places) -> list[Finding]:
    """Whether the place for backups is there now, and is another disk than the one whose backup it is."""
    from qanun_appliance.backup.take import where

    target = site.backup.target
    if not target.startswith("/"):
        return []
    folder = places.real(target)
    try:
        found = set(os.listdir(folder))
    except OSError:
        return [crit("backup.disk-out", path=target)]
    # An empty folder is what a disk leaves behind that is out.
    if "config" not in found and report(places, "backup").get("where") == where(target):
        return [crit("backup.disk-out", path=target)]
    same = folder.stat().st_dev == places.data.stat().st_dev
    return [warn("backup.same-disk", path=target)] if same else [ok("backup.disk-there", path=target)]


def _backup(taken: dict[str, Any], now: datetime | None) -> Finding:
    if not taken.get("last_well"):
        return crit("backup.failed", why=taken["why"]) if taken.get("why") else warn("backup.never")
    age = hours_since(taken["last_well"], now)
    if age > _BACKUP_ALARM_H:
        return crit("backup.old", hours=round(age))
    if not taken.get("well"):
        return warn("backup.failed", why=taken.get("why", ""))
    if age > _BACKUP_H:
        return warn("backup.old", hours=round(age))
    return ok("backup.well", hours=round(age), rows=taken.get("rows", 0), files=taken.get("files", 0))


def _drill(proven: dict[str, Any], now: datetime | None) -> Finding:
    if proven.get("why") and not proven.get("well"):
        return crit("drill.failed", why=proven["why"])
    if not proven.get("last_well"):
        return warn("drill.never")
    age = hours_since(proven["last_well"], now)
    return warn("drill.old", hours=round(age)) if age > _DRILL_H else ok("drill.well", hours=round(age))


def recovery_key(site: Site, places: Places) -> list[Finding]:
    """Somebody typed part of the printed key back, or the backup is a box that nobody can open."""
    # The disk's own key waits for paper and is of no use on the machine that it opens.
    found = [warn("key.on-machine")] if (places.secrets / "recovery-key").exists() else []
    if not site.backup.target or report(places, "recovery-key").get("verified"):
        return found
    return [*found, warn("key.unverified")]


def clusters(places: Places) -> list[Finding]:
    """A newer PostgreSQL that waits, and older data that takes room."""
    from qanun_appliance import major

    found: list[Finding] = []
    majors = major.to_carry(places)
    if majors is not None:
        found.append(Finding("postgres.newer", "info", {"old": majors.old_major, "new": majors.new_major}))
        if major.draft(places, majors.new_major).exists():
            found.append(warn("postgres.unfinished", new=majors.new_major))
    for path in major.kept(places):
        size = sum(file.lstat().st_size for file in path.rglob("*") if file.is_file())
        found.append(Finding("postgres.kept", "info", {"path": str(path), "size": f"{size / 1e9:.1f}"}))
    return found


def rolled_back(places: Places) -> list[Finding]:
    boots = report(places, "boot").get("boots", [])
    running = boots[-1]["version"] if boots else ""
    for boot in reversed(boots[-6:]):
        if not boot["well"] and boot["version"] != running:
            why = "; ".join(f"{name}: {said}" for name, said in boot["faults"].items())
            return [warn("boot.rolled-back", version=boot["version"], why=why)]
        if boot["well"] and boot["version"] != running:
            break
    return []
