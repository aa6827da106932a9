"""The machine's own addresses of both families, as the kernel has them now: what browsers are told to send media to."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence

from qanun_appliance.render import known_addresses
from qanun_appliance.site import Site

_WAIT_S = 30.0
#: A network that gives both families does not give them in the same moment. How long one is waited for that may not come at all:
#: IPv6 is given within two seconds or so by a network that has it, and most calls need IPv4.
_SIX_S, _FOUR_S = 3.0, 12.0
#: IPv6 addresses that come and go (RFC 8981), are about to go, or are not certain to be ours.
_PASSING = ("temporary", "deprecated", "tentative", "dadfailed")


def own_addresses(site: Site, *, wait: float = _WAIT_S) -> list[str]:
    """What the site fixes; otherwise the addresses that reach beyond this machine, waited for while there are none."""
    return known_addresses(site) or reachable_addresses(wait=wait)


def reachable_addresses(*, wait: float = _WAIT_S) -> list[str]:
    """Those that reach beyond this machine now, IPv4 first. They are waited for while there are none, and a little longer for
    the family that is missing."""
    began = time.monotonic()
    while True:
        found = _from_kernel()
        six, four = any(":" in one for one in found), any(":" not in one for one in found)
        patience = wait if not found else _FOUR_S if not four else _SIX_S if not six else 0.0
        if time.monotonic() - began >= min(wait, patience):
            return found
        time.sleep(0.5)


def _from_kernel() -> list[str]:
    try:
        listed = subprocess.run(
            ["ip", "-json", "address", "show", "scope", "global", "up"],
            capture_output=True,
            check=False,
            timeout=10,
        )
        links = json.loads(listed.stdout or b"[]")
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return []
    return _usable(links)


def _usable(links: Sequence[dict[str, object]]) -> list[str]:
    """Lasting addresses of real links in the kernel's order: bridges and tunnels of other programs lead no browser here."""
    found = []
    for link in links:
        name = str(link.get("ifname", ""))
        if name.startswith(("docker", "br-", "veth", "virbr", "tun", "wg")):
            continue
        details = link.get("addr_info")
        found += (
            [
                str(detail["local"])
                for detail in details
                if detail.get("local") and not any(detail.get(flag) for flag in _PASSING)
            ]
            if isinstance(details, list)
            else []
        )
    return sorted(found, key=lambda address: ":" in address)
