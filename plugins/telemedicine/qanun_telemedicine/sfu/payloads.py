"""What the beginning of an RTP payload says of the picture in it: VP8 (RFC 7741), VP9 (RFC 9628), H.264 (RFC 6184), AV1, and RED (RFC 2198).

Only descriptors and parameter sets are looked at; no picture is decoded. Input comes from the network: whatever is cut short
or makes no sense gives None.
"""

import struct
from collections.abc import Callable

_SHORT = struct.Struct("!H")

#: Names of what is negotiated, in the order by which the C side knows them. The last two differ in their profile only.
CODECS = ("opus", "vp8", "vp9", "av1", "h264", "h264-high")
#: Codecs whose one stream holds several layers: what a subscriber does not get is left out, and the rest is numbered anew.
SCALABLE = frozenset({"vp9", "av1"})
#: Layers that are told apart, of each kind; what is above counts as the uppermost.
MOST_LAYERS = 4

_STAP_A, _FU_A, _SPS = 24, 28, 7
#: So much of a parameter set is read.
_SPS_MOST = 128
_WITH_CHROMA = frozenset({44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244})


class Glance:
    """Where the changeable numbers of a descriptor are (0 when absent), and which part of which picture follows it."""

    __slots__ = (
        "begins",
        "descriptor",
        "ends",
        "key",
        "layered",
        "picture_at",
        "picture_long",
        "predicted",
        "spatial",
        "temporal",
        "tl0_at",
        "up",
        "width",
        "widths",
    )

    def __init__(self, *, key: bool = False, width: int = 0) -> None:
        #: A key frame begins here: whoever gets this and what follows can decode it.
        self.key = key
        self.width = width
        self.picture_at = 0
        self.picture_long = False
        self.tl0_at = 0
        #: Of one layer's part of a picture.
        self.begins = self.ends = False
        #: Refers to other pictures, not only to lower layers of the same one.
        self.predicted = False
        #: Higher temporal layers may be joined here.
        self.up = False
        self.spatial = self.temporal = 0
        #: The stream has layers.
        self.layered = False
        #: By spatial layer, when told here.
        self.widths: tuple[int, ...] = ()
        #: What the dependency descriptor said, for AV1.
        self.descriptor: object = None


def vp8(payload: bytes) -> Glance | None:
    """The descriptor at the beginning of a VP8 payload."""
    size = len(payload)
    if size < 1:
        return None
    first = payload[0]
    at = 1
    what = Glance()
    if first & 0x80:
        if size < 2:
            return None
        present = payload[1]
        at = 2
        if present & 0x80:
            if size <= at:
                return None
            what.picture_at = at
            what.picture_long = payload[at] > 127
            at += 2 if what.picture_long else 1
        if present & 0x40:
            what.tl0_at = at
            at += 1
        if present & 0x30:
            at += 1
        if at > size:
            return None
    if first & 0x17 == 0x10 and size > at and not payload[at] & 1:
        # RFC 6386, 9.1: three bytes of frame tag, a start code, then 14 bits of width.
        what.key = size >= at + 10 and payload[at + 3 : at + 6] == b"\x9d\x01\x2a"
        if what.key:
            what.width = (payload[at + 6] | payload[at + 7] << 8) & 0x3FFF
    return what


def vp9(payload: bytes) -> Glance | None:
    """The descriptor at the beginning of a VP9 payload, flexible or not."""
    size = len(payload)
    if size < 1:
        return None
    first = payload[0]
    at = 1
    what = Glance()
    spatial = 0
    if first & 0x80:
        if size <= at:
            return None
        what.picture_at = at
        what.picture_long = payload[at] > 127
        at += 2 if what.picture_long else 1
    if first & 0x20:
        if size <= at:
            return None
        layer = payload[at]
        at += 1
        spatial = layer >> 1 & 7
        what.layered = True
        what.up = bool(layer & 0x10)
        what.temporal = min(layer >> 5, MOST_LAYERS - 1)
        what.spatial = min(spatial, MOST_LAYERS - 1)
        if not first & 0x10:
            what.tl0_at = at
            at += 1
    if first & 0x50 == 0x50:
        for _ in range(3):
            if size <= at:
                return None
            at += 1
            if not payload[at - 1] & 1:
                break
    if first & 0x02:
        if size <= at:
            return None
        head = payload[at]
        at += 1
        if head & 0x10:
            layers = (head >> 5) + 1
            if at + 4 * layers > size:
                return None
            widths = [payload[at + 4 * n] << 8 | payload[at + 4 * n + 1] for n in range(layers)]
            what.widths = tuple(widths[:MOST_LAYERS])
            what.width = widths[-1]
            at += 4 * layers
        if head & 0x08:
            if size <= at:
                return None
            pictures = payload[at]
            at += 1
            for _ in range(pictures):
                if size <= at:
                    return None
                at += 1 + (payload[at] >> 2 & 3)
    if at > size:
        return None
    what.begins, what.ends = bool(first & 0x08), bool(first & 0x04)
    what.predicted = bool(first & 0x40)
    what.key = what.begins and not what.predicted and not spatial
    return what


def h264(payload: bytes) -> Glance | None:
    """Whether an H.264 key frame begins here: with its sequence parameter set, without which nothing could be decoded."""
    size = len(payload)
    if size < 1:
        return None
    kind = payload[0] & 31
    sps = b""
    if kind == _SPS:
        sps = payload
    elif kind == _FU_A:
        if size > 1 and payload[1] & 0x9F == 0x80 | _SPS:
            sps = payload[1:]
    elif kind == _STAP_A:
        at = 1
        while at + 2 < size:
            length = payload[at] << 8 | payload[at + 1]
            at += 2
            if not length or at + length > size:
                break
            if payload[at] & 31 == _SPS:
                sps = payload[at : at + length]
                break
            at += length
    return Glance(key=True, width=sps_size(sps)[0]) if sps else None


def av1(payload: bytes) -> Glance | None:
    """By the aggregation header alone: whether a coded video sequence begins here."""
    return Glance(key=True) if payload and payload[0] & 0x88 == 0x08 else None


class Bits:
    """Reads bit by bit; past the end everything is zero and `short` is set."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data = data
        self._at = at
        self.short = False

    def take(self, count: int) -> int:
        value = 0
        for _ in range(count):
            byte = self._at >> 3
            if byte >= len(self._data):
                self.short = True
                return 0
            value = value << 1 | self._data[byte] >> (7 - (self._at & 7)) & 1
            self._at += 1
        return value

    def exp_golomb(self) -> int:
        """Unsigned (H.264, 9.1)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if self.short or zeros > 31:
                self.short = True
                return 0
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        value = self.exp_golomb()
        return (value + 1) // 2 if value & 1 else -(value // 2)

    def nearly(self, most: int) -> int:
        """A number below `most` in as few bits as it takes (AV1's ns(n))."""
        width = most.bit_length()
        shorter = (1 << width) - most
        value = self.take(width - 1)
        return value if value < shorter else (value << 1) - shorter + self.take(1)


def sps_size(nal: bytes) -> tuple[int, int]:
    """Width and height of a sequence parameter set (H.264, 7.3.2.1.1), in pixels of the cropped picture; zeros when unreadable."""
    plain = bytearray()
    zeros = 0
    for byte in nal[:_SPS_MOST]:
        if zeros >= 2 and byte == 3:
            zeros = 0  # emulation prevention
            continue
        zeros = zeros + 1 if byte == 0 else 0
        plain.append(byte)
    if len(plain) < 5:
        return 0, 0
    bits = Bits(bytes(plain), 32)
    bits.exp_golomb()
    chroma = 1
    if plain[1] in _WITH_CHROMA:
        chroma = bits.exp_golomb()
        if chroma == 3:
            bits.take(1)
        bits.exp_golomb()
        bits.exp_golomb()
        bits.take(1)
        if bits.take(1):
            for index in range(12 if chroma == 3 else 8):
                if bits.take(1):
                    _skip_scaling(bits, 16 if index < 6 else 64)
    bits.exp_golomb()
    order = bits.exp_golomb()
    if order == 0:
        bits.exp_golomb()
    elif order == 1:
        bits.take(1)
        bits.signed()
        bits.signed()
        for _ in range(min(bits.exp_golomb(), 255)):
            bits.signed()
    bits.exp_golomb()
    bits.take(1)
    wide, high = bits.exp_golomb() + 1, bits.exp_golomb() + 1
    frames_only = bits.take(1)
    if not frames_only:
        bits.take(1)
    bits.take(1)
    left = right = top = bottom = 0
    if bits.take(1):
        left, right, top, bottom = (bits.exp_golomb() for _ in range(4))
    if bits.short or chroma > 3 or wide > 1024 or high > 1024:
        return 0, 0
    across = 2 if chroma in (1, 2) else 1
    down = (2 if chroma == 1 else 1) * (2 - frames_only)
    width = wide * 16 - across * (left + right)
    height = high * 16 * (2 - frames_only) - down * (top + bottom)
    return (width, height) if width > 0 and height > 0 else (0, 0)


def _skip_scaling(bits: Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) & 255
        last = following or last


def shift(payload: bytes, where: Glance | None, picture: int, tl0: int) -> bytes:
    """The payload with its picture id and TL0PICIDX moved by so much, as if the streams that we joined were one."""
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


def numbers(payload: bytes, where: Glance) -> tuple[int, int]:
    """Picture id and TL0PICIDX of a payload (0 for an absent one)."""
    picture = 0
    if where.picture_at:
        picture = (
            _SHORT.unpack_from(payload, where.picture_at)[0] & 0x7FFF
            if where.picture_long
            else payload[where.picture_at]
        )
    return picture, payload[where.tl0_at] if where.tl0_at else 0


#: Payload → descriptor, by codec.
READERS: dict[str, Callable[[bytes], Glance | None]] = {
    "vp8": vp8,
    "vp9": vp9,
    "av1": av1,
    "h264": h264,
    "h264-high": h264,
}


def red_primary(payload: bytes) -> int | None:
    """Where the primary encoding of a RED payload begins; what stands before it repeats older sound."""
    size = len(payload)
    at = older = 0
    while at < size and payload[at] & 0x80:
        if at + 4 > size:
            return None
        older += (payload[at + 2] & 3) << 8 | payload[at + 3]
        at += 4
    if at >= size:
        return None
    start = at + 1 + older
    return start if start <= size else None


def red_renamed(payload: bytes, payload_type: int) -> bytes:
    """A RED payload whose blocks all say this payload type: the subscriber's number for what is in them."""
    changed = bytearray(payload)
    at = 0
    while changed[at] & 0x80:
        changed[at] = 0x80 | payload_type
        at += 4
    changed[at] = payload_type
    return bytes(changed)
