"""The network and the disks as they are now, and trying an address before it is kept: is it free, is the gateway there, does the clock answer.

An address is tried by ARP (RFC 826, RFC 5227) from a raw socket, so that nothing of the machine changes while somebody looks
at its pages; that wants CAP_NET_RAW.
"""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import struct
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qanun.api import N_

_ARP = 0x0806
_TRY_S, _TRIES = 0.7, 3
_NTP_EPOCH = 2_208_988_800


def current() -> dict[str, Any]:
    """`interface`, `mac`, `address` with its length, `gateway`, `dns`, `interfaces` (name, mac, whether a cable is in)."""
    links = [link for link in _ip("address", "show") if _is_wired(link)]
    routes = _ip("route", "show", "default")
    route = next((one for one in routes if one.get("dev")), {})
    chosen = next((link for link in links if link["ifname"] == route.get("dev")), None)
    chosen = chosen or next((link for link in links if _address(link)), None) or (links[0] if links else {})
    return {
        "interface": str(chosen.get("ifname", "")), "mac": str(chosen.get("address", "")), "address": _address(chosen),
        "gateway": str(route.get("gateway", "")), "dns": _resolvers(),
        "interfaces": [
            {"name": link["ifname"], "mac": str(link.get("address", "")), "cable": "LOWER_UP" in link.get("flags", ())}
            for link in links
        ],
    }  # fmt: skip


def _ip(*words: str) -> list[dict[str, Any]]:
    try:
        done = subprocess.run(["ip", "-json", "-4", *words], capture_output=True, check=False, timeout=10)
        found = json.loads(done.stdout or b"[]")
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return []
    return found if isinstance(found, list) else []


def _is_wired(link: Mapping[str, Any]) -> bool:
    virtual = ("lo", "docker", "br-", "veth", "virbr", "tun", "wg")
    return bool(link.get("ifname")) and not str(link["ifname"]).startswith(virtual)


def _address(link: Mapping[str, Any]) -> str:
    for one in link.get("addr_info", ()):
        if one.get("local") and one.get("scope") == "global":
            return f"{one['local']}/{one['prefixlen']}"
    return ""


def _resolvers() -> list[str]:
    """The real ones behind systemd's own, where there is one."""
    for path in ("/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"):
        try:
            lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        found = [line.split()[1] for line in lines if line.startswith("nameserver ") and len(line.split()) > 1]
        if found:
            return found[:3]
    return []


def own_networks() -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Every network that this machine stands in."""
    try:
        done = subprocess.run(["ip", "-json", "address", "show", "up"], capture_output=True, check=False, timeout=10)
        listed = json.loads(done.stdout or b"[]")
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return []
    held = [one for link in listed for one in link.get("addr_info", ()) if one.get("local")]
    return [ipaddress.ip_network(f"{one['local']}/{one['prefixlen']}", strict=False) for one in held]


def is_near(address: str, networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    """Whether somebody sits on this machine's own network, or on a private one behind the clinic's router."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    if found.is_loopback or found.is_link_local:
        return True
    return found.is_private or any(found in network for network in networks if network.version == found.version)


# --- trying an address -----------------------------------------------------------------------------------------------


def trial(interface: str, address: str, gateway: str, mac: str) -> dict[str, Any]:
    """Field → sentence for what would not work with this fixed address; empty when it would. Blocks for some seconds."""
    wanted = ipaddress.IPv4Interface(address)
    if gateway and ipaddress.IPv4Address(gateway) not in wanted.network:
        return {"gateway": N_("The gateway is not in the network of this address.")}
    if not (interface and mac):
        return {"interface": N_("The address could not be tried: is the cable in?")}
    try:
        holder = ask(interface, mac, ipaddress.IPv4Address(0), wanted.ip)
        if holder and holder != mac.lower():
            return {"address": N_("Another machine has this address already.")}
        if gateway and not ask(interface, mac, wanted.ip, ipaddress.IPv4Address(gateway)):
            return {"gateway": N_("Nobody answers at the gateway’s address.")}
    except OSError:
        return {"interface": N_("The address could not be tried: is the cable in?")}
    return {}


def ask(
    interface: str, mac: str, sender: ipaddress.IPv4Address, target: ipaddress.IPv4Address, tries: int = _TRIES
) -> str:  # fmt: skip
    """Who has `target`: a hardware address, or nothing. With the sender 0.0.0.0 it is a probe that claims nothing."""
    own = bytes.fromhex(mac.replace(":", ""))
    packet = (
        b"\xff" * 6
        + own
        + struct.pack(">HHHBBH", _ARP, 1, 0x0800, 6, 4, 1)
        + own
        + sender.packed
        + bytes(6)
        + target.packed
    )
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ARP)) as line:
        line.bind((interface, 0))
        for _ in range(tries):
            line.send(packet)
            deadline = time.monotonic() + _TRY_S
            while (left := deadline - time.monotonic()) > 0:
                line.settimeout(left)
                try:
                    answer = line.recv(2048)
                except TimeoutError:
                    break
                # An answer, or somebody else who is asking for the same address at this moment.
                if len(answer) >= 42 and answer[28:32] == target.packed and answer[22:28] != own:
                    return answer[22:28].hex(":")
    return ""


def clock_of(server: str, timeout: float = 2.0) -> float | None:
    """Seconds by which a time server's clock is ahead of ours (SNTP, RFC 4330); None when it does not answer."""
    request = bytes([0x23]) + bytes(47)
    try:
        family, kind, _, _, where = socket.getaddrinfo(server, 123, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as line:
            line.settimeout(timeout)
            line.connect(where)
            line.send(request)
            answer = line.recv(512)
    except OSError:
        return None
    if len(answer) < 48 or answer[1] == 0:
        return None
    seconds, fraction = struct.unpack(">II", answer[40:48])
    return float(seconds) - _NTP_EPOCH + float(fraction) / 2**32 - time.time()


def is_mounted(folder: str) -> bool:
    """Whether a disk of its own is there now. The image's place for the backup disk is always a mount that waits for one: it has
    to be looked into, and gives an error when none comes."""
    try:
        os.stat(f"{folder.rstrip('/')}/.")
    except OSError:
        return False
    return os.path.ismount(folder)
