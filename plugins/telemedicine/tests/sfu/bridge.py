"""A page with a `MediaSession` and a WebSocket between it and the media worker: what the web process does, and no more."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from qanun_telemedicine.sfu import protocol as p
from qanun_telemedicine.sfu.client import MediaClient, MediaError

STATIC = Path(__file__).parents[2] / "qanun_telemedicine" / "static"

PAGE = b"""<!doctype html><meta charset="utf-8"><title>call</title>
<video id="remote" autoplay playsinline></video><script type="module" src="/page.js"></script>"""

SCRIPT = b"""
import { MediaSession } from "/media.js";
window.log = [];
window.note = (what) => window.log.push([Math.round(performance.now()), what]);
window.openSocket = (query) => new Promise((resolve) => {
  const socket = new WebSocket(`ws://${location.host}/ws?${query}`);
  window.socket = socket;
  socket.onopen = () => resolve(socket);
  socket.onmessage = (event) => {
    const message = JSON.parse(event.data);
    if (message.type === "state") window.seal?.heard(message);
    else window.session.receive(message);
  };
});
window.begin = async ({ room, participant, iceServers = [], policy = "all", simulcast = false, media = true, source = null, spares = 2, sealed = false, scalability = null, camera = { width: 640, height: 480 } }) => {
  let stream = null;
  if (media) stream = source ? await window.fileStream(source, camera) : await navigator.mediaDevices.getUserMedia({ audio: true, video: camera });
  const send = (message) => window.socket.send(JSON.stringify(message));
  const seal = sealed ? await new (await import("/sealing.js")).Sealing({ send, call: room }).start() : null;
  window.seal = seal;
  const session = new MediaSession({ send, iceServers, policy, stream, simulcast, spares, seal, scalability });
  window.session = session;
  for (const name of ["state", "quality", "problem", "rejoin", "restart", "uplink"]) session.addEventListener(name, (event) => window.note([name, event.detail.state ?? event.detail.code ?? event.detail.reason ?? String(event.detail.held), String(event.detail.error ?? "")]));
  session.addEventListener("remote", () => {
    window.note(["remote", [...session.participants.keys()].join(",")]);
    const first = [...session.participants.values()][0];
    const video = document.getElementById("remote");
    if (first && video.srcObject !== first.camera) { video.srcObject = first.camera; video.play().catch(() => {}); }
  });
  await window.openSocket(`room=${room}&participant=${participant}`);
  window.started = performance.now();
  await session.start();
};
window.fileStream = async (source, { width, height, frameRate = 30 }) => {
  const video = document.createElement("video");
  // Not its address: Firefox asks for media in a way of its own, which it refuses itself from a host that is not its own.
  video.src = URL.createObjectURL(await (await fetch(source)).blob()); video.loop = true; video.muted = true;
  await video.play();
  const canvas = document.createElement("canvas");
  canvas.width = width; canvas.height = height;
  const context = canvas.getContext("2d");
  window.drawn = 0;
  setInterval(() => { context.drawImage(video, 0, 0, width, height); window.drawn++; }, 1000 / frameRate);
  const stream = canvas.captureStream(frameRate);
  const fake = await navigator.mediaDevices.getUserMedia({ audio: true });
  stream.addTrack(fake.getAudioTracks()[0]);
  // A camera says how large its picture is; Firefox does not say it of a canvas.
  const [picture] = stream.getVideoTracks();
  if (!picture.getSettings().width) picture.getSettings = () => ({ width: canvas.width, height: canvas.height });
  return stream;
};
window.figures = async () => {
  const out = { frames: 0, samples: 0, played: 0, energy: 0, packets: 0, sent: 0, videos: [], state: window.session?.state, peer: window.session?.peerConnection?.connectionState, quality: window.session?.quality };
  const report = await window.session?.peerConnection?.getStats();
  let pair = null;
  const byId = new Map();
  report?.forEach((one) => byId.set(one.id, one));
  for (const one of byId.values()) {
    if (one.type === "inbound-rtp" && one.kind === "video") { out.frames += one.framesDecoded ?? 0; out.packets += one.packetsReceived; out.videos.push({ mid: one.mid, frames: one.framesDecoded ?? 0, width: one.frameWidth ?? 0, height: one.frameHeight ?? 0, nack: one.nackCount, rtx: one.retransmittedPacketsReceived, pli: one.pliCount, lost: one.packetsLost, freezes: one.freezeCount, dropped: one.framesDropped }); }
    if (one.type === "inbound-rtp" && one.kind === "audio") { out.samples += (one.totalSamplesReceived ?? 0) - (one.concealedSamples ?? 0); out.played += one.totalSamplesReceived ?? 0; out.energy += one.totalAudioEnergy ?? 0; }
    if (one.type === "outbound-rtp") out.sent += one.packetsSent ?? 0;
    if (one.type === "transport") { out.srtp = one.srtpCipher; pair = byId.get(one.selectedCandidatePairId) ?? pair; }
    if (one.type === "candidate-pair" && one.selected) pair = one;
  }
  const local = byId.get(pair?.localCandidateId);
  out.local = local ? { type: local.candidateType, protocol: local.relayProtocol ?? local.protocol } : null;
  const remote = byId.get(pair?.remoteCandidateId);
  out.remote = remote ? `${remote.address}:${remote.port}` : null;
  out.available = pair?.availableOutgoingBitrate ?? null;
  return out;
};
// What somebody gets during so many seconds, by what the receiver itself counts: a freeze is one that the browser calls so
// (three times the usual time between pictures, and 150 ms more). `longest` is in seconds, and counts one that has not ended.
// `camera`: the longest time in which this page's own camera gave no picture, which is nobody's fault but the machine's.
window.watch = async (seconds) => {
  const look = async () => {
    const out = { at: performance.now(), frames: 0, freezes: 0, frozen: 0, samples: 0, made_up: 0, captured: window.drawn ?? 0 };
    const report = await window.session?.peerConnection?.getStats();
    report?.forEach((one) => {
      if (one.type === "media-source" && one.kind === "video") out.captured += one.frames ?? 0;
      if (one.type !== "inbound-rtp") return;
      if (one.kind === "video") {
        out.frames += one.framesDecoded ?? 0;
        out.freezes += one.freezeCount ?? 0;
        out.frozen += one.totalFreezesDuration ?? 0;
      } else {
        out.samples += one.totalSamplesReceived ?? 0;
        out.made_up += one.concealedSamples ?? 0;
      }
    });
    return out;
  };
  const first = await look();
  let before = first, moved = first.at, taken = first.at, longest = 0, camera = 0;
  while (before.at - first.at < seconds * 1000) {
    await new Promise((done) => setTimeout(done, 100));
    const now = await look();
    if (now.freezes > before.freezes) longest = Math.max(longest, now.frozen - before.frozen);
    if (now.frames > before.frames) moved = now.at;
    if (now.captured > before.captured) taken = now.at;
    camera = Math.max(camera, (now.at - taken) / 1000);
    before = now;
  }
  // Somebody who is looked at ten times a second may seem to stand still for as long.
  longest = Math.max(longest, (before.at - moved) / 1000 - 0.1);
  return {
    fps: ((before.frames - first.frames) * 1000) / (before.at - first.at),
    freezes: before.freezes - first.freezes,
    longest,
    camera,
    made_up: (before.made_up - first.made_up) / Math.max(1, before.samples - first.samples),
  };
};
window.ready = true;
"""

_FILES = {
    "/": ("text/html", lambda: PAGE),
    "/page.js": ("text/javascript", lambda: SCRIPT),
}


class Bridge:
    """The server. `events` collects everything that the worker announced."""

    def __init__(self) -> None:
        self.client: MediaClient
        self.events: list[p.Event] = []
        self.files: dict[str, Path] = {}
        #: Whose answers wait until the event is set.
        self.held: dict[str, asyncio.Event] = {}
        self._sockets: dict[tuple[str, str], ServerConnection] = {}
        #: Public keys and sealed sender keys of encrypted calls, by room and whose they are.
        self.keys: dict[tuple[str, str], str] = {}
        self.sealed: dict[tuple[str, str], dict[str, str]] = {}
        #: What a lying server says is somebody's key, by (who is told, whose).
        self.false: dict[tuple[str, str], str] = {}
        self._servers: list[Server] = []
        self.port = 0

    async def start(self, port: int, host: str = "127.0.0.1", *, sockets: Sequence[socket.socket] = ()) -> None:
        """On this port of this machine, or on listening sockets that were made elsewhere."""
        where: list[dict[str, Any]] = [{"sock": one} for one in sockets] or [{"host": host, "port": port}]
        self._servers = [
            await serve(self._socket, **one, process_request=self._page, max_size=1 << 20) for one in where
        ]
        self.port = port

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
            await server.wait_closed()

    def _page(self, connection: ServerConnection, request: Request) -> Response | None:
        path = urlsplit(request.path).path
        if path == "/ws":
            return None
        if path in self.files:
            kind, body = "video/webm", self.files[path].read_bytes()
        elif path in _FILES:
            kind, make = _FILES[path]
            body = make()
        elif path.endswith(".js") and (STATIC / path[1:]).is_file() and path.count("/") == 1:
            kind, body = "text/javascript", (STATIC / path[1:]).read_bytes()
        else:
            return connection.respond(HTTPStatus.NOT_FOUND, "")
        headers = Headers({"Content-Type": kind, "Content-Length": str(len(body))})
        return Response(200, "OK", headers, body)

    async def _socket(self, socket: ServerConnection) -> None:
        query = parse_qs(urlsplit(socket.request.path).query)
        room, participant = query["room"][0], query["participant"][0]
        self._sockets[room, participant] = socket
        async for text in socket:
            await self._message(socket, room, participant, json.loads(text))

    async def _message(self, socket: ServerConnection, room: str, participant: str, message: dict) -> None:
        if message["type"] == "leave":
            await self.client.leave(room, participant)
            self.keys.pop((room, participant), None)
            await self._tell_keys(room)
            return
        if message["type"] == "keys":
            self.sealed[room, participant] = message["sealed"]
            await self._tell_keys(room)
            return
        if message.get("key"):
            self.keys[room, participant] = message["key"]
            await self._tell_keys(room)
        request = self.client.join if message["type"] == "join" else self.client.offer
        try:
            described = await request(room, participant, message["sdp"], message["sources"])
        except MediaError as error:
            await self._send(socket, {"type": "error", "number": message["number"], "code": error.code})
            return
        tracks = [
            {"mid": t.mid, "kind": t.kind, "participant": t.participant, "source": t.source} for t in described.tracks
        ]
        answer = {"type": "answer", "number": message["number"], "sdp": described.sdp, "tracks": tracks}
        answer |= {"wanted": described.wanted, "connection": described.connection, "revision": described.revision}
        if participant in self.held:
            # What the worker announces meanwhile overtakes the answer.
            await self.held[participant].wait()
        await self._send(socket, answer)

    async def _tell_keys(self, room: str) -> None:
        for (where, me), line in list(self._sockets.items()):
            if where == room:
                people = [
                    {"id": who, "key": self.false.get((me, who), key)}
                    for (one, who), key in self.keys.items()
                    if one == room
                ]
                keys = [
                    {"from": who, "sealed": sealed[me]}
                    for (one, who), sealed in self.sealed.items()
                    if one == room and me in sealed
                ]
                await self._send(line, {"type": "state", "me": me, "people": people, "keys": keys})

    async def hear(self, _client: MediaClient, event: p.Event) -> None:
        self.events.append(event)
        if event.event == "worker.restarted":
            for (room, _), line in list(self._sockets.items()):
                # With several workers it is said of each room that was at the one.
                if event.room in ("", room):
                    await self._send(line, {"type": "restarted"})
        socket = self._sockets.get((event.room, event.participant))
        if socket is None:
            return
        if event.event == "participant.tracks":
            await self._send(socket, {"type": "tracks"} | event.data)
        elif event.event == "participant.layers":
            await self._send(socket, {"type": "layers"} | event.data)
        elif event.event == "participant.sound":
            await self._send(socket, {"type": "sound"} | event.data)
        elif event.event == "participant.quality":
            await self._send(socket, {"type": "quality"} | event.data)

    @staticmethod
    async def _send(socket: ServerConnection, message: dict) -> None:
        with contextlib.suppress(ConnectionClosed):  # the page has gone
            await socket.send(json.dumps(message))
