"""Debian's Janus with its video room: the peer of our media worker. Configured in a temporary folder."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any

import websockets
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription

from tests.load import machine
from tests.load.traffic import Peer, connected

_ROOM = 1234


#: As Debian ships it, and as it forwards best here: one event loop for all handles instead of a thread for each; with a
#: libsrtp on OpenSSL in the folder that QANUN_FAST_LIBSRTP names (Debian's computes SHA-1 in software).
NAMES = {"janus": "Janus (Debian)", "janus-best": "Janus (best)"}
FAST_LIBSRTP = "QANUN_FAST_LIBSRTP"


class Janus:
    """One Janus process and a WebSocket session with it."""

    def __init__(self, folder: Path, processor: int, *, best: bool = False) -> None:
        self.name = NAMES["janus-best" if best else "janus"]
        self._best = best
        self._folder = folder
        self._processor = processor
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
        loops = "event_loops = 1; " if self._best else ""
        (self._folder / "janus.jcfg").write_text(
            f'general: {{ configs_folder = "{self._folder}"; plugins_folder = "{roots[0]}/plugins";\n'
            f'  transports_folder = "{roots[0]}/transports"; debug_level = 2; {loops}}}\n'
            f'media: {{ ipv6 = false; rtp_port_range = "{first}-{first + 200}"; }}\n'
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


def only_vp8(transceiver: Any) -> None:
    codecs = RTCRtpSender.getCapabilities("video").codecs
    transceiver.setCodecPreferences([codec for codec in codecs if codec.mimeType in ("video/VP8", "video/rtx")])


def peer(connection: RTCPeerConnection) -> Peer:
    """The client behind a connected peer connection with one video section."""
    transceiver = connection.getTransceivers()[0]
    return Peer(connection, transceiver, transceiver.sender._ssrc, transceiver._codecs[0].payloadType)
