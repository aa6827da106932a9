"""RTP packets as the recorder receives them: already decrypted, possibly late, twice or never. Nothing is sent from
here."""

import struct
from dataclasses import dataclass

_FIXED = struct.Struct(">BBHII")


@dataclass(slots=True)
class Packet:
    """One RTP packet: header fields, payload without padding, and when it arrived (monotonic, ns)."""

    sequence: int
    timestamp: int
    ssrc: int
    payload_type: int
    marker: bool
    payload: bytes
    arrival_ns: int


def parse(data: bytes, arrival_ns: int) -> Packet | None:
    """The packet in `data`, or None when it is not RTP (RFC 3550): the recorder then leaves it out."""
    if len(data) < 12 or data[0] >> 6 != 2:
        return None
    first, second, sequence, timestamp, ssrc = _FIXED.unpack_from(data)
    start = 12 + 4 * (first & 0x0F)
    if first & 0x10:
        if len(data) < start + 4:
            return None
        start += 4 + 4 * int.from_bytes(data[start + 2 : start + 4], "big")
    end = len(data)
    if first & 0x20:
        end -= data[-1]
    if start > end:
        return None
    return Packet(sequence, timestamp, ssrc, second & 0x7F, second > 0x7F, data[start:end], arrival_ns)


class Reorder:
    """Puts the packets of one stream back in order and waits a while for missing ones, which may be retransmitted.

    `push` and `release` give (packet, lost) pairs: `lost` says that packets are missing right before this one.
    """

    def __init__(self, wait_ms: int) -> None:
        self._wait_ns = wait_ms * 1_000_000
        self._held: dict[int, Packet] = {}
        self._next: int | None = None
        self._lost = False
        self.duplicates = 0
        self.missing = 0

    def push(self, packet: Packet) -> list[tuple[Packet, bool]]:
        if self._next is None:
            self._next = packet.sequence
        ahead = (packet.sequence - self._next) & 0xFFFF
        if ahead >= 0x8000:
            self.duplicates += 1  # a repetition, or later than we waited
            return []
        if ahead > 2000:
            # Not a gap but another numbering; what was held belongs to the old one.
            ready = self._drain_all()
            self._next = packet.sequence
            self._lost = True
            return [*ready, *self.push(packet)]
        if packet.sequence in self._held:
            self.duplicates += 1
            return []
        self._held[packet.sequence] = packet
        return [*self._in_order(), *self.release(packet.arrival_ns)]

    def release(self, now_ns: int) -> list[tuple[Packet, bool]]:
        """Give up on packets that were waited for long enough."""
        ready: list[tuple[Packet, bool]] = []
        while self._held and self._next is not None:
            start = self._next
            first = min(self._held, key=lambda sequence: (sequence - start) & 0xFFFF)
            if now_ns - min(packet.arrival_ns for packet in self._held.values()) < self._wait_ns:
                break
            self._skip_to(first)
            ready += self._in_order()
        return ready

    def flush(self) -> list[tuple[Packet, bool]]:
        """Everything that is still held; after it the buffer is empty and goes on where it was."""
        return self._drain_all()

    def _drain_all(self) -> list[tuple[Packet, bool]]:
        ready: list[tuple[Packet, bool]] = []
        while self._held and self._next is not None:
            start = self._next
            self._skip_to(min(self._held, key=lambda sequence: (sequence - start) & 0xFFFF))
            ready += self._in_order()
        return ready

    def _skip_to(self, sequence: int) -> None:
        assert self._next is not None
        skipped = (sequence - self._next) & 0xFFFF
        self.missing += skipped
        self._lost = self._lost or skipped > 0
        self._next = sequence

    def _in_order(self) -> list[tuple[Packet, bool]]:
        ready: list[tuple[Packet, bool]] = []
        while self._next in self._held:
            assert self._next is not None
            ready.append((self._held.pop(self._next), self._lost))
            self._lost = False
            self._next = (self._next + 1) & 0xFFFF
        return ready
