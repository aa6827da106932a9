"""A set: the snapshots that together are one backup, and which sets are kept.

`base` is the database's files, `wal` the log that makes them whole, `files` everything outside the database, `facts` what
must be found after a restore; the last is written last, so a set without it was never finished. `log` and `later` are what
came after, every few minutes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from qanun_appliance.backup.restic import Snapshot

KINDS = ("base", "wal", "files", "facts")


@dataclass(slots=True)
class BackupSet:
    """`name` is the moment it began, `20261125T020000Z`."""

    name: str
    parts: dict[str, Snapshot] = field(default_factory=dict)
    logs: list[Snapshot] = field(default_factory=list)
    later: list[Snapshot] = field(default_factory=list)

    @property
    def until(self) -> datetime:
        """What people wrote up to then is in it."""
        return max(one.at for one in self.snapshots)

    @property
    def whole(self) -> bool:
        return all(kind in self.parts for kind in KINDS)

    @property
    def at(self) -> datetime:
        return datetime.strptime(self.name, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)

    @property
    def snapshots(self) -> list[Snapshot]:
        return [*self.parts.values(), *self.logs, *self.later]


def new_name(now: datetime) -> str:
    return now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def gathered(snapshots: Iterable[Snapshot]) -> list[BackupSet]:
    """Sets, oldest first. What is not ours in a shared repository is left out."""
    found: dict[str, BackupSet] = {}
    for snapshot in snapshots:
        name, kind = snapshot.value("set"), snapshot.value("kind")
        try:
            datetime.strptime(name, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        except ValueError:
            continue
        one = found.setdefault(name, BackupSet(name))
        if kind == "log":
            one.logs.append(snapshot)
        elif kind == "later":
            one.later.append(snapshot)
        elif kind in KINDS:
            one.parts[kind] = snapshot
    return [found[name] for name in sorted(found)]


def dispensable(sets: Sequence[BackupSet], *, days: int, weeks: int, months: int) -> list[Snapshot]:
    """Snapshots that may go: of whole sets, one a day, a week and a month stays; of the last two sets, everything."""
    whole = [one for one in sets if one.whole]
    kept: set[str] = {one.name for one in whole[-2:]}
    for count, period in ((days, "%Y-%m-%d"), (weeks, "%G-%V"), (months, "%Y-%m")):
        seen: set[str] = set()
        for one in reversed(whole):
            mark = one.at.strftime(period)
            if mark not in seen and len(seen) < count:
                seen.add(mark)
                kept.add(one.name)
    newest = whole[-1].name if whole else ""
    gone: list[Snapshot] = []
    for one in sets:
        if one.name in kept:
            # Between two old sets nobody returns to a minute any more.
            gone += [] if one in whole[-2:] else [*one.logs, *one.later]
        elif one.whole or one.name < newest:
            gone += one.snapshots
    return gone
