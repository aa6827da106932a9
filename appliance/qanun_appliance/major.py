"""From one major version of PostgreSQL to the next: dumped from the old cluster, loaded into a new one beside it, compared to the
last row, and only then put in its place. The old cluster is only read, and kept.

Nothing is done by itself: a release that brings a newer PostgreSQL goes on with the old one until somebody says so. Which cluster
is the clinic's stands in the marker; whatever else lies beside it is a draft or a memory.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from qanun.api import ConfigurationError, Conflict, Unavailable
from qanun_appliance.backup.facts import differences, rows, take_facts
from qanun_appliance.places import Places
from qanun_appliance.postgres import (
    DATABASE,
    Aside,
    as_postgres,
    hand_over,
    initialise,
    read_marker,
    write_marker,
)

#: What a dump and the loaded copy need, of the old cluster's size; and what must stay free of the disk besides.
_ROOM, _RESERVE = 1.6, 0.05
_PATIENCE_S = 12 * 3600.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Majors:
    """`old` is the clinic's cluster, `new` the newest that is installed; folders with their programs."""

    old: Path
    new: Path

    @property
    def old_major(self) -> int:
        return _major(self.old)

    @property
    def new_major(self) -> int:
        return _major(self.new)


def _major(programs: Path) -> int:
    return int(next(part for part in reversed(programs.parts) if part.isdigit()))


def installed(places: Places) -> dict[int, Path]:
    """Programs by version, those that are whole."""
    folder = places.real("/usr/lib/postgresql")
    found = {int(path.parent.name): path for path in folder.glob("*/bin") if path.parent.name.isdigit()}
    return {major: path for major, path in found.items() if (path / "postgres").exists()}


def clusters(places: Places) -> list[int]:
    return sorted(int(path.parent.name) for path in places.clusters.glob("*/PG_VERSION") if path.parent.name.isdigit())


def to_carry(places: Places) -> Majors | None:
    """What could be carried over; None when the newest is what the clinic has."""
    programs, held = installed(places), clusters(places)
    ours = read_marker(places).get("major")
    old = ours if ours in held else (held[-1] if held else None)
    newest = max(programs, default=0)
    if old is None or newest <= old:
        return None
    if old not in programs:
        raise ConfigurationError(
            f"the programs of PostgreSQL {old} are not here, and only they can read its data: go back to the release before"
        )
    return Majors(programs[old], programs[newest])


def kept(places: Places) -> list[Path]:
    """Clusters of before, which take room until somebody removes them."""
    return sorted(path for path in places.clusters.glob("*.before-*") if path.is_dir())


def draft(places: Places, major: int) -> Path:
    return places.clusters / f".{major}.carried"


def carry_over(
    places: Places, majors: Majors, say: Say = print, usage: tuple[int, int] | None = None
) -> dict[str, Any]:
    """Nobody may use the old cluster meanwhile. Raises with the old one as it was: begin again, or go on with it.

    `usage` is (total, free) of the disk, for tests. Returns `{"from", "to", "rows", "kept"}`.
    """
    old, new = places.clusters / str(majors.old_major), places.clusters / str(majors.new_major)
    if (old / "postmaster.pid").exists() and _answers(old):
        raise Conflict("the database is running: stop it first (qanun appliance carry-over does so)")
    say("room")
    _room(places, old, usage)
    work = draft(places, majors.new_major)
    shutil.rmtree(work, ignore_errors=True)  # of a try that was interrupted
    if new.exists():
        # Of a release that was left again: whatever was written there is nobody's present, and is not thrown away either.
        _aside(new, f"{majors.new_major}.left")
    work.mkdir(mode=0o711, parents=True)
    hand_over(work)
    try:
        counted = _carry(majors, old, work, say)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    say("putting it in its place")
    (work / "data").rename(new)
    _sync(places.clusters)
    # From here on the new one is the clinic's; a power cut before the next line leaves the old one so.
    write_marker(places, majors.new_major)
    memory = _aside(old, f"{majors.old_major}.before-{majors.new_major}")
    _logs(places, memory)
    shutil.rmtree(work, ignore_errors=True)
    return {"from": majors.old_major, "to": majors.new_major, "rows": counted, "kept": str(memory)}


def go_back(places: Places, majors_before: str = "") -> str:
    """Put the newest kept cluster in its place again; what was written since stays beside it. The folder's name."""
    memories = [path for path in kept(places) if not majors_before or path.name == majors_before]
    if not memories:
        raise Conflict("no cluster of before is kept here")
    memory = memories[-1]
    old, _, new = memory.name.partition(".before-")
    new = new.partition(".")[0]
    if (places.clusters / new).exists():
        _aside(places.clusters / new, f"{new}.left")
    memory.rename(places.clusters / old)
    write_marker(places, int(old))
    _logs(places, places.clusters / f"{new}.left")
    return memory.name


def _aside(path: Path, name: str) -> Path:
    target = path.with_name(name)
    number = 1
    while target.exists():
        number += 1
        target = path.with_name(f"{name}.{number}")
    path.rename(target)
    _sync(path.parent)
    return target


def _logs(places: Places, memory: Path) -> None:
    """Finished pieces of the other cluster's log have the names that this one's will have."""
    pieces = [path for path in places.wal.glob("*") if path.is_file()] if places.wal.is_dir() else []
    if pieces and memory.is_dir():
        folder = memory / "pieces"
        folder.mkdir(exist_ok=True)
        for path in pieces:
            shutil.move(path, folder / path.name)


def _room(places: Places, old: Path, usage: tuple[int, int] | None) -> None:
    size = sum(path.lstat().st_size for path in old.rglob("*") if path.is_file())
    found = shutil.disk_usage(places.data)
    total, free = usage or (found.total, found.free)
    needed = int(size * _ROOM + total * _RESERVE)
    if free < needed:
        raise Conflict(
            f"{needed / 1e9:.1f} GB must be free beside the database, {free / 1e9:.1f} GB are: make room first; nothing was done"
        )


def _answers(data: Path) -> bool:
    """Whether the process that left its number there lives."""
    try:
        number = int((data / "postmaster.pid").read_text(encoding="utf-8").split()[0])
        os.kill(number, 0)
    except (OSError, ValueError, IndexError):
        return False
    return True


def _carry(majors: Majors, old: Path, work: Path, say: Say) -> int:
    say(f"a cluster of PostgreSQL {majors.new_major}")
    initialise(str(majors.new), work / "data")
    plain = {"max_connections": "20", "default_transaction_read_only": "on"}
    with Aside(str(majors.old), old, work / "old", plain, patience=3600) as source:
        say("dump")
        with psycopg.connect(source.url(), connect_timeout=10) as connection:
            before = take_facts(connection)
        # By its own program: a correction of the old version may leave marks in its tables that a newer version, published before
        # that, copies and cannot read. What the old one writes, every newer one loads.
        _program(majors.old, "pg_dump", ["--format=directory", "--jobs=2", "--quote-all-identifiers", "--file", str(work / "dump"),
                                         "--host", str(source.sockets), "--username", "postgres", DATABASE])  # fmt: skip
        roles = _program(
            majors.old,
            "pg_dumpall",
            ["--globals-only", "--quote-all-identifiers", "--host", str(source.sockets), "--username", "postgres"],
        )
    with _loading(majors, work) as target:
        say("load")
        lines = [
            line for line in roles.decode().splitlines() if line.replace('"', "").strip() != "CREATE ROLE postgres;"
        ]
        _program(majors.new, "psql", ["--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--host", str(target.sockets),
                                  "--username", "postgres", "postgres"], content="\n".join(lines).encode())  # fmt: skip
        _program(majors.new, "pg_restore", ["--exit-on-error", "--create", "--dbname=postgres", "--host", str(target.sockets),
                                        "--username", "postgres", str(work / "dump")])  # fmt: skip
        say("every row is compared")
        with psycopg.connect(target.url(), connect_timeout=10) as connection:
            after = take_facts(connection)
        wrong = differences(before, after)
        if wrong:
            raise Unavailable(f"the copy is not what was there: {'; '.join(wrong[:5])}")
        say("what the planner wants to know")
        _program(
            majors.new,
            "vacuumdb",
            ["--analyze-only", "--host", str(target.sockets), "--username", "postgres", DATABASE],
        )
    shutil.rmtree(work / "dump", ignore_errors=True)
    return rows(after)


@contextmanager
def _loading(majors: Majors, work: Path) -> Iterator[Aside]:
    """Fast while it is nobody's; on the disk when it stops."""
    settings = {"max_wal_size": "4GB", "maintenance_work_mem": "256MB", "synchronous_commit": "off"}
    with Aside(str(majors.new), work / "data", work / "new", settings) as running:
        yield running
    subprocess.run(["sync"], check=False, timeout=600)


def _program(programs: Path, name: str, words: list[str], content: bytes | None = None) -> bytes:
    done = as_postgres([str(programs / name), *words], timeout=_PATIENCE_S, **({"input": content} if content else {}))
    if done.returncode:
        raise Unavailable(f"{name}: {done.stderr.decode(errors='replace').strip()[-800:]}")
    return done.stdout


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
