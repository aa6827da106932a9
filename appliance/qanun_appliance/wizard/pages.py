"""What every page of the set-up knows: the machine, who is inside, and how far root's work is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from litestar import Request

from qanun.api import N_
from qanun_appliance.wizard import disks, network
from qanun_appliance.wizard.desk import Desk, Door

COOKIE = "qanun_setup"
CODE = "needs the one-time code, which each page asks for"
Req = Request[Any, Any, Any]

#: What root does, in its order; `progress.json` names how far it is.
_NEW = (
    ("site", N_("What was chosen is written down")),
    ("apply", N_("Services, firewall and certificate are configured")),
    ("database", N_("The database is made")),
    ("clinic", N_("The clinic is opened")),
    ("start", N_("The application is started")),
    ("over", N_("The machine goes over to its own address")),
)
#: And where a clinic comes back from its backup.
_RETURN = (
    ("disk", N_("The backup disk is opened")),
    ("examine", N_("Every byte of the backup is read")),
    ("files", N_("Files, recordings and keys are brought back")),
    ("rows", N_("The database is rebuilt and compared")),
    ("place", N_("All of it is put in place")),
    ("apply", N_("Services, firewall and certificate are configured")),
    ("database", N_("The tables are those of this release")),
    ("start", N_("The application is started")),
    ("over", N_("The machine goes over to its own address")),
)
#: After so long somebody may have taken the other one of two disks.
_OLD = timedelta(days=2)
_WHY: Mapping[str, Any] = {
    "wrong-key": N_("This key does not open the backup. Compare it with the paper, letter by letter."),
    "no-backup": N_("There is no whole backup of a clinic on this disk."),
}


def _trial(interface: str, address: str, gateway: str, mac: str) -> dict[str, Any]:
    return network.trial(interface, address, gateway, mac)


@dataclass(slots=True, kw_only=True)
class Pages:
    """What the pages know of the machine. `root` is its certificate, `keys` the keys that go onto paper."""

    desk: Desk
    root: bytes
    keys: Mapping[str, str]
    current: Callable[[], dict[str, Any]] = network.current
    trial: Callable[[str, str, str, str], dict[str, Any]] = _trial
    clock_of: Callable[[str], float | None] = network.clock_of
    is_mounted: Callable[[str], bool] = network.is_mounted
    disks: Callable[[], list[disks.BackupDisk]] = disks.found
    http: tuple[str, int] | None = None
    door: Door = field(init=False)

    def __post_init__(self) -> None:
        self.door = Door(self.desk)
        self.door.open()


def pages_of(request: Req) -> Pages:
    return request.app.state.pages  # type: ignore[no-any-return]


def is_inside(request: Req) -> bool:
    return pages_of(request).door.knows(request.cookies.get(COOKIE, ""))


def state_of(pages: Pages) -> dict[str, Any]:
    """How far root is, as the page of it shows it."""
    found, returns = pages.desk.progress(), pages.desk.way == "return"
    work = _RETURN if returns else _NEW
    names = [name for name, _ in work]
    at = names.index(found["at"]) if found.get("at") in names else 0
    state = str(found.get("state", "working"))
    rows = [
        {"label": label, "state": "done" if number < at or state == "done" else state if number == at else "waits"}
        for number, (_, label) in enumerate(work)
    ]
    why = _WHY.get(str(found.get("code", "")), str(found.get("why", "")))
    now, until = datetime.now(UTC), str(pages.desk.read("backup").get("until", ""))
    saved = datetime.fromisoformat(until) if until else None
    return {
        "state": state, "why": why, "rows": rows, "over": found.get("at") == "over", "at": at, "returns": returns,
        "until": saved, "now": now, "old": saved is not None and now - saved > _OLD,
    }  # fmt: skip
