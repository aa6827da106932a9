"""`qanun appliance setup prepare | serve | work | disk | return`: the pages of a machine that has no site file. Called by units."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from qanun.api import CliCommand
from qanun_appliance.commands.setting_up import parser, places_of, services


def setup_command(arguments: Sequence[str]) -> int:
    """0 done, 1 what was chosen could not be put into force."""
    from qanun_appliance.addresses import reachable_addresses
    from qanun_appliance.wizard import disks, homecoming, work
    from qanun_appliance.wizard.desk import FOLDER, Desk

    words = parser("setup", "the pages that set this machine up, from a browser in its network")
    words.add_argument("act", choices=("prepare", "serve", "work", "disk", "return"))
    options = words.parse_args(list(arguments))
    places = places_of(options)
    desk = Desk(Path(os.environ.get("QANUN_SETUP_DIR") or FOLDER))
    if options.act == "prepare":
        work.prepare(places, desk, reachable_addresses())
        return 0
    if options.act == "disk":
        disks.make_ready(str(desk.read("chosen")["backup"]["kind"]))
        return 0
    if options.act == "return":
        return 0 if homecoming.bring_back(places, desk) else 1
    if options.act == "serve":
        return _serve(desk.folder)
    run = homecoming.run if desk.way == "return" else work.run
    well = run(places, desk, work.MachineActs(places, services()))
    if well:
        desk.clear()
        places.real(work.ISSUE).unlink(missing_ok=True)
        subprocess.run(["/usr/sbin/agetty", "--reload"], capture_output=True, check=False, timeout=30)
    print("this machine is set up" if well else str(desk.progress().get("why", "")))
    return 0 if well else 1


def _serve(folder: Path) -> int:
    from granian import Granian
    from granian.constants import HTTPModes, Interfaces, Loops

    os.environ.setdefault("QANUN_SETUP_DIR", str(folder))
    os.environ.setdefault("QANUN_SETUP_HTTP", "0.0.0.0:80")
    Granian(
        "qanun_appliance.wizard.app:create", factory=True, address="0.0.0.0", port=443, interface=Interfaces.ASGI,  # noqa: S104
        workers=1, loop=Loops.uvloop, websockets=False, http=HTTPModes.http1, ssl_cert=folder / "server.crt", ssl_key=folder / "server.key",
        log_access=False, workers_kill_timeout=5,
    ).serve()  # fmt: skip
    return 0


COMMANDS = (
    CliCommand(id="appliance.setup", run=setup_command, summary="the pages that set this machine up (by units)"),
)
