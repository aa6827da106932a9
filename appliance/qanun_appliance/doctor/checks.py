"""What can be seen on the machine now: answers, services, disk, clock, certificate, ports, files that must be closed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from qanun.api import SystemService
from qanun_appliance.addresses import own_addresses
from qanun_appliance.doctor.finding import Finding, crit, ok, warn
from qanun_appliance.places import Places
from qanun_appliance.reports import report
from qanun_appliance.site import Site

_RESERVE = 0.03
_LOW = 0.15
_CERTIFICATE_DAYS = 21
_CLOCK_S = 2.0
#: Local names that every Debian has; they reach no network.
_LOOPBACK = ("127.", "[::1]", "::1", "[::ffff:127.")


def _output(*words: str) -> str | None:
    """What a program prints; None when it is not there or does not answer in time."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode in (0, 1, 3) else None


def setup(site: Site, places: Places, services: Sequence[SystemService]) -> list[Finding]:
    from qanun_appliance.apply import apply, machine

    outcome = apply(site, places, services, machine(places), own_addresses(site, wait=0), check=True)
    return [warn("site.behind", count=len(outcome.changed))] if outcome.changed else [ok("site.well")]


def answers(site: Site, places: Places) -> list[Finding]:
    from qanun_appliance.health import probes, where

    levels = {"web": crit, "database": crit, "media": warn, "turn": warn}
    found = probes(site, places, where(site))
    return [ok(f"{one.name}.well") if one.well else levels[one.name](f"{one.name}.ill", why=one.said) for one in found]


def units() -> list[Finding]:
    listed = _output("systemctl", "list-units", "--failed", "--plain", "--no-legend", "--no-pager")
    if listed is None:
        return [Finding("services.unknown", "info")]
    failed = [line.split()[0] for line in listed.splitlines() if line.split()]
    return [crit("service.failed", unit=unit) for unit in failed] or [ok("services.well")]


def schema(places: Places) -> list[Finding]:
    environment = {
        **os.environ, "QANUN_STATE_DIR": str(places.data), "QANUN_DATABASE_URL": "postgresql://qanun_owner@/qanun?host=/run/postgresql",
    }  # fmt: skip
    try:
        done = subprocess.run(
            [str(places.code / "qanun"), "db", "status"], env=environment, capture_output=True, text=True, check=False,
            timeout=60,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return []
    if not done.stdout:
        return []  # the database does not answer, which has its own sentence
    behind = [
        line.split(":")[0] for line in done.stdout.splitlines() if ": up to date" not in line and "orphaned" not in line
    ]
    return [crit("schema.behind", names=", ".join(behind))] if behind else [ok("schema.well")]


def media_nodes(site: Site, places: Places, listing: str | None = None) -> list[Finding]:
    """Media nodes on other machines, where the site has any."""
    if not site.media_nodes:
        return []
    # It ends with 1 when a node is silent, and prints the list all the same.
    said = listing if listing is not None else _output(str(places.code / "qanun"), "telemedicine", "nodes", "--json")
    if not said:
        return [warn("nodes.unknown")]
    listed = [one for one in json.loads(said) if one["state"] != "invited"]
    silent = [one for one in listed if one["state"] == "silent"]
    found = [
        warn("node.silent", name=one["name"], minutes=max(0, round((time.time() - one["heard"]) / 60)))
        for one in silent
    ]
    return found or [ok("nodes.well", count=len(listed))]


def disk(places: Places, usage: tuple[int, int, int] | None = None) -> list[Finding]:
    total, _, free = usage or shutil.disk_usage(places.data)
    values = {"free": f"{free / 1e9:.1f}", "total": f"{total / 1e9:.0f}"}
    given = report(places, "disk").get("given", "")
    if given:
        return [crit("disk.reserve-given", **values)]
    if free < total * _RESERVE:
        return [crit("disk.full", **values)]
    return [warn("disk.low", **values)] if free < total * _LOW else [ok("disk.well", **values)]


def memory(text: str | None = None) -> list[Finding]:
    lines = (text or Path("/proc/meminfo").read_text(encoding="ascii")).splitlines()
    known = {line.split(":")[0]: int(line.split()[1]) // 1024 for line in lines if ":" in line}
    total, free = known["MemTotal"], known["MemAvailable"]
    make = warn if free < max(200, total * 0.05) else ok
    return [make("memory.low" if make is warn else "memory.well", free=free, total=total)]


def clock(tracking: str | None = None) -> list[Finding]:
    said = tracking if tracking is not None else _output("chronyc", "-c", "tracking")
    parts = (said or "").strip().split(",")
    if len(parts) < 6:
        return []  # no chrony here: a container shares its host's clock
    if parts[1] in {"", "0.0.0.0", "127.127.1.1"} or parts[2] == "0":  # noqa: S104 - chrony's word for nobody
        return [warn("clock.alone")]
    off = abs(float(parts[4]))
    return [crit("clock.off", seconds=f"{off:.1f}")] if off > _CLOCK_S else [ok("clock.well")]


def certificate(site: Site, places: Places, now: datetime | None = None) -> list[Finding]:
    from cryptography import x509

    from qanun_appliance.relay import source

    pair = source(site, places)
    if pair is None:
        return []
    found = x509.load_pem_x509_certificate(pair[0].read_bytes())
    days = (found.not_valid_after_utc - (now or datetime.now(UTC))).days
    names = set[str]()
    with contextlib.suppress(x509.ExtensionNotFound):
        extension = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = {str(one.value) for one in extension}
    absent = [host for host in site.hosts if host not in names and f"*.{host.partition('.')[2]}" not in names]
    result = [crit("certificate.names", names=", ".join(absent))] if absent else []
    if days < 0:
        return [*result, crit("certificate.over")]
    make, code = (warn, "certificate.soon") if days < _CERTIFICATE_DAYS else (ok, "certificate.well")
    return [*result, make(code, days=days)]


def ports(site: Site, services: Sequence[SystemService], listing: str | None = None) -> list[Finding]:
    """Sockets that reach beyond this machine and are on no list. The relay's own range is its business alone."""
    from qanun_appliance.render import open_ports

    said = listing if listing is not None else _output("ss", "-Hltnu", "--cgroup")
    if said is None:
        return []
    wanted = set(open_ports(site, services))
    strange = set()
    for line in said.splitlines():
        parts = line.split()
        if len(parts) < 5 or parts[1] not in {"LISTEN", "UNCONN"}:
            continue
        protocol, local = parts[0], parts[4]
        address, _, port = local.rpartition(":")
        if address.startswith(_LOOPBACK) or not port.isdigit() or "%lo" in address:
            continue
        number = int(port)
        asks = protocol == "udp" and (number in {68, 546} or number >= 32768)  # an answer that is waited for
        if (protocol, number) not in wanted and not asks:
            # Whose it is: the kernel knows the unit, whoever's process it is.
            unit = next((part.rpartition("/")[2] for part in parts[5:] if part.startswith("cgroup:")), "")
            strange.add(f"{protocol}/{number}" + (f" ({unit})" if unit else ""))
    return [crit("ports.open", ports=", ".join(sorted(strange)))] if strange else [ok("ports.well")]


def _rules() -> str | None:
    """Our table; empty when there is none, None when nobody lets us look."""
    try:
        done = subprocess.run(
            ["nft", "list", "table", "inet", "qanun"], capture_output=True, text=True, check=False, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if "not permitted" in done.stderr else done.stdout


def firewall(listing: str | None = None) -> list[Finding]:
    said = listing if listing is not None else _rules()
    if said is None:
        return []
    up = re.search(r"hook input priority .*policy drop", said) is not None
    return [ok("firewall.well")] if up else [crit("firewall.down")]


def closed(places: Places) -> list[Finding]:
    found: list[Finding] = []
    master = places.keys / "master.key"
    if not master.exists():
        found.append(crit("secrets.missing", path=str(master)))
    places_inside = [path for folder in (places.secrets, places.keys) for path in (folder, *folder.rglob("*"))]
    open_ones = [path for path in places_inside if _is_open(path)]
    found += [crit("secrets.open", path=str(path)) for path in open_ones]
    if (places.secrets / "administrator").exists() and (places.keys / "founded").exists():
        found.append(Finding("administrator.waits", "info"))
    return found if any(finding.level == "crit" for finding in found) else [*found, ok("secrets.well")]


def startup_key(places: Places) -> list[Finding]:
    """Whether the disk's key lies beside the disk: then it protects no machine that is carried away."""
    return [Finding("disk.key-beside", "info")] if places.real("/efi/qanun/var.key").exists() else []


def other_systems(places: Places, listing: str | None = None) -> list[Finding]:
    """Whether another disk of this machine holds a Qanun, too: an old one whose place was taken, most often.

    What the kernel says of the checked root is asked, not `/dev`: the doctor's unit is shown no disks.
    """
    maps = [name.parent.parent for name in places.real("/sys/class/block").glob("dm-*/dm/name")
            if name.read_text(encoding="ascii").strip() == "qanun-root"]  # fmt: skip
    slots = [slot.name for one in maps for slot in (one / "slaves").iterdir()]
    if not slots:
        return []  # not started from an image's disk
    said = listing if listing is not None else _output("lsblk", "-rno", "NAME,PKNAME,PARTLABEL")
    parts = [line.split(" ") for line in (said or "").splitlines()]
    parents = {part[0]: part[1] for part in parts if len(part) == 3}
    others = {part[1] for part in parts if len(part) == 3 and part[2] == "qanun-esp"} - {parents.get(slots[0])}
    return [Finding("disk.another-qanun", "info", {"name": name}) for name in sorted(others)]


def _is_open(path: Path) -> bool:
    return path.exists() and not path.is_symlink() and bool(path.stat().st_mode & 0o077) and path.suffix != ".crt"
