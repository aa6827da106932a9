"""Root's part of a clinic that comes back on a machine that has none: from the disk that was chosen and the key on paper to a
clinic that works, on this machine's network.

Two processes: one goes through the whole and speaks with systemd; the other, shut in without a network, reads the backup
(`restore`, which proves all of it before anything is put in place).
"""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from collections.abc import Callable, Mapping
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol

from qanun.api import ConfigurationError, QanunError, Unavailable
from qanun_appliance.backup import WrongBackupKey, restore, store_at
from qanun_appliance.backup.exchange import clear, settle
from qanun_appliance.backup.restore import Wish
from qanun_appliance.places import Places
from qanun_appliance.render import setup
from qanun_appliance.reports import note
from qanun_appliance.secrets import tidy_key
from qanun_appliance.site import Site, load_site, parse_site
from qanun_appliance.site_text import site_text
from qanun_appliance.wizard.desk import Desk

#: Where the backup's disk is while it is read.
MOUNT = Path(setup.MOUNT)


class Acts(Protocol):
    """What is done to the machine; tests do the same without systemd."""

    def open_backup(self, uuid: str) -> None: ...
    def bring_back(self) -> None: ...
    def close_backup(self) -> None: ...
    def apply(self, site: Site) -> None: ...
    def database(self) -> None: ...
    def start(self) -> None: ...
    def over(self, site: Site) -> None: ...


def run(places: Places, desk: Desk, acts: Acts) -> bool:
    """From the sheet to a clinic that works; False when something failed, with the reason for the page."""
    at = "disk"

    def tell(step: str, state: str = "working", **more: str) -> None:
        nonlocal at
        at = step
        desk.write("progress", {"at": step, "state": state, **more}, 0o644)

    tell("disk")
    (desk.folder / "go").unlink(missing_ok=True)
    try:
        # Once everything is in place another try goes on behind it: the backup would only be refused.
        if not desk.read("placed"):
            try:
                acts.open_backup(_uuid(desk))
                tell("examine")
                acts.bring_back()
            finally:
                acts.close_backup()
            at = "place"
        site = load_site(places.site)
        desk.write("hosts", {"names": list(site.hosts)}, 0o644)
        steps: tuple[tuple[str, Callable[[], None]], ...] = (
            ("apply", lambda: acts.apply(site)), ("database", acts.database), ("start", acts.start),
            ("over", lambda: acts.over(site)),
        )  # fmt: skip
        for step, act in steps:
            tell(step)
            act()
    except (QanunError, OSError, subprocess.SubprocessError, KeyError, TypeError, ValueError) as error:
        # Who reads the backup is another process, which knows better where it stopped, and why.
        failure = {} if desk.read("placed") else desk.read("failure")
        reached = at if desk.read("placed") else str(desk.progress().get("at", at))
        tell(reached, "failed", why=str(failure.get("why") or error), code=str(failure.get("code", "")))
        return False
    tell("over", "done")
    return True


def _uuid(desk: Desk) -> str:
    kind, _, uuid = str(desk.read("return").get("disk", "")).partition(":")
    if kind != "disk" or not uuid or not all(letter.isalnum() or letter == "-" for letter in uuid):
        raise ConfigurationError("no disk with a backup was chosen")
    return uuid


# --- reading the backup ----------------------------------------------------------------------------------------------


def bring_back(places: Places, desk: Desk, mount: Path = MOUNT) -> dict[str, Any] | None:
    """The clinic's data, keys and site file onto this machine, which has none. None when it failed, with the reason for
    the page; nothing is in place then."""

    def tell(step: str, until: datetime | None) -> None:
        if until is not None:
            desk.write("backup", {"until": until.isoformat()}, 0o644)
        desk.write("progress", {"at": step, "state": "working"}, 0o644)

    chosen = desk.read("return")
    try:
        # The machine's start does this already, and had a reason where it did not: whoever comes here is told.
        if before := settle(places):
            desk.write("placed", {"set": before}, 0o644)
            return {"set": before, "kept": []}
        # Of a try before this one, also where the key is wrong now.
        clear(places)
        store = store_at(places, str(repository_in(mount)), tidy_key(str(chosen.get("key", ""))))
        # The site file is written once, as this machine needs it: with it in place the power may fail.
        report = restore(store, places, Wish(), at=tell, services=lambda _: None, site=lambda text: adapt(text, desk))
    except WrongBackupKey as error:
        desk.write("failure", {"code": "wrong-key", "why": str(error)}, 0o644)
        return None
    except NoBackup as error:
        desk.write("failure", {"code": "no-backup", "why": str(error)}, 0o644)
        return None
    except (QanunError, OSError, ValueError, subprocess.SubprocessError) as error:
        desk.write("failure", {"why": str(error)}, 0o644)
        return None
    desk.write("placed", {"set": str(report["set"])}, 0o644)
    # Of a machine that had no clinic nothing is worth keeping: keys that open nothing, a certificate for an hour.
    for kept in report["kept"]:
        shutil.rmtree(kept, ignore_errors=True)
    # Both keys were typed from paper: the disk's has no business here any more.
    note(places, "recovery-key", {"well": True, "verified": True})
    (places.secrets / "recovery-key").unlink(missing_ok=True)
    return report


class NoBackup(Unavailable):
    """The disk holds no backup of ours."""


def repository_in(mount: Path) -> Path:
    """Where on a disk the backup lies: in the folder that the pages make, at its top, or in any folder there."""
    for place in (mount / "qanun", mount, *sorted(path for path in mount.iterdir() if path.is_dir())):
        if (place / "config").is_file() and (place / "keys").is_dir() and (place / "snapshots").is_dir():
            return place
    raise NoBackup("there is no backup on this disk")


# --- this machine's network ------------------------------------------------------------------------------------------


def adapt(text: str, desk: Desk) -> str:
    """The clinic's site file, with what is another on this machine: the name of its network card always, and the address
    when somebody chose to keep the present one. Raises ConfigurationError for one that this release does not understand."""
    before = tomllib.loads(text)
    wanted = adapted(before, desk.read("network"), now=desk.read("return").get("network") == "now")
    parse_site(wanted)
    return text if wanted == before else site_text(wanted)


def adapted(table: Mapping[str, Any], current: Mapping[str, Any], *, now: bool) -> dict[str, Any]:
    """The table of a site file for a machine whose network is `current`."""
    network, hosts = dict(table.get("network", {})), dict(table.get("hosts", {}))
    if network.get("mode") == "unmanaged":
        return dict(table)
    card = str(current.get("interface", ""))
    if now:
        network = {name: value for name, value in network.items() if name not in {"address", "gateway", "dns"}}
        network["mode"] = "dhcp"
        address = str(current.get("address", "")).split("/")[0]
        names = list(hosts.get("names", ()))
        # A public authority certifies names alone.
        if address and address not in names and table.get("certificate", {}).get("kind") != "acme":
            hosts["names"] = [*names, address]
    cards = [str(one["name"]) for one in current.get("interfaces", ()) if one.get("name")]
    pattern = str(network.get("interface", ""))
    if card and pattern and not any(fnmatchcase(name, pattern) for name in cards):
        network["interface"] = card
    return {**table, "network": network, "hosts": hosts}
