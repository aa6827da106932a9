"""`qanun appliance update stage | status | reboot | rollback | tidy | pack`."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from qanun.api import CliCommand, Unavailable
from qanun_appliance.commands.setting_up import parser, places_of
from qanun_appliance.places import Places, running_release
from qanun_appliance.site import load_site


def update_command(arguments: Sequence[str]) -> int:
    """0 done, 1 refused."""
    from packaging.version import Version

    from qanun_appliance import update

    words = parser("update", "put a release beside the running one, start into it, go back")
    acts = words.add_subparsers(dest="act", required=True)
    staging = acts.add_parser("stage", help="check a bundle and put it into the spare slot")
    staging.add_argument("bundle", type=Path)
    staging.add_argument("--without-backup", default="", metavar="REASON", help="kept with the release")
    acts.add_parser("status", help="what runs, what is staged, why a release was left").add_argument(
        "--json", action="store_true"
    )
    rebooting = acts.add_parser("reboot", help="start into what is staged")
    rebooting.add_argument(
        "--after-calls", type=float, default=0, metavar="MINUTES", help="no new call begins; those that go on end first"
    )
    acts.add_parser("rollback", help="back to the release in the other slot; data stays")
    acts.add_parser("tidy", help="after a power cut: a half-written slot says that it is empty")
    packing = acts.add_parser("pack", help="a bundle out of a signed build, for whoever publishes releases")
    packing.add_argument("folder", type=Path)
    packing.add_argument("target", type=Path)
    options = words.parse_args(list(arguments))
    if options.act == "pack":
        print(", ".join(update.pack(options.folder, options.target)))
        return 0
    places = places_of(options)
    disk = update.this_disk(places)
    running = running_release(places)
    if options.act == "stage":
        report = update.stage(
            options.bundle, places, disk, running=Version(running),
            keys=update.trusted_keys(places.real("/usr/lib/qanun/trusted-keys")), revisions=_revisions(places),
            prove=None if options.without_backup else lambda: _prove(places), reason=options.without_backup,
        )  # fmt: skip
        update.status(places, disk, running)
        print(f"{report['version']} is staged; it starts with: qanun appliance update reboot")
    elif options.act == "status":
        found = update.status(places, disk, running)
        print(json.dumps(found, indent=1) if options.json else _told(found))
    elif options.act == "reboot":
        act = _after_calls(places, options.after_calls) if options.after_calls else None
        print(f"starting into {update.reboot(places, disk, running, act)}")
    elif options.act == "rollback":
        print(f"starting into {update.roll_back(places, disk, running)}")
    else:
        print("a half-written slot was emptied" if update.tidy(places, disk) else "nothing to tidy")
    return 0


def wish_command(arguments: Sequence[str]) -> int:
    """What the administrator's page asks for; 0 done, 1 not, with the reason in a report."""
    from packaging.version import Version

    from qanun_appliance import update
    from qanun_appliance.update import wishes

    words = parser("wish", "what the administrator's page asks of root about releases; called by units")
    words.add_argument("name", choices=wishes.NAMES)
    options = words.parse_args(list(arguments))
    places = places_of(options)
    if options.name == "restart":
        moment = wishes.plan_restart(
            places, (places.wishes / "restart").read_text(encoding="ascii", errors="replace")[:80]
        )
        print(f"starting into it at {moment}" if moment else "no start is planned")
        return 0
    # Whoever only notes a minute sees no disks.
    disk, running = update.this_disk(places), running_release(places)
    if options.name == "rollback":
        update.roll_back(places, disk, running)
        return 0

    def stage(bundle: Path, say: Callable[[str], None]) -> dict[str, Any]:
        return update.stage(
            bundle, places, disk, running=Version(running), prove=lambda: _prove_apart(places), say=say,
            keys=update.trusted_keys(places.real("/usr/lib/qanun/trusted-keys")), revisions=_revisions(places),
        )  # fmt: skip

    done = wishes.stage_what_came(places, stage)
    update.status(places, disk, running)
    return 0 if done else 1


def _after_calls(places: Places, minutes: float) -> Callable[[], None]:
    """Restart when nobody is in a call any more, at the latest after so many minutes."""
    from qanun_appliance.update.stage import restart

    def act() -> None:
        environment = {
            "QANUN_STATE_DIR": str(places.data), "QANUN_DATABASE_URL": "postgresql://qanun_app@/qanun?host=/run/postgresql",
            "QANUN_MEDIA_SOCKET": "/run/qanun/media.sock", "PATH": "/usr/bin:/bin",
        }  # fmt: skip
        words = [str(places.code / "qanun"), "telemedicine", "drain", "--wait", str(minutes * 60)]
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(words, env=environment, check=False, timeout=minutes * 60 + 60)
        restart()

    return act


def _told(found: dict[str, object]) -> str:
    last = found["last"]
    assert isinstance(last, dict)
    lines = [f"running: {found['running']}", f"to go back to: {found['other'] or 'nothing'}"]
    if found["interrupted"]:
        lines.append("a release was being written when the power went: qanun appliance update tidy")
    if last:
        lines.append(f"{last['version']}: {last['state']}" + (f" ({last['why']})" if last.get("why") else ""))
    return "\n".join(lines)


def _prove(places: Places) -> None:
    from qanun_appliance.apply import postgres_programs
    from qanun_appliance.backup import Live, back_up, drill
    from qanun_appliance.backup.take import live_url

    site = load_site(places.site)
    back_up(site, places, Live(programs=postgres_programs(places), url=live_url()))
    drill(site, places)


def _prove_apart(places: Places) -> None:
    """The same by the night's own units: whoever writes to the disks here needs no network and becomes nobody else."""
    from qanun_appliance.reports import report

    for name in ("backup", "drill"):
        before = report(places, name).get("at", "")
        subprocess.run(
            ["systemctl", "start", f"qanun-{name}.service"], capture_output=True, check=False, timeout=13 * 3600
        )
        found = report(places, name)
        if not found.get("well") or found.get("at") == before:
            raise Unavailable(f"{name}: {found.get('why') or f'it did not run; journalctl -u qanun-{name} says why'}")


def _revisions(places: Places) -> dict[str, str]:
    """Where each lineage's tables stand, as the product itself says it."""
    from qanun_appliance.postgres import read_marker
    from qanun_appliance.update.bundle import POSTGRESQL

    environment = {
        "QANUN_STATE_DIR": str(places.data), "QANUN_DATABASE_URL": "postgresql://qanun_owner@/qanun?host=/run/postgresql",
        "PATH": "/usr/bin:/bin",
    }  # fmt: skip
    done = subprocess.run(
        [str(places.code / "qanun"), "db", "status"], env=environment, capture_output=True, text=True, check=False,
        timeout=600,
    )  # fmt: skip
    found = {}
    for line in done.stdout.splitlines():
        slug, _, rest = line.partition(": ")
        if "(" in rest and "orphaned" not in rest:
            found[slug] = rest.partition("(")[2].split(" of ")[0]
    return found | {POSTGRESQL: str(read_marker(places).get("major", ""))}


COMMANDS = (
    CliCommand(id="appliance.update", run=update_command, summary="stage | status | reboot | rollback | tidy | pack"),
    CliCommand(id="appliance.wish", run=wish_command, summary="what the administrator's page asks for (by units)"),
)
