"""Calls over IPv6, on both engines: alone, mixed with IPv4, and from one to the other. Skipped where a machine has no IPv6."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aioice.ice
import pytest
import pytest_asyncio
from aioice import stun

from qanun_telemedicine.sfu import rtp
from qanun_telemedicine.sfu.engines import open_engine
from qanun_telemedicine.sfu.worker import MediaWorker

from .conftest import own_address, until
from .engines import ENGINES
from .peer import Peer
from .test_addresses import needs_six, no_six
from .test_worker import Inside, pair, talk

SIX = "::1"
#: What every network of IPv6 carries in one piece (RFC 8200), without the headers of IPv6 and UDP.
SMALLEST = 1280 - 40 - 8

pytestmark = [pytest.mark.asyncio, needs_six]


class Both(Inside):
    """A worker that listens for both families and tells clients of both."""

    async def start(self) -> None:
        self.engine: Any = open_engine(self.kind, ("::", self.port))
        hosts = [(own_address(), self.port), (SIX, self.port)]
        self.worker = MediaWorker(self.engine, hosts, ["qanun_telemedicine.recording"])
        self.task = asyncio.create_task(self.worker.serve(self.path))
        await self.client.start()


@pytest_asyncio.fixture(params=ENGINES)
async def both(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Both]:
    made = Both(tmp_path, request.param)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which addresses a client has; tests change it between clients."""
    has = [SIX]
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda **_: list(has))
    return has


def place(both: Both, peer: Peer) -> tuple[str, int] | None:
    address: tuple[str, int] | None = both.worker.rooms.participant("nour", peer.name).transport.path.address
    return address


async def test_a_call_over_ipv6_alone(both: Both, home: list[str]) -> None:
    doctor, patient = await pair(both.client, "nour")
    await talk(doctor, patient)
    assert {(place(both, peer) or ("", 0))[0] for peer in (doctor, patient)} == {SIX}
    assert both.engine.strangers == both.engine.unsent == 0
    hosts = (await both.client.hello()).hosts
    assert hosts == [f"[{SIX}]:{both.port}", f"{own_address()}:{both.port}"], "a port is told from an address"


async def test_who_has_ipv6_and_who_has_ipv4_hear_each_other(both: Both, home: list[str]) -> None:
    doctor = Peer("nour-doctor")
    await doctor.join(both.client, "nour")
    await doctor.connect()
    home[:] = [own_address()]
    patient = Peer("nour-patient")
    await patient.join(both.client, "nour")
    await patient.connect()
    await talk(doctor, patient)
    assert place(both, doctor)[0] == SIX and place(both, patient)[0] == own_address()  # type: ignore[index]
    assert both.engine.strangers == both.engine.unsent == 0


@pytest.mark.parametrize(("first", "then"), [(SIX, "ipv4"), ("ipv4", SIX)], ids=["to IPv4", "to IPv6"])
async def test_from_one_family_to_the_other_both_ways_stand_until_media_takes_the_new_one(
    both: Both, home: list[str], first: str, then: str
) -> None:
    named = {"ipv4": own_address(), SIX: SIX}
    home[:] = [named[first]]
    doctor, patient = await pair(both.client, "nour")
    await talk(doctor, patient)
    home[:] = [named[then]]
    way = await patient.restart(both.client, "nour")
    await talk(doctor, patient)
    assert place(both, patient)[0] == named[first], "nothing but media moves media"  # type: ignore[index]
    way.take()

    async def moved() -> bool:
        await patient.speak()
        await doctor.speak()
        return way.arrived > 20

    await until(moved, "media goes where media comes from", 20)
    assert place(both, patient)[0] == named[then]  # type: ignore[index]
    assert not both.names("participant.disconnected") and not both.names("participant.connected")[2:]
    way.end()


async def test_an_address_of_one_link_gets_no_answer_and_no_place(both: Both, home: list[str]) -> None:
    peer = Peer("nour-doctor")
    await peer.join(both.client, "nour")
    connection = both.worker.rooms.participant("nour", peer.name).transport.path.connections[0]
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    request.attributes |= {"USERNAME": f"{connection.local_username}:x", "PRIORITY": 1}
    request.add_message_integrity(connection.local_password.encode())
    both.worker.paths.datagram(bytes(request), ("fe80::7", 9))
    assert both.worker.paths.by_address == {}
    both.worker.paths.datagram(bytes(request), ("2001:db8::7", 9))
    assert list(both.worker.paths.by_address) == [("2001:db8::7", 9)], "the same from elsewhere is one"
    await peer.connect()
    await peer.leave()


async def test_a_browsers_largest_packet_leaves_small_enough_for_every_network(both: Both, home: list[str]) -> None:
    """Browsers make packets of at most 1,200 bytes before encryption; what is added here must fit into the smallest IPv6."""
    doctor, patient = await pair(both.client, "nour")
    await talk(doctor, patient)
    head = rtp.extension_block([(4, b"0"), (3, b"\x7f\xff")])
    packet = rtp.Packet(111, doctor.sequence + 1, 5000 * 960, 1111, b"")
    packet.payload = bytes([7]) * (1200 - len(rtp.serialise(packet, head)))
    assert not any(len(data) > 1000 for data in patient.dtls.rtp)
    await doctor.send(rtp.serialise(packet, head))
    await until(lambda: any(len(data) > 1000 for data in patient.dtls.rtp), "it is forwarded")
    # Sealed it is longer by a tag, and a repetition carries the number of the original as well.
    assert 1190 <= max(map(len, patient.dtls.rtp)) + 16 + 2 <= SMALLEST


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_worker_on_a_machine_without_ipv6_carries_calls_over_ipv4(
    tmp_path: Path, home: list[str], monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    home[:] = [own_address()]
    with monkeypatch.context() as patched:
        no_six(patched)
        made = Both(tmp_path, engine)
        await made.start()
    try:
        assert made.engine.address[0] == "0.0.0.0"
        doctor, patient = await pair(made.client, "nour")
        await talk(doctor, patient)
        assert place(made, patient)[0] == own_address()  # type: ignore[index]
        # What cannot be reached from here harms nobody.
        made.engine.send_datagram(b"x", ("2001:db8::7", 9))
        made.engine.send_to(made.worker.rooms.participant("nour", patient.name).transport.name, ("2001:db8::7", 9))
        await doctor.speak()
        await until(lambda: made.engine.unsent > 0, "it is counted")
    finally:
        await made.stop()
