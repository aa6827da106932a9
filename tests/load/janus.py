"""Debian's Janus with its video room: the peer of our media worker. Configured in a temporary folder."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import websockets
from aiortc import (
    RTCCertificate,
    RTCConfiguration,
    RTCDtlsTransport,
    RTCIceGatherer,
    RTCIceTransport,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)

from qanun_telemedicine.load.connection import describe, reach, secure
from tests.load import machine
from tests.load.traffic import Peer, connected

_ROOM = 1234


#: As Debian ships it, and as it forwards best here: one event loop for all handles instead of a thread for each; with a
#: libsrtp on OpenSSL in the folder that QANUN_FAST_LIBSRTP names (Debian's computes SHA-1 in software).
NAMES = {"janus": "Janus (Debian)", "janus-best": "Janus (best)"}
FAST_LIBSRTP = "QANUN_FAST_LIBSRTP"


class Janus:
    """One Janus process and a WebSocket session with it."""

    def __init__(
        self, folder: Path, processor: int, *, best: bool = False, ports: tuple[int, int] | None = None
    ) -> None:
        self.name = NAMES["janus-best" if best else "janus"]
        self._best = best
        self._folder = folder
        self._processor = processor
        #: For media; some two hundred where nothing is said.
        self._ports = ports
        self._feed = 0
        self._waiting: dict[str, tuple[asyncio.Future[dict[str, Any]], bool]] = {}

    @staticmethod
    def missing() -> str:
        """Why it can't run here, or nothing."""
        return "" if shutil.which("janus") else "Debian's janus is not installed (apt install janus)"

    async def start(self) -> None:
        port = machine.free_port()
        self._configure(port)
        self._log = (self._folder / "janus.log").open("wb")
        self._process = subprocess.Popen(
            [*machine.pinned(self._processor), "janus", "-F", str(self._folder), "-d", "2"],
            env={**os.environ, "LD_LIBRARY_PATH": os.environ.get(FAST_LIBSRTP, "")} if self._best else None,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        for _ in range(100):
            with contextlib.suppress(OSError):
                self._socket = await websockets.connect(f"ws://127.0.0.1:{port}", subprotocols=["janus-protocol"])  # type: ignore[list-item]
                break
            await asyncio.sleep(0.1)
        else:
            raise RuntimeError(f"Janus did not start; see {self._folder}/janus.log")
        self._tasks = [asyncio.create_task(self._read())]
        self._session: dict[str, Any] = {}
        self._session = {"session_id": (await self._ask(janus="create"))["data"]["id"]}
        self._tasks.append(asyncio.create_task(self._keep_alive()))

    @property
    def pid(self) -> int:
        return self._process.pid

    async def publish(self) -> Peer:
        handle = await self._attach()
        await self._message(
            handle,
            {
                "request": "create",
                "room": _ROOM,
                "publishers": 10,
                "videocodec": "vp8",
                "bitrate": 0,
                "permanent": False,
            },
        )
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        transceiver = connection.addTransceiver("video", direction="sendonly")
        only_vp8(transceiver)
        await connection.setLocalDescription(await connection.createOffer())
        answer = await self._message(
            handle,
            {"request": "joinandconfigure", "ptype": "publisher", "room": _ROOM},
            {"type": "offer", "sdp": connection.localDescription.sdp},
        )
        self._feed = answer["plugindata"]["data"]["id"]
        await connection.setRemoteDescription(RTCSessionDescription(answer["jsep"]["sdp"], "answer"))
        await connected(connection)
        return peer(connection)

    async def subscribe(self) -> Peer:
        handle = await self._attach()
        joined = await self._message(
            handle, {"request": "join", "ptype": "subscriber", "room": _ROOM, "streams": [{"feed": self._feed}]}
        )
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        await connection.setRemoteDescription(RTCSessionDescription(joined["jsep"]["sdp"], "offer"))
        await connection.setLocalDescription(await connection.createAnswer())
        await self._message(handle, {"request": "start"}, {"type": "answer", "sdp": connection.localDescription.sdp})
        await connected(connection)
        return peer(connection)

    async def room(self, number: int, people: int) -> list["RoomPeer"]:
        """A room full of people, each with a connection for what they send and one for what they get, as its page does it."""
        handle = await self._attach()
        opened = {"request": "create", "room": number, "publishers": people, "videocodec": "vp8", "bitrate": 0}
        await self._message(handle, opened | {"audiocodec": "opus", "permanent": False})
        certificate = RTCCertificate.generateCertificate()
        feeds, made = [], []
        for _ in range(people):
            publisher = _Publisher(certificate)
            answer = await self._message(
                await self._attach(),
                {"request": "joinandconfigure", "ptype": "publisher", "room": number},
                {"type": "offer", "sdp": await publisher.offer()},
            )
            feeds.append(answer["plugindata"]["data"]["id"])
            await publisher.connect(answer["jsep"]["sdp"])
            made.append(RoomPeer(publisher.ice._connection, publisher.dtls, sends=True))
        for own in feeds:
            handle = await self._attach()
            streams = [{"feed": feed} for feed in feeds if feed != own]
            wanted = {"request": "join", "ptype": "subscriber", "room": number, "streams": streams}
            for attempt in range(50):
                try:
                    joined = await self._message(handle, wanted)
                    break
                except RuntimeError:  # a feed is there a moment after its publisher is connected
                    if attempt == 49:
                        raise
                    await asyncio.sleep(0.1)
            connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
            await connection.setRemoteDescription(RTCSessionDescription(joined["jsep"]["sdp"], "offer"))
            await connection.setLocalDescription(await connection.createAnswer())
            await self._message(
                handle, {"request": "start"}, {"type": "answer", "sdp": connection.localDescription.sdp}
            )
            await connected(connection)
            dtls = connection.getTransceivers()[0].receiver.transport
            made.append(RoomPeer(dtls.transport._connection, dtls, sends=False, keep=connection))
        return made

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await self._socket.close()
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._log.close()

    def _configure(self, port: int) -> None:
        roots = [path for path in Path("/usr/lib").glob("**/janus") if (path / "plugins").is_dir()]
        if not roots:
            raise RuntimeError("Janus is installed, but not its plugins")
        plugins = ",".join(sorted(p.name for p in (roots[0] / "plugins").glob("*.so") if "videoroom" not in p.name))
        transports = ",".join(
            sorted(p.name for p in (roots[0] / "transports").glob("*.so") if "websockets" not in p.name)
        )
        first = machine.free_port(24000, 24700)
        first, last = self._ports or (first, first + 200)
        loops = "event_loops = 1; " if self._best else ""
        (self._folder / "janus.jcfg").write_text(
            f'general: {{ configs_folder = "{self._folder}"; plugins_folder = "{roots[0]}/plugins";\n'
            f'  transports_folder = "{roots[0]}/transports"; debug_level = 2; {loops}}}\n'
            f'media: {{ ipv6 = false; rtp_port_range = "{first}-{last}"; }}\n'
            f'nat: {{ ice_enforce_list = "{machine.address()}"; full_trickle = false; }}\n'
            f'plugins: {{ disable = "{plugins}"; }}\n'
            f'transports: {{ disable = "{transports}"; }}\n'
        )
        (self._folder / "janus.transport.websockets.jcfg").write_text(
            f'general: {{ json = "compact"; ws = true; ws_port = {port}; ws_ip = "127.0.0.1"; wss = false; }}\n'
            "admin: { admin_ws = false; admin_wss = false; }\n"
        )
        (self._folder / "janus.plugin.videoroom.jcfg").write_text("general: { }\n")

    async def _read(self) -> None:
        async for text in self._socket:
            message = json.loads(text)
            waiting = self._waiting.get(message.get("transaction"))
            # A plugin acknowledges first and answers later; a bare request is answered at once.
            if waiting and (message["janus"] != "ack" or waiting[1]):
                del self._waiting[message["transaction"]]
                waiting[0].set_result(message)

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(20)
            await self._ask(acknowledged=True, janus="keepalive")

    async def _ask(self, *, acknowledged: bool = False, **message: Any) -> dict[str, Any]:
        transaction = uuid.uuid4().hex
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[transaction] = (answer, acknowledged)
        await self._socket.send(json.dumps(message | self._session | {"transaction": transaction}))
        return await asyncio.wait_for(answer, 10)

    async def _attach(self) -> int:
        return int((await self._ask(janus="attach", plugin="janus.plugin.videoroom"))["data"]["id"])

    async def _message(self, handle: int, body: dict[str, Any], jsep: dict[str, str] | None = None) -> dict[str, Any]:
        extra = {"jsep": jsep} if jsep else {}
        answer = await self._ask(janus="message", handle_id=handle, body=body, **extra)
        error = answer.get("plugindata", {}).get("data", {}).get("error") or answer.get("error")
        if error:
            raise RuntimeError(f"Janus refused {body['request']}: {error}")
        return answer


@dataclass
class RoomPeer:
    """One connection of somebody in a room: aioice's, and the keys."""

    ice: Any
    dtls: RTCDtlsTransport
    sends: bool
    keep: Any = None

    @property
    def address(self) -> tuple[str, int]:
        remote: tuple[str, int] = self.ice._nominated[1].remote_addr[:2]
        return remote

    def take_over(self, loop: Any) -> int:
        """From now on nobody else reads the socket."""
        descriptor: int = self.ice._nominated[1].protocol.transport.get_extra_info("socket").fileno()
        loop._remove_reader(descriptor)
        return descriptor


class _Publisher:
    """Sound and a picture, described as for our own server (with transport-cc, and the same numbers in the packets)."""

    def __init__(self, certificate: RTCCertificate) -> None:
        self._certificate = certificate

    async def offer(self) -> str:
        gatherer = RTCIceGatherer(iceServers=[])
        await gatherer.gather()
        self.ice = RTCIceTransport(gatherer)
        self.ice._connection.ice_controlling = True
        self.dtls = RTCDtlsTransport(self.ice, [self._certificate])
        numbers = {0: "\na=ssrc:4096 cname:load", 1: "\na=ssrc:8192 cname:load"}
        return describe(gatherer, self.dtls, [("audio", "sendonly"), ("video", "sendonly")], numbers)

    async def connect(self, answer: str) -> None:
        # Janus takes the client's part in DTLS.
        self.dtls._set_role("server" if "a=setup:active" in answer else "client")
        await reach(self.ice, answer)
        await secure(self.dtls, answer)


def only_vp8(transceiver: Any) -> None:
    codecs = RTCRtpSender.getCapabilities("video").codecs
    transceiver.setCodecPreferences([codec for codec in codecs if codec.mimeType in ("video/VP8", "video/rtx")])


def peer(connection: RTCPeerConnection) -> Peer:
    """The client behind a connected peer connection with one video section."""
    transceiver = connection.getTransceivers()[0]
    return Peer(connection, transceiver, transceiver.sender._ssrc, transceiver._codecs[0].payloadType)
