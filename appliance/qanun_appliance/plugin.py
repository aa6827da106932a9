"""The appliance's manifest: wiring only."""

from __future__ import annotations

from typing import Any

from qanun.api import N_, NavItem, Plugin, hookimpl
from qanun_appliance.commands import COMMANDS
from qanun_appliance.permissions import GRANTS, Appliance
from qanun_appliance.routes import AUDIT_EVENTS, ROUTES
from qanun_appliance.watchdog import LIFESPAN


class AppliancePlugin(Plugin):
    """The machine itself: its services, its health, its backups and its updates."""

    slug = "appliance"
    label = N_("Appliance")

    @hookimpl
    def permissions(self) -> list[Any]:
        return [Appliance]

    @hookimpl
    def roles(self) -> list[Any]:
        return list(GRANTS)

    @hookimpl
    def audit_events(self) -> list[Any]:
        return list(AUDIT_EVENTS)

    @hookimpl
    def routes(self) -> list[Any]:
        return list(ROUTES)

    @hookimpl
    def nav_items(self) -> list[Any]:
        return [
            NavItem(
                id="appliance.machine", label=N_("Machine"), icon="server", href="/appliance/health",
                permission=Appliance.HEALTH_READ, key="m", order=90,
            )
        ]  # fmt: skip

    @hookimpl
    def lifespans(self) -> list[Any]:
        return [LIFESPAN]

    @hookimpl
    def cli_commands(self) -> list[Any]:
        return list(COMMANDS)


plugin = AppliancePlugin()
