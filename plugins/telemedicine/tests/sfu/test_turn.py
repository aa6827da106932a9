"""The relay: a call through it works over UDP and TCP, and nobody can reach anything else through it."""

import asyncio
import errno
import ipaddress
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aioice import stun
from playwright.async_api import Browser

from qanun_telemedicine.sfu.addresses import link_local
from qanun_telemedicine.turn import (
    TurnCredentials,
    TurnMissing,
    TurnServer,
    TurnSettings,
    configuration,
    ephemeral_credentials,
    find_turnserver,
    ice_servers,
)

from .conftest import Clinic, next_port, own_address, until

SECRET = "a-secret-of-the-appliance"
#: An attribute that the client library does not know (RFC 8656).
_FAMILY = (0x0017, "REQUESTED-ADDRESS-FAMILY", stun.pack_unsigned, stun.unpack_unsigned)
stun.ATTRIBUTES_BY_NAME.setdefault(_FAMILY[1], _FAMILY)


def settings(port: int, **more: object) -> TurnSettings:
    address = own_address()
    first = 21700 + port % 10 * 20
    whole = {"addresses": [address], "peers": [address], "first_relay_port": first, "last_relay_port": first + 60}
    return TurnSettings("clinic.example", port=port, **(whole | more))  # type: ignore[arg-type]


@pytest_asyncio.fixture
async def turn(tmp_path: Path) -> AsyncIterator[TurnServer]:
    try:
        server = TurnServer(settings(next_port()), SECRET, tmp_path / "turn")
    except TurnMissing as missing:
        pytest.skip(str(missing))
    await server.start()
    yield server
    await server.stop()


class RelayClient:
    """Just enough of a TURN client to knock at doors."""

    def __init__(self, server: TurnServer, credentials: TurnCredentials, host: str = "") -> None:
        self._address = (host or server.settings.addresses[0], server.settings.port)
        self._credentials = credentials
        self._realm = self._nonce = ""
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.settimeout(5)

    def close(self) -> None:
        self._socket.close()

    def ask(self, method: stun.Method, **attributes: object) -> stun.Message:
        for _ in range(2):
            request = stun.Message(message_method=method, message_class=stun.Class.REQUEST)
            request.attributes.update({name.replace("_", "-"): value for name, value in attributes.items()})
            if self._nonce:
                request.attributes["USERNAME"] = self._credentials.username
                request.attributes["REALM"] = self._realm
                request.attributes["NONCE"] = self._nonce
                request.add_message_integrity(self._key())
            self._socket.sendto(bytes(request), self._address)
            response = stun.parse_message(self._socket.recv(2048))
            if response.error_code not in (401, 438) or "NONCE" not in response.attributes or self._nonce:
                return response
            self._realm, self._nonce = response.attributes["REALM"], response.attributes["NONCE"]
        return response

    def _key(self) -> bytes:
        import hashlib

        text = f"{self._credentials.username}:{self._realm}:{self._credentials.password}"
        return hashlib.md5(text.encode(), usedforsecurity=False).digest()

    def allocate(self, family: int = 0) -> stun.Message:
        """`family`: 1 asks for IPv4, 2 for IPv6 (RFC 8656), 0 leaves it to the relay."""
        wanted = {"REQUESTED_ADDRESS_FAMILY": family << 24} if family else {}
        return self.ask(stun.Method.ALLOCATE, REQUESTED_TRANSPORT=0x11000000, **wanted)


PRIVATE_PEERS = [
    "127.0.0.1",
    "127.8.8.8",
    "10.0.0.1",
    "10.255.255.254",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "8.8.8.8",
    "0.0.0.0",
    "224.0.0.1",
    "::1",
    "fe80::1",
    "fd00::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:8.8.8.8",
    "64:ff9b::a00:1",
    "64:ff9b:1::a00:1",
    "2002:a00:1::1",
    "2001:db8::1",
    "::",
    "ff02::1",
    "fe80::2",
    "fec0::1",
    "fd00:ec2::254",
]


class Knocked:
    """What a relay that was asked at one address said to every peer, and to the media server's own address there."""

    def __init__(self, turn: TurnServer, host: str, family: int, allowed: str) -> None:
        client = RelayClient(turn, ephemeral_credentials(SECRET, "patient", 60), host)
        try:
            self.allocated = client.allocate(family)
            assert self.allocated.message_class == stun.Class.RESPONSE, self.allocated
            self.refused = {}
            for peer in [*PRIVATE_PEERS, f"::ffff:{own_address()}"]:
                for method, more in (
                    (stun.Method.CREATE_PERMISSION, {}),
                    (stun.Method.CHANNEL_BIND, {"CHANNEL_NUMBER": 0x4001}),
                ):
                    answer = client.ask(method, XOR_PEER_ADDRESS=(peer, 80), **more)
                    self.refused[f"{method.name} {peer}"] = (
                        answer.error_code if answer.message_class == stun.Class.ERROR else None
                    )
            self.allowed = client.ask(stun.Method.CREATE_PERMISSION, XOR_PEER_ADDRESS=(allowed, 21000))
        finally:
            client.close()


@pytest.mark.asyncio
async def test_nobody_but_the_media_server_is_reachable_through_the_relay(turn: TurnServer) -> None:
    knocked = await asyncio.to_thread(Knocked, turn, own_address(), 0, own_address())
    assert {peer for peer, code in knocked.refused.items() if code is None} == set()
    assert knocked.allowed.message_class == stun.Class.RESPONSE


def six() -> str:
    """An address of IPv6 that this machine has for others; nobody is asked."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.connect(("2001:db8::1", 9))
        found = str(probe.getsockname()[0])
    if link_local((found, 0)):
        raise OSError(errno.EADDRNOTAVAIL, "only addresses of links")
    return found


@pytest_asyncio.fixture
async def both(tmp_path: Path) -> AsyncIterator[TurnServer]:
    """A relay that listens on both families and hands on to the media server's addresses of both."""
    try:
        addresses = [own_address(), six()]
        server = TurnServer(settings(next_port(), addresses=addresses, peers=addresses), SECRET, tmp_path / "turn")
    except TurnMissing as missing:
        pytest.skip(str(missing))
    except OSError as error:
        pytest.skip(f"this machine has no address of IPv6: {error.strerror}")
    await server.start()
    yield server
    await server.stop()


@pytest.mark.asyncio
@pytest.mark.parametrize(("family", "gives"), [(0, 4), (1, 4), (2, 6)], ids=["as usual", "IPv4", "IPv6"])
async def test_a_phone_with_ipv6_alone_is_relayed_in_the_family_it_asks_for_and_to_nobody_else(
    both: TurnServer, family: int, gives: int
) -> None:
    allowed = both.settings.peers[gives == 6]
    knocked = await asyncio.to_thread(Knocked, both, six(), family, allowed)
    assert ipaddress.ip_address(knocked.allocated.attributes["XOR-RELAYED-ADDRESS"][0]).version == gives
    assert {peer for peer, code in knocked.refused.items() if code is None} == set()
    assert knocked.allowed.message_class == stun.Class.RESPONSE


def test_a_relay_whose_media_server_has_ipv6_alone_relays_in_ipv6(tmp_path: Path) -> None:
    def told(addresses: list[str], peers: list[str]) -> list[str]:
        return configuration(TurnSettings("clinic", addresses, peers), SECRET, tmp_path).splitlines()

    usual = "allocation-default-address-family=ipv6"
    assert usual in told(["2001:db8::5"], ["2001:db8::6"]) and usual in told(
        ["192.0.2.5", "2001:db8::5"], ["2001:db8::6"]
    )
    both = told(["192.0.2.5", "2001:db8::5"], ["192.0.2.6", "2001:DB8:0::6", "2001:db8::6"])
    assert usual not in both and {"listening-ip=2001:db8::5", "relay-ip=2001:db8::5"} <= set(both)
    assert [line for line in both if line.startswith("allowed")] == [
        "allowed-peer-ip=192.0.2.6",
        "allowed-peer-ip=2001:db8::6",
    ]
    assert "denied-peer-ip=::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" in both


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "credentials",
    [
        ephemeral_credentials(SECRET, "patient", -10),
        ephemeral_credentials("another secret", "patient", 60),
        TurnCredentials(ephemeral_credentials(SECRET, "patient", 60).username + "x", "AAAA", 0),
    ],
    ids=["expired", "wrong secret", "changed name"],
)
async def test_credentials_that_are_not_ours_or_too_old_get_nothing(
    turn: TurnServer, credentials: TurnCredentials
) -> None:
    client = RelayClient(turn, credentials)
    answer = await asyncio.to_thread(client.allocate)
    client.close()
    assert answer.message_class == stun.Class.ERROR
    assert answer.error_code == 401


def test_credentials_are_bound_to_participant_and_minute() -> None:
    one = ephemeral_credentials("s", "p1", 600, now=1_000_000)
    assert one == ephemeral_credentials("s", "p1", 600, now=1_000_000)
    assert one.username == "1000600:p1" and one.expires == 1_000_600
    assert one.password != ephemeral_credentials("s", "p2", 600, now=1_000_000).password
    assert one.password != ephemeral_credentials("s", "p1", 601, now=1_000_000).password


def test_the_configuration_denies_first_and_has_no_side_doors(tmp_path: Path) -> None:
    text = configuration(TurnSettings("clinic", ["192.0.2.5"], ["192.0.2.6"]), SECRET, tmp_path)
    lines = text.splitlines()
    assert "denied-peer-ip=0.0.0.0-255.255.255.255" in lines
    assert [line for line in lines if line.startswith("allowed-peer-ip")] == ["allowed-peer-ip=192.0.2.6"]
    assert {"no-cli", "use-auth-secret", "no-tls", "no-tcp-relay"} <= set(lines)
    assert not any(line.startswith(("allow-loopback", "cli-", "web-admin", "user=")) for line in lines)
    secure = TurnSettings("clinic", ["192.0.2.5"], ["192.0.2.6"], certificate=Path("/c"), private_key=Path("/k"))
    assert {"cert=/c", "pkey=/k", "no-tlsv1", "tls-listening-port=5349"} <= set(
        configuration(secure, SECRET, tmp_path).splitlines()
    )
    urls = ice_servers("turn.example", secure, ephemeral_credentials(SECRET, "p", 60))[0]["urls"]
    assert "turns:turn.example:5349?transport=tcp" in urls  # type: ignore[operator]


@pytest.mark.parametrize(
    "wrong",
    [
        {"peers": []},
        {"peers": ["fe80::6%eth0"]},
        {"addresses": ["nonsense\nallow-loopback-peers"]},
        {"realm": "a b"},
        {"certificate": Path("/c")},
    ],
)
def test_settings_that_would_open_or_break_the_relay_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError):
        TurnSettings(**({"realm": "clinic", "addresses": ["192.0.2.5"], "peers": ["192.0.2.6"]} | wrong))


def test_the_binary_is_taken_from_the_given_folder_first(tmp_path: Path) -> None:
    binary = tmp_path / "usr" / "bin" / "turnserver"
    binary.parent.mkdir(parents=True)
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    assert find_turnserver(tmp_path) == binary


@pytest.mark.asyncio
async def test_the_secret_is_in_a_file_that_only_its_owner_reads_and_not_on_the_command_line(turn: TurnServer) -> None:
    path = turn._folder / "turnserver.conf"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SECRET in path.read_text()
    assert SECRET not in Path(f"/proc/{turn.pid}/cmdline").read_text()


@pytest.mark.asyncio
async def test_a_relay_that_dies_is_started_again(turn: TurnServer) -> None:
    import os
    import signal

    first = turn.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: turn.pid not in (None, first), "another turnserver runs")
    await until(turn._answers, "it answers")


@pytest.mark.browser
@pytest.mark.asyncio
@pytest.mark.parametrize("protocol", ["udp", "tcp"])
async def test_a_call_through_the_relay_only(
    turn: TurnServer, clinic: Clinic, chromium: Browser, protocol: str
) -> None:
    pages = [await clinic.caller(chromium, name) for name in ("doctor", "patient")]
    for page in pages:
        servers = ice_servers(own_address(), turn.settings, ephemeral_credentials(SECRET, page.name, 120))
        servers[0]["urls"] = [url for url in servers[0]["urls"] if url.endswith(protocol)]  # type: ignore[attr-defined]
        await page.begin("nour-1", policy="relay", iceServers=servers)
    for page in pages:
        figures = await page.sees_and_hears()
        assert figures["local"] == {"type": "relay", "protocol": protocol}
