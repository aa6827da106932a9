"""One section of one subscriber: makes whatever track and layer is sent there look like a single uninterrupted stream.

Sequence numbers, timestamps and picture ids continue across switches; retransmissions are rebuilt from the publisher's
history, each with a number of its own on the RTX SSRC. Without RTX nothing is retransmitted: sending the same packet with
another transport number would encrypt two texts under one nonce.
"""

import struct
from collections import deque
from dataclasses import dataclass

from qanun_telemedicine.sfu import payloads, rtp
from qanun_telemedicine.sfu.dependency import Descriptor
from qanun_telemedicine.sfu.engine import SenderSpec
from qanun_telemedicine.sfu.reception import Reception
from qanun_telemedicine.sfu.rtcp import SenderReport
from qanun_telemedicine.sfu.scalable import ALL, Layers, Numbers

#: How many switches back a NACK can reach.
_SEGMENTS = 4
#: What the carried extensions of one packet may take in the two-byte form, with their heads.
_MOST_CARRIED = 268
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
    payload_type: int
    rtx_payload_type: int | None
    #: How-many-th switch it was.
    number: int
    #: For streams that hold layers: their newest number, and what is added to frame numbers of dependency descriptors.
    highest: int
    frame: int
    scalable: bool


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
        self._switches = 0
        #: Which layers of a stream that holds several are sent.
        self.layers = Layers()
        self._given: Numbers | None = None
        self._wide = rtp.DEPENDENCY in spec.extensions
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
    def layer(self) -> str:
        """The highest layer that goes out of a stream that holds several."""
        if self._now is None or not self._now.scalable:
            return ""
        return f"S{self.layers.spatial}T{self.layers.temporal}"

    @property
    def current(self) -> Reception | None:
        return self._now.stream if self._now is not None else None

    def want(self, stream: Reception | None, extensions: dict[str, int]) -> None:
        """Send this stream from its next key frame on (audio: at once); None stops."""
        if stream is not None and self.spec.payloads(stream.codec) is None:
            return
        self.wanted = stream
        self._wanted_carry = tuple(
            (number, self.spec.extensions[uri])
            for uri, number in extensions.items()
            if uri in rtp.CARRIED and uri in self.spec.extensions
        )
        if stream is None:
            self._now = None
            self.layers.want(ALL, ALL)

    def pause(self, paused: bool) -> None:
        """While paused nothing is sent; afterwards video waits for a key frame."""
        if paused and not self.paused:
            self._now = None
        self.paused = paused

    def waiting(self) -> bool:
        """Whether a key frame is needed before anything (better) can be sent."""
        if self.paused or not self._video or self.wanted is None:
            return False
        return self.current is not self.wanted or self.layers.lacking

    def rewrite(self, stream: Reception, packet: rtp.Packet, number: int, now_ns: int) -> bytes | None:
        """The packet as this subscriber gets it under this transport-wide number, or None when it does not get it.

        Runs for every packet and subscriber: what only a switch needs to know is worked out when one happens.
        """
        if self.paused:
            return None
        segment = self._now
        switched = segment is None or segment.stream is not stream
        if segment is None or switched:
            if stream is not self.wanted or not (packet.key or not self._video):
                return None
            segment = self._switch(stream, packet, now_ns)
        since = (packet.sequence - segment.begin) & 0xFFFF
        if since >= 0x8000:
            return None
        marker, empty = packet.marker, False
        if segment.scalable:
            placed = self._place(segment, packet, switched)
            if placed is None:
                return None
            sequence, last, empty = placed
            marker = marker or last
        else:
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
        payload, padding, payload_type = packet.payload, packet.padding, segment.payload_type
        if empty:
            payload, padding, marker = b"", False, False
        elif packet.red:
            payload, payload_type = self._plain(packet, payload_type)
        self.packets += 1
        self.octets += len(payload)
        self.last_ns = now_ns
        if (segment.picture or segment.tl0) and not empty and not packet.padding_only():
            payload = payloads.shift(payload, stream.glance(payload), segment.picture, segment.tl0)
        kind = marker << 7 | payload_type
        if packet.carried and segment.carry and not empty:
            block = self._block(segment, packet, number)
            first = 0x80 | padding << 5 | (16 if block else 0)
            return _HEADER(first, kind, sequence, timestamp, self._ssrc) + block + payload
        if self._number_head:
            first = 0x90 | padding << 5
            return (
                _NUMBERED(
                    first, kind, sequence, timestamp, self._ssrc, rtp.ONE_BYTE_PROFILE, 1, self._number_head, number
                )
                + payload
            )
        return _HEADER(0x80 | padding << 5, kind, sequence, timestamp, self._ssrc) + payload

    def _place(self, segment: _Segment, packet: rtp.Packet, switched: bool) -> tuple[int, bool, bool] | None:
        """Our number for a packet of a stream that holds layers, whether it ends a picture, and whether it only holds a place."""
        given = self._given
        assert given is not None
        ahead = (packet.sequence - segment.highest) & 0xFFFF
        newest = switched or 0 < ahead < 0x8000
        forward, last = self.layers.admit(packet.glance, newest)
        if not newest:
            late = given.late(packet.sequence, segment.number)
            if late is None or late.empty:
                return None
            late.empty, late.last = not forward, last
            return late.ours, last, not forward
        if not switched:
            given.reserve(self._sequence, packet.sequence, ahead - 1, segment.number)
            self._sequence += ahead - 1
            segment.highest = packet.sequence
        if not forward:
            return None
        ours = (self._sequence + 1) & 0xFFFF
        given.give(ours, packet.sequence, segment.number, last)
        return ours, last, False

    def _plain(self, packet: rtp.Packet, payload_type: int) -> tuple[bytes, int]:
        """Sound with older sound before it, as far as the subscriber takes that."""
        red = self.spec.red_payload_type
        if red is None:
            return packet.payload[packet.red :], payload_type
        return payloads.red_renamed(packet.payload, payload_type), red

    def _switch(self, stream: Reception, packet: rtp.Packet, now_ns: int) -> _Segment:
        first = (self._sequence + 1) & 0xFFFF
        if self._timestamp_ns:
            elapsed = max(1, (now_ns - self._timestamp_ns) * self.spec.clock_rate // 1_000_000_000)
            timestamp = self._timestamp + elapsed
        else:
            timestamp = self._timestamp
        picture = tl0 = frame = 0
        if self._video and self.packets:
            theirs = _numbers(stream, packet)
            last = self._last_numbers()
            if theirs is not None:
                picture, tl0, frame = last[0] + 1 - theirs[0], last[1] + 1 - theirs[1], last[2] + 1 - theirs[2]
        scalable = self._video and stream.codec in payloads.SCALABLE
        self.layers.restart()
        if scalable:
            self._given = self._given or Numbers()
        self._switches += 1
        kinds = self.spec.payloads(stream.codec) or (self.spec.payload_type, self.spec.rtx_payload_type)
        self._now = _Segment(
            stream,
            first,
            first - packet.sequence,
            timestamp - packet.timestamp,
            picture,
            tl0,
            packet.sequence,
            self._wanted_carry,
            *kinds,
            self._switches,
            packet.sequence,
            frame,
            scalable,
        )
        self._segments.append(self._now)
        return self._now

    def _last_numbers(self) -> tuple[int, int, int]:
        """Picture id, TL0PICIDX and frame number that the subscriber saw last."""
        segment = self._segments[-1] if self._segments else None
        newest = self._newest
        numbers = _numbers(segment.stream, newest) if segment is not None and newest is not None else None
        if segment is None or numbers is None:
            return 0, 0, 0
        return (
            (numbers[0] + segment.picture) & 0x7FFF,
            (numbers[1] + segment.tl0) & 0xFF,
            (numbers[2] + segment.frame) & 0xFFFF,
        )

    def _block(self, segment: _Segment, packet: rtp.Packet, number: int) -> bytes:
        elements = [(ours, packet.extensions[theirs]) for theirs, ours in segment.carry if theirs in packet.extensions]
        wide = self._wide and any(len(value) > 16 for _, value in elements)
        if wide:
            room = _MOST_CARRIED
            fitting = []
            for one in elements:
                if 2 + len(one[1]) <= room:
                    room -= 2 + len(one[1])
                    fitting.append(one)
            elements = fitting
        described = segment.stream.descriptor_id
        if segment.frame and described in packet.extensions:
            # The position of a frame in the order of all, which must not jump where streams were joined.
            ours = next((ours for theirs, ours in segment.carry if theirs == described), 0)
            elements = [(one, _moved(value, segment.frame) if one == ours else value) for one, value in elements]
        if self.number_id:
            elements.append((self.number_id, number.to_bytes(2, "big")))
        return rtp.extension_block(elements, wide=wide)

    def _repeat(self, segment: _Segment, packet: rtp.Packet, number: int, original: int, marker: bool) -> bytes:
        """RFC 4588: a number of its own, then the original one, then the payload as it was."""
        payload = packet.payload
        if (segment.picture or segment.tl0) and not packet.padding_only():
            payload = payloads.shift(payload, segment.stream.glance(payload), segment.picture, segment.tl0)
        block = self._block(segment, packet, number)
        first = 0x80 | packet.padding << 5 | (16 if block else 0)
        kind = marker << 7 | (segment.rtx_payload_type or 0)
        self._rtx_sequence = (self._rtx_sequence + 1) & 0xFFFF
        timestamp = (packet.timestamp + segment.timestamp) & 0xFFFFFFFF
        head = _HEADER(first, kind, self._rtx_sequence, timestamp, self.spec.rtx_ssrc)
        return head + block + original.to_bytes(2, "big") + payload

    def again(self, sequence: int, number: int) -> bytes | None:
        """The retransmission of the packet that went out under this number, when it is still known."""
        if self.paused or rtp.newer(sequence, self._sequence):
            return None
        for segment in reversed(self._segments):
            if not rtp.newer(segment.first, sequence):
                break
        else:
            return None
        last, theirs = False, sequence - segment.sequence
        if segment.scalable:
            given = self._given.known(sequence) if self._given is not None else None
            if given is None or given.empty or given.switch != segment.number:
                return None
            theirs, last = given.theirs, given.last
        packet = segment.stream.recall(theirs & 0xFFFF)
        if packet is None or segment.rtx_payload_type is None:
            return None
        self.retransmitted += 1
        return self._repeat(segment, packet, number, sequence, packet.marker or last)

    def translate(self, report: SenderReport) -> SenderReport | None:
        """The publisher's sender report in this section's numbers: keeps sound and picture together."""
        if self._now is None or self._now.stream.ssrc != report.ssrc:
            return None
        timestamp = (report.timestamp + self._now.timestamp) & 0xFFFFFFFF
        return SenderReport(self.spec.ssrc, report.ntp, timestamp, self.packets, self.octets)


def _numbers(stream: Reception, packet: rtp.Packet) -> tuple[int, int, int] | None:
    """Picture id, TL0PICIDX and frame number as the publisher wrote them."""
    what = packet.glance or stream.glance(packet.payload)
    if what is None:
        return None
    frame = what.descriptor.frame if isinstance(what.descriptor, Descriptor) else 0
    return (*payloads.numbers(packet.payload, what), frame)


def _moved(descriptor: bytes, by: int) -> bytes:
    """A dependency descriptor whose frame number is moved by so much."""
    if len(descriptor) < 3:
        return descriptor
    frame = int.from_bytes(descriptor[1:3], "big") + by & 0xFFFF
    return descriptor[:1] + frame.to_bytes(2, "big") + descriptor[3:]
