"""The portal's manifest: wiring only."""

from __future__ import annotations

from typing import Any

from qanun.api import N_, Grant, Plugin, hookimpl
from qanun_portal.permissions import Portal
from qanun_portal.routes import PortalController


class PortalPlugin(Plugin):
    """The patient's own pages. What plugins add to them comes through the slot `portal.home`."""

    slug = "portal"
    label = N_("Patient portal")

    @hookimpl
    def permissions(self) -> list[Any]:
        return [Portal]

    @hookimpl
    def roles(self) -> list[Any]:
        return [Grant(role="patient", permissions=(Portal.HOME_READ, Portal.ACCESS_READ))]

    @hookimpl
    def routes(self) -> list[Any]:
        return [PortalController]


plugin = PortalPlugin()
