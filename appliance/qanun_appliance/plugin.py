"""The appliance's manifest: wiring only."""

from __future__ import annotations

from typing import Any

from qanun.api import N_, Plugin, hookimpl
from qanun_appliance.commands import COMMANDS
from qanun_appliance.watchdog import LIFESPAN


class AppliancePlugin(Plugin):
    """The machine itself: its services, its health, its backups and its updates."""

    slug = "appliance"
    label = N_("Appliance")

    @hookimpl
    def lifespans(self) -> list[Any]:
        return [LIFESPAN]

    @hookimpl
    def cli_commands(self) -> list[Any]:
        return list(COMMANDS)


plugin = AppliancePlugin()
