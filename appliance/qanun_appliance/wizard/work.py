"""Root's part of the first hour: before the pages certificate, keys and console; after the last one everything that a machine
with a site file does by itself. What the pages hand over is checked here again: they are not root's.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from qanun.api import ConfigurationError, QanunError, Unavailable
from qanun_appliance.addresses import own_addresses
from qanun_appliance.apply import Outcome, apply, machine, settle
from qanun_appliance.local_ca import server_certificate
from qanun_appliance.places import Places
from qanun_appliance.render import setup
from qanun_appliance.reports import note
from qanun_appliance.secrets import give, readable_key, write_private
from qanun_appliance.site import Site, load_site
from qanun_appliance.site_text import write_site
from qanun_appliance.wizard import homecoming, steps
from qanun_appliance.wizard.desk import Desk, console

ISSUE = Path("/run/issue.d/qanun.issue")
_KEYS = {"backup": "backup-key", "disk": "recovery-key"}
#: The disk with the backup, as systemd calls a place in the file system.
_MOUNTED = Path("/run/systemd/system") / setup.MOUNT_UNIT
#: A large clinic on a slow disk; the unit itself is given up a little earlier.
_LONGEST_S = 12.5 * 3600


def prepare(places: Places, desk: Desk, addresses: list[str]) -> None:
    """What the pages need of root: a certificate for the present addresses, the keys that go onto paper, the console."""
    for folder in (desk.folder, places.secrets):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (places.secrets / "backup-key").exists():
        write_private(places.secrets / "backup-key", readable_key().encode())
    chain, key, root = server_certificate(places.secrets / "ca", addresses, own_names=False)
    for source, name, mode in ((chain, "server.crt", 0o644), (key, "server.key", 0o600), (root, "qanun-ca.crt", 0o644)):
        write_private(desk.folder / name, source.read_bytes(), mode)
    desk.write("keys", keys(places))
    console(desk.folder, places.real(ISSUE))
    for path in (desk.folder, *desk.folder.iterdir()):
        give(path, places, "qanun", "qanun")


def keys(places: Places) -> dict[str, str]:
    """What must stand on paper before this machine is used. The disk's key lies here only until somebody has it."""
    found = {}
    for name, file in _KEYS.items():
        path = places.secrets / file
        if path.exists():
            found[name] = path.read_text(encoding="ascii").strip()
    return found


class Acts(Protocol):
    """What is done to the machine, one call for each line of the progress page; tests do the same without systemd."""

    def disk(self, choice: str) -> None: ...
    def apply(self, site: Site) -> None: ...
    def database(self) -> None: ...
    def clinic(self) -> None: ...
    def start(self) -> None: ...
    def over(self, site: Site) -> None: ...


def run(places: Places, desk: Desk, acts: Acts) -> bool:
    """From the answers to a machine that works; False when something failed, with the reason for the page and no site file
    left that would keep the pages away."""
    chosen, current = desk.read("chosen"), desk.read("network")
    at = "site"

    def tell(step: str, state: str = "working", why: str = "") -> None:
        nonlocal at
        at = step
        desk.write("progress", {"at": step, "state": state, "why": why}, 0o644)

    tell("site")
    (desk.folder / "go").unlink(missing_ok=True)
    try:
        if desk.read("placed"):
            raise ConfigurationError("a clinic came back on this machine already; no new one is made over it")
        site = _write(places, chosen, current)
        acts.disk(str(chosen["backup"]["kind"]))
        acts_in_order: tuple[tuple[str, Callable[[], None]], ...] = (
            ("apply", lambda: acts.apply(site)), ("database", acts.database), ("clinic", acts.clinic), ("start", acts.start),
            ("over", lambda: acts.over(site)),
        )  # fmt: skip
        for step, act in acts_in_order:
            tell(step)
            act()
            if step == "clinic":
                # The administrator chose it and knows it: it has done its work here.
                (places.secrets / "administrator").unlink(missing_ok=True)
    except (QanunError, OSError, subprocess.SubprocessError, KeyError, TypeError) as error:
        if at not in {"start", "over"} and not desk.read("placed"):
            places.site.unlink(missing_ok=True)
        tell(at, "failed", str(error))
        return False
    tell("over", "done")
    return True


def _write(places: Places, chosen: Mapping[str, Any], current: Mapping[str, Any]) -> Site:
    known = keys(places)
    answers = {name: {key: str(value) for key, value in dict(chosen[name]).items()} for name in steps.NAMES}
    wrong = steps.faults(answers, current, known)
    if wrong:
        raise ConfigurationError("not complete: " + ", ".join(f"{name}.{one}" for name in wrong for one in wrong[name]))
    write_private(places.secrets / "administrator", answers["administrator"]["password"].encode())
    write_site(places, steps.table(answers, current))
    places.reports.mkdir(parents=True, exist_ok=True)
    note(places, "recovery-key", {"well": True, "verified": True})
    (places.secrets / _KEYS["disk"]).unlink(missing_ok=True)
    return load_site(places.site)


# --- on a machine ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class MachineActs:
    """By systemd. The proxy and the network come last: they take the pages' port and address away."""

    places: Places
    services: list[Any]
    _outcome: Outcome = field(default_factory=Outcome)

    def disk(self, choice: str) -> None:
        if choice.startswith("blank:"):
            _start("qanun-setup-disk.service")

    def open_backup(self, uuid: str) -> None:
        # By systemd, where every unit sees it: this one is shown no disks.
        text = f"[Mount]\nWhat=/dev/disk/by-uuid/{uuid}\nWhere={homecoming.MOUNT}\nOptions=nosuid,nodev,noexec\nTimeoutSec=120\n"
        write_private(_MOUNTED, text.encode(), 0o644)
        _systemctl("daemon-reload")
        _start(_MOUNTED.name)

    def bring_back(self) -> None:
        _start("qanun-setup-return.service", patience=_LONGEST_S)

    def close_backup(self) -> None:
        _systemctl("stop", _MOUNTED.name)
        _MOUNTED.unlink(missing_ok=True)
        _systemctl("daemon-reload")

    def apply(self, site: Site) -> None:
        addresses = own_addresses(site, wait=0)
        self._outcome = apply(site, self.places, self.services, machine(self.places), addresses, start=False)

    def database(self) -> None:
        _start("qanun-migrate.service")

    def clinic(self) -> None:
        _start("qanun-first-boot.service")

    def start(self) -> None:
        _start("qanun-web.service")

    def over(self, site: Site) -> None:
        from qanun_appliance.health import definite, wait_until_well, where

        settle(self._outcome)
        if site.network.mode != "unmanaged":
            subprocess.run(["networkctl", "reload"], capture_output=True, check=False, timeout=60)
        _start("caddy.service")
        # A slow machine takes its time; what can no longer become well is not waited for.
        found = wait_until_well(site, self.places, where(site), 300, definite)
        ill = [f"{probe.name}: {probe.said}" for probe in found if not probe.well]
        if ill:
            raise Unavailable("; ".join(ill))


def _systemctl(*words: str) -> None:
    subprocess.run(["systemctl", *words], capture_output=True, check=False, timeout=180)


def _start(unit: str, patience: float = 600) -> None:
    done = subprocess.run(["systemctl", "start", unit], capture_output=True, text=True, check=False, timeout=patience)
    if done.returncode:
        words = ["journalctl", "--unit", unit, "--lines", "3", "--output", "cat", "--no-pager"]
        said = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30).stdout.strip()
        raise Unavailable(f"{unit}: {said[-600:] or done.stderr.strip()}")
