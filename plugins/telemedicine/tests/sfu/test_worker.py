"""The worker as a process: who may speak to it, what it refuses, and that nobody's nonsense disturbs another room."""

import asyncio
import contextlib
import dataclasses
import inspect
import os
import random
import re
import socket
import stat
import struct
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aioice
import aiortc
import pylibsrtp
import pytest
import pytest_asyncio
from aioice import stun
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qanun.crypto import Key, bind
from qanun_telemedicine.recording.recorder import options
from qanun_telemedicine.sfu import paths, rtp, transport, worker
from qanun_telemedicine.sfu import protocol as p
from qanun_telemedicine.sfu.client import MediaClient, MediaError, MediaUnavailable
from qanun_telemedicine.sfu.codecs import Preferences
from qanun_telemedicine.sfu.engines import open_engine
from qanun_telemedicine.sfu.worker import MediaWorker

from .conftest import Clinic, next_port, own_address, until
from .engines import ENGINES
from .peer import Peer
from .test_sdp import CHROMIUM

pytestmark = pytest.mark.asyncio


class Inside:
    """A worker in this process, to look into."""

    def __init__(self, directory: Path, engine: str = "python") -> None:
        self.path = directory / "media.sock"
        self.kind = engine
        self.port = next_port()
        self.events: list[p.Event] = []
        self.client = MediaClient(self.path, self.events.append)

    async def start(self) -> None:
        self.engine: Any = open_engine(self.kind, ("0.0.0.0", self.port))
        self.worker = MediaWorker(self.engine, [(own_address(), self.port)], ["qanun_telemedicine.recording"])
        self.task = asyncio.create_task(self.worker.serve(self.path))
        await self.client.start()

    async def stop(self) -> None:
        await self.client.close()
        self.worker.finished.set()
        await self.task

    def names(self, event: str) -> list[str]:
        return [one.participant for one in self.events if one.event == event]


@pytest_asyncio.fixture(params=ENGINES)
async def inside(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Inside]:
    made = Inside(tmp_path, request.param)
    await made.start()
    yield made
    await made.stop()


async def pair(client: MediaClient, room: str) -> tuple[Peer, Peer]:
    peers = Peer(f"{room}-doctor"), Peer(f"{room}-patient")
    for peer in peers:
        await peer.join(client, room)
        await peer.connect()
    return peers


async def talk(one: Peer, other: Peer) -> None:
    """Both send until each has heard the other again."""
    before = one.heard(), other.heard()

    async def heard() -> bool:
        await one.speak()
        await other.speak()
        return one.heard() > before[0] + 10 and other.heard() > before[1] + 10

    await until(heard, "both hear each other", 20)


async def test_only_the_owner_may_speak_to_the_worker(inside: Inside) -> None:
    assert stat.S_IMODE(inside.path.stat().st_mode) == 0o600


async def test_peers_in_one_room_get_each_others_packets_and_nobody_elses(inside: Inside) -> None:
    nour, shifa = await pair(inside.client, "nour"), await pair(inside.client, "shifa")
    await talk(*nour)
    assert shifa[0].heard() == shifa[1].heard() == 0
    await talk(*shifa)
    for peer in (*nour, *shifa):
        packets = [rtp.parse(data) for data in peer.dtls.rtp]
        assert all(packet is not None for packet in packets)
        assert not {1111, 2222} & {packet.ssrc for packet in packets if packet}, "SSRCs are the server's own"
        sounds = [packet for packet in packets if packet and packet.payload_type == 111]
        assert {packet.payload for packet in sounds} == {b"sound"}
        await peer.leave()


async def test_a_packet_as_large_as_the_network_carries_is_forwarded(inside: Inside) -> None:
    doctor, patient = await pair(inside.client, "nour")
    await talk(doctor, patient)
    large = rtp.Packet(111, 5000, 5000 * 960, 1111, bytes(1150))
    for size in (1340, 1390, 1420):
        large.sequence += 1
        large.payload = bytes([size % 256]) * size
        # aiortc's own limit is lower: the engine's counterpart is asked to encrypt it.
        data = rtp.serialise(large)
        session = doctor.dtls._tx_srtp
        buffer = pylibsrtp._binding.ffi.new("char[]", 2048)
        pylibsrtp._binding.ffi.memmove(buffer, data, len(data))
        length = pylibsrtp._binding.ffi.new("int *", len(data))
        assert pylibsrtp._binding.lib.srtp_protect(session._srtp[0], buffer, length) == 0
        await doctor.ice._send(bytes(pylibsrtp._binding.ffi.buffer(buffer, length[0])))
    name = inside.worker.rooms.participant("nour", "nour-patient").transport.name
    await until(
        lambda: inside.engine.strangers == 0 and inside.engine.counters(name).sent_octets > 4000, "they are forwarded"
    )
    assert inside.engine.counters(name).failures == 0


RUBBISH = st.one_of(
    st.binary(max_size=80),
    st.binary(max_size=60).map(lambda data: b"\x90\x60" + data),
    st.binary(max_size=60).map(lambda data: b"\x80\xc8" + data),
    st.tuples(st.integers(200, 207), st.integers(0, 31), st.binary(max_size=64)).map(
        lambda three: struct.pack("!BBH", 0x80 | three[1], three[0], len(three[2]) // 4) + three[2]
    ),
    st.tuples(st.integers(0, 127), st.integers(0, 2**32 - 1), st.binary(max_size=64)).map(
        lambda three: rtp.serialise(
            rtp.Packet(three[0], 1, 2, three[1], three[2]), rtp.extension_block([(4, b"1"), (10, b"q")])
        )
    ),
)


async def test_rubbish_from_a_participant_harms_neither_the_room_nor_another(inside: Inside) -> None:
    quiet, loud = await pair(inside.client, "nour"), await pair(inside.client, "shifa")
    await talk(*quiet)
    await talk(*loud)
    rubbish: list[bytes] = []

    @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(RUBBISH)
    def collect(data: bytes) -> None:
        rubbish.append(data)

    collect()
    for data in rubbish:
        # libsrtp itself refuses to encrypt some of it.
        with contextlib.suppress(pylibsrtp.Error, ValueError, IndexError):
            await loud[0].send(data)
    await talk(*quiet)
    await talk(*loud)
    stats = await inside.client.stats()
    assert all(one["connected"] for room in stats.values() for one in room.values())
    transport_name = inside.worker.rooms.participant("shifa", "shifa-doctor").transport.name
    assert 0 < len(inside.engine.streams(transport_name)) <= 64


async def test_rubbish_from_strangers_is_dropped_without_an_answer(inside: Inside) -> None:
    doctor, patient = await pair(inside.client, "nour")
    await talk(doctor, patient)
    chance = random.Random(4)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind((own_address(), 0))
        stranger.setblocking(False)
        username = re.search(r"a=ice-ufrag:(\S+)", patient.answer)[1]  # type: ignore[index]
        for number in range(1500):
            kind = number % 5
            if kind == 0:
                data = chance.randbytes(chance.randrange(1, 200))
            elif kind == 1:
                data = bytes((chance.randrange(20, 64),)) + chance.randbytes(60)
            elif kind == 2:
                data = b"\x80\x60" + chance.randbytes(60)
            else:
                request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
                request.attributes["USERNAME"] = f"{username if kind == 3 else 'nobody'}:x"
                request.attributes["PRIORITY"] = 1
                request.add_message_integrity(b"wrong password, of course")
                data = bytes(request)
                if number % 2:
                    data = data[: chance.randrange(4, len(data))]
            stranger.sendto(data, (own_address(), inside.port))
            if number % 50 == 0:
                await asyncio.sleep(0.005)
        await talk(doctor, patient)
        with pytest.raises(BlockingIOError):
            stranger.recv(2048)
    assert len(inside.worker.paths.by_address) == 2


async def test_somebody_elses_packets_from_a_known_address_are_refused(inside: Inside) -> None:
    """The address alone proves nothing: without the keys a packet counts as rejected."""
    doctor, patient = await pair(inside.client, "nour")
    await talk(doctor, patient)
    before = patient.heard()
    name = inside.worker.rooms.participant("nour", "nour-doctor").transport.name
    forged = rtp.serialise(rtp.Packet(111, 60_000, 1, 1111, b"forged")) + bytes(16)
    rejected = inside.engine.counters(name).rejected
    await doctor.ice._send(forged)
    await until(lambda: inside.engine.counters(name).rejected == rejected + 1, "it is counted")
    assert patient.heard() == before


async def test_one_subscriber_who_cannot_be_served_does_not_harm_the_publisher(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    doctor, patient = await pair(inside.client, "nour")
    daughter = Peer("daughter")
    await daughter.join(inside.client, "nour")
    await daughter.connect()
    await talk(doctor, patient)
    transport = inside.worker.rooms.participant("nour", "nour-patient").transport
    name, keys = transport.name, transport._dtls.keys
    assert keys is not None
    if inside.kind == "python":
        for sender in inside.engine._transports[name].senders.values():
            monkeypatch.setattr(sender, "rewrite", lambda *_: 1 / 0)
    else:
        # Keys for one other SSRC only: libsrtp refuses everything that is for this patient.
        policy = pylibsrtp.Policy(key=bytes(30), ssrc_type=pylibsrtp.Policy.SSRC_SPECIFIC, ssrc_value=1)
        inside.engine.add_transport(name, dataclasses.replace(keys, rtp_out=pylibsrtp.Session(policy)))
    before = daughter.heard()

    async def heard() -> bool:
        await doctor.speak()
        return daughter.heard() > before + 20

    await until(heard, "the other subscriber still hears the publisher", 20)
    assert inside.engine.counters(name).failures > 0
    assert doctor.dtls.state == "connected"


async def test_a_malformed_request_ends_that_connection_and_no_other(inside: Inside) -> None:
    reader, writer = await asyncio.open_unix_connection(inside.path)
    writer.write(b'{"method": "join", "id": "many"}\n')
    assert await reader.read() == b""
    assert (await inside.client.hello()).rooms == 0


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (p.Offer(0, "nour", "nobody", "v=0"), "no-room"),
        (p.Join(0, "nour", "doctor", "v=0"), "no-room"),
        (p.StartRecording(0, "nour", "r", "os:system", {}), "no-room"),
        (p.StopRecording(0, "r"), "no-recording"),
    ],
)
async def test_what_is_not_there_is_said_so(inside: Inside, request_: p.Request, code: str) -> None:
    with pytest.raises(MediaError) as refused:
        await inside.client._request(request_)
    assert refused.value.code == code


@pytest.mark.parametrize("tap", ["os:system", "qanun_telemedicine.recording_other:X", "qanun_telemedicine.sfu:X", ""])
async def test_taps_come_from_the_recorders_package_only(inside: Inside, tap: str) -> None:
    await inside.client.open_room("nour")
    with pytest.raises(MediaError) as refused:
        await inside.client.start_recording("nour", "r", tap, {})
    assert refused.value.code == "tap"


async def test_malformed_descriptions_are_refused_while_a_call_goes_on(inside: Inside) -> None:
    doctor, patient = await pair(inside.client, "nour")
    for sdp in ("", "v=0", "v=0\nm=audio", "x" * 300_000):
        with pytest.raises(MediaError) as refused:
            await inside.client.join("nour", "intruder", sdp)
        assert refused.value.code in ("malformed", "no-media", "too-large")
    await talk(doctor, patient)
    assert set((await inside.client.stats("nour"))["nour"]) == {doctor.name, patient.name}


async def test_a_full_room_takes_nobody_else_but_lets_its_own_join_again(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = inside.worker.rooms.open("nour")
    room.limits = type(room.limits)(participants=2)
    doctor, patient = await pair(inside.client, "nour")
    with pytest.raises(MediaError) as refused:
        await Peer("third").join(inside.client, "nour")
    assert refused.value.code == "full"
    again = Peer(patient.name)
    await again.join(inside.client, "nour")
    await again.connect()
    await talk(doctor, again)


async def test_another_certificate_is_another_connection(inside: Inside) -> None:
    doctor, _ = await pair(inside.client, "nour")
    with pytest.raises(MediaError) as refused:
        await inside.client.offer("nour", doctor.name, await Peer(doctor.name).offer())
    assert refused.value.code == "gone"


async def test_peers_that_vanish_leave_nothing_behind(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "CONSENT_INTERVAL", 0.2)
    monkeypatch.setattr(transport, "_CONNECT_S", 2.0)
    doctor, patient = await pair(inside.client, "shifa")
    for number in range(12):
        peer = Peer(f"phone-{number}")
        await peer.join(inside.client, f"room-{number % 3}")
        if number % 4:
            await peer.connect()
            await peer.speak(2)
        peer.vanish()
    await until(lambda: len(inside.names("participant.disconnected")) == 12, "all are noticed")
    await talk(doctor, patient)
    assert {event.data["reason"] for event in inside.events if event.event == "participant.disconnected"} <= {
        "lost",
        "timeout",
        "failed",
    }
    names = {one.transport.name for one in inside.worker.rooms.by_transport.values()}
    assert len(names) == 2
    assert set(inside.engine._transports) == names
    assert {one.name for one in inside.engine._by_address.values()} == names
    assert {one._path.name for one in inside.worker.paths.by_username.values()} == names
    assert set(inside.worker.control._states) == names
    assert len(inside.worker.rooms.by_track) == 4


async def test_only_who_does_not_ask_us_is_asked_whether_they_still_want_our_packets(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aioice.ice, "CONSENT_INTERVAL", 0.1)
    doctor, patient = await pair(inside.client, "nour")
    asked = {one.name: 0 for one in (doctor, patient)}
    for one in (doctor, patient):
        connection = one.ice._connection

        def heard(*request: Any, name: str = one.name, go_on: Any = connection.request_received) -> None:
            asked[name] += 1
            go_on(*request)

        monkeypatch.setattr(connection, "request_received", heard)
    patient.ice._connection._query_consent_task.cancel()  # answers, but never asks
    before = dict(asked)
    await until(lambda: asked[patient.name] - before[patient.name] > 20, "the silent one is asked")
    assert asked[doctor.name] - before[doctor.name] < 5
    await talk(doctor, patient)
    assert not inside.names("participant.disconnected")


async def test_a_drained_worker_takes_nobody_and_ends_when_empty(tmp_path: Path) -> None:
    made = Inside(tmp_path)
    await made.start()
    doctor, patient = await pair(made.client, "nour")
    await made.client.drain()
    with pytest.raises(MediaError) as refused:
        await made.client.join("shifa", "x", "v=0")
    assert refused.value.code == "draining"
    await talk(doctor, patient)
    assert not made.task.done()
    for peer in (doctor, patient):
        await made.client.leave("nour", peer.name)
    await until(made.task.done, "the worker ends")
    await made.client.close()
    assert not made.path.exists()


async def test_without_a_worker_the_client_says_so_in_time(tmp_path: Path) -> None:
    client = MediaClient(tmp_path / "nobody.sock", timeout=0.3)
    with pytest.raises(MediaUnavailable):
        await client.start(wait=0.3)
    with pytest.raises(MediaUnavailable):
        await client.stats()
    await client.close()


async def test_a_worker_that_hangs_does_not_hang_the_client(tmp_path: Path) -> None:
    path = tmp_path / "deaf.sock"
    server = await asyncio.start_unix_server(lambda reader, writer: asyncio.sleep(60), path)
    client = MediaClient(path, timeout=0.3)
    with pytest.raises(MediaUnavailable):
        await client.start(wait=0.5)
    await client.close()
    server.close()


async def test_a_restarted_worker_is_announced_and_serves_again(clinic: Clinic) -> None:
    doctor, patient = await pair(clinic.client, "nour")
    await talk(doctor, patient)
    boot = clinic.client.worker.boot
    os.kill(clinic.supervisor.pid(), 9)
    await until(lambda: clinic.events("worker.restarted"), "it is announced")
    assert clinic.client.worker.boot != boot
    with pytest.raises(MediaError) as refused:
        await clinic.client.offer("nour", doctor.name, await doctor.offer())
    assert refused.value.code in ("no-room", "gone")
    await talk(*await pair(clinic.client, "nour"))


async def test_the_private_names_that_are_borrowed_are_there() -> None:
    connection = aioice.Connection(ice_controlling=False)
    dtls = aiortc.RTCDtlsTransport(paths.IcePath("x", None, None), [aiortc.RTCCertificate.generateCertificate()])  # type: ignore[arg-type]
    session = pylibsrtp.Session()
    owners = {
        "aioice.Connection": connection,
        "aioice.ice": aioice.ice,
        "aiortc.RTCDtlsTransport": dtls,
        "pylibsrtp.Session": session,
        "pylibsrtp._binding": pylibsrtp._binding,
    }
    borrowed = {**paths.PRIVATE, **transport.PRIVATE}
    assert set(owners) == set(borrowed)
    for owner, names in borrowed.items():
        assert [name for name in names if not hasattr(owners[owner], name)] == []
    assert set(inspect.signature(connection.check_complete).parameters) == {"pair"}
    for name in ("srtp_protect", "srtp_unprotect"):
        assert hasattr(pylibsrtp._binding.lib, name)


async def test_dtls_asks_nothing_of_its_transport_but_what_the_path_offers() -> None:
    source = inspect.getsource(aiortc.rtcdtlstransport)
    used = set(re.findall(r"self\.(?:_)?transport\.(\w+)", source))
    assert used == {"_recv", "_send", "role"}
    assert {"_recv", "_send", "role"} <= set(dir(paths.IcePath))


async def test_the_media_plane_needs_nothing_of_the_core() -> None:
    folder = Path(worker.__file__).parent
    for path in folder.glob("*.py"):
        assert not re.search(r"^\s*(?:from|import) qanun(?:\.|\s)", path.read_text(), re.MULTILINE), path.name


async def test_the_worker_and_its_recorder_carry_neither_the_web_nor_the_database() -> None:
    code = "import qanun_telemedicine.recording.recorder, qanun_telemedicine.sfu.worker, sys; print(*sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    loaded = set((await process.communicate())[0].decode().split())
    assert process.returncode == 0
    assert "qanun.crypto" in loaded
    rooms = {name.split(".")[1] for name in loaded if name.startswith("qanun.")}
    assert rooms == {"api", "crypto", "errors"}
    assert not loaded & {"litestar", "sqlalchemy", "jinja2", "psycopg", "pluggy"}


async def test_while_it_is_recorded_everybody_sends_what_can_be_kept(tmp_path: Path) -> None:
    inside = Inside(tmp_path)
    await inside.start()
    inside.worker.rooms.preferences = Preferences.of("vp9")
    client = inside.client
    rooms = {"nour": client, "other": client}
    for room in rooms:
        await client.open_room(room)
        described = await client.join(room, "doctor", CHROMIUM)
        assert _sent_in(described.sdp) == "VP9"
    chosen = options(tmp_path, Key(bytes(32)), bind("t", "r", "recording", "1"))
    await client.start_recording("nour", "rec", "qanun_telemedicine.recording.recorder:Recorder", chosen)

    def asked() -> list[str]:
        return [one.room for one in inside.events if one.data.get("wanted", {}).get("codec")]

    await until(asked, "the page is asked to offer again")
    assert set(asked()) == {"nour"}, "where nothing is recorded nothing changes"
    assert _sent_in((await client.offer("nour", "doctor", CHROMIUM)).sdp) == "VP8"
    assert _sent_in((await client.offer("other", "doctor", CHROMIUM)).sdp) == "VP9"
    assert _sent_in((await client.join("nour", "patient", CHROMIUM)).sdp) == "VP8", "also who comes later"
    await inside.stop()


def _sent_in(description: str) -> str:
    """The codec of the camera in an answer."""
    camera = next(part for part in description.split("\r\nm=") if "a=mid:1\r\n" in part)
    return str(re.search(r"a=rtpmap:\d+ (\w+)/", camera)[1])  # type: ignore[index]
