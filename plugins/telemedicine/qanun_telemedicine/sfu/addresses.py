"""Addresses of IPv4 and IPv6: as people write them, as Python has them, and as the kernel and both engines keep them.

In Python an address is `(host, port)`, the host in its one canonical text. In the engines it is the first 24 bytes of a
`sockaddr_in6` (family, port, an empty flow label, the address), and IPv4 is written as IPv6 writes it: what the kernel gives
and wants on a socket for both, and a key of one length. A machine without IPv6 has a socket for IPv4 alone; what the kernel
gives and wants there is turned at the socket and nowhere else (`from_four`, `to_four`).
"""

import errno
import ipaddress
import socket
import struct
from collections.abc import Iterable

Address = tuple[str, int]

#: Of an address in the engines.
RAW = 24
_HEAD = struct.pack("=H", socket.AF_INET6)
_HEAD_FOUR = struct.pack("=H", socket.AF_INET)
_NO_FLOW = bytes(4)
#: IPv4 as IPv6 writes it.
_MAPPED = bytes(10) + b"\xff\xff"
_LINK_LOCAL = ("fe8", "fe9", "fea", "feb")
#: The kernel was built or started without IPv6, or every address of it was taken away.
_WITHOUT = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def raw_address(address: Address) -> bytes:
    host, port = address
    number = socket.inet_pton(socket.AF_INET6, host) if ":" in host else _MAPPED + socket.inet_aton(host)
    return _HEAD + port.to_bytes(2, "big") + _NO_FLOW + number


def address_of(raw: bytes) -> Address:
    port = raw[2] << 8 | raw[3]
    if raw[8:20] == _MAPPED:
        return socket.inet_ntoa(raw[20:24]), port
    return socket.inet_ntop(socket.AF_INET6, raw[8:24]), port


def from_four(given: bytes) -> bytes:
    """What a `sockaddr_in` is to us."""
    return _HEAD + given[2:4] + _NO_FLOW + _MAPPED + given[4:8]


def to_four(raw: bytes) -> bytes:
    """The beginning of the `sockaddr_in`; IPv6 stays what it is, and is refused by the kernel."""
    return _HEAD_FOUR + raw[2:4] + raw[20:24] if raw[8:20] == _MAPPED else raw[:8]


def on_socket(own: socket.socket, address: Address) -> Address:
    """As `sendto` of this socket wants it."""
    host, port = address
    return (f"::ffff:{host}", port) if own.family == socket.AF_INET6 and ":" not in host else address


def name_of(own: socket.socket) -> Address:
    """Where the socket is bound."""
    host, port = own.getsockname()[:2]
    return str(host), int(port)


def link_local(address: Address) -> bool:
    """Such an address means nothing without the link that it is on."""
    return address[0].startswith(_LINK_LOCAL)


def canonical(text: str) -> str:
    """The one way to write this IP address; IPv4 in the clothes of IPv6 is IPv4. Raises ValueError in words."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an IP address") from None
    if isinstance(found, ipaddress.IPv6Address):
        if found.scope_id:
            raise ValueError(f"{text!r} belongs to one link and is no address that others could reach")
        found = found.ipv4_mapped or found
    return str(found)


def reachable(text: str) -> str:
    """`canonical`, of an address that a browser elsewhere could send to. Raises ValueError in words."""
    host = canonical(text)
    found = ipaddress.ip_address(host)
    if found.is_unspecified or found.is_multicast or (found.version == 6 and found.is_link_local):
        raise ValueError(f"{host} is no address that a browser could reach")
    return host


def read_address(text: str, port: int | None = None) -> Address:
    """`192.0.2.1:8100` or `[2001:db8::1]:8100`; with a usual `port` also without one. An empty host: everywhere, both families.

    Raises ValueError in words.
    """
    host, own = text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or rest[:1] not in ("", ":"):
            raise ValueError(f"{text!r} is not [IPv6]:PORT")
        own = rest[1:]
    elif text.count(":") < 2:
        host, _, own = text.partition(":")
    elif port is None:
        raise ValueError(f"{text!r}: IPv6 stands in brackets where a port follows, like [2001:db8::1]:8100")
    if own and not (own.isascii() and own.isdigit() and int(own) < 1 << 16):
        raise ValueError(f"{text!r} has no port between 0 and 65535")
    if not own and port is None:
        raise ValueError(f"{text!r} is not IP:PORT")
    return canonical(host or "::"), int(own) if own else port or 0


def shown(address: Address) -> str:
    """`192.0.2.1:8100` or `[2001:db8::1]:8100`."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def preferred(hosts: Iterable[Address]) -> list[Address]:
    """In the order in which clients should try them (RFC 8421): IPv6 first, and IPv4 soon enough not to be starved by it."""
    six: list[Address] = []
    four: list[Address] = []
    for host in dict.fromkeys(hosts):
        (six if ":" in host[0] else four).append(host)
    run = (len(six) + len(four)) // len(four) if four else len(six)
    ordered: list[Address] = []
    while six or four:
        ordered += six[:run] + four[:1]
        del six[:run], four[:1]
    return ordered


def bound(address: Address, kind: socket.SocketKind = socket.SOCK_DGRAM) -> socket.socket:
    """A socket at this address that never blocks; at `::` one for both families, or for IPv4 where there is no IPv6."""
    try:
        return _bound(address, kind)
    except OSError as error:
        if address[0] != "::" or error.errno not in _WITHOUT:
            raise
    return _bound(("0.0.0.0", address[1]), kind)  # noqa: S104 - as was asked for


def _bound(address: Address, kind: socket.SocketKind) -> socket.socket:
    six = ":" in address[0]
    opened = socket.socket(socket.AF_INET6 if six else socket.AF_INET, kind)
    try:
        opened.setblocking(False)
        if six:
            # Not what the machine's settings happen to say.
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if kind == socket.SOCK_STREAM:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
    except BaseException:
        opened.close()
        raise
    return opened
