"""One section of one subscriber: makes whatever track and layer is sent there look like a single uninterrupted stream.

Sequence numbers, timestamps and VP8 picture ids continue across switches; retransmissions are rebuilt from the publisher's
history, each with a number of its own on the RTX SSRC. Without RTX nothing is retransmitted: sending the same packet with
another transport number would encrypt two texts under one nonce.
"""

import struct
from collections import deque
from dataclasses import dataclass

from qanun_telemedicine.sfu import rtp
from qanun_telemedicine.sfu.engine import SenderSpec
from qanun_telemedicine.sfu.reception import Reception
from qanun_telemedicine.sfu.rtcp import SenderReport

#: How many switches back a NACK can reach.
_SEGMENTS = 4
_HEADER = rtp.HEADER.pack
#: A header and, as its only extension, the transport-wide number.
_NUMBERED = struct.Struct("!BBHIIHHBHx").pack


@dataclass(slots=True)
class _Segment:
    """From `first` (our number) on, packets came from this stream with these differences."""

    stream: Reception
    first: int
    sequence: int
    timestamp: int
    picture: int
    tl0: int
    #: Their number of the first packet: what is older belongs to before the switch.
    begin: int
    carry: tuple[tuple[int, int], ...]


class Sender:
    """Rewrites packets for one section. Knows nothing of encryption and sockets."""

    def __init__(self, spec: SenderSpec, first_sequence: int, first_timestamp: int) -> None:
        self.spec = spec
        self._video = spec.kind == "video"
        self.paused = False
        #: What should be sent; joined at its next key frame.
        self.wanted: Reception | None = None
        self._wanted_carry: tuple[tuple[int, int], ...] = ()
        self._now: _Segment | None = None
        self._segments: deque[_Segment] = deque(maxlen=_SEGMENTS)
        self._sequence = first_sequence - 1
        self._timestamp = first_timestamp
        self._timestamp_ns = 0
        self._newest: rtp.Packet | None = None
        self._payload_type = spec.payload_type
        self._ssrc = spec.ssrc
        self._rtx_sequence = first_sequence
        #: The id under which the transport-wide number is written, 0 for none.
        self.number_id = spec.extensions.get(rtp.TRANSPORT_CC, 0)
        #: How that extension begins when it is the only one; 0 when it can't be written in the one-byte form.
        self._number_head = self.number_id << 4 | 1 if 0 < self.number_id < 15 else 0
        self.packets = 0
        self.octets = 0
        self.retransmitted = 0
        self.last_ns = 0

    @property
    def sequence(self) -> int:
        """Our number of the newest packet."""
        return self._sequence & 0xFFFF

    @property
    def current(self) -> Reception | None:
        return self._now.stream if self._now is not None else None

    def want(self, stream: Reception | None, extensions: dict[str, int]) -> None:
        """Send this stream from its next key frame on (audio: at once); None stops."""
        self.wanted = stream
        self._wanted_carry = tuple(
            (number, self.spec.extensions[uri])
            for uri, number in extensions.items()
            if uri in rtp.CARRIED and uri in self.spec.extensions
        )
        if stream is None:
            self._now = None

    def pause(self, paused: bool) -> None:
        """While paused nothing is sent; afterwards video waits for a key frame."""
        if paused and not self.paused:
            self._now = None
        self.paused = paused

    def waiting(self) -> bool:
        """Whether a key frame is needed before anything (better) can be sent."""
        return not self.paused and self._video and self.wanted is not None and self.current is not self.wanted

    def rewrite(self, stream: Reception, packet: rtp.Packet, number: int, now_ns: int) -> bytes | None:
        """The packet as this subscriber gets it under this transport-wide number, or None when it does not get it.

        Runs for every packet and subscriber: what only a switch needs to know is worked out when one happens.
        """
        if self.paused:
            return None
        segment = self._now
        if segment is None or segment.stream is not stream:
            if stream is not self.wanted or not (packet.key or not self._video):
                return None
            segment = self._switch(stream, packet, now_ns)
        since = (packet.sequence - segment.begin) & 0xFFFF
        if since >= 0x8000:
            return None
        sequence = (packet.sequence + segment.sequence) & 0xFFFF
        timestamp = (packet.timestamp + segment.timestamp) & 0xFFFFFFFF
        if 0 < (sequence - self._sequence) & 0xFFFF < 0x8000:
            self._sequence = sequence
            self._timestamp = timestamp
            self._timestamp_ns = now_ns
            if not packet.padding:
                self._newest = packet
            if since > 0x4000:
                # Half a cycle later "before the switch" would mean the opposite: let it follow.
                segment.begin = (packet.sequence - 0x2000) & 0xFFFF
                segment.first = (sequence - 0x2000) & 0xFFFF
        payload = packet.payload
        self.packets += 1
        self.octets += len(payload)
        self.last_ns = now_ns
        if (segment.picture or segment.tl0) and not packet.padding_only():
            payload = rtp.shift_vp8(payload, segment.picture, segment.tl0)
        kind = packet.marker << 7 | self._payload_type
        if packet.carried and segment.carry:
            block = self._block(segment, packet, number)
            first = 0x80 | packet.padding << 5 | (16 if block else 0)
            return _HEADER(first, kind, sequence, timestamp, self._ssrc) + block + payload
        if self._number_head:
            first = 0x90 | packet.padding << 5
            return (
                _NUMBERED(
                    first, kind, sequence, timestamp, self._ssrc, rtp.ONE_BYTE_PROFILE, 1, self._number_head, number
                )
                + payload
            )
        return _HEADER(0x80 | packet.padding << 5, kind, sequence, timestamp, self._ssrc) + payload

    def _switch(self, stream: Reception, packet: rtp.Packet, now_ns: int) -> _Segment:
        first = (self._sequence + 1) & 0xFFFF
        if self._timestamp_ns:
            elapsed = max(1, (now_ns - self._timestamp_ns) * self.spec.clock_rate // 1_000_000_000)
            timestamp = self._timestamp + elapsed
        else:
            timestamp = self._timestamp
        picture = tl0 = 0
        if self._video and self.packets:
            theirs = rtp.vp8_numbers(packet.payload)
            last = self._last_numbers()
            if theirs is not None:
                picture, tl0 = last[0] + 1 - theirs[0], last[1] + 1 - theirs[1]
        self._now = _Segment(
            stream,
            first,
            first - packet.sequence,
            timestamp - packet.timestamp,
            picture,
            tl0,
            packet.sequence,
            self._wanted_carry,
        )
        self._segments.append(self._now)
        return self._now

    def _last_numbers(self) -> tuple[int, int]:
        """Picture id and TL0PICIDX that the subscriber saw last."""
        numbers = rtp.vp8_numbers(self._newest.payload) if self._newest is not None else None
        if numbers is None:
            return 0, 0
        segment = self._segments[-1]
        return (numbers[0] + segment.picture) & 0x7FFF, (numbers[1] + segment.tl0) & 0xFF

    def _block(self, segment: _Segment, packet: rtp.Packet, number: int) -> bytes:
        elements = [(ours, packet.extensions[theirs]) for theirs, ours in segment.carry if theirs in packet.extensions]
        if self.number_id:
            elements.append((self.number_id, number.to_bytes(2, "big")))
        return rtp.extension_block(elements)

    def _repeat(self, segment: _Segment, packet: rtp.Packet, number: int) -> bytes:
        """RFC 4588: a number of its own, then the original one, then the payload as it was."""
        payload = packet.payload
        if (segment.picture or segment.tl0) and not packet.padding_only():
            payload = rtp.shift_vp8(payload, segment.picture, segment.tl0)
        block = self._block(segment, packet, number)
        first = 0x80 | packet.padding << 5 | (16 if block else 0)
        kind = packet.marker << 7 | (self.spec.rtx_payload_type or 0)
        self._rtx_sequence = (self._rtx_sequence + 1) & 0xFFFF
        timestamp = (packet.timestamp + segment.timestamp) & 0xFFFFFFFF
        original = (packet.sequence + segment.sequence) & 0xFFFF
        head = _HEADER(first, kind, self._rtx_sequence, timestamp, self.spec.rtx_ssrc)
        return head + block + original.to_bytes(2, "big") + payload

    def again(self, sequence: int, number: int) -> bytes | None:
        """The retransmission of the packet that went out under this number, when it is still known."""
        if self.paused or self.spec.rtx_payload_type is None or rtp.newer(sequence, self._sequence):
            return None
        for segment in reversed(self._segments):
            if not rtp.newer(segment.first, sequence):
                packet = segment.stream.recall((sequence - segment.sequence) & 0xFFFF)
                if packet is None:
                    return None
                self.retransmitted += 1
                return self._repeat(segment, packet, number)
        return None

    def translate(self, report: SenderReport) -> SenderReport | None:
        """The publisher's sender report in this section's numbers: keeps sound and picture together."""
        if self._now is None or self._now.stream.ssrc != report.ssrc:
            return None
        timestamp = (report.timestamp + self._now.timestamp) & 0xFFFFFFFF
        return SenderReport(self.spec.ssrc, report.ntp, timestamp, self.packets, self.octets)
