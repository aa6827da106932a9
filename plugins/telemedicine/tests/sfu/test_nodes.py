"""Media nodes as processes of their own: how a machine joins, carries calls, is lost, and is shut out."""

import asyncio
import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from qanun.api import Key
from qanun_telemedicine import draining
from qanun_telemedicine.nodes import agent, identity, link
from qanun_telemedicine.nodes.gateway import Gateway, Order, order
from qanun_telemedicine.nodes.registry import Refusal, journal
from qanun_telemedicine.recording.player import Recording
from qanun_telemedicine.recording.recorder import options
from qanun_telemedicine.sfu import protocol as p
from qanun_telemedicine.sfu.client import MediaError
from qanun_telemedicine.sfu.pool import MediaPool

from .conftest import next_port, own_address, until
from .peer import Peer
from .test_addresses import WITHOUT_SIX
from .test_worker import Inside, talk

pytestmark = pytest.mark.asyncio

RECORDER = "qanun_telemedicine.recording.recorder:Recorder"
KEY, CONTEXT = Key(bytes(range(32))), b"a recording of a test"


class Machine:
    """The clinic's machine: a gateway and a worker of its own, and a web process that places rooms."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events: list[p.Event] = []
        self.local = Inside(folder, "auto")
        self.pool = MediaPool(folder / "media.sock", self.events.append, timeout=5.0)
        #: What nodes may have.
        self.addresses = [own_address(), *([] if WITHOUT_SIX else ["::1"])]
        self.gateway: Gateway
        self.task: asyncio.Task[None]

    async def start(self) -> None:
        await self.open_gateway(0)
        await self.local.start()
        await self.pool.start()

    async def open_gateway(self, port: int) -> None:
        self.gateway = Gateway(self.folder / "nodes", self.folder / "media.sock", self.addresses)
        self.task = asyncio.create_task(self.gateway.serve("127.0.0.1", port))
        await until(lambda: (self.folder / "nodes.sock").exists() or self.task.done(), "the gateway listens")

    async def close_gateway(self) -> int:
        port = self.gateway.port
        self.gateway.finished.set()
        await self.task
        return port

    async def stop(self) -> None:
        await self.pool.close()
        if not self.local.task.done():
            await self.local.stop()
        await self.close_gateway()

    async def order(self, do: str, name: str = "one", **more: Any) -> Any:
        return await order(self.folder / "nodes.sock", Order(do, name, by="somebody", **more))

    async def invite(self, name: str = "one", addresses: list[str] | None = None, **more: Any) -> str:
        return str((await self.order("invite", name, addresses=addresses or [own_address()], **more))["token"])

    async def listed(self, name: str = "one") -> dict[str, Any]:
        return next((one for one in await self.order("list") if one["name"] == name), {})

    def restarted(self) -> list[str]:
        return [event.room for event in self.events if event.event == "worker.restarted"]

    def acts(self) -> list[str]:
        return [entry.act for entry in journal(self.folder / "nodes")]


class Other:
    """Another machine: `qanun telemedicine node …` as it is typed there, without any configuration of a clinic."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = next_port()
        self.process: subprocess.Popen[str] | None = None

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "qanun", "telemedicine", "node", *words, "--folder", str(self.folder)]

    async def join(self, token: str) -> subprocess.CompletedProcess[str]:
        words = self.command("join", "https://127.0.0.1/", "--token", token)
        return await asyncio.to_thread(
            subprocess.run, words, env=_plain(), capture_output=True, text=True, check=False, timeout=60
        )

    def run(self) -> subprocess.Popen[str]:
        words = self.command("run", "--listen", f"[::]:{self.port}", "--workers", "1")
        self.process = subprocess.Popen(words, env=_plain(), stderr=subprocess.PIPE, text=True)
        return self.process

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(15)


def _plain() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("QANUN_")}


@pytest_asyncio.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    made = Machine(tmp_path)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def other(tmp_path: Path) -> Any:
    made = Other(tmp_path / "n")
    yield made
    made.end()


async def serving(machine: Machine, other: Other) -> None:
    await agent.join(other.folder, "https://127.0.0.1", identity.Token.read(await machine.invite()))
    other.run()
    await until(lambda: _serves(machine), "the node serves")
    await until(lambda: _pooled(machine), "web processes see its worker")


async def _serves(machine: Machine) -> bool:
    return (await machine.listed()).get("state") == "serving"


async def _pooled(machine: Machine) -> bool:
    return len(await machine.pool.workers()) == 2


async def _has(machine: Machine, people: int) -> bool:
    return (await machine.listed())["participants"] == people


async def meet_at_node(machine: Machine, room: str) -> tuple[Peer, Peer]:
    """A call that the node carries: the machine's own worker takes no new rooms meanwhile."""
    await machine.local.client._request(p.Drain(7, True, False))
    peers = Peer(f"{room}-doctor"), Peer(f"{room}-patient")
    for peer in peers:
        await peer.join(machine.pool, room)  # type: ignore[arg-type]
        await peer.connect()
    await machine.local.client._request(p.Drain(8, False))
    return peers


def at_home(machine: Machine, room: str) -> bool:
    return any(one.id == room and one.participants for one in machine.local.worker.rooms)


async def _written(machine: Machine, recording: str) -> int:
    """Bytes, once nothing is on its way any more from the node to the recorder at home."""
    seen = [-1, -2]
    while len(set(seen[-4:])) > 1:
        seen.append((await machine.pool.recording_status(recording))["bytes"])
        await asyncio.sleep(0.25)
    return seen[-1]


async def test_a_machine_joins_by_a_token_once_and_carries_a_call_and_its_recording(
    machine: Machine, other: Other, tmp_path: Path
) -> None:
    token = await machine.invite(addresses=machine.addresses)
    assert (await other.join(token)).returncode == 0
    assert (tmp_path / "n" / "node.key").stat().st_mode & 0o77 == 0
    again = await Other(tmp_path / "again").join(token)
    assert again.returncode == 1
    assert "used already" in again.stderr
    other.run()
    await until(lambda: _serves(machine), "the node serves")
    await until(lambda: _pooled(machine), "web processes see its worker")

    doctor, patient = await meet_at_node(machine, "nour")
    assert not at_home(machine, "nour")
    await talk(doctor, patient)
    await until(lambda: _has(machine, 2), "the list says who is there")
    told = [line for line in doctor.answer.splitlines() if line.startswith("a=candidate")]
    for one in machine.addresses:
        assert any(f" {one} {other.port} " in line for line in told), "clients are told what the invitation names"

    spool = tmp_path / "spool"
    spool.mkdir()
    started = await machine.pool.start_recording("nour", "r1", RECORDER, options(spool, KEY, CONTEXT))
    assert started["state"] == "recording"
    await doctor.speak(60)
    await patient.speak(60)
    assert (await machine.pool.pause_recording("r1"))["state"] == "paused"
    size = await _written(machine, "r1")
    await doctor.speak(60)
    assert await _written(machine, "r1") - size < 5_000
    await machine.pool.pause_recording("r1", False)
    await doctor.speak(20)
    assert (await machine.pool.stop_recording("r1"))["problem"] is None
    with pytest.raises(MediaError, match="does not run"):
        await machine.pool.recording_status("r1")
    with Recording(spool, KEY, CONTEXT) as recording:
        assert recording.complete
        assert {seat.participant for seat in recording.seats()} == {"nour-doctor", "nour-patient"}
    # What lies on the node is who it is and to whom it belongs, and nothing of the call.
    kept = {path.name for path in other.folder.iterdir() if path.is_file()}
    assert kept == {"node.key", "node.crt", "authority.crt", "member.json"}
    assert machine.acts() == ["invite", "join"]


async def test_a_killed_node_costs_its_rooms_a_moment_and_others_nothing(machine: Machine, other: Other) -> None:
    await serving(machine, other)
    doctor, patient = await meet_at_node(machine, "nour")
    await talk(doctor, patient)
    at_the_machine = Peer("shifa-doctor")
    await machine.order("drain")
    await at_the_machine.join(machine.pool, "shifa")  # type: ignore[arg-type]
    await machine.order("resume")
    await at_the_machine.connect()
    assert at_home(machine, "shifa")

    assert other.process is not None
    other.process.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    await until(lambda: "nour" in machine.restarted(), "who was at the node is told to join again")
    for peer in (doctor, patient):
        peer.vanish()
    again = Peer("nour-doctor"), Peer("nour-patient")
    for peer in again:
        await peer.join(machine.pool, "nour")  # type: ignore[arg-type]
        await peer.connect()
    print(f"killed node → both connected elsewhere: {time.monotonic() - killed:.2f} s")
    await talk(*again)
    assert at_home(machine, "nour")
    assert "shifa" not in machine.restarted()
    assert (await machine.listed())["state"] == "silent"
    other.process.wait(10)
    # The machine comes back by itself and serves again.
    other.run()
    await until(lambda: _pooled(machine), "the node serves again")
    assert at_home(machine, "nour")


async def test_a_node_that_says_nothing_any_more_is_left_and_may_come_back(machine: Machine, other: Other) -> None:
    await serving(machine, other)
    await meet_at_node(machine, "nour")
    assert other.process is not None
    # As when its cable is out: no connection breaks, and nothing comes.
    other.process.send_signal(signal.SIGSTOP)
    try:
        silent = time.monotonic()
        await until(lambda: "nour" in machine.restarted(), "who was at the node is told to join again")
        print(f"silent node → told to join again: {time.monotonic() - silent:.2f} s")
        assert (await machine.listed())["state"] == "silent"
        again = Peer("nour-doctor")
        await again.join(machine.pool, "nour")  # type: ignore[arg-type]
        assert str(other.port) not in again.answer
    finally:
        other.process.send_signal(signal.SIGCONT)
    await until(lambda: _pooled(machine), "it serves again")
    assert at_home(machine, "nour")


async def test_a_revoked_node_is_out_at_once_and_ends(machine: Machine, other: Other) -> None:
    await serving(machine, other)
    await meet_at_node(machine, "nour")
    await machine.order("revoke")
    await until(lambda: "nour" in machine.restarted(), "who was at the node is told to join again")
    assert len(await machine.pool.workers()) == 1
    assert not list(machine.folder.glob("media-node-*"))
    peer = Peer("nour-doctor")
    await peer.join(machine.pool, "nour")  # type: ignore[arg-type]
    assert str(other.port) not in peer.answer
    assert other.process is not None
    assert await asyncio.to_thread(other.process.wait, 30) == agent.REVOKED
    assert "was revoked" in (other.process.stderr.read() if other.process.stderr else "")
    assert await machine.listed() == {}
    assert machine.acts() == ["invite", "join", "revoke"]


async def test_a_node_that_drains_keeps_its_calls_and_gets_no_new_ones(machine: Machine, other: Other) -> None:
    await serving(machine, other)
    doctor, patient = await meet_at_node(machine, "nour")
    await machine.order("drain")
    for room in ("a", "b", "c"):
        peer = Peer(f"{room}-doctor")
        await peer.join(machine.pool, room)  # type: ignore[arg-type]
        assert str(other.port) not in peer.answer
    await talk(doctor, patient)
    assert (await machine.listed())["draining"] is True
    # The whole machine's drain reaches it, too, and does not take back the node's own.
    (socket,) = machine.folder.glob("media-node-one-1.sock")
    assert await draining.drain(socket, 0) == 2
    assert await draining.drain(socket, 0, on=False) == 2
    assert (await machine.listed())["workers"][0]["draining"]
    await machine.order("resume")
    assert not (await machine.listed())["workers"][0]["draining"]
    assert await draining.drain(socket, 0) == 2
    assert (await machine.listed())["workers"][0]["draining"]


@pytest.mark.long
async def test_a_gateway_that_starts_anew_ends_no_call_and_says_which_recording_to_begin_again(
    machine: Machine, other: Other, tmp_path: Path
) -> None:
    await serving(machine, other)
    doctor, patient = await meet_at_node(machine, "nour")
    spool = tmp_path / "spool"
    spool.mkdir()
    await machine.pool.start_recording("nour", "r1", RECORDER, options(spool, KEY, CONTEXT))
    await doctor.speak(30)
    port = await machine.close_gateway()
    await machine.open_gateway(port)
    await until(lambda: _pooled(machine), "the node is back")
    await talk(doctor, patient)

    async def told() -> bool:
        await doctor.speak(5)
        return any(one.event == "recording.lost" and one.data["recording"] == "r1" for one in machine.events)

    await until(told, "the recording is to be begun anew")
    assert not any(one.event == "recording.failed" for one in machine.events)
    await until(lambda: _starts(machine, spool), "a new part is recorded")
    await doctor.speak(30)
    await machine.pool.stop_recording("r1")
    assert len(list(spool.glob("*.part"))) == 2


async def _starts(machine: Machine, spool: Path) -> bool:
    with contextlib.suppress(MediaError):
        await machine.pool.start_recording("nour", "r1", RECORDER, options(spool, KEY, CONTEXT))
        return True
    return False


async def greet(machine: Machine, context: ssl.SSLContext, **said: Any) -> link.Welcome:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", machine.gateway.port, ssl=context, server_hostname=identity.GATEWAY_NAME
    )
    try:
        greeting = agent.greeting(said.pop("kind", "worker"), worker=1)
        for name, value in said.items():
            setattr(greeting, name, value)
        return await link.greet(reader, writer, greeting)
    finally:
        writer.close()


async def joined(machine: Machine, folder: Path) -> ssl.SSLContext:
    await agent.join(folder, "https://127.0.0.1", identity.Token.read(await machine.invite()))
    return identity.node_context(folder)


async def test_what_does_not_fit_is_refused_in_words(machine: Machine, tmp_path: Path) -> None:
    context = await joined(machine, tmp_path / "n")
    late = await greet(machine, context, wall=time.time() - 3600)
    assert late.refused == "clock"
    assert "behind the clinic's" in late.words
    early = await greet(machine, context, wall=time.time() + 120)
    assert "ahead of the clinic's" in early.words
    old = await greet(machine, context, link=0, release="0.0.1")
    assert old.refused == "version"
    assert "0.0.1" in old.words
    assert (await greet(machine, context, protocol=99)).refused == "version"
    assert (await greet(machine, context, worker=65)).refused == "worker"
    assert (await greet(machine, context, kind="tap", recording="r1")).refused == "no-recording"
    assert (await greet(machine, context)).refused == ""


async def test_nobody_gets_in_without_a_certificate_that_the_list_knows(machine: Machine, tmp_path: Path) -> None:
    bare = await greet(machine, identity.joining_context())
    assert bare.refused == "certificate"
    for secret in ("", "00" * 20, "zz"):
        assert (await greet(machine, identity.joining_context(), kind="join", secret=secret)).refused == "token"
    # Another clinic's node: its certificate is good there and nowhere else.
    elsewhere = Gateway(tmp_path / "elsewhere", tmp_path / "e.sock", [own_address()])
    theirs = tmp_path / "theirs"
    certificate = elsewhere.authority.grant(identity.request_certificate(theirs), "x")
    identity.keep(theirs, "node.crt", certificate)
    identity.keep(theirs, "authority.crt", machine.gateway.authority.certificate)
    with pytest.raises((OSError, ValueError)):
        await greet(machine, identity.node_context(theirs))
    # Signed by the right authority, but not in the list.
    unknown = machine.gateway.authority.grant(identity.request_certificate(theirs), "y")
    identity.keep(theirs, "node.crt", unknown)
    assert (await greet(machine, identity.node_context(theirs))).refused == "revoked"
    assert machine.acts() == []


async def test_a_token_is_told_to_nobody_but_whom_it_names_and_ends_in_time(machine: Machine, tmp_path: Path) -> None:
    token = identity.Token.read(await machine.invite())
    forged = identity.Token(token.port, token.secret, bytes(32))
    with pytest.raises(Refusal, match="is not the machine that gave this token out"):
        await agent.join(tmp_path / "n", "127.0.0.1", forged)
    assert not (tmp_path / "n" / "node.key").exists()
    assert (await machine.listed())["state"] == "invited"
    machine.gateway.registry.named("one").expires_at = time.time() - 1
    with pytest.raises(Refusal, match="too old"):
        await agent.join(tmp_path / "n", "127.0.0.1", token)
    assert not (tmp_path / "n" / "member.json").exists()
    # A new invitation of the name takes the old one's place.
    first = identity.Token.read(await machine.invite())
    await machine.invite()
    with pytest.raises(Refusal, match="was replaced"):
        await agent.join(tmp_path / "n", "127.0.0.1", first)
    for text in ("", "abc", str(token)[:-4], "é" * 72):
        with pytest.raises(identity.BadToken):
            identity.Token.read(text)


async def test_a_node_calls_in_over_either_family_and_may_have_addresses_of_both(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path / "nodes", tmp_path / "media.sock", [own_address(), "2001:DB8:0::7"])
    task = asyncio.create_task(gateway.serve("::", 0))
    try:
        await until(lambda: (tmp_path / "nodes.sock").exists() or task.done(), "the gateway listens")
        for name, clinic in (("four", "https://127.0.0.1/"), ("six", "https://[::1]/")):
            if name == "six" and WITHOUT_SIX:
                continue
            asked = Order("invite", name, by="somebody", addresses=["2001:db8::0:7", own_address(), "2001:db8::7"])
            token = identity.Token.read((await order(tmp_path / "nodes.sock", asked))["token"])
            member = await agent.join(tmp_path / name, clinic, token)
            assert member.addresses == ["2001:db8::7", own_address()], "each is written in one way, and once"
    finally:
        gateway.finished.set()
        await task


async def test_an_invitation_names_addresses_that_the_relay_knows(machine: Machine) -> None:
    for wrong, words in (
        ({"addresses": ["203.0.113.9"]}, "not among the addresses"),
        ({"addresses": ["2001:db8::9"]}, "not among the addresses"),
        ({"addresses": ["fe80::9%lo"]}, "not among the addresses"),
        ({"addresses": []}, "--address"),
        ({"addresses": [own_address()], "seconds": 5.0}, "one minute"),
    ):
        with pytest.raises(Refusal, match=words):
            await machine.order("invite", **wrong)
    with pytest.raises(Refusal, match="small letter"):
        await machine.order("invite", "../one", addresses=[own_address()])
    with pytest.raises(Refusal, match="no node"):
        await machine.order("revoke", "nobody")
    assert await machine.order("list") == []
    assert (machine.folder / "nodes.sock").stat().st_mode & 0o77 == 0
    listed = machine.folder / "nodes" / "nodes.json"
    await machine.invite()
    assert listed.stat().st_mode & 0o77 == 0
    assert "secret" not in json.loads(listed.read_text())[0]
