"""`apply`: make the machine what `site.toml` says. Writes only what differs, then restarts only what read it.

With another root it renders into a tree and touches no service; with `check` it writes nothing and says what it would.
"""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import json
import mmap
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qanun.api import ConfigurationError, SystemService
from qanun_appliance.places import Places
from qanun_appliance.postgres import read_marker
from qanun_appliance.relay import relay_certificate
from qanun_appliance.render import Link, Machine, Rendered, rendered
from qanun_appliance.render.services import INSTANCES
from qanun_appliance.secrets import ensure_secrets, give
from qanun_appliance.site import Site

_MANIFEST = "/etc/qanun/applied.json"
#: The daemons that were there before us keep running with what they read; the order is that of dependence.
_FIRST = ("daemon-reload", "sysusers", "tmpfiles")


@dataclass(slots=True)
class Outcome:
    """What `apply` did, or in check mode would do. `lines` are for people, one change each."""

    changed: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)


def machine(places: Places) -> Machine:
    """This machine's size and programs. Raises ConfigurationError when PostgreSQL is not installed."""
    memory = 4096
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemTotal:"):
                memory = int(line.split()[1]) // 1024
    programs = postgres_programs(places)
    return Machine(
        memory_mb=memory // 64 * 64,
        cores=os.cpu_count() or 1,
        postgres_bin=programs,
        slot=is_slot(places),
        postgres_tells=tells_systemd(places.real(f"{programs}/postgres")),
    )


def tells_systemd(program: Path) -> bool:
    """Whether this PostgreSQL can say when it takes connections: a choice of whoever built it, which none of its programs
    tells. One that cannot would be waited for until it is killed."""
    try:
        with program.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return re.search(rb"libsystemd\.so|NOTIFY_SOCKET", content) is not None
    except (OSError, ValueError):  # not there, or empty: what is missing is said by whoever starts it
        return True


def postgres_programs(places: Places) -> str:
    """The programs' folder of the version that the cluster has, or the newest that is installed."""
    folder = places.real("/usr/lib/postgresql")
    found = sorted((int(path.parent.name) for path in folder.glob("*/bin") if path.parent.name.isdigit()), reverse=True)
    if not found:
        raise ConfigurationError("PostgreSQL is not installed here (no programs below /usr/lib/postgresql)")
    held = [major for major in found if (places.clusters / str(major) / "PG_VERSION").exists()]
    # Of two clusters the marker says which one is the clinic's; the other is of an upgrade that was interrupted or left.
    ours = read_marker(places).get("major")
    chosen = ours if ours in held else (held or found)[0]
    return f"/usr/lib/postgresql/{chosen}/bin"


def is_slot(places: Places) -> bool:
    """Whether this runs from one of the image's two slots, whose `/etc` forgets and whose boots are counted."""
    try:
        words = places.real("/proc/cmdline").read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return places.real("/usr/lib/qanun/slot").exists()
    return (
        any(word.startswith(("root=PARTLABEL=qanun-root-", "qanun.slot=qanun-root-")) for word in words)
        or places.real("/usr/lib/qanun/slot").exists()
    )


def apply(
    site: Site, places: Places, services: Sequence[SystemService], on: Machine, addresses: Sequence[str] = (), *,
    check: bool = False, boot: bool = False, start: bool = True,
) -> Outcome:  # fmt: skip
    """Returns what changed. Raises ConfigurationError when something the site needs is not here. Without `start` no service
    is touched until `settle` is called with the outcome."""
    if site.mail.user and not places.real(site.mail.password_file).is_file():
        raise ConfigurationError(
            f"mail.password_file: there is no {site.mail.password_file}; write the password into it, for root alone"
        )
    items = rendered(site, places, on, services)
    outcome = Outcome()
    with _alone(places, check=check):
        before = _known(places)
        wanted = {item.path for item in items}
        for path in sorted(before - wanted):
            _remove(places, path, outcome, check=check)
        then: list[str] = []
        if places.is_machine and not check:
            # Accounts first: files are given to them.
            accounts = [
                item for item in items if isinstance(item, Rendered) and {"sysusers", "tmpfiles"} & set(item.then)
            ]
            for account in accounts:
                _write(account, places, outcome, check=False, owners=False)
            _command(["systemd-sysusers", "/etc/sysusers.d/qanun.conf"], outcome)
            _command(["systemd-tmpfiles", "--create", "/etc/tmpfiles.d/qanun.conf"], outcome)
        for item in items:
            differs = (
                _link(item, places, outcome, check=check)
                if isinstance(item, Link)
                else _write(item, places, outcome, check=check)
            )
            if differs:
                then += item.then
        if not check:
            for made in ensure_secrets(site, places, addresses, slot=on.slot):
                outcome.changed.append(made)
                outcome.lines.append(f"made: {made}")
                if made == "a certificate":
                    then.append("caddy.service:restart")
            if renewed := relay_certificate(site, places):
                outcome.changed.append("the relay's certificate")
                outcome.lines.append("made: the relay's certificate")
                # The first one opens a port; another one is only read again.
                then.append("qanun-turn.service:" + ("restart" if renewed == "first" else "reload"))
            _remember(places, wanted, outcome)
        outcome.actions = [
            *(step for step in _FIRST if step in then),
            *dict.fromkeys(s for s in then if s not in _FIRST),
        ]
        if places.is_machine and not check:
            if start:
                _act(outcome, boot=boot)
            else:
                _command(["systemctl", "daemon-reload"], outcome)
                outcome.actions = of_running(outcome.actions)
    return outcome


def settle(outcome: Outcome) -> None:
    """What `apply` without `start` left to do."""
    _act(outcome, boot=False)


def of_running(actions: Sequence[str]) -> list[str]:
    """What is started from now on reads the new files by itself: only what runs at this moment has to be told of them later."""
    units = [action.partition(":")[0] for action in actions if action not in _FIRST]
    if not units:
        return list(actions)
    asked = subprocess.run(
        ["systemctl", "is-active", *units], capture_output=True, text=True, check=False, timeout=60
    ).stdout.splitlines()
    # A service that is about to start has read its unit, and perhaps its settings.
    running = {
        unit for unit, state in zip(units, asked, strict=False) if state in {"active", "activating", "reloading"}
    }
    return [action for action in actions if action in _FIRST or action.partition(":")[0] in running]


@contextlib.contextmanager
def _alone(places: Places, *, check: bool) -> Iterator[None]:
    if check:
        yield
        return
    places.data.mkdir(parents=True, exist_ok=True)
    with (places.data / ".apply.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# --- files -----------------------------------------------------------------------------------------------------------


def _folder(path: Path) -> None:
    """For everybody to pass, like all below /etc, whatever this process leaves to others: the database reads its file there."""
    for missing in reversed([one for one in (path, *path.parents) if not one.exists()]):
        missing.mkdir()
        missing.chmod(0o755)


def _write(item: Rendered, places: Places, outcome: Outcome, *, check: bool, owners: bool = True) -> bool:
    path = places.real(item.path)
    wanted = item.content.encode()
    found = path.read_bytes() if path.is_file() and not path.is_symlink() else None
    mode = path.stat().st_mode & 0o7777 if found is not None else None
    differs = found != wanted or mode != item.mode
    if differs:
        outcome.changed.append(item.path)
        outcome.lines += _difference(item, found, mode)
        if not check:
            _folder(path.parent)
            if path.is_symlink():
                path.unlink()
            partial = path.with_name(f".{path.name}.qanun-new")
            with os.fdopen(
                os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, item.mode), "wb"
            ) as file:
                os.fchmod(file.fileno(), item.mode)
                file.write(wanted)
                file.flush()
                os.fsync(file.fileno())
            if owners:
                give(partial, places, item.owner, item.group)
            partial.replace(path)
    elif owners and not check and path.is_file():
        give(path, places, item.owner, item.group)
    return differs


def _difference(item: Rendered, found: bytes | None, mode: int | None) -> list[str]:
    if found is None:
        return [f"new: {item.path}"]
    old = found.decode(errors="replace")
    if old == item.content:
        return [f"mode: {item.path} {mode:04o} → {item.mode:04o}"]
    lines = difflib.unified_diff(old.splitlines(), item.content.splitlines(), item.path, item.path, lineterm="", n=1)
    return list(lines)


def _link(item: Link, places: Places, outcome: Outcome, *, check: bool) -> bool:
    path = places.real(item.path)
    if path.is_symlink() and os.readlink(path) == item.target:
        return False
    outcome.changed.append(item.path)
    outcome.lines.append(f"link: {item.path} → {item.target}")
    if not check:
        _folder(path.parent)
        if path.is_symlink() or path.exists():
            path.unlink()
        path.symlink_to(item.target)
    return True


def _remove(places: Places, path: str, outcome: Outcome, *, check: bool) -> None:
    real = places.real(path)
    if not (real.is_symlink() or real.exists()):
        return
    outcome.changed.append(path)
    outcome.lines.append(f"gone: {path}")
    if not check:
        if places.is_machine and path.startswith("/etc/systemd/system/") and real.is_file() and not real.is_symlink():
            subprocess.run(["systemctl", "stop", Path(path).name], capture_output=True, check=False, timeout=90)
        if places.is_machine and path.startswith(f"{INSTANCES}/"):
            subprocess.run(["systemctl", "stop", f"{real.stem}.service"], capture_output=True, check=False, timeout=90)
        real.unlink()


def _known(places: Places) -> set[str]:
    """What an earlier run wrote: so that a daemon that is no longer wanted does not stay."""
    try:
        return {str(path) for path in json.loads(places.real(_MANIFEST).read_text(encoding="utf-8"))["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _remember(places: Places, wanted: set[str], outcome: Outcome) -> None:
    text = json.dumps({"files": sorted(wanted)}, indent=1) + "\n"
    _write(Rendered(path=_MANIFEST, content=text), places, Outcome(), check=False)


# --- services --------------------------------------------------------------------------------------------------------


def _act(outcome: Outcome, *, boot: bool) -> None:
    for action in outcome.actions:
        if action == "daemon-reload":
            _command(["systemctl", "daemon-reload"], outcome)
        elif action not in _FIRST and not boot:
            unit, _, how = action.partition(":")
            # Only what runs: what is stopped reads its new files when somebody starts it.
            verb = "try-reload-or-restart" if how == "reload" else "try-restart"
            _command(["systemctl", verb, unit], outcome, may_fail=True)
    for unit in () if boot else ("nftables.service", "chrony.service"):
        _command(["systemctl", "enable", "--now", "--quiet", unit], outcome, may_fail=True)
    # At boot this runs before the rest, which must be told of units that did not exist a moment ago.
    _command(["systemctl", "start", "--no-block", "qanun.target"], outcome, may_fail=boot)


def _command(words: Sequence[str], outcome: Outcome, *, may_fail: bool = False) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=180)
    except FileNotFoundError:
        raise ConfigurationError(f"{words[0]} is not installed here") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no reason given"]
        if not may_fail:
            raise ConfigurationError(f"{' '.join(words)}: {said[0]}")
        outcome.lines.append(f"note: {' '.join(words)}: {said[0]}")
