"""The machine's own IPv4 addresses, as the kernel has them now: what browsers are told to send media to."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence

from qanun_appliance.render import known_addresses
from qanun_appliance.site import Site

_WAIT_S = 30.0


def own_addresses(site: Site, *, wait: float = _WAIT_S) -> list[str]:
    """What the site fixes; otherwise the addresses that reach beyond this machine, waited for while there are none."""
    return known_addresses(site) or reachable_addresses(wait=wait)


def reachable_addresses(*, wait: float = _WAIT_S) -> list[str]:
    """Those that reach beyond this machine now, waited for while there are none."""
    deadline = time.monotonic() + wait
    while True:
        found = _from_kernel()
        if found or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def _from_kernel() -> list[str]:
    try:
        listed = subprocess.run(
            ["ip", "-json", "-4", "address", "show", "scope", "global", "up"],
            capture_output=True,
            check=False,
            timeout=10,
        )
        links = json.loads(listed.stdout or b"[]")
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return []
    return _usable(links)


def _usable(links: Sequence[dict[str, object]]) -> list[str]:
    """Addresses of real links in the kernel's order: bridges and tunnels of other programs lead no browser here."""
    found = []
    for link in links:
        name = str(link.get("ifname", ""))
        if name.startswith(("docker", "br-", "veth", "virbr", "tun", "wg")):
            continue
        details = link.get("addr_info")
        found += (
            [str(detail["local"]) for detail in details if detail.get("local")] if isinstance(details, list) else []
        )
    return found
