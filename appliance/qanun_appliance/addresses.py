"""The machine's own addresses of both families, as the kernel has them now: what browsers are told to send media to."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence

from qanun_appliance.render import known_addresses
from qanun_appliance.site import Site

_WAIT_S = 30.0
#: A change is believed when it is still so after this long: a router that restarts gives and takes for a while.
_SETTLES_S = 20.0
#: A network that gives both families does not give them in the same moment, nor do two networks. How long one is waited for that
#: may not come at all, from the first address on: IPv6 is there a second or two after a link is, and most calls need IPv4.
_SIX_S, _FOUR_S, _LINK_S = 2.0, 12.0, 12.0
#: IPv6 addresses that come and go (RFC 8981), are about to go, or are not certain to be ours.
_PASSING = ("temporary", "deprecated", "tentative", "dadfailed")
#: Bridges and tunnels of other programs lead no browser here.
_NOT_OURS = ("docker", "br-", "veth", "virbr", "tun", "wg")


def own_addresses(site: Site, *, wait: float = _WAIT_S) -> list[str]:
    """What the site fixes; otherwise the addresses that reach beyond this machine, waited for while there are none."""
    return known_addresses(site) or reachable_addresses(wait=wait)


def reachable_addresses(*, wait: float = _WAIT_S) -> list[str]:
    """Those that reach beyond this machine now, IPv4 first. They are waited for while there are none, and a little longer for
    the family that is missing and for a link that has none yet."""
    began = time.monotonic()
    first = None
    while True:
        links = _links()
        found, now = _usable(links), time.monotonic()
        if first is None and found:
            first = now
        six, four = any(":" in one for one in found), any(":" not in one for one in found)
        patience = max(0.0 if six else _SIX_S, 0.0 if four else _FOUR_S, _LINK_S if _waiting(links) else 0.0)
        until = began + wait
        if now >= until or (first is not None and now >= min(until, first + patience)):
            return found
        time.sleep(0.5)


def others(told: Sequence[str]) -> list[str]:
    """The addresses of now, where one that was told is gone and another of its family is there, or none was known so far; empty
    where the ones that were told still do. One that only came or only went is left for the next start: what uses addresses
    would have to start again, and calls go on by the others."""
    now = _usable(_links())
    if not _replaced(told, now):
        return []
    time.sleep(_SETTLES_S)
    return now if _usable(_links()) == now else []


def _replaced(told: Sequence[str], now: Sequence[str]) -> bool:
    gone, new = set(told) - set(now), set(now) - set(told)
    return bool(new) and (not told or bool({":" in one for one in gone} & {":" in one for one in new}))


def _links() -> list[dict[str, object]]:
    try:
        listed = subprocess.run(
            ["ip", "-json", "address", "show", "up"],
            capture_output=True,
            check=False,
            timeout=10,
        )
        links: list[dict[str, object]] = json.loads(listed.stdout or b"[]")
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return []
    return [link for link in links if not str(link.get("ifname", "")).startswith(_NOT_OURS)]


def _waiting(links: Sequence[dict[str, object]]) -> bool:
    """Whether something hangs on a cable and has no address yet. Parts of a bridge or a bond never get one."""
    return any(link.get("operstate") == "UP" and not link.get("master") and not _usable([link]) for link in links)


def _usable(links: Sequence[dict[str, object]]) -> list[str]:
    """Lasting addresses that reach beyond this machine, in the kernel's order."""
    found = []
    for link in links:
        details = link.get("addr_info")
        found += (
            [
                str(detail["local"])
                for detail in details
                if detail.get("local")
                and detail.get("scope") == "global"
                and not any(detail.get(flag) for flag in _PASSING)
            ]
            if isinstance(details, list)
            else []
        )
    return sorted(found, key=lambda address: ":" in address)
