"""A room of a real media worker is recorded: two people send real video over ICE, DTLS and SRTP; what comes back decodes."""

import asyncio
import contextlib
import io
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import av
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.contrib.media import MediaPlayer

from qanun_telemedicine.recording.player import Recording
from qanun_telemedicine.recording.recorder import options
from qanun_telemedicine.sfu.client import MediaClient

from .conftest import CONTEXT, KEY, clips

pytestmark = pytest.mark.asyncio

TAP = "qanun_telemedicine.recording.recorder:Recorder"


def own_address() -> str:
    """An address of this machine other than 127.0.0.1, which ICE leaves out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


@contextlib.asynccontextmanager
async def media_worker(folder: Path) -> AsyncIterator[tuple[MediaClient, subprocess.Popen[bytes]]]:
    address = own_address()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((address, 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "qanun_telemedicine.sfu.worker", "--socket", str(folder / "media.sock")]
    process = subprocess.Popen([*command, "--listen", f"{address}:{port}", "--advertise", address])
    client = MediaClient(folder / "media.sock")
    try:
        await client.start(wait=15)
        yield client, process
    finally:
        await client.close()
        process.terminate()
        process.wait(10)


async def join(client: MediaClient, name: str, clip: str) -> RTCPeerConnection:
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    player = MediaPlayer(str(clips() / clip), loop=True)
    connection.addTrack(player.video)
    if player.audio:
        connection.addTrack(player.audio)
    await connection.setLocalDescription(await connection.createOffer())
    described = await client.join("visit", name, connection.localDescription.sdp)
    await connection.setRemoteDescription(RTCSessionDescription(described.sdp, "answer"))
    deadline = time.monotonic() + 60
    while connection.connectionState != "connected" and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    assert connection.connectionState == "connected"
    return connection


async def recorded(client: MediaClient, seconds: float) -> float:
    """Wait until the recording is that long; gives how long it is."""
    async with asyncio.timeout(60):
        while True:
            length = float((await client.recording_status("r1"))["seconds"])
            if length >= seconds:
                return length
            await asyncio.sleep(0.1)


def decoded(recording: Recording, participant: str) -> tuple[int, int]:
    """(pictures, samples of sound) that FFmpeg decodes from somebody's view."""
    view = recording.view(participant)
    pictures = samples = 0
    with av.open(io.BytesIO(view.read(0, view.size)), format="matroska") as container:
        for frame in container.decode():
            if isinstance(frame, av.VideoFrame):
                pictures += 1
            else:
                samples += frame.samples
    return pictures, samples


async def test_a_room_is_recorded_and_a_pause_holds(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    async with media_worker(tmp_path) as (client, _):
        people = [
            await join(client, "doctor", "bigbuckbunny.mp4"),
            await join(client, "patient", "carphone_pristine.mp4"),
        ]
        started = await client.start_recording("visit", "r1", TAP, options(spool, KEY, CONTEXT))
        assert started["state"] == "recording"
        await recorded(client, 3)
        asked = time.monotonic()
        assert (await client.pause_recording("r1"))["state"] == "paused"
        paused = time.monotonic()
        await asyncio.sleep(1.5)
        resuming = time.monotonic()
        assert (await client.pause_recording("r1", False))["state"] == "recording"
        resumed = time.monotonic()
        await recorded(client, (await client.recording_status("r1"))["seconds"] + 3)
        stopped = await client.stop_recording("r1")
        assert stopped["state"] == "closed"
        assert stopped["problem"] is None
        for connection in people:
            await connection.close()
    with Recording(spool, KEY, CONTEXT) as recording:
        assert recording.complete
        seats = {seat.participant: seat for seat in recording.seats()}
        assert set(seats) == {"doctor", "patient"}
        assert [pause.reason for pause in recording.pauses] == ["paused"]
        lasted = (recording.pauses[0].ends_ms - recording.pauses[0].starts_ms) / 1000
        assert resuming - paused - 0.2 < lasted < resumed - asked + 0.7
        for participant in seats:
            pictures, samples = decoded(recording, participant)
            assert pictures > 40
            assert samples > 5 * 48000


async def test_a_killed_worker_leaves_a_recording_that_plays(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    async with media_worker(tmp_path) as (client, process):
        person = await join(client, "doctor", "bigbuckbunny.mp4")
        await client.start_recording("visit", "r1", TAP, options(spool, KEY, CONTEXT))
        seconds = await recorded(client, 4)
        process.send_signal(signal.SIGKILL)
        process.wait()
        await person.close()
    with Recording(spool, KEY, CONTEXT) as recording:
        assert not recording.complete
        assert seconds * 1000 - recording.duration_ms <= 2000
        assert decoded(recording, "doctor")[0] > 30
