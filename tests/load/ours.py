"""Our media worker as the product starts it: its own process, orders over its Unix socket, SDP offers from the
clients."""

import subprocess
import sys
from pathlib import Path

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from qanun_telemedicine.sfu.client import MediaClient
from tests.load import machine
from tests.load.janus import only_vp8, peer
from tests.load.traffic import Peer, connected

_ROOM = "load"
NAMES = {"c": "Qanun, C", "python": "Qanun, Python"}


class Worker:
    """One media worker with one room, on the engine of this name."""

    def __init__(self, folder: Path, processor: int, engine: str) -> None:
        self.name = NAMES[engine]
        self._engine = engine
        self._folder = folder
        self._processor = processor
        self._subscribers = 0

    async def start(self) -> None:
        path = self._folder / "media.sock"
        address = machine.address()
        self._log = (self._folder / "worker.log").open("wb")
        self._process = subprocess.Popen(
            [
                *machine.pinned(self._processor),
                *(sys.executable, "-m", "qanun_telemedicine.sfu.worker", "--socket", str(path)),
                *("--listen", f"{address}:{machine.free_port()}", "--advertise", address, "--engine", self._engine),
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self._client = MediaClient(path)
        try:
            await self._client.start(wait=60)
        except Exception as error:
            raise RuntimeError((self._folder / "worker.log").read_text()[-2000:]) from error

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def client(self) -> MediaClient:
        return self._client

    async def publish(self) -> Peer:
        return await self._join("publisher", "sendonly")

    async def subscribe(self) -> Peer:
        self._subscribers += 1
        return await self._join(f"subscriber-{self._subscribers}", "recvonly")

    async def stop(self) -> None:
        await self._client.close()
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._log.close()

    async def _join(self, name: str, direction: str) -> Peer:
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        only_vp8(connection.addTransceiver("video", direction=direction))
        await connection.setLocalDescription(await connection.createOffer())
        described = await self._client.join(_ROOM, name, connection.localDescription.sdp)
        await connection.setRemoteDescription(RTCSessionDescription(described.sdp, "answer"))
        await connected(connection)
        return peer(connection)
