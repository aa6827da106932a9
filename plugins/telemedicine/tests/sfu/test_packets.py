"""RTP and RTCP as bytes: what is read is what was written, and garbage is never more than refused."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanun_telemedicine.sfu import payloads, rtcp, rtp
from qanun_telemedicine.sfu.rtcp import Report, SenderReport


def vp8_payload(*, key: bool, picture: int = 300, tl0: int = 7, width: int = 640) -> bytes:
    descriptor = bytes((0x90, 0xE0)) + struct.pack("!H", 0x8000 | picture) + bytes((tl0, 0x20))
    if not key:
        return descriptor + b"\x01\x02\x03rest of an inter frame"
    return descriptor + b"\x10\x02\x00\x9d\x01\x2a" + struct.pack("<HH", width, 480) + b"picture"


def picture_numbers(payload: bytes) -> tuple[int, int] | None:
    """Picture id and TL0PICIDX of a VP8 payload."""
    where = payloads.vp8(payload)
    return payloads.numbers(payload, where) if where is not None else None


def packet(sequence: int = 1, timestamp: int = 0, payload: bytes = b"x", **more: object) -> rtp.Packet:
    return rtp.Packet(96, sequence, timestamp, 0xABCD, payload, **more)  # type: ignore[arg-type]


@given(
    st.integers(0, 127),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.booleans(),
    st.binary(max_size=200),
    st.dictionaries(st.integers(1, 14), st.binary(min_size=1, max_size=16), max_size=6),
)
def test_a_packet_is_read_as_it_was_written(
    kind: int, sequence: int, timestamp: int, marker: bool, payload: bytes, extensions: dict[int, bytes]
) -> None:
    made = rtp.Packet(kind, sequence, timestamp, 5, payload, marker)
    read = rtp.parse(rtp.serialise(made, rtp.extension_block(list(extensions.items()))))
    assert read is not None
    assert (read.payload_type, read.sequence, read.timestamp, read.ssrc) == (kind, sequence, timestamp, 5)
    assert (read.marker, read.payload, read.extensions) == (marker, payload, extensions)


@settings(max_examples=150)
@given(st.binary(max_size=120))
def test_any_bytes_are_a_packet_or_not_but_never_an_error(data: bytes) -> None:
    for head in (b"", b"\x90\x60", b"\xbf\xe0"):
        read = rtp.parse(head + data)
        if read is not None:
            read.padding_only()
            payloads.vp8(read.payload)
            payloads.shift(read.payload, payloads.vp8(read.payload), 5, 5)
        list(rtcp.parse(head + data))
    for kind in range(200, 208):
        for count in range(32):
            words = len(data) // 4
            list(rtcp.parse(struct.pack("!BBH", 0x80 | count, kind, words) + data[: words * 4]))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(11),
        b"\x40" + bytes(20),
        b"\x8f" + bytes(20),
        b"\x90" + bytes(11) + b"\xbe\xde\xff\xff",
        b"\xa0" + bytes(11),
        b"\xa0" + bytes(11) + b"\x09",
        b"\xa0" + bytes(11) + b"\x00",
    ],
    ids=["empty", "short", "version", "csrcs", "extension", "padding of nothing", "too much padding", "no padding"],
)
def test_a_malformed_packet_is_no_packet(data: bytes) -> None:
    assert rtp.parse(data) is None


def test_two_byte_header_extensions_are_read() -> None:
    data = b"\x90\x60" + bytes(10) + b"\x10\x00\x00\x02" + b"\x05\x02ab" + b"\x00\x14\x01z" + b"pay"
    read = rtp.parse(data)
    assert read is not None and read.extensions == {5: b"ab", 20: b"z"} and read.payload == b"pay"


def test_a_key_frame_and_its_width_are_recognised() -> None:
    what = payloads.vp8(vp8_payload(key=True, width=1280))
    assert what is not None and what.key and what.width == 1280
    other = payloads.vp8(vp8_payload(key=False))
    assert other is not None and not other.key
    # The middle of a key frame begins no key frame.
    middle = bytes((0x80,)) + vp8_payload(key=True)[1:]
    assert not payloads.vp8(middle).key  # type: ignore[union-attr]


@given(st.integers(0, 0x7FFF), st.integers(0, 255), st.integers(-0x8000, 0x8000), st.integers(-300, 300))
def test_picture_numbers_are_moved_and_nothing_else(picture: int, tl0: int, by: int, tl0_by: int) -> None:
    before = vp8_payload(key=True, picture=picture, tl0=tl0)
    after = payloads.shift(before, payloads.vp8(before), by, tl0_by)
    assert picture_numbers(after) == ((picture + by) & 0x7FFF, (tl0 + tl0_by) & 0xFF)
    assert after[:2] == before[:2] and after[5:] == before[5:] and len(after) == len(before)


def test_a_short_picture_number_stays_short() -> None:
    payload = bytes((0x90, 0x80, 120)) + b"\x01data"
    assert payloads.shift(payload, payloads.vp8(payload), 10, 3) == bytes((0x90, 0x80, 2)) + b"\x01data"


def test_reports_survive_the_way() -> None:
    block = Report(7, 12, -5, 70_000, 99, 0x12345678, 65536)
    assert list(rtcp.parse(rtcp.receiver_report(1, [block]))) == [block]
    report = SenderReport(9, 0x1122334455667788, 1000, 20, 3000)
    assert list(rtcp.parse(rtcp.sender_report(report, "slot0"))) == [report]


@given(st.sets(st.integers(0, 0xFFFF), min_size=1, max_size=60), st.integers(0, 0xFFFF))
def test_every_missing_packet_is_named_in_a_nack(missing: set[int], start: int) -> None:
    ordered = sorted(missing, key=lambda n: (n - start) & 0xFFFF)
    (read,) = rtcp.parse(rtcp.nack(1, 5, ordered))
    assert isinstance(read, rtcp.Nack)
    assert set(read.sequences) == missing and read.media_ssrc == 5


def test_key_frame_requests_of_both_kinds_are_read() -> None:
    assert list(rtcp.parse(rtcp.picture_loss(1, 77))) == [rtcp.KeyFrameRequest(77)]
    fir = struct.pack("!BBHIIIBBH", 0x84, 206, 4, 1, 0, 78, 3, 0, 0)
    assert list(rtcp.parse(fir)) == [rtcp.KeyFrameRequest(78)]


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 300_000_000)), min_size=1, max_size=80),
    st.integers(0, 0xFFFF),
    st.integers(0, 10**15),
)
def test_transport_feedback_tells_who_arrived_and_when(steps: list[tuple[int, int]], start: int, clock: int) -> None:
    sequence, arrivals = start, []
    for ahead, later in steps:
        arrivals.append((sequence & 0xFFFF, clock))
        sequence += ahead
        clock += later
    packets, number = rtcp.transport_feedback(1, 2, 250, arrivals)
    assert number == (250 + len(packets)) & 0xFF
    told: dict[int, int] = {}
    for data in packets:
        for read in rtcp.parse(data):
            assert isinstance(read, rtcp.TransportFeedback)
            for index, at in enumerate(read.arrivals):
                if at is not None:
                    told[(read.first + index) & 0xFFFF] = at
    assert set(told) == {sequence for sequence, _ in arrivals}
    first = arrivals[0]
    for sequence, at in arrivals:
        apart = (at - first[1]) - (told[sequence] - told[first[0]])
        # References wrap after 12 days.
        assert abs(apart) % (1 << 24) * 64_000_000 == 0 or abs(apart) <= 500_000 or abs(apart) >= 64_000_000 << 23


def test_feedback_in_all_three_forms_of_status_is_read() -> None:
    head = struct.pack("!IIHH", 1, 2, 100, 30) + (10).to_bytes(3, "big") + b"\x07"
    run = struct.pack("!H", 1 << 13 | 9)
    one_bit = struct.pack("!H", 0x8000 | 0b10000000000001)
    two_bits = struct.pack("!H", 0xC000 | 0b01_10_00_01_00_00_00)
    deltas = bytes([4] * 9) + bytes([4, 4]) + bytes([4]) + struct.pack("!h", -8) + bytes([4])
    body = head + run + one_bit + two_bits + deltas
    body += bytes(-len(body) % 4)
    (read,) = rtcp.parse(struct.pack("!BBH", 0x8F, 205, len(body) // 4) + body)
    assert isinstance(read, rtcp.TransportFeedback)
    came = [index for index, at in enumerate(read.arrivals) if at is not None]
    assert came == [*range(9), 9, 22, 23, 24, 26] and len(read.arrivals) == 30
    assert read.arrivals[24] - read.arrivals[23] == -2_000_000  # type: ignore[operator]
