"""RTP packets (RFC 3550) and their header extensions (RFC 8285), read and written as bytes. What is in payloads: `payloads.py`.

Input comes from the network: whatever is malformed gives None.
"""

import struct

from qanun_telemedicine.sfu.payloads import Glance

HEADER = struct.Struct("!BBHII")

MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
RID = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
REPAIRED_RID = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"
AUDIO_LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
TRANSPORT_CC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
VIDEO_ORIENTATION = "urn:3gpp:video-orientation"
PLAYOUT_DELAY = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"
CONTENT_TYPE = "http://www.webrtc.org/experiments/rtp-hdrext/video-content-type"
COLOR_SPACE = "http://www.webrtc.org/experiments/rtp-hdrext/color-space"
DEPENDENCY = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"

#: Extensions that mean the same to the subscriber as to us and travel with the packet.
CARRIED = frozenset({AUDIO_LEVEL, VIDEO_ORIENTATION, PLAYOUT_DELAY, CONTENT_TYPE, COLOR_SPACE, DEPENDENCY})

ONE_BYTE_PROFILE = 0xBEDE
TWO_BYTE_PROFILE = 0x1000


class Packet:
    """One RTP packet after decryption. `payload` still ends in its padding when `padding` is set."""

    __slots__ = (
        "carried",
        "extensions",
        "glance",
        "key",
        "marker",
        "padding",
        "payload",
        "payload_type",
        "red",
        "sequence",
        "ssrc",
        "timestamp",
    )

    def __init__(
        self,
        payload_type: int,
        sequence: int,
        timestamp: int,
        ssrc: int,
        payload: bytes,
        marker: bool = False,
        padding: bool = False,
        extensions: dict[int, bytes] | None = None,
    ) -> None:
        self.payload_type = payload_type
        self.sequence = sequence
        self.timestamp = timestamp
        self.ssrc = ssrc
        self.payload = payload
        self.marker = marker
        self.padding = padding
        self.extensions: dict[int, bytes] = {} if extensions is None else extensions
        #: This packet begins a key frame. Set by whoever knows the codec.
        self.key = False
        #: What its payload begins with, where that matters for every packet.
        self.glance: Glance | None = None
        #: Sound with older sound before it: where the newest begins in the payload. 0 for plain sound.
        self.red = 0
        #: Some of its extensions may travel on. Set by whoever knows their ids.
        self.carried = True

    def padding_only(self) -> bool:
        return not self.payload or (self.padding and self.payload[-1] >= len(self.payload))


def parse(data: bytes) -> Packet | None:
    """The packet in `data`, or None when it is not one."""
    size = len(data)
    if size < 12:
        return None
    first, second, sequence, timestamp, ssrc = HEADER.unpack_from(data)
    if first >> 6 != 2:
        return None
    start = 12 + 4 * (first & 15)
    extensions: dict[int, bytes] | None = None
    if first & 16:
        if start + 4 > size:
            return None
        profile = data[start] << 8 | data[start + 1]
        end = start + 4 + 4 * (data[start + 2] << 8 | data[start + 3])
        if end > size:
            return None
        extensions = _extensions(data, start + 4, end, profile)
        start = end
    if start > size:
        return None
    padding = bool(first & 32)
    if padding and (start == size or data[-1] == 0 or data[-1] > size - start):
        return None
    return Packet(second & 127, sequence, timestamp, ssrc, data[start:], second > 127, padding, extensions)


def _extensions(data: bytes, at: int, end: int, profile: int) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    if profile == ONE_BYTE_PROFILE:
        while at < end:
            head = data[at]
            if head == 0:
                at += 1
                continue
            number = head >> 4
            stop = at + 2 + (head & 15)
            # An id of 0 with a length ends the reading (RFC 8285, 4.2), as 15 does.
            if number in (0, 15) or stop > end:
                break
            found[number] = data[at + 1 : stop]
            at = stop
    elif profile & 0xFFF0 == 0x1000:
        while at + 1 < end:
            if data[at] == 0:
                at += 1
                continue
            stop = at + 2 + data[at + 1]
            if stop > end:
                break
            found[data[at]] = data[at + 2 : stop]
            at = stop
    return found


def extension_block(elements: list[tuple[int, bytes]], *, wide: bool = False) -> bytes:
    """The header extension for `elements`: ids 1 to 14, values of 1 to 16 bytes; others are left out. In the two-byte form
    (`wide`) values of up to 255 bytes."""
    if wide:
        body = b"".join(
            bytes((number, len(value))) + value for number, value in elements if 0 < number < 15 and len(value) < 256
        )
    else:
        body = b"".join(
            bytes((number << 4 | len(value) - 1,)) + value
            for number, value in elements
            if 0 < number < 15 and 0 < len(value) < 17
        )
    if not body:
        return b""
    words = (len(body) + 3) // 4
    profile = TWO_BYTE_PROFILE if wide else ONE_BYTE_PROFILE
    return struct.pack("!HH", profile, words) + body.ljust(4 * words, b"\0")


def serialise(packet: Packet, extensions: bytes = b"") -> bytes:
    """The bytes of `packet` with this ready extension block in place of its own extensions."""
    return (
        HEADER.pack(
            0x80 | packet.padding << 5 | (16 if extensions else 0),
            packet.marker << 7 | packet.payload_type,
            packet.sequence,
            packet.timestamp,
            packet.ssrc,
        )
        + extensions
        + packet.payload
    )


def newer(a: int, b: int) -> bool:
    """Whether 16-bit sequence number `a` comes after `b`."""
    return 0 < (a - b) & 0xFFFF < 0x8000
