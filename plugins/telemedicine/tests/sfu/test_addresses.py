"""Addresses of both families: how they are written and read, what is refused, and in which order clients try them."""

import errno
import os
import socket
from typing import Any

import pytest

from qanun_telemedicine.sfu import addresses
from qanun_telemedicine.sfu.addresses import (
    Address,
    address_of,
    bound,
    canonical,
    from_four,
    link_local,
    name_of,
    preferred,
    raw_address,
    reachable,
    read_address,
    shown,
    to_four,
)
from qanun_telemedicine.sfu.paths import Paths
from qanun_telemedicine.sfu.worker import told


def _missing() -> str:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        return f"this machine has no IPv6: {error.strerror}"
    return ""


WITHOUT_SIX = _missing()
needs_six = pytest.mark.skipif(bool(WITHOUT_SIX), reason=WITHOUT_SIX or "it has")


def no_six(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose kernel has no IPv6."""

    class Four(socket.socket):
        def __init__(self, family: int = -1, *more: Any, **named: Any) -> None:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
            super().__init__(family, *more, **named)

    monkeypatch.setattr(addresses.socket, "socket", Four)


@pytest.mark.parametrize("address", [("192.0.2.7", 50_000), ("2001:db8::7", 1), ("::1", 65_535), ("fd00:0:0:1::", 0)])
def test_the_engines_address_of_one_is_its_own_and_comes_back(address: Address) -> None:
    raw = raw_address(address)
    assert len(raw) == addresses.RAW and address_of(raw) == address
    others = [(address[0], address[1] ^ 1), ("192.0.2.8", address[1]), ("2001:db8::8", address[1])]
    assert raw not in [raw_address(other) for other in others]


def test_ipv4_is_one_address_whichever_socket_it_came_by() -> None:
    plain = bytes((socket.AF_INET, 0, 0x1F, 0xA4, 192, 0, 2, 7)) + bytes(8)
    assert from_four(plain) == raw_address(("192.0.2.7", 8100))
    assert to_four(from_four(plain)) == plain[:8]
    assert raw_address(("::ffff:192.0.2.7", 8100)) == raw_address(("192.0.2.7", 8100))


@pytest.mark.parametrize(
    ("text", "port", "address", "written"),
    [
        ("192.0.2.7:8100", None, ("192.0.2.7", 8100), "192.0.2.7:8100"),
        ("192.0.2.7", 40, ("192.0.2.7", 40), "192.0.2.7:40"),
        ("[2001:DB8:0::7]:8100", None, ("2001:db8::7", 8100), "[2001:db8::7]:8100"),
        ("2001:db8::7", 40, ("2001:db8::7", 40), "[2001:db8::7]:40"),
        ("[2001:db8::7]", 40, ("2001:db8::7", 40), "[2001:db8::7]:40"),
        ("::ffff:192.0.2.7", 40, ("192.0.2.7", 40), "192.0.2.7:40"),
        ("[::]:0", None, ("::", 0), "[::]:0"),
        (":8100", None, ("::", 8100), "[::]:8100"),
    ],
)
def test_addresses_are_read_as_people_write_them(text: str, port: int | None, address: Address, written: str) -> None:
    assert read_address(text, port) == address
    assert shown(address) == written and read_address(written) == address


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2001:db8::7:8100", "brackets"),
        ("192.0.2.7", "IP:PORT"),
        ("[2001:db8::7:8100", "IPv6"),
        ("[2001:db8::7]8100", "IPv6"),
        ("[fe80::7%eth0]:8100", "one link"),
        ("192.0.2.7:65536", "port"),
        ("192.0.2.7:-1", "port"),
        ("clinic.example:8100", "not an IP address"),
    ],
)
def test_what_is_no_address_is_refused_with_itself_named(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_address(text)


@pytest.mark.parametrize("text", ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "fe80::7", "nonsense", "fe80::1%lo"])
def test_an_address_that_no_browser_could_reach_is_told_to_none(text: str) -> None:
    with pytest.raises(ValueError):
        reachable(text)
    assert canonical("2001:DB8::0:7") == reachable("2001:db8:0::7") == "2001:db8::7"


def test_the_link_of_an_address_is_seen() -> None:
    assert all(link_local((host, 1)) for host in ("fe80::1", "febf::1", "fea0::1"))
    assert not any(link_local((host, 1)) for host in ("fec0::1", "fd00::1", "2001:db8::1", "::1", "192.0.2.1"))


def test_clients_try_ipv6_first_and_ipv4_soon() -> None:
    six, four = [(f"2001:db8::{n}", 1) for n in range(1, 7)], [("192.0.2.1", 1), ("192.0.2.2", 1)]
    assert preferred([four[0], six[0]]) == [six[0], four[0]]
    assert preferred(four) == four and preferred(six) == six and preferred([]) == []
    assert preferred([*four, *six]) == [*six[:4], four[0], *six[4:], four[1]], "RFC 8421's own example"
    assert preferred([*four, six[0]]) == [six[0], *four]
    assert preferred([*six, *six]) == six, "what is named twice is tried once"
    assert list(Paths([four[0], six[0]]).hosts) == [six[0], four[0]]


def test_a_machine_without_ipv6_listens_for_ipv4_where_both_were_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    no_six(monkeypatch)
    with bound(("::", 0)) as own:
        assert own.family == socket.AF_INET and name_of(own)[0] == "0.0.0.0"
    with pytest.raises(OSError):
        bound(("2001:db8::7", 0))


def test_whoever_cannot_hear_ipv6_tells_nobody_of_it() -> None:
    both = ["192.0.2.7", "2001:db8::7", "[2001:db8::8]:9"]
    assert told(both, ("0.0.0.0", 8100)) == [("192.0.2.7", 8100)]
    assert told(both, ("::", 8100)) == [("192.0.2.7", 8100), ("2001:db8::7", 8100), ("2001:db8::8", 9)]
    assert told(["2001:db8::7"], ("0.0.0.0", 8100)) == [("2001:db8::7", 8100)], "whoever says nothing else may know why"
