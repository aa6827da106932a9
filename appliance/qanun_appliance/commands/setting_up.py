"""`qanun appliance apply | addresses | prepare | first-boot | health`: what makes a machine and asks whether it works."""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

import msgspec

from qanun.api import CliCommand, SystemService
from qanun_appliance.places import Places
from qanun_appliance.site import load_site

#: Below the environment's folder.
ASKED = "share/qanun/services.json"


def parser(name: str, about: str) -> argparse.ArgumentParser:
    """Every command takes `--root`, for trees that are not this machine."""
    found = argparse.ArgumentParser(prog=f"qanun appliance {name}", description=about)
    usual = Path(os.environ.get("QANUN_ROOT") or "/")
    found.add_argument("--root", type=Path, default=usual, help="a tree that stands for the machine's root")
    return found


def places_of(options: argparse.Namespace) -> Places:
    code = os.environ.get("QANUN_CODE_DIR")
    return Places(Path(options.root).resolve(), Path(code)) if code else Places(Path(options.root).resolve())


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked of a machine, and by which plugins (name → version of its distribution)."""

    plugins: dict[str, str]
    services: list[SystemService]


def services() -> list[SystemService]:
    """What the installed plugins ask of a machine.

    To ask them loads the whole product, which is most of what `apply` would take at a start. An image does not change, so it
    wrote the answer down when it was built; it counts for exactly the plugins that were there.
    """
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        written = msgspec.json.decode((Path(sys.prefix) / ASKED).read_bytes(), type=Asked)
        if written.plugins == _installed():
            return written.services
    return _ask()


def _ask() -> list[SystemService]:
    from qanun.api import gather

    return gather()[0].all(SystemService)


def _installed() -> dict[str, str]:
    return {entry.name: entry.dist.version if entry.dist else "" for entry in entry_points(group="qanun.plugins")}


def services_command(arguments: Sequence[str]) -> int:
    parser("services", "what the installed plugins ask of a machine, for an image that writes it down").parse_args(
        list(arguments)
    )
    print(msgspec.json.encode(Asked(plugins=dict(sorted(_installed().items())), services=_ask())).decode())
    return 0


def apply_command(arguments: Sequence[str]) -> int:
    """0 done or nothing to do; with --check 3 when something would change."""
    from qanun_appliance.addresses import own_addresses
    from qanun_appliance.apply import apply, machine

    words = parser("apply", "make this machine what site.toml says")
    words.add_argument("--check", action="store_true", help="say what would change, and change nothing")
    words.add_argument("--boot", action="store_true", help="at boot: before the services, which are started afterwards")
    words.add_argument("--site", type=Path, help="another site file than the machine's")
    options = words.parse_args(list(arguments))
    places = places_of(options)
    site = load_site(options.site or places.site)
    addresses = own_addresses(site, wait=0)
    outcome = apply(site, places, services(), machine(places), addresses, check=options.check, boot=options.boot)
    print("\n".join(outcome.lines) if outcome.lines else "nothing to change")
    if options.check:
        print(f"{len(outcome.changed)} would change")
        return 3 if outcome.changed else 0
    print(f"changed={len(outcome.changed)}")
    return 0


def addresses_command(arguments: Sequence[str]) -> int:
    from qanun_appliance.addresses import others, own_addresses
    from qanun_appliance.relay import relay_certificate
    from qanun_appliance.render import known_addresses
    from qanun_appliance.render.services import address_environment, units_with_addresses
    from qanun_appliance.secrets import ensure_secrets

    words = parser("addresses", "write down this machine's addresses and certify them")
    words.add_argument("--write", type=Path, required=True, metavar="FILE")
    words.add_argument(
        "--follow", action="store_true", help="only if the network replaced what FILE says; what uses it starts again"
    )
    options = words.parse_args(list(arguments))
    places = places_of(options)
    site = load_site(places.site)
    target = places.real(options.write)
    if options.follow:
        found = [] if known_addresses(site) else others(_told(target))
        if not found:
            print("the addresses are as before")
            return 0
    else:
        found = own_addresses(site)
    lines = address_environment(site, found) if found else {}
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(f"{name}={value}\n" for name, value in lines.items()), encoding="ascii")
    target.chmod(0o644)
    certified = "a certificate" in ensure_secrets(site, places, found)
    relay_certificate(site, places)
    print(", ".join(found) or "this machine has no address yet; calls will not connect")
    if options.follow and places.is_machine:
        units = units_with_addresses(site, services(), os.cpu_count() or 1)
        proxy = ["caddy.service"] if certified else []
        subprocess.run(["systemctl", "try-restart", *units, *proxy], check=False, timeout=300)
    return 0


def _told(file: Path) -> list[str]:
    """The addresses in a file that `addresses --write` made; none where there is no such file."""
    text = file.read_text(encoding="ascii") if file.exists() else ""
    lines = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return [one for one in lines.get("QANUN_MEDIA_ADVERTISE", "").split(",") if one]


def relay_certificate_command(arguments: Sequence[str]) -> int:
    from qanun_appliance.relay import relay_certificate

    options = parser("relay-certificate", "give the relay the certificate that the proxy has").parse_args(
        list(arguments)
    )
    places = places_of(options)
    renewed = relay_certificate(load_site(places.site), places)
    if renewed and places.is_machine:
        verb = "try-restart" if renewed == "first" else "try-reload-or-restart"
        subprocess.run(["systemctl", verb, "qanun-turn.service"], check=False, timeout=120)
    print(f"the relay's certificate: {renewed or 'as before'}")
    return 0


def prepare_command(arguments: Sequence[str]) -> int:
    from qanun_appliance.apply import postgres_programs
    from qanun_appliance.postgres import prepare_cluster_files

    options = parser("prepare", "make the database's files on the first day, and never again").parse_args(
        list(arguments)
    )
    places = places_of(options)
    print(f"database files: {prepare_cluster_files(places, postgres_programs(places))}")
    return 0


def first_boot_command(arguments: Sequence[str]) -> int:
    from qanun_appliance.founding import found, password_of

    words = parser("first-boot", "make the first clinic and its administrator, once, from site.toml")
    words.add_argument("--secret-file", type=Path, help="holds the administrator's first password")
    options = words.parse_args(list(arguments))
    places = places_of(options)
    site = load_site(places.site)
    outcome = found(site, places, password_of(options.secret_file or places.secrets / "administrator"))
    said = {
        "made": f"{site.clinic.slug} is open; {site.administrator_email} signs in at {site.base_url}",
        "there already": "this machine has its clinic; nothing was made",
        "waits": "site.toml names no administrator; nobody can sign in yet",
    }
    print(said[outcome])
    return 0


def health_command(arguments: Sequence[str]) -> int:
    """0 well, 1 not."""
    from qanun_appliance.health import definite, gate, leave, wait_until_well, where

    words = parser("health", "ask every service once, from outside, like a browser")
    words.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="ask again until all is well")
    words.add_argument("--gate", action="store_true", help="at boot: write the outcome down; a bad release is left")
    options = words.parse_args(list(arguments))
    places = places_of(options)
    site = load_site(places.site)
    # Who asks by hand waits as long as they said; a start is judged as soon as its end is certain.
    found = wait_until_well(site, places, where(site), options.wait, definite if options.gate else dict)
    for probe in found:
        print(f"{probe.name}: {probe.said or 'well'}")
    if not options.gate:
        return 0 if all(probe.well for probe in found) else 1
    verdict = gate(places, found)
    if verdict in {"leave", "give up"}:
        print(
            "this release does not work here; "
            + ("starting again, the boot loader counts" if verdict == "leave" else "going back to the one before")
        )
        leave(for_good=verdict == "give up")
    return 0 if verdict == "well" else 1


COMMANDS: tuple[CliCommand, ...] = (
    CliCommand(
        id="appliance.apply", run=apply_command, summary="make this machine what site.toml says (--check, --root)"
    ),
    CliCommand(id="appliance.services", run=services_command, summary="what the plugins ask of a machine (for images)"),
    CliCommand(id="appliance.addresses", run=addresses_command, summary="write down this machine's addresses"),
    CliCommand(
        id="appliance.relay-certificate",
        run=relay_certificate_command,
        summary="give the relay the proxy's certificate",
    ),
    CliCommand(id="appliance.prepare", run=prepare_command, summary="make the database's files, once"),
    CliCommand(
        id="appliance.first-boot", run=first_boot_command, summary="make the first clinic and its administrator"
    ),
    CliCommand(id="appliance.health", run=health_command, summary="does everything answer (--wait SECONDS, --gate)"),
)
