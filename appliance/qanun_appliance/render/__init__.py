"""From a site to every file of `/etc`: pure, the same site and machine give the same bytes. It writes nothing itself."""

from __future__ import annotations

import os
from collections.abc import Sequence

from qanun.api import SystemService
from qanun_appliance.places import Places
from qanun_appliance.render.backup_disk import backup_disk_files
from qanun_appliance.render.database import database_files
from qanun_appliance.render.files import Link, Machine, Rendered
from qanun_appliance.render.lifecycle import lifecycle_files
from qanun_appliance.render.network import access_files, allowed, firewall, listeners, network_files, time_files
from qanun_appliance.render.proxy import proxy_files
from qanun_appliance.render.services import daemons, known_addresses, service_files
from qanun_appliance.render.setup import setup_files
from qanun_appliance.site import Site

__all__ = ["Link", "Machine", "Rendered", "known_addresses", "open_ports", "rendered"]


def rendered(
    site: Site, places: Places, machine: Machine, services: Sequence[SystemService]
) -> list[Rendered | Link]:  # fmt: skip
    """Every file and link, in the order in which they are written."""
    running = daemons(site, services, machine.cores)
    units = [unit for daemon in running for unit in daemon.units]
    return [
        *lifecycle_files(site, places, machine, units),
        *setup_files(places),
        *backup_disk_files(site),
        *service_files(site, places, running, known_addresses(site)),
        *database_files(machine, archive=bool(site.backup.target)),
        *proxy_files(site),
        *network_files(site),
        firewall(site, [port for daemon in running for port in daemon.ports]),
        listeners(site, [port for daemon in running for port in daemon.ports]),
        *time_files(site),
        *access_files(site, slot=machine.slot),
    ]


def open_ports(site: Site, services: Sequence[SystemService], cores: int = 0) -> list[tuple[str, int]]:
    """Every (protocol, port) that this machine may offer to the network, and no other."""
    running = daemons(site, services, cores or os.cpu_count() or 1)
    return allowed(site, [port for daemon in running for port in daemon.ports])
