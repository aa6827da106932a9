"""Payloads and dependency descriptors as cameras with layers send them, made from nothing but the specifications."""

from collections.abc import Sequence
from dataclasses import dataclass

from qanun_telemedicine.sfu.dependency import DISCARDABLE, NOT_PRESENT, REQUIRED, SWITCH


class Writer:
    """Bits, first one first."""

    def __init__(self) -> None:
        self.bits: list[int] = []

    def put(self, value: int, count: int) -> "Writer":
        self.bits += [value >> (count - 1 - n) & 1 for n in range(count)]
        return self

    def nearly(self, value: int, most: int) -> None:
        width = most.bit_length()
        shorter = (1 << width) - most
        if value < shorter:
            self.put(value, width - 1)
        else:
            self.put(value + shorter, width)

    def exp_golomb(self, value: int) -> "Writer":
        length = (value + 1).bit_length()
        return self.put(value + 1, 2 * length - 1)

    def data(self) -> bytes:
        bits = self.bits + [0] * (-len(self.bits) % 8)
        return bytes(int("".join(map(str, bits[at : at + 8])), 2) for at in range(0, len(bits), 8))


@dataclass(frozen=True)
class Mode:
    """A scalability mode: so many layers; `key_only`: higher spatial layers refer to lower ones in key frames only."""

    spatial: int
    temporal: int
    key_only: bool = False

    def layers(self) -> list[tuple[int, int]]:
        return [(s, t) for s in range(self.spatial) for t in range(self.temporal)]

    def indication(self, layer: tuple[int, int], target: tuple[int, int], key: bool) -> int:
        (spatial, temporal), (reach, reach_temporal) = layer, target
        if reach < spatial or reach_temporal < temporal:
            return NOT_PRESENT
        if reach == spatial:
            if reach_temporal == 0 or reach_temporal > temporal:
                return SWITCH
            return DISCARDABLE if temporal else SWITCH
        if key:
            return SWITCH
        return NOT_PRESENT if self.key_only else REQUIRED

    def structure(self, offset: int, widths: Sequence[int], chains: int = 0) -> Writer:
        """The dependency structure: for each layer a template of a key frame and one of others."""
        out = Writer().put(offset, 6).put(len(self.layers()) - 1, 5)
        templates = self.templates()
        for at, (layer, _) in enumerate(templates):
            following = templates[at + 1][0] if at + 1 < len(templates) else None
            step = 3 if following is None else 0 if following == layer else 1 if following[0] == layer[0] else 2
            out.put(step, 2)
        for layer, key in templates:
            for target in self.layers():
                out.put(self.indication(layer, target, key), 2)
        for at in range(len(templates)):
            for _ in range(at % 3):
                out.put(1, 1).put(at % 16, 4)
            out.put(0, 1)
        out.nearly(chains, len(self.layers()) + 1)
        if chains:
            for at in range(len(self.layers())):
                out.nearly(at % chains, chains)
            for at in range(len(templates) * chains):
                out.put(at % 16, 4)
        out.put(1 if widths else 0, 1)
        for width in widths:
            out.put(width - 1, 16).put(width // 2 - 1, 16)
        return out

    def templates(self) -> list[tuple[tuple[int, int], bool]]:
        return [(layer, key) for layer in self.layers() for key in ((True, False) if layer[1] == 0 else (False,))]


def descriptor(
    mode: Mode,
    layer: tuple[int, int],
    frame: int,
    *,
    key: bool,
    begins: bool = True,
    ends: bool = True,
    offset: int = 0,
    widths: Sequence[int] | None = None,
    active: int | None = None,
    chains: int = 0,
    custom: Sequence[int] = (),
) -> bytes:
    """A dependency descriptor; with the structure when `widths` (at least an empty list) are given."""
    template = (mode.templates().index((layer, key)) + offset) % 64
    out = Writer().put(begins, 1).put(ends, 1).put(template, 6).put(frame & 0xFFFF, 16)
    if widths is not None or active is not None or custom:
        out.put(widths is not None, 1).put(active is not None, 1).put(bool(custom), 1).put(0, 2)
        if widths is not None:
            out.bits += mode.structure(offset, widths, chains).bits
        if active is not None:
            out.put(active, len(mode.layers()))
        for each in custom:
            out.put(each, 2)
    return out.data()


def vp9_payload(
    layer: tuple[int, int] | None,
    picture: int,
    *,
    predicted: bool,
    begins: bool = True,
    ends: bool = True,
    up: bool = False,
    flexible: bool = False,
    tl0: int = 0,
    widths: Sequence[int] = (),
    short: bool = False,
) -> bytes:
    """A VP9 payload descriptor and a little behind it. `layer`: (spatial, temporal), or None for a stream without layers."""
    first = (
        0x80 | predicted << 6 | (layer is not None) << 5 | flexible << 4 | begins << 3 | ends << 2 | bool(widths) << 1
    )
    out = bytes((first,))
    out += bytes((picture & 0x7F,)) if short else (0x8000 | picture & 0x7FFF).to_bytes(2, "big")
    if layer is not None:
        spatial, temporal = layer
        out += bytes((temporal << 5 | up << 4 | spatial << 1 | (spatial > 0),))
        if not flexible:
            out += bytes((tl0 & 255,))
    if flexible and predicted:
        out += b"\x03\x04"
    if widths:
        out += bytes(((len(widths) - 1) << 5 | 0x18,))
        for width in widths:
            out += width.to_bytes(2, "big") + (width // 2).to_bytes(2, "big")
        out += b"\x02\x04\x01\x18\x01\x02"
    return out + b"picture"


def sps(width: int, height: int, *, high: bool = False) -> bytes:
    """A sequence parameter set as the NAL unit that it is."""
    out = Writer().put(0x67, 8).put(100 if high else 66, 8).put(0 if high else 0xE0, 8).put(31, 8).exp_golomb(0)
    if high:
        out.exp_golomb(1).exp_golomb(0).exp_golomb(0).put(0, 1).put(0, 1)
    out.exp_golomb(0).exp_golomb(2).exp_golomb(1).put(0, 1)
    across, down = -(-width // 16), -(-height // 16)
    out.exp_golomb(across - 1).exp_golomb(down - 1).put(1, 1).put(1, 1)
    cropped = (across * 16 - width) // 2, (down * 16 - height) // 2
    out.put(any(cropped), 1)
    if any(cropped):
        out.exp_golomb(0).exp_golomb(cropped[0]).exp_golomb(0).exp_golomb(cropped[1])
    out.put(0, 1).put(1, 1)
    plain, escaped, zeros = out.data(), bytearray(), 0
    for byte in plain:
        if zeros == 2 and byte < 4:
            escaped.append(3)
            zeros = 0
        zeros = zeros + 1 if byte == 0 else 0
        escaped.append(byte)
    return bytes(escaped)


PPS, IDR, INTER = b"\x68\xce\x38\x80", b"\x65\x88\x84\x00key picture", b"\x61\x9a\x00other picture"


def stap(*units: bytes) -> bytes:
    return b"\x78" + b"".join(len(unit).to_bytes(2, "big") + unit for unit in units)


def fragments(unit: bytes, size: int) -> list[bytes]:
    """One NAL unit in FU-A packets of at most so many bytes."""
    head, body = unit[0], unit[1:]
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return [
        bytes((head & 0xE0 | 28, (at == 0) << 7 | (at == len(pieces) - 1) << 6 | head & 31)) + piece
        for at, piece in enumerate(pieces)
    ]


def red_payload(payload_type: int, primary: bytes, older: Sequence[bytes] = ()) -> bytes:
    """The newest sound behind copies of older sound (RFC 2198)."""
    heads = b"".join(bytes((0x80 | payload_type,)) + (960 << 10 | len(one)).to_bytes(3, "big") for one in older)
    return heads + bytes((payload_type,)) + b"".join(older) + primary
