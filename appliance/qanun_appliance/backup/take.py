"""Taking a backup: the database as one moment, what lies beside it, and the numbers that a restore must find again.

The database's files are copied while it works; the log makes them whole. At one moment nobody writes for some
milliseconds: there the log gets a mark, and there the numbers are taken, so that a restore up to the mark can be compared
to the last row.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from qanun.api import Unavailable
from qanun_appliance.backup.facts import rows, tables, take_facts
from qanun_appliance.backup.restic import Restic
from qanun_appliance.backup.sets import BackupSet, dispensable, gathered, new_name
from qanun_appliance.backup.store import repository
from qanun_appliance.places import Places
from qanun_appliance.reports import note
from qanun_appliance.site import BACKUP_MOUNT, Site

LIVE = "postgresql://postgres@/qanun?host=/run/postgresql"
BASE, FACTS = "base.tar", "facts.json"
_LOCK_TRIES = 20
_ARCHIVE_S = 120.0

Say = Callable[[str], None]


def live_url() -> str:
    """The serving database as superuser; `QANUN_LIVE_DATABASE` where it is not on this machine's own socket."""
    return os.environ.get("QANUN_LIVE_DATABASE") or LIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """The database that serves: `url` as superuser, `programs` of its version."""

    programs: str
    url: str = LIVE


@contextmanager
def held(places: Places, *, alone: bool = False, wait: bool = True) -> Iterator[bool]:
    """Beside others who save and read, or alone, to clear away. Yields False when it would have to wait and may not.

    restic has locks of its own, but its older versions give up where ours wait.
    """
    places.data.mkdir(parents=True, exist_ok=True)
    with (places.data / ".backup.lock").open("a") as lock:
        try:
            fcntl.flock(lock, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def beside(places: Places) -> list[Path]:
    """What a restore needs that is not in the database."""
    names = ("blobs", "recordings", "keys", "secrets", "site.toml", "ssh")
    return [places.data / name for name in names]


def back_up(
    site: Site, places: Places, live: Live, *, say: Say = print, now: datetime | None = None, begin: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """One whole set. Returns its report, which is also written for the pages. Raises what went wrong, written down, too.

    Where backups have been, a new repository is only made with `begin`: an empty folder there may be a disk that is out."""
    began = time.monotonic()
    name = new_name(now or datetime.now(UTC))
    try:
        store = repository(site, places)
        with held(places):
            _folder_on_disk(site, places)
            if not store.exists():
                _may_begin(places, store, begin=begin)
                say(f"making a repository at {site.backup.target}")
                store.create()
            store.unlock()
            facts, first = _database(store, places, live, name, say)
            say("files, recordings and keys")
            store.save_paths(beside(places), _tags(name, "files"), exclude=[".*.new"])
            facts |= {"set": name, "version": version("qanun"), "major": _major(live), "files": _count(places)}
            store.save_bytes(json.dumps(facts).encode(), FACTS, _tags(name, "facts"))
        with held(places, alone=True):
            sets = gathered(store.snapshots())
            keep = site.backup
            gone = dispensable(sets, days=keep.keep_days, weeks=keep.keep_weeks, months=keep.keep_months)
            store.forget(gone, prune=bool(gone) and datetime.now(UTC).weekday() == 6)
        _drop_log_before(places, first)
    except Exception as error:
        note(places, "backup", {"well": False, "why": _words(error)})
        raise
    report = {
        "well": True, "set": name, "rows": rows(facts), "tables": len(facts["tables"]), "files": facts["files"],
        "seconds": round(time.monotonic() - began, 1), "sets": len([one for one in sets if one.whole]),
        "oldest": next((one.name for one in sets if one.whole), name), **_space(store), "where": where(store.target),
    }  # fmt: skip
    note(places, "backup", report)
    return report


def back_up_log(site: Site, places: Places, *, say: Say = print) -> dict[str, Any]:
    """What was written since: the log's finished pieces and new files, into the newest set. Quick; every few minutes."""
    report: dict[str, Any]
    try:
        store = repository(site, places)
        with held(places):
            newest = _newest(store)
            name = newest.name
            store.save_paths([places.wal], _tags(name, "log"), exclude=[".*"])
            store.save_paths(beside(places), _tags(name, "later"), exclude=[".*.new"])
        # While a whole backup or a drill goes on nothing is cleared away; the next run will do it.
        with held(places, alone=True, wait=False) as quiet:
            if quiet:
                store.forget([*newest.logs, *newest.later], prune=False)
        say(f"the log is in the backup, up to {datetime.now(UTC):%H:%M:%S} UTC")
        report = {"well": True, "set": name}
    except Exception as error:
        note(places, "log", {"well": False, "why": _words(error)})
        raise
    note(places, "log", report)
    return report


def _newest(store: Restic) -> BackupSet:
    whole = [one for one in gathered(store.snapshots()) if one.whole] if store.exists() else []
    if not whole:
        raise Unavailable("there is no whole backup yet to add to: qanun appliance backup")
    return whole[-1]


def _database(store: Restic, places: Places, live: Live, name: str, say: Say) -> tuple[dict[str, Any], str]:
    """Save base and log; (facts, the first piece of the log that this set needs)."""
    with psycopg.connect(live.url, autocommit=True, connect_timeout=10) as connection:
        first = str(_one(connection, "select pg_walfile_name(pg_current_wal_lsn())"))
        say("database files")
        # The log is not fetched along: it comes out of the archive, whole pieces only.
        store.save_output(
            [f"{live.programs}/pg_basebackup", "-d", _without_database(live.url), "-D", "-", "-F", "tar", "-X", "none",
             "--checkpoint=fast", "--no-manifest", "--no-password"],
            BASE, _tags(name, "base"),
        )  # fmt: skip
        say("numbers to compare with")
        facts = _marked(connection, live, name)
        last = str(_one(connection, "select pg_walfile_name(pg_switch_wal())"))
        _wait_for_archive(connection, last)
    store.save_paths([places.wal], _tags(name, "wal"), exclude=[".*"])
    return facts, first


def _marked(connection: psycopg.Connection[Any], live: Live, name: str) -> dict[str, Any]:
    """Put the mark into the log while nobody writes, and count what was there at that moment."""
    for attempt in range(_LOCK_TRIES):
        try:
            with psycopg.connect(live.url, connect_timeout=10) as other:
                with connection.transaction():
                    connection.execute("set transaction isolation level repeatable read")
                    connection.execute("set local lock_timeout to '1s'")
                    # Whoever is in the middle of writing finishes first; whoever comes waits until the mark is set.
                    connection.execute(
                        sql.SQL("lock table {} in share mode").format(
                            sql.SQL(", ").join(sql.Identifier(table) for table in tables_now(live))
                        )
                    )
                    shared = str(_one(connection, "select pg_export_snapshot()"))
                    connection.execute("select pg_create_restore_point(%s)", (mark(name),))
                    other.execute("set transaction isolation level repeatable read")
                    other.execute(sql.SQL("set transaction snapshot {}").format(sql.Literal(shared)))
                    other.execute("select 1")
                return take_facts(other)
        except psycopg.errors.LockNotAvailable:
            time.sleep(0.2 * (attempt + 1))
    raise Unavailable("somebody writes without a pause; the backup found no moment of rest")


def tables_now(live: Live) -> list[str]:
    with psycopg.connect(live.url, connect_timeout=10) as connection:
        return tables(connection)


def mark(name: str) -> str:
    return f"qanun-{name}"


def _wait_for_archive(connection: psycopg.Connection[Any], last: str) -> None:
    deadline = time.monotonic() + _ARCHIVE_S
    while time.monotonic() < deadline:
        done = _one(connection, "select last_archived_wal from pg_stat_archiver")
        if done is not None and str(done)[8:24] >= last[8:24]:
            return
        time.sleep(0.1)
    failed = _one(connection, "select last_failed_wal from pg_stat_archiver")
    raise Unavailable(f"PostgreSQL does not archive its log (last failed piece: {failed or 'none'}); is the disk full?")


def _drop_log_before(places: Places, first: str) -> None:
    """Pieces that no set from now on needs; older sets have theirs in the repository."""
    for path in places.wal.iterdir():
        if len(path.name) == 24 and path.name[8:] < first[8:]:
            path.unlink()


def _one(connection: psycopg.Connection[Any], statement: Any) -> Any:
    row = connection.execute(statement).fetchone()
    return row[0] if row else None


def _tags(name: str, kind: str) -> list[str]:
    return [f"set={name}", f"kind={kind}"]


def _major(live: Live) -> int:
    return int(next(part for part in live.programs.split("/") if part.isdigit()))


def _without_database(url: str) -> str:
    """Replication connects to no database; the address must not name one."""
    return url.replace("/qanun?", "/?")


def _count(places: Places) -> int:
    return sum(
        1 for path in beside(places) for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()
    )


def _space(store: Restic) -> dict[str, int]:
    if store.folder is None:
        return {}
    import shutil

    usage = shutil.disk_usage(store.folder)
    used = sum(path.stat().st_size for path in store.folder.rglob("*") if path.is_file())
    return {"used": used, "free": usage.free, "total": usage.total}


def where(target: str) -> str:
    """A target by a name that tells nothing: an address may hold a password."""
    return hashlib.sha256(target.encode()).hexdigest()[:16]


def _folder_on_disk(site: Site, places: Places) -> None:
    """The backup's folder on a disk that the site names. While the disk is out there is nothing to make it on."""
    mount = places.real(BACKUP_MOUNT)
    if not site.backup.disk or not places.is_machine:
        return
    try:
        os.listdir(mount)  # whoever looks has it mounted
    except OSError:
        return
    if os.path.ismount(mount):
        places.real(site.backup.target).mkdir(mode=0o700, parents=True, exist_ok=True)


def _may_begin(places: Places, store: Restic, *, begin: bool) -> None:
    """Raises Unavailable where backups have been before and nobody said that they may be left."""
    before: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        before = json.loads((places.reports / "backup.json").read_text(encoding="utf-8"))
    if not begin and before.get("where") == where(store.target):
        raise Unavailable(
            f"the backups are gone from {store.target}: is the disk plugged in? To begin anew there: "
            "qanun appliance backup --begin"
        )


def _words(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:500]


__all__ = ["LIVE", "Live", "back_up", "back_up_log", "beside", "mark", "repository"]
