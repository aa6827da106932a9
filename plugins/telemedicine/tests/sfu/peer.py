"""A client that sends whatever RTP and RTCP it is told to, over real ICE, DTLS and SRTP: polite peers and hostile ones."""

import asyncio
import contextlib
from collections import Counter
from typing import Any

from aiortc import RTCCertificate, RTCDtlsTransport, RTCIceGatherer, RTCIceTransport

from qanun_telemedicine.load.connection import describe, reach, secure
from qanun_telemedicine.sfu import rtcp, rtp
from qanun_telemedicine.sfu.client import MediaClient

from .test_packets import vp8_payload

_LAYERS = """
a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id
a=rid:q send
a=rid:h send
a=rid:f send
a=simulcast:send q;h;f"""
#: rid → SSRC, width, octets of a packet.
LAYERS = {"q": (3001, 160, 60), "h": (3002, 320, 400), "f": (3003, 640, 1100)}


class _Dtls(RTCDtlsTransport):
    """Keeps what arrives."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.rtp: list[bytes] = []
        self.rtcp: list[bytes] = []

    async def _handle_rtp_data(self, data: bytes, arrival_time_ms: int) -> None:
        self.rtp.append(data)

    async def _handle_rtcp_data(self, data: bytes) -> None:
        self.rtcp.append(data)


class Peer:
    """One participant: microphone 0, camera 1 (in `layers` or not), and a receiving section of each kind, 2 and 3."""

    def __init__(self, name: str, *, layers: bool = False) -> None:
        self.name = name
        self.layers = layers
        self._certificate = RTCCertificate.generateCertificate()
        self.answer = ""
        self.sequence = 0
        #: How many packets of each layer were sent: a layer that pauses goes on with the next number, as browsers do.
        self.shown: Counter[str] = Counter()

    async def offer(self) -> str:
        self._gatherer = RTCIceGatherer(iceServers=[])
        await self._gatherer.gather()
        self.ice = RTCIceTransport(self._gatherer)
        self.ice._connection.ice_controlling = True
        self.dtls = _Dtls(self.ice, [self._certificate])
        self.dtls._set_role("client")
        return self._describe(self._gatherer)

    def _describe(self, gatherer: RTCIceGatherer) -> str:
        kinds = [("audio", "sendonly"), ("video", "sendonly"), ("audio", "recvonly"), ("video", "recvonly")]
        return describe(gatherer, self.dtls, kinds, {1: _LAYERS} if self.layers else None)

    async def join(self, client: MediaClient, room: str) -> None:
        described = await client.join(room, self.name, await self.offer())
        self.answer = described.sdp

    async def connect(self) -> None:
        """Do as the answer says."""
        await reach(self.ice, self.answer)
        await secure(self.dtls, self.answer)

    async def restart(self, client: MediaClient, room: str) -> "SecondWay":
        """Offer new ICE credentials from another socket and connect there; media stays on the old way."""
        old = self.ice
        gatherer = RTCIceGatherer(iceServers=[])
        await gatherer.gather()
        self.ice = RTCIceTransport(gatherer)
        self.ice._connection.ice_controlling = True
        self.answer = (await client.offer(room, self.name, self._describe(gatherer))).sdp
        await reach(self.ice, self.answer)
        return SecondWay(self, old, self.ice)

    async def send(self, data: bytes) -> None:
        await self.dtls._send_rtp(data)

    async def speak(self, number: int = 10) -> None:
        """So many packets of sound and as many of picture, the first one a key frame."""
        for _ in range(number):
            self.sequence += 1
            key = self.sequence % 10 == 1
            for kind, ssrc, mid, payload in (
                (111, 1111, b"0", b"sound"),
                (96, 2222, b"1", vp8_payload(key=key, picture=self.sequence)),
            ):
                made = rtp.Packet(kind, self.sequence, self.sequence * 960, ssrc, payload, True)
                number_bytes = (2 * self.sequence + (kind == 96)).to_bytes(2, "big")
                await self.send(rtp.serialise(made, rtp.extension_block([(4, mid), (3, number_bytes)])))
            await asyncio.sleep(0.005)

    async def show(self, rids: str, *, key: bool) -> None:
        """One packet of each of these layers; `key`: it begins a key frame."""
        self.sequence += 1
        for rid in rids:
            ssrc, width, size = LAYERS[rid]
            self.shown[rid] += 1
            payload = vp8_payload(key=key, picture=self.shown[rid] & 0x7FFF, width=width).ljust(size, b"\0")
            made = rtp.Packet(96, self.shown[rid] & 0xFFFF, self.sequence * 900, ssrc, payload, True)
            await self.send(rtp.serialise(made, rtp.extension_block([(4, b"1"), (10, rid.encode())])))

    async def report(self, fraction_lost: int) -> None:
        """Tell the server how its picture arrives here: so many of 256 packets are missing."""
        ssrc = next(packet.ssrc for data in self.dtls.rtp if (packet := rtp.parse(data)) and packet.payload_type == 96)
        block = rtcp.Report(ssrc, fraction_lost, 0, 0, 0, 0, 0)
        await self.dtls._send_rtp(rtcp.receiver_report(1, [block]))

    def heard(self) -> int:
        return len(self.dtls.rtp)

    async def leave(self) -> None:
        await self.dtls.stop()
        await self.ice.stop()

    def vanish(self) -> None:
        """As a phone whose battery is dead: no goodbye, and nothing answers any more."""
        if self.dtls._task is not None:
            self.dtls._task.cancel()
        connection = self.ice._connection
        if connection._query_consent_task is not None:
            connection._query_consent_task.cancel()
        for protocol in connection._protocols:
            protocol.transport.abort()


class SecondWay:
    """A new path of a peer, beside the old one."""

    def __init__(self, peer: Peer, old: RTCIceTransport, new: RTCIceTransport) -> None:
        self._peer, self._old, self._new = peer, old, new
        #: What the server sent over the new path: encrypted packets, counted only.
        self.arrived = 0
        self._task = asyncio.create_task(self._receive())

    async def _receive(self) -> None:
        with contextlib.suppress(ConnectionError):  # a later restart replaced it
            while True:
                data = await self._new._recv()
                self.arrived += 127 < data[0] < 192

    def take(self) -> None:
        """Send over the new path from now on."""
        self._peer.dtls._transport = self._new

    async def break_old(self) -> None:
        """The old network is gone."""
        connection = self._old._connection
        if connection._query_consent_task is not None:
            connection._query_consent_task.cancel()
        for protocol in connection._protocols:
            protocol.transport.abort()

    def end(self) -> None:
        self._task.cancel()
