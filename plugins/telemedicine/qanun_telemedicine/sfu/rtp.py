"""RTP packets (RFC 3550), their header extensions (RFC 8285) and the VP8 payload descriptor (RFC 7741), read and written as bytes.

Only headers are looked at; no picture or sound is decoded. Input comes from the network: whatever is malformed gives None.
"""

import struct

HEADER = struct.Struct("!BBHII")
_SHORT = struct.Struct("!H")

MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
RID = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
REPAIRED_RID = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"
AUDIO_LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
TRANSPORT_CC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
VIDEO_ORIENTATION = "urn:3gpp:video-orientation"
PLAYOUT_DELAY = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"
CONTENT_TYPE = "http://www.webrtc.org/experiments/rtp-hdrext/video-content-type"
COLOR_SPACE = "http://www.webrtc.org/experiments/rtp-hdrext/color-space"

#: Extensions that mean the same to the subscriber as to us and travel with the packet.
CARRIED = frozenset({AUDIO_LEVEL, VIDEO_ORIENTATION, PLAYOUT_DELAY, CONTENT_TYPE, COLOR_SPACE})

ONE_BYTE_PROFILE = 0xBEDE


class Packet:
    """One RTP packet after decryption. `payload` still ends in its padding when `padding` is set."""

    __slots__ = (
        "carried",
        "extensions",
        "key",
        "marker",
        "padding",
        "payload",
        "payload_type",
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
        #: For VP8: this packet begins a key frame. Set by whoever knows the codec.
        self.key = False
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


def extension_block(elements: list[tuple[int, bytes]]) -> bytes:
    """The header extension for `elements`, one-byte form: ids 1 to 14, values of 1 to 16 bytes. Others are left out."""
    body = b"".join(
        bytes((number << 4 | len(value) - 1,)) + value
        for number, value in elements
        if 0 < number < 15 and 0 < len(value) < 17
    )
    if not body:
        return b""
    words = (len(body) + 3) // 4
    return struct.pack("!HH", ONE_BYTE_PROFILE, words) + body.ljust(4 * words, b"\0")


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


class Vp8:
    """Where the changeable numbers of a VP8 payload descriptor are, and whether a key frame begins here."""

    __slots__ = ("key", "picture_at", "picture_long", "tl0_at", "width")

    def __init__(self, key: bool, width: int, picture_at: int, picture_long: bool, tl0_at: int) -> None:
        self.key = key
        self.width = width
        self.picture_at = picture_at
        self.picture_long = picture_long
        self.tl0_at = tl0_at


def vp8(payload: bytes) -> Vp8 | None:
    """The descriptor at the beginning of a VP8 payload, or None when it is cut short. Positions are 0 when absent."""
    size = len(payload)
    if size < 1:
        return None
    first = payload[0]
    at = 1
    picture_at = tl0_at = 0
    picture_long = False
    if first & 0x80:
        if size < 2:
            return None
        present = payload[1]
        at = 2
        if present & 0x80:
            if size <= at:
                return None
            picture_at = at
            picture_long = payload[at] > 127
            at += 2 if picture_long else 1
        if present & 0x40:
            tl0_at = at
            at += 1
        if present & 0x30:
            at += 1
        if at > size:
            return None
    key = False
    width = 0
    if first & 0x17 == 0x10 and size > at and not payload[at] & 1:
        # RFC 6386, 9.1: three bytes of frame tag, a start code, then 14 bits of width.
        key = size >= at + 10 and payload[at + 3 : at + 6] == b"\x9d\x01\x2a"
        if key:
            width = (payload[at + 6] | payload[at + 7] << 8) & 0x3FFF
    return Vp8(key, width, picture_at, picture_long, tl0_at)


def shift_vp8(payload: bytes, picture: int, tl0: int) -> bytes:
    """The payload with its picture id and TL0PICIDX moved by so much, as if the streams that we joined were one."""
    where = vp8(payload)
    if where is None or not (where.picture_at or where.tl0_at):
        return payload
    changed = bytearray(payload)
    if where.picture_at:
        if where.picture_long:
            number = _SHORT.unpack_from(payload, where.picture_at)[0] & 0x7FFF
            _SHORT.pack_into(changed, where.picture_at, 0x8000 | (number + picture) & 0x7FFF)
        else:
            changed[where.picture_at] = (payload[where.picture_at] + picture) & 0x7F
    if where.tl0_at:
        changed[where.tl0_at] = (payload[where.tl0_at] + tl0) & 0xFF
    return bytes(changed)


def vp8_numbers(payload: bytes) -> tuple[int, int] | None:
    """Picture id and TL0PICIDX of a VP8 payload (0 for an absent one)."""
    where = vp8(payload)
    if where is None:
        return None
    picture = 0
    if where.picture_at:
        picture = (
            _SHORT.unpack_from(payload, where.picture_at)[0] & 0x7FFF
            if where.picture_long
            else payload[where.picture_at]
        )
    return picture, payload[where.tl0_at] if where.tl0_at else 0
