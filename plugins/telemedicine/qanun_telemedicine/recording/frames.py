"""From RTP payloads back to whole frames: VP8 (RFC 7741) and Opus (RFC 7587). Nothing is decoded."""

from dataclasses import dataclass
from typing import Protocol

from qanun_telemedicine.recording.rtp import Packet

#: Ticks of 1/48000 s in one Opus frame, by the configuration number in its first byte (RFC 6716 §3.1).
_SILK, _HYBRID, _CELT = (480, 960, 1920, 2880), (480, 960), (120, 240, 480, 960)
_OPUS_TICKS = _SILK * 3 + _HYBRID * 2 + _CELT * 4


@dataclass(slots=True)
class Frame:
    """One frame as a container stores it. `lost`: something before it is missing, so it may not be decodable."""

    timestamp: int
    data: bytes
    key: bool
    lost: bool
    arrival_ns: int
    width: int = 0
    height: int = 0


class Assembler(Protocol):
    """Turns packets in order into frames."""

    def push(self, packet: Packet, lost: bool) -> Frame | None: ...


class Vp8Assembler:
    """Collects the partitions of a VP8 frame. A frame with a part missing is dropped, and the next one says `lost`."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._timestamp = -1
        self._damaged = False
        self._lost = False

    def push(self, packet: Packet, lost: bool) -> Frame | None:
        if lost:
            self._damaged = self._lost = True
        start, payload = strip_vp8_descriptor(packet.payload)
        if not payload:
            return None  # padding, or not VP8
        if packet.timestamp != self._timestamp or start:
            if self._parts:
                self._lost = True  # the frame before never ended
            self._parts = []
            self._timestamp = packet.timestamp
            self._damaged = not start
        self._parts.append(payload)
        if not packet.marker:
            return None
        data = b"".join(self._parts)
        self._parts = []
        if self._damaged:
            self._lost = True
            return None
        key = not data[0] & 1
        width = height = 0
        if key:
            if len(data) < 10 or data[3:6] != b"\x9d\x01\x2a":
                self._lost = True
                return None
            width = int.from_bytes(data[6:8], "little") & 0x3FFF
            height = int.from_bytes(data[8:10], "little") & 0x3FFF
        frame = Frame(packet.timestamp, data, key, self._lost, packet.arrival_ns, width, height)
        self._lost = False
        return frame


def strip_vp8_descriptor(payload: bytes) -> tuple[bool, bytes]:
    """Whether a frame starts here, and the payload behind the VP8 descriptor (empty when there is none)."""
    if not payload:
        return False, b""
    first, place = payload[0], 1
    if first & 0x80:
        if len(payload) < 2:
            return False, b""
        extensions, place = payload[1], 2
        if extensions & 0x80:
            place += 2 if len(payload) > 2 and payload[2] & 0x80 else 1
        place += bool(extensions & 0x40) + bool(extensions & 0x30)
    return first & 0x17 == 0x10, payload[place:]


class OpusAssembler:
    """Every packet is a frame."""

    def push(self, packet: Packet, lost: bool) -> Frame | None:
        if not opus_ticks(packet.payload):
            return None
        return Frame(packet.timestamp, packet.payload, True, lost, packet.arrival_ns)


def opus_ticks(data: bytes) -> int:
    """How long an Opus packet plays, in 1/48000 s; 0 when it is not a valid one (longer than 120 ms, or no frame)."""
    if not data:
        return 0
    code = data[0] & 3
    count = (1, 2, 2, data[1] & 0x3F if len(data) > 1 else 0)[code]
    ticks = _OPUS_TICKS[data[0] >> 3] * count
    return ticks if ticks <= 5760 else 0


ASSEMBLERS: dict[str, type[Vp8Assembler] | type[OpusAssembler]] = {
    "video/vp8": Vp8Assembler,
    "audio/opus": OpusAssembler,
}
