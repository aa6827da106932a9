"""One made-up participant: connects as a browser does, then sends sound and a picture's packets and counts what comes.

What the pictures show is noise; a packet carries the time it was sent, for the delay of whoever gets it.
"""

import os
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

from aiortc import RTCCertificate, RTCDtlsTransport, RTCIceGatherer, RTCIceTransport

from qanun_telemedicine.load.connection import AUDIO, MID, NUMBER, VIDEO, describe, reach, secure
from qanun_telemedicine.sfu import rtp
from qanun_telemedicine.sfu.client import MediaClient

AUDIO_RATE, FRAME_RATE = 50, 30
_AUDIO_OCTETS, _PICTURE_OCTETS = 120, 1_100
_KEY_EVERY = 4 * FRAME_RATE
#: One packet in so many is decrypted, to see how long it was on the way.
_SAMPLE_EVERY = 29
_MARK = b"qanun"
_STAMP = struct.Struct("!5sQ")


class Participant:
    """Microphone 0, camera 1, and a receiving section of each kind for every other in the room."""

    def __init__(self, name: str, others: int, certificate: RTCCertificate) -> None:
        self.name = name
        self._others = others
        self._certificate = certificate
        self._number = 0
        self._sequence = {AUDIO: 0, VIDEO: 0}
        self._ssrc = {AUDIO: 0x1000, VIDEO: 0x2000}
        self._noise = os.urandom(_PICTURE_OCTETS)
        self.sent = 0
        self.received = 0
        self.delays_ms: list[float] = []
        self.protocol: Any = None
        self.socket: socket.socket | None = None

    async def join(self, client: MediaClient, room: str) -> None:
        """Connect; raises what the client raises, or RuntimeError when no encrypted connection came about."""
        gatherer = RTCIceGatherer(iceServers=[])
        await gatherer.gather()
        answer = (await client.join(room, self.name, self.describe(gatherer))).sdp
        await reach(self._ice, answer)
        await secure(self._dtls, answer)

    def describe(self, gatherer: RTCIceGatherer) -> str:
        """An offer: the first one, or one more with the credentials of another gatherer."""
        if not hasattr(self, "_dtls"):
            self._ice = RTCIceTransport(gatherer)
            self._ice._connection.ice_controlling = True
            self._dtls = RTCDtlsTransport(self._ice, [self._certificate])
            self._dtls._set_role("client")
        kinds = [("audio", "sendonly"), ("video", "sendonly")]
        kinds += [(kind, "recvonly") for kind in ("audio", "video") for _ in range(self._others)]
        return describe(gatherer, self._dtls, kinds)

    def take_over(self, loop: Any) -> int:
        """From now on `readable` reads the socket, and nobody else; gives its descriptor."""
        pair = self._ice._connection._nominated[1]
        self.protocol, self._address = pair.protocol, pair.remote_addr
        descriptor = self.protocol.transport.get_extra_info("socket").fileno()
        loop._remove_reader(descriptor)
        self.socket = socket.socket(fileno=os.dup(descriptor))
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        return self.socket.fileno()

    def sound(self) -> None:
        """Send one packet of sound."""
        self._send(AUDIO, b"", _AUDIO_OCTETS, self._sequence[AUDIO] * (48_000 // AUDIO_RATE), marker=False)

    def picture(self, frame: int, octets: int) -> None:
        """Send one frame of about so many octets."""
        left, begins = octets, True
        while begins or left > 0:
            descriptor = bytes((0x90 if begins else 0x80, 0x80)) + struct.pack("!H", 0x8000 | frame & 0x7FFF)
            if begins:
                key = frame % _KEY_EVERY == 0
                descriptor += b"\x50\x31\x00\x9d\x01\x2a\x80\x02\xe0\x01" if key else b"\x51\x31\x00"
            size = min(_PICTURE_OCTETS, max(60, left))
            left -= _PICTURE_OCTETS
            self._send(VIDEO, descriptor, size, frame * (90_000 // FRAME_RATE), marker=left <= 0)
            begins = False

    def _send(self, kind: int, head: bytes, size: int, timestamp: int, *, marker: bool) -> None:
        self._sequence[kind] += 1
        self._number += 1
        stamp = _STAMP.pack(_MARK, time.monotonic_ns())
        payload = head + stamp + self._noise[: size - len(head) - len(stamp)]
        packet = rtp.Packet(
            kind, self._sequence[kind] & 0xFFFF, timestamp & 0xFFFFFFFF, self._ssrc[kind], payload, marker
        )
        mid = b"0" if kind == AUDIO else b"1"
        number = (self._number & 0xFFFF).to_bytes(2, "big")
        data = rtp.serialise(packet, rtp.extension_block([(MID, mid), (NUMBER, number)]))
        assert self.socket is not None
        self.socket.sendto(self._dtls._tx_srtp.protect(data), self._address)
        self.sent += 1

    def readable(self) -> Iterator[tuple[bytes, Any]]:
        """Read everything there is; gives back what is not RTP, which the connection itself must hear."""
        assert self.socket is not None
        for _ in range(256):
            try:
                data, sender = self.socket.recvfrom(2048)
            except (BlockingIOError, ConnectionError):
                return
            if data[0] < 128 or 192 <= data[1] <= 223:
                yield data, sender
            elif data[1] & 127 in (AUDIO, VIDEO):
                self.received += 1
                if self.received % _SAMPLE_EVERY == 0:
                    self._sample(data)

    def _sample(self, data: bytes) -> None:
        plain = self._dtls._rx_srtp.unprotect(data)
        at = plain.find(_MARK)
        if at >= 0:
            self.delays_ms.append((time.monotonic_ns() - _STAMP.unpack_from(plain, at)[1]) / 1e6)

    def vanish(self) -> None:
        """As a phone whose battery is dead: no goodbye, and nothing answers any more."""
        if self._dtls._task is not None:
            self._dtls._task.cancel()
        connection = self._ice._connection
        if connection._query_consent_task is not None:
            connection._query_consent_task.cancel()
        for protocol in connection._protocols:
            protocol.transport.abort()
        if self.socket is not None:
            self.socket.close()

    async def leave(self) -> None:
        await self._dtls.stop()
        await self._ice.stop()
        if self.socket is not None:
            self.socket.close()
