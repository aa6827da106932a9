"""WebRTC clients that cost next to nothing per packet: ICE, DTLS and SRTP keys by aiortc, then the sockets are taken
over.

The packets of a publisher are built and encrypted before the clock starts and only sent while it runs; a subscriber
counts what comes, notes when, and keeps samples that are decrypted afterwards and compared with what was sent.
"""

import asyncio
import os
import select
import socket as sockets
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from aiortc import RTCPeerConnection, RTCRtpTransceiver

_SAMPLE_EVERY = 97
_FRAME_PACKETS = 6
_KEY_EVERY = 120


@dataclass
class Peer:
    """One connected client and its video transceiver."""

    connection: RTCPeerConnection
    transceiver: RTCRtpTransceiver
    ssrc: int
    payload_type: int
    socket: sockets.socket = field(init=False)
    address: tuple[str, int] = field(init=False)
    protocol: Any = field(init=False)
    received: list[tuple[int, int]] = field(default_factory=list)
    samples: list[bytes] = field(default_factory=list)
    control: int = 0

    def take_over(self, loop: Any) -> None:
        """Let nobody but us read the socket from now on. What is not RTP goes back to aioice."""
        pair = self._dtls.transport._connection._nominated[1]
        self.protocol = pair.protocol
        self.address = pair.remote_addr
        descriptor = self.protocol.transport.get_extra_info("socket").fileno()
        loop._remove_reader(descriptor)
        self.socket = sockets.socket(fileno=os.dup(descriptor))
        self.socket.setblocking(False)
        self.socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4 << 20)

    @property
    def _dtls(self) -> Any:
        return self.transceiver.sender.transport

    @property
    def profile(self) -> str:
        """The SRTP profile that was agreed on."""
        agreed: bytes = self._dtls._ssl.get_selected_srtp_profile()
        return agreed.decode().removeprefix("SRTP_")

    def extension(self, uri: str) -> int | None:
        return next((item.id for item in self.transceiver._headerExtensions if item.uri == uri), None)

    def protect(self, packet: bytes) -> bytes:
        protected: bytes = self._dtls._tx_srtp.protect(packet)
        return protected

    def unprotect(self, packet: bytes) -> bytes:
        plain: bytes = self._dtls._rx_srtp.unprotect(packet)
        return plain


async def connected(connection: RTCPeerConnection) -> None:
    """Return when ICE and DTLS are through; raise when they are not within 20 s."""
    deadline = time.monotonic() + 20
    while connection.connectionState != "connected":
        if connection.connectionState == "failed" or time.monotonic() > deadline:
            raise RuntimeError(f"a client did not connect: {connection.connectionState}")
        await asyncio.sleep(0.02)


@dataclass(frozen=True)
class Load:
    """What one publisher sends: `packets` in all, `rate` of them a second in bursts, each with `size` bytes of
    payload."""

    packets: int = 12_000
    rate: int = 2_000
    burst: int = 4
    size: int = 1_100


def build(peer: Peer, load: Load) -> tuple[list[bytes], list[bytes]]:
    """The packets of a publisher, encrypted, and the payloads in them: VP8 frames of six packets, a key frame now and
    then, every payload different."""
    mid = peer.transceiver.mid.encode()
    extensions = b""
    if (number := peer.extension("urn:ietf:params:rtp-hdrext:sdes:mid")) is not None:
        extensions += bytes([number << 4 | len(mid) - 1]) + mid
    if (number := peer.extension("http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time")) is not None:
        extensions += bytes([number << 4 | 2, 1, 2, 3])
    extensions += bytes(-len(extensions) % 4)
    extended = struct.pack(">HH", 0xBEDE, len(extensions) // 4) + extensions if extensions else b""
    noise = os.urandom(load.size)
    sealed, plain = [], []
    for number in range(load.packets):
        frame, place = divmod(number, _FRAME_PACKETS)
        picture = struct.pack(">H", 0x8000 | frame & 0x7FFF)
        payload = bytes([0x90 if place == 0 else 0x80, 0x80]) + picture
        if place == 0:
            payload += b"\x50\x31\x00\x9d\x01\x2a\x80\x02\xe0\x01" if frame % _KEY_EVERY == 0 else b"\x51\x31\x00"
        payload = (payload + struct.pack(">I", number) + noise)[: load.size]
        last = place == _FRAME_PACKETS - 1
        header = struct.pack(
            ">BBHII",
            0x90 if extended else 0x80,
            peer.payload_type | (0x80 if last else 0),
            (1000 + number) & 0xFFFF,
            (500_000 + frame * 3000) & 0xFFFFFFFF,
            peer.ssrc,
        )
        sealed.append(peer.protect(header + extended + payload))
        plain.append(payload)
    return sealed, plain


class Receivers:
    """A thread that drains the sockets of all peers."""

    def __init__(self, peers: list[Peer], loop: asyncio.AbstractEventLoop) -> None:
        self._peers = {peer.socket.fileno(): peer for peer in peers}
        self._loop = loop
        self._stop = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop = True
        self._thread.join()

    def _run(self) -> None:
        poll = select.epoll()
        for descriptor in self._peers:
            poll.register(descriptor, select.EPOLLIN)
        buffer = bytearray(2048)
        view = memoryview(buffer)
        clock = time.monotonic_ns
        while not self._stop:
            for descriptor, _ in poll.poll(0.02):
                peer = self._peers[descriptor]
                receive = peer.socket.recvfrom_into
                for _ in range(64):
                    try:
                        size, sender = receive(buffer)
                    except BlockingIOError:
                        break
                    if buffer[0] < 128:
                        self._loop.call_soon_threadsafe(peer.protocol.datagram_received, bytes(view[:size]), sender)
                    elif 192 <= buffer[1] <= 223:
                        peer.control += 1
                    else:
                        if len(peer.received) % _SAMPLE_EVERY == 0:
                            peer.samples.append(bytes(view[:size]))
                        peer.received.append((buffer[2] << 8 | buffer[3], clock()))
        poll.close()


def send(peer: Peer, packets: list[bytes], load: Load) -> list[int]:
    """Send at the rate asked for; when each packet went out (monotonic, ns). Blocks: for a thread."""
    clock, sendto, address = time.monotonic_ns, peer.socket.sendto, peer.address
    interval = 1e9 * load.burst / load.rate
    sent: list[int] = []
    start = clock()
    for first in range(0, len(packets), load.burst):
        wait = start + first / load.burst * interval - clock()
        if wait > 0:
            time.sleep(wait / 1e9)
        for packet in packets[first : first + load.burst]:
            sent.append(clock())
            sendto(packet, address)
    return sent


def check(subscriber: Peer, plain: list[bytes]) -> tuple[int, int]:
    """(samples that are what was sent, samples that are not)."""
    good = bad = 0
    for sample in subscriber.samples:
        try:
            packet = subscriber.unprotect(sample)
        except Exception:  # libsrtp's error has no name of its own worth importing
            bad += 1
            continue
        start = 12 + 4 * (packet[0] & 0x0F)
        if packet[0] & 0x10:
            start += 4 + 4 * int.from_bytes(packet[start + 2 : start + 4], "big")
        payload = packet[start:]
        marks = {int.from_bytes(payload[place : place + 4], "big") for place in (4, 7, 14)}
        # The picture id may be rewritten on the way; what is behind the descriptor may not.
        good_one = any(mark < len(plain) and plain[mark][4:] == payload[4:] for mark in marks)
        good, bad = good + good_one, bad + (not good_one)
    return good, bad


def latencies(subscriber: Peer, sent: list[int]) -> list[float]:
    """Milliseconds from our send to our receive, packet by packet, when nothing was lost; otherwise nothing."""
    if len(subscriber.received) != len(sent):
        return []
    return [(came - went) / 1e6 for (_, came), went in zip(subscriber.received, sent, strict=True)]
