"""RTCP (RFC 3550, 4585, 5104, transport-wide feedback, REMB): the packets that a forwarder reads and writes.

Unknown packet types and report extensions are stepped over, a malformed packet ends the reading of its compound.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_HEAD = struct.Struct("!BBH")
_SENDER_INFO = struct.Struct("!IIIII")
_BLOCK = struct.Struct("!IIIIII")
_TWO = struct.Struct("!II")

SR, RR, SDES, BYE, RTPFB, PSFB = 200, 201, 202, 203, 205, 206


@dataclass(frozen=True, slots=True)
class Report:
    """One report block: how the other side receives the stream `ssrc`."""

    ssrc: int
    fraction_lost: int
    packets_lost: int
    highest_sequence: int
    jitter: int
    last_sr: int
    delay: int


@dataclass(frozen=True, slots=True)
class SenderReport:
    ssrc: int
    ntp: int
    timestamp: int
    packets: int
    octets: int


@dataclass(frozen=True, slots=True)
class Nack:
    media_ssrc: int
    sequences: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class KeyFrameRequest:
    """PLI, or one entry of a FIR."""

    media_ssrc: int


@dataclass(frozen=True, slots=True)
class TransportFeedback:
    """What arrived of consecutive transport-wide sequence numbers from `first` on, and when (their clock, ns; None: lost)."""

    first: int
    arrivals: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Bye:
    ssrcs: tuple[int, ...]


AnyPacket = Report | SenderReport | Nack | KeyFrameRequest | TransportFeedback | Bye


def parse(data: bytes) -> Iterator[AnyPacket]:
    """What a compound packet says, in its order. Reports come one by one, whether they sat in an SR or an RR."""
    at = 0
    while at + 4 <= len(data):
        first, kind, words = _HEAD.unpack_from(data, at)
        end = at + 4 + 4 * words
        if first >> 6 != 2 or end > len(data):
            return
        body_end = end
        if first & 32:
            if not 0 < data[end - 1] <= end - at - 4:
                return
            body_end = end - data[end - 1]
        yield from _packet(data[at + 4 : body_end], kind, first & 31)
        at = end


def _packet(body: bytes, kind: int, count: int) -> Iterator[AnyPacket]:
    if kind == SR and len(body) >= 24:
        ssrc = int.from_bytes(body[:4], "big")
        high, low, timestamp, packets, octets = _SENDER_INFO.unpack_from(body, 4)
        yield SenderReport(ssrc, high << 32 | low, timestamp, packets, octets)
        yield from _reports(body, 24, count)
    elif kind == RR:
        yield from _reports(body, 4, count)
    elif kind == BYE and len(body) >= 4 * count:
        yield Bye(struct.unpack_from(f"!{count}I", body))
    elif kind == RTPFB and count == 1 and len(body) >= 12:
        yield Nack(int.from_bytes(body[4:8], "big"), tuple(_nacked(body[8:])))
    elif kind == PSFB and count == 1 and len(body) >= 8:
        yield KeyFrameRequest(int.from_bytes(body[4:8], "big"))
    elif kind == PSFB and count == 4:
        for at in range(8, len(body) - 7, 8):
            yield KeyFrameRequest(int.from_bytes(body[at : at + 4], "big"))
    elif kind == RTPFB and count == 15 and len(body) >= 16:
        feedback = _transport_feedback(body)
        if feedback is not None:
            yield feedback


def _transport_feedback(body: bytes) -> TransportFeedback | None:
    first, count = struct.unpack_from("!HH", body, 8)
    clock = int.from_bytes(body[12:15], "big", signed=True) * 64_000_000
    at = 16
    statuses: list[int] = []
    while len(statuses) < count:
        if at + 2 > len(body):
            return None
        chunk = body[at] << 8 | body[at + 1]
        at += 2
        if not chunk & 0x8000:
            statuses += [chunk >> 13 & 3] * min(chunk & 0x1FFF, count - len(statuses))
            if not chunk & 0x1FFF:
                return None
        elif chunk & 0x4000:
            statuses += [chunk >> 2 * (6 - i) & 3 for i in range(7)]
        else:
            statuses += [chunk >> 13 - i & 1 for i in range(14)]
    arrivals: list[int | None] = []
    for status in statuses[:count]:
        size = status if status < 3 else 0
        if at + size > len(body):
            return None
        if not size:
            arrivals.append(None)
            continue
        clock += int.from_bytes(body[at : at + size], "big", signed=size == 2) * _TICK_NS
        at += size
        arrivals.append(clock)
    return TransportFeedback(first, tuple(arrivals))


def _reports(body: bytes, at: int, count: int) -> Iterator[Report]:
    for _ in range(count):
        if at + 24 > len(body):
            return
        ssrc, loss, highest, jitter, last_sr, delay = _BLOCK.unpack_from(body, at)
        lost = loss & 0xFFFFFF
        yield Report(ssrc, loss >> 24, lost - (1 << 24) if lost & 0x800000 else lost, highest, jitter, last_sr, delay)
        at += 24


def _nacked(fci: bytes) -> Iterator[int]:
    for at in range(0, len(fci) - 3, 4):
        first, mask = struct.unpack_from("!HH", fci, at)
        yield first
        for bit in range(16):
            if mask >> bit & 1:
                yield (first + bit + 1) & 0xFFFF


def _pack(kind: int, count: int, body: bytes) -> bytes:
    return _HEAD.pack(0x80 | count, kind, len(body) // 4) + body


def receiver_report(ssrc: int, reports: Sequence[Report]) -> bytes:
    return _pack(RR, len(reports), ssrc.to_bytes(4, "big") + b"".join(map(_block, reports)))


def _block(report: Report) -> bytes:
    lost = max(-0x800000, min(0x7FFFFF, report.packets_lost)) & 0xFFFFFF
    return _BLOCK.pack(
        report.ssrc,
        report.fraction_lost << 24 | lost,
        report.highest_sequence & 0xFFFFFFFF,
        report.jitter & 0xFFFFFFFF,
        report.last_sr,
        report.delay & 0xFFFFFFFF,
    )


def sender_report(report: SenderReport, cname: str) -> bytes:
    """A sender report with the SDES that belongs to every compound packet."""
    info = report.ssrc.to_bytes(4, "big") + _SENDER_INFO.pack(
        report.ntp >> 32,
        report.ntp & 0xFFFFFFFF,
        report.timestamp,
        report.packets & 0xFFFFFFFF,
        report.octets & 0xFFFFFFFF,
    )
    name = cname.encode()[:255]
    chunk = report.ssrc.to_bytes(4, "big") + bytes((1, len(name))) + name + b"\0"
    return _pack(SR, 0, info) + _pack(SDES, 1, chunk.ljust((len(chunk) + 3) // 4 * 4, b"\0"))


def nack(sender: int, media_ssrc: int, sequences: Sequence[int]) -> bytes:
    """A generic NACK; `sequences` in ascending order."""
    pairs: list[tuple[int, int]] = []
    for sequence in sequences:
        if pairs:
            ahead = (sequence - pairs[-1][0]) & 0xFFFF
            if 0 < ahead <= 16:
                pairs[-1] = (pairs[-1][0], pairs[-1][1] | 1 << ahead - 1)
                continue
        pairs.append((sequence, 0))
    fci = b"".join(struct.pack("!HH", first, mask) for first, mask in pairs)
    return _pack(RTPFB, 1, _TWO.pack(sender, media_ssrc) + fci)


def picture_loss(sender: int, media_ssrc: int) -> bytes:
    return _pack(PSFB, 1, _TWO.pack(sender, media_ssrc))


def remb(sender: int, bitrate: int, ssrcs: Sequence[int]) -> bytes:
    exponent = max(0, bitrate.bit_length() - 18)
    mantissa = bitrate >> exponent
    fci = b"REMB" + bytes((len(ssrcs), exponent << 2 | mantissa >> 16, mantissa >> 8 & 255, mantissa & 255))
    return _pack(PSFB, 15, _TWO.pack(sender, 0) + fci + struct.pack(f"!{len(ssrcs)}I", *ssrcs))


#: The most packets that one transport-wide feedback speaks of; more are split over several.
_MOST_STATUSES = 1000
_TICK_NS = 250_000


def transport_feedback(
    sender: int, media_ssrc: int, number: int, arrivals: Sequence[tuple[int, int]]
) -> tuple[list[bytes], int]:
    """Transport-wide congestion feedback for packets that arrived since the last one.

    `arrivals` are (16-bit transport sequence, arrival in ns); `number` counts feedback packets. Gives the packets and the
    next number. Times are sent in quarters of a millisecond against a reference in 64 ms.
    """
    if not arrivals:
        return [], number
    base = arrivals[0][0]
    order: dict[int, int] = {}
    for sequence, at in arrivals:
        order.setdefault(((sequence - base + 0x8000) & 0xFFFF) - 0x8000, at)
    offsets = sorted(order)
    made: list[bytes] = []
    begin = 0
    while begin < len(offsets):
        end = begin
        while end < len(offsets) and offsets[end] - offsets[begin] < _MOST_STATUSES:
            end += 1
        chunk = offsets[begin:end]
        packet, taken = _feedback(sender, media_ssrc, number, base, chunk, order)
        made.append(packet)
        number = (number + 1) & 0xFF
        begin += taken
    return made, number


def _feedback(
    sender: int, media_ssrc: int, number: int, base: int, offsets: list[int], order: dict[int, int]
) -> tuple[bytes, int]:
    reference = order[offsets[0]] // 64_000_000
    clock = reference * 64_000_000 // _TICK_NS
    statuses: list[int] = []
    deltas = bytearray()
    expected = offsets[0]
    taken = 0
    for offset in offsets:
        tick = order[offset] // _TICK_NS
        delta = tick - clock
        if not -0x8000 <= delta <= 0x7FFF:
            break  # A gap of more than 8 s: the rest gets a packet with a reference of its own.
        statuses += [0] * (offset - expected)
        expected = offset + 1
        if 0 <= delta <= 255:
            statuses.append(1)
            deltas.append(delta)
        else:
            statuses.append(2)
            deltas += struct.pack("!h", delta)
        clock = tick
        taken += 1
    chunks = b"".join(
        struct.pack(
            "!H",
            0xC000 | sum(status << 2 * (6 - i) for i, status in enumerate(statuses[at : at + 7])),
        )
        for at in range(0, len(statuses), 7)
    )
    body = (
        _TWO.pack(sender, media_ssrc)
        + struct.pack("!HH", (base + offsets[0]) & 0xFFFF, len(statuses))
        + (reference & 0xFFFFFF).to_bytes(3, "big")
        + bytes((number,))
        + chunks
        + deltas
    )
    return _pack(RTPFB, 15, body.ljust((len(body) + 3) // 4 * 4, b"\0")), taken
