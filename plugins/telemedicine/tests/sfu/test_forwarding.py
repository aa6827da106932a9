"""One subscriber's section: switches leave no seam, retransmissions are what was lost, and old packets stay old."""

import pytest

from qanun_telemedicine.sfu import rtp
from qanun_telemedicine.sfu.engine import SenderSpec
from qanun_telemedicine.sfu.forwarding import Sender
from qanun_telemedicine.sfu.reception import Reception
from qanun_telemedicine.sfu.rtcp import SenderReport

from .test_packets import picture_numbers, vp8_payload

MS = 1_000_000
LEVEL, NUMBER = 4, 6


def sender(kind: str = "video", *, rtx: bool = True) -> Sender:
    spec = SenderSpec(
        id="3",
        kind=kind,
        codec="vp8" if kind == "video" else "opus",
        clock_rate=90000 if kind == "video" else 48000,
        payload_type=120,
        ssrc=500,
        rtx_payload_type=124 if rtx else None,
        rtx_ssrc=501 if rtx else 0,
        extensions={rtp.TRANSPORT_CC: NUMBER, rtp.AUDIO_LEVEL: LEVEL},
    )
    return Sender(spec, 1000, 50_000)


class Publisher:
    """One incoming stream of two packets a frame."""

    def __init__(
        self, ssrc: int, sequence: int = 10, timestamp: int = 7_000, picture: int = 200, codec: str = "vp8"
    ) -> None:
        self.reception = Reception(ssrc, 90000, keep=True, codec=codec)
        self.sequence, self.timestamp, self.picture = sequence, timestamp, picture
        self.now = 0

    def packet(self, *, key: bool = False, extensions: dict[int, bytes] | None = None) -> rtp.Packet:
        payload = vp8_payload(key=key, picture=self.picture & 0x7FFF)
        made = rtp.Packet(96, self.sequence & 0xFFFF, self.timestamp & 0xFFFFFFFF, self.reception.ssrc, payload, True)
        made.extensions = extensions or {}
        made.key = key
        self.sequence += 1
        self.timestamp += 3000
        self.picture += 1
        return made

    def send(self, out: Sender, now_ns: int, *, key: bool = False) -> rtp.Packet | None:
        made = self.packet(key=key)
        self.reception.arrived(made, 100, now_ns)
        data = out.rewrite(self.reception, made, 1, now_ns)
        return rtp.parse(data) if data is not None else None


def test_video_begins_with_a_key_frame_and_under_the_subscribers_numbers() -> None:
    out, camera = sender(), Publisher(1)
    out.want(camera.reception, {})
    assert camera.send(out, 0) is None and out.waiting()
    first = camera.send(out, 33 * MS, key=True)
    second = camera.send(out, 66 * MS)
    assert first is not None and second is not None and not out.waiting()
    assert (first.ssrc, first.payload_type, first.sequence, first.timestamp) == (500, 120, 1000, 50_000)
    assert (second.sequence, second.timestamp) == (1001, 53_000)


def test_a_switch_between_streams_leaves_no_seam() -> None:
    out, low, high = sender(), Publisher(1), Publisher(2, sequence=60_000, timestamp=4_000_000_000, picture=9)
    out.want(low.reception, {})
    for step in range(5):
        before = low.send(out, step * 33 * MS, key=step == 0)
    assert before is not None
    out.want(high.reception, {})
    assert high.send(out, 170 * MS) is None, "not before its key frame"
    again = low.send(out, 171 * MS)
    assert again is not None, "the old stream goes on until then"
    switched = high.send(out, 204 * MS, key=True)
    assert switched is not None
    assert switched.sequence == again.sequence + 1
    assert 0 < switched.timestamp - again.timestamp < 90000
    assert picture_numbers(switched.payload)[0] == picture_numbers(again.payload)[0] + 1  # type: ignore[index]
    assert low.send(out, 205 * MS) is None, "and not after it"
    after = high.send(out, 237 * MS)
    assert after is not None and after.sequence == switched.sequence + 1


def test_packets_from_before_the_switch_stay_behind_even_after_half_a_cycle() -> None:
    out, camera = sender(), Publisher(1)
    out.want(camera.reception, {})
    late = camera.packet()
    assert camera.send(out, 0, key=True) is not None
    assert out.rewrite(camera.reception, late, 1, MS) is None
    sent = [camera.send(out, step * MS) for step in range(70_000)]
    assert all(one is not None for one in sent)
    assert [one.sequence for one in sent[-2:] if one] == [(1000 + 69_999) & 0xFFFF, (1000 + 70_000) & 0xFFFF]


def test_sound_begins_at_once_and_carries_its_level_under_the_subscribers_id() -> None:
    out, microphone = sender("audio", rtx=False), Publisher(1, codec="opus")
    out.want(microphone.reception, {rtp.AUDIO_LEVEL: 1, rtp.MID: 2})
    made = microphone.packet(extensions={1: b"\x85", 2: b"0"})
    read = rtp.parse(out.rewrite(microphone.reception, made, 0x1234, 0) or b"")
    assert read is not None
    assert read.extensions == {LEVEL: b"\x85", NUMBER: b"\x12\x34"}


def test_a_lost_packet_comes_again_on_the_rtx_stream() -> None:
    out, camera = sender(), Publisher(1)
    out.want(camera.reception, {})
    sent = [camera.send(out, step * MS, key=step == 0) for step in range(4)]
    lost = sent[2]
    assert lost is not None
    first, second = (rtp.parse(out.again(lost.sequence, number) or b"") for number in (7, 8))
    assert first is not None and second is not None
    assert (first.ssrc, first.payload_type) == (501, 124)
    assert first.payload == lost.sequence.to_bytes(2, "big") + lost.payload
    assert first.timestamp == lost.timestamp
    assert second.sequence == (first.sequence + 1) & 0xFFFF, "never two packets under one number"


def test_after_a_switch_a_lost_packet_from_before_it_is_still_known() -> None:
    out, low, high = sender(), Publisher(1), Publisher(2, sequence=5)
    out.want(low.reception, {})
    sent = [low.send(out, step * MS, key=step == 0) for step in range(4)]
    out.want(high.reception, {})
    after = high.send(out, 9 * MS, key=True)
    assert sent[1] is not None and after is not None
    assert rtp.parse(out.again(sent[1].sequence, 1) or b"").payload[2:] == sent[1].payload  # type: ignore[union-attr]
    assert rtp.parse(out.again(after.sequence, 1) or b"").payload[2:] == after.payload  # type: ignore[union-attr]


@pytest.mark.parametrize("sequence", [999, 1004, 40_000])
def test_what_was_never_sent_is_not_sent_again(sequence: int) -> None:
    out, camera = sender(), Publisher(1)
    out.want(camera.reception, {})
    for step in range(4):
        camera.send(out, step * MS, key=step == 0)
    assert out.again(sequence, 1) is None


def test_without_rtx_nothing_is_sent_twice() -> None:
    out, camera = sender(rtx=False), Publisher(1)
    out.want(camera.reception, {})
    sent = camera.send(out, 0, key=True)
    assert sent is not None and out.again(sent.sequence, 1) is None


def test_a_paused_picture_sends_nothing_and_comes_back_with_a_key_frame() -> None:
    out, camera = sender(), Publisher(1)
    out.want(camera.reception, {})
    last = camera.send(out, 0, key=True)
    out.pause(True)
    assert camera.send(out, MS, key=True) is None
    assert last is not None and out.again(last.sequence, 1) is None, "nor is anything repeated"
    out.pause(False)
    assert camera.send(out, 2 * MS) is None and out.waiting()
    back = camera.send(out, 3 * MS, key=True)
    assert back is not None and back.sequence == last.sequence + 1


def test_sender_reports_are_translated_for_the_stream_that_is_sent() -> None:
    out, camera = sender(), Publisher(1)
    out.want(camera.reception, {})
    camera.send(out, 0, key=True)
    translated = out.translate(SenderReport(1, 99, 7_000 + 90_000, 5, 5))
    assert translated is not None
    assert (translated.ssrc, translated.ntp, translated.timestamp) == (500, 99, 50_000 + 90_000)
    assert out.translate(SenderReport(2, 99, 0, 0, 0)) is None


def test_gaps_are_asked_for_a_few_times_and_then_given_up() -> None:
    stream, camera = Reception(1, 90000, keep=True), Publisher(1)
    packets = [camera.packet() for _ in range(6)]
    for index in (0, 1, 4):
        stream.arrived(packets[index], 100, 0)
    assert stream.due(0) == []
    assert stream.due(20 * MS) == [packets[2].sequence, packets[3].sequence]
    assert stream.due(21 * MS) == []
    assert stream.arrived(packets[2], 100, 22 * MS)
    asked = [stream.due(step * 100 * MS) for step in range(1, 20)]
    assert [packets[3].sequence] in asked and asked[-1] == []
    assert stream.broken, "a key frame must repair what could not be fetched"


def test_repetitions_are_noticed_and_loss_is_counted() -> None:
    stream, camera = Reception(1, 90000, keep=True), Publisher(1, sequence=65_530)
    packets = [camera.packet() for _ in range(20)]
    for index, one in enumerate(packets):
        if index not in (3, 4):
            assert stream.arrived(one, 100, index * 33 * MS)
    assert not stream.arrived(packets[10], 100, 700 * MS)
    report = stream.report(700 * MS, advance=True)
    assert report.packets_lost == 2 and report.fraction_lost == 2 * 256 // 20
    assert report.highest_sequence == 65_549
    assert stream.report(800 * MS, advance=True).fraction_lost == 0


def test_a_long_gap_asks_for_a_key_frame_instead_of_a_thousand_packets() -> None:
    stream, camera = Reception(1, 90000, keep=True), Publisher(1)
    stream.arrived(camera.packet(), 100, 0)
    camera.sequence += 900
    stream.arrived(camera.packet(), 100, MS)
    assert stream.due(100 * MS) == [] and stream.broken
