"""What the payloads of each codec say, and what a subscriber gets of a stream that holds layers. Both engines must do the same."""

import itertools
from collections.abc import Iterator

import pylibsrtp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanun_telemedicine.sfu import dependency, payloads, rtp
from qanun_telemedicine.sfu.engine import SenderSpec, TrackSpec

from .engines import needs_c
from .pictures import (
    IDR,
    INTER,
    PPS,
    Mode,
    descriptor,
    fragments,
    red_payload,
    sps,
    stap,
    vp9_payload,
)
from .twins import Client, Twins, session

KEY = bytes(range(44))
WIDTHS = (320, 640, 1280)
FULL, KEY_ONLY = Mode(3, 3), Mode(3, 3, key_only=True)


@pytest.mark.parametrize("high", [False, True])
@pytest.mark.parametrize("size", [(1280, 720), (640, 360), (322, 178), (1920, 1080)])
def test_the_size_of_a_picture_is_read_from_its_parameter_set(size: tuple[int, int], high: bool) -> None:
    assert payloads.sps_size(sps(*size, high=high)) == size


def test_an_h264_key_frame_begins_with_its_parameter_set_however_it_is_packed() -> None:
    unit = sps(640, 360)
    for payload in (unit, stap(unit, PPS), stap(PPS, unit, IDR), fragments(unit * 3, 20)[0]):
        what = payloads.h264(payload)
        assert what is not None and what.key and what.width == 640, payload
    for payload in (b"", IDR, INTER, PPS, stap(PPS, IDR), fragments(unit * 3, 20)[1], fragments(IDR, 4)[0]):
        assert payloads.h264(payload) is None, payload


def test_layers_and_numbers_of_vp9_are_read() -> None:
    what = payloads.vp9(vp9_payload((0, 0), 300, predicted=False, widths=WIDTHS, tl0=7))
    assert what is not None and what.key and (what.width, what.widths) == (1280, WIDTHS)
    for flexible in (False, True):
        payload = vp9_payload((2, 1), 300, predicted=True, up=True, ends=False, flexible=flexible, tl0=9)
        what = payloads.vp9(payload)
        assert what is not None and not what.key and what.layered
        assert (what.spatial, what.temporal, what.up, what.begins, what.ends) == (2, 1, True, True, False)
        moved = payloads.shift(payload, what, 5, 250)
        again = payloads.vp9(moved)
        assert again is not None and len(moved) == len(payload) and moved[-7:] == b"picture"
        assert payloads.numbers(moved, again) == (305, 0 if flexible else 3)
    upper = payloads.vp9(vp9_payload((1, 0), 300, predicted=False))
    assert upper is not None and not upper.key, "the upper part of a key picture begins nothing by itself"
    assert payloads.vp9(vp9_payload((0, 0), 1, predicted=False, widths=WIDTHS)[:9]) is None


@pytest.mark.parametrize("mode", [Mode(1, 1), Mode(1, 3), FULL, KEY_ONLY], ids=str)
@pytest.mark.parametrize("chains", [0, 1, 3])
def test_a_dependency_descriptor_is_read_as_it_was_written(mode: Mode, chains: int) -> None:
    widths = WIDTHS[: mode.spatial]
    chains = min(chains, len(mode.layers()))
    first = dependency.read(descriptor(mode, (0, 0), 700, key=True, widths=widths, chains=chains, offset=61), None)
    assert first is not None and first.attached and first.structure.widths == widths
    assert first.structure.targets == mode.layers()
    for layer in mode.layers():
        for begins in (True, False):
            data = descriptor(mode, layer, 0xFFFF, key=False, begins=begins, ends=not begins, offset=61)
            read = dependency.read(data, first.structure)
            assert read is not None and (read.spatial, read.temporal, read.frame) == (*layer, 0xFFFF)
            assert (read.begins, read.ends, read.attached) == (begins, not begins, False)
            assert read.indications == tuple(mode.indication(layer, target, False) for target in mode.layers())
    custom = tuple(at % 4 for at in range(len(mode.layers())))
    read = dependency.read(descriptor(mode, (0, 0), 1, key=False, custom=custom, active=1, offset=61), first.structure)
    assert read is not None and read.indications == custom and read.active == 1
    assert dependency.read(descriptor(mode, (0, 0), 1, key=False), None) is None, (
        "without its structure it says nothing"
    )
    structure = first.structure
    structure.active = 1
    assert structure.target(3, 3) == 0, "what is not sent cannot be had"


@settings(max_examples=150)
@given(st.binary(max_size=90))
def test_any_bytes_are_a_payload_or_not_but_never_an_error(data: bytes) -> None:
    known = dependency.read(descriptor(FULL, (0, 0), 1, key=True, widths=WIDTHS), None)
    assert known is not None
    for reader in payloads.READERS.values():
        what = reader(data)
        if what is not None:
            assert len(payloads.shift(data, what, 5, 5)) == len(data)
    for structure in (None, known.structure):
        for head in (b"", b"\x80\x00\x00\x80"):
            dependency.read(head + data, structure)
    start = payloads.red_primary(data)
    if start is not None:
        assert 0 < start <= len(payloads.red_renamed(data, 5)) == len(data)
    payloads.sps_size(b"\x67\x64\x00\x1f" + data)


class Show:
    """One publisher and one subscriber on both engines; `seen` is what the subscriber decrypts."""

    def __init__(self, twins: Twins, codec: str) -> None:
        self.twins, self.codec = twins, codec
        ids = {rtp.DEPENDENCY: 12} if codec == "av1" else {}
        kind, rate = ("audio", 48000) if codec == "opus" else ("video", 90000)
        twins.connect("a", KEY, ("2001:db8::1", 1001))
        twins.connect("b", bytes(reversed(KEY)), ("10.0.0.1", 1002))
        red = 63 if codec == "opus" else None
        twins.do("publish", "a", TrackSpec("t", "a", kind, codec, rate, 98, 99, "1", "", ids, red_payload_type=red))
        self.camera, self._reader = Client(KEY), session(KEY, pylibsrtp.Policy.SSRC_ANY_INBOUND)
        self.seen: list[rtp.Packet] = []
        self._taken = 0
        self._structure: dependency.Structure | None = None
        self.sequence, self.frame, self.picture_number = 100, 65_500, 127

    def subscribe(self, **more: object) -> "Show":
        ids = {rtp.TRANSPORT_CC: 3, rtp.DEPENDENCY: 9} if self.codec == "av1" else {rtp.TRANSPORT_CC: 3}
        kind, rate = ("audio", 48000) if self.codec == "opus" else ("video", 90000)
        other = {"others": {self.codec: (110, 111)}} if kind == "video" else {}
        spec = SenderSpec("s", kind, "vp8" if other else "opus", rate, 96, 500, 97, 501, ids, **other, **more)  # type: ignore[arg-type]
        self.twins.do("add_sender", "b", spec)
        self.twins.do("route", "b", "s", "t")
        return self

    def send(
        self, payload: bytes, *, extension: bytes = b"", marker: bool = False, kind: int = 98, at: int = 0
    ) -> None:
        sequence = at or self.sequence
        if not at:
            self.sequence += 1
        made = rtp.Packet(kind, sequence & 0xFFFF, self.picture_number * 3000, 7, payload, marker)
        block = rtp.extension_block([(12, extension)], wide=True) if extension else b""
        sealed = self.camera.seal(rtp.serialise(made, block))
        assert sealed is not None
        outcomes = []
        for engine in self.twins.engines:
            engine.feed(("2001:db8::1", 1001), sealed, self.twins.now_ns)
            outcomes.append(engine.outcome())
            engine._listener.heard.clear()
        assert outcomes[0] == outcomes[1]
        for _, data in outcomes[0]:
            packet = rtp.parse(self._reader.unprotect(data))
            assert packet is not None
            self.seen.append(packet)

    def picture(self, layers: list[tuple[int, int]], *, key: bool = False, key_only: bool = False) -> None:
        """All spatial layers of one picture, two packets each."""
        self.twins.now_ns += 33_000_000
        self.picture_number += 1
        for spatial, temporal in layers:
            self.frame += 1
            for half in (0, 1):
                marker = half == 1 and (spatial, temporal) == layers[-1]
                if self.codec == "vp9":
                    payload = vp9_payload(
                        (spatial, temporal), self.picture_number, predicted=not key, begins=not half, ends=bool(half),
                        up=True, widths=WIDTHS if key and not spatial and not half else (),
                    )  # fmt: skip
                    self.send(payload, marker=marker)
                else:
                    mode = KEY_ONLY if key_only else FULL
                    told = WIDTHS if key and not spatial and not half else None
                    extension = descriptor(
                        mode, (spatial, temporal), self.frame, key=key, begins=not half, ends=bool(half), widths=told
                    )
                    self.send(b"\x00obu", extension=extension, marker=marker)

    def taken(self) -> list[tuple[int, int]]:
        """The layers of the packets that were seen since the last call, without repetitions; the numbers have no hole."""
        steps = {(after.sequence - before.sequence) & 0xFFFF for before, after in itertools.pairwise(self.seen)}
        assert steps <= {1}, steps
        fresh, self._taken = self.seen[self._taken :], len(self.seen)
        return list(dict.fromkeys(self.layer(packet) for packet in fresh))

    def layer(self, packet: rtp.Packet) -> tuple[int, int]:
        if self.codec == "vp9":
            what = payloads.vp9(packet.payload)
        else:
            read = dependency.read(packet.extensions[9], self._structure)
            assert read is not None
            self._structure = read.structure
            what = dependency.glance(read)
        assert what is not None
        return what.spatial, what.temporal

    def select(self, name: str) -> None:
        self.twins.do("select", "b", "s", name)

    def waits(self) -> bool:
        return bool(self.twins.do("waiting", ["b"]))


@pytest.fixture
def twins(monkeypatch: pytest.MonkeyPatch) -> Iterator[Twins]:
    made = Twins(monkeypatch, 3)
    yield made
    made.close()


def all_spatial(temporal: int) -> list[tuple[int, int]]:
    return [(spatial, temporal) for spatial in range(3)]


@needs_c
@pytest.mark.parametrize("codec", ["vp9", "av1"])
def test_a_subscriber_gets_the_layers_that_were_chosen_and_a_stream_without_holes(twins: Twins, codec: str) -> None:
    show = Show(twins, codec).subscribe()
    show.picture(all_spatial(0), key=True)
    assert show.taken() == all_spatial(0)
    show.select("S0T0")
    show.picture(all_spatial(0))
    assert show.taken() == [(0, 0)], "down at the next picture"
    for temporal in (2, 1, 2):
        show.picture(all_spatial(temporal))
    assert show.taken() == []
    show.select("S0T2")
    for temporal in (0, 2, 1, 2):
        show.picture(all_spatial(temporal))
    assert show.taken() == [(0, 0), (0, 2), (0, 1)], "more pictures a second where the stream allows it"
    assert [packet.marker for packet in show.seen[-2:]] == [False, True], "what is left of a picture ends with a mark"
    assert not show.waits()
    show.select("S1T2")
    show.picture(all_spatial(0))
    assert show.taken() == [(0, 0)] and show.waits(), "sharper only with a key frame, which is asked for"
    show.picture(all_spatial(0), key=True)
    show.picture(all_spatial(2))
    assert show.taken() == [(0, 0), (1, 0), (0, 2), (1, 2)] and not show.waits()
    assert [state.layer for state in twins.do("senders", "b")] == ["S1T2"]
    show.select("S3T3")
    show.picture(all_spatial(0), key=True)
    assert show.taken() == all_spatial(0)


@needs_c
def test_where_vp9_refers_to_nothing_earlier_a_higher_layer_is_joined_without_a_key_frame(twins: Twins) -> None:
    show = Show(twins, "vp9").subscribe()
    show.select("S0T0")
    show.picture(all_spatial(0), key=True)
    show.select("S2T0")
    show.picture(all_spatial(0))
    assert show.taken() == [(0, 0)] and show.waits()
    show.picture_number += 1
    for spatial in range(3):
        show.send(vp9_payload((spatial, 0), show.picture_number, predicted=not spatial, up=True), marker=spatial == 2)
    show.picture(all_spatial(0))
    assert show.taken() == all_spatial(0) and not show.waits()


@needs_c
def test_av1_layers_that_refer_to_lower_ones_in_key_frames_only_change_with_a_key_frame(twins: Twins) -> None:
    show = Show(twins, "av1").subscribe()
    show.picture(all_spatial(0), key=True, key_only=True)
    show.picture(all_spatial(0), key_only=True)
    assert show.taken() == [(0, 0), (1, 0), (2, 0)]
    show.picture(all_spatial(1), key_only=True)
    assert show.taken() == [(2, 1)], "of the lower layers nothing that is not needed"
    show.select("S1T2")
    show.picture(all_spatial(0), key_only=True)
    assert show.taken() == [(2, 0)] and show.waits()
    show.picture(all_spatial(0), key=True, key_only=True)
    show.picture(all_spatial(2), key_only=True)
    assert show.taken() == [(0, 0), (1, 0), (1, 2)]


@needs_c
def test_an_av1_layer_that_is_not_active_any_more_is_not_waited_for(twins: Twins) -> None:
    show = Show(twins, "av1").subscribe()
    show.picture(all_spatial(0), key=True)
    show.frame += 1
    told = descriptor(FULL, (0, 0), show.frame, key=False, active=0b000_000_111)
    show.send(b"\x00obu", extension=told, marker=True)
    show.picture([(0, 2)])
    assert show.taken() == [(0, 0), (1, 0), (2, 0), (0, 2)] and not show.waits()
    assert [state.layer for state in twins.do("senders", "b")] == ["S0T2"]


@needs_c
@pytest.mark.parametrize("codec", ["vp9", "av1"])
def test_what_comes_late_keeps_its_number_and_what_is_lost_is_repeated(twins: Twins, codec: str) -> None:
    show = Show(twins, codec).subscribe()
    show.select("S0T0")
    show.picture(all_spatial(0), key=True)
    first = show.sequence
    show.sequence += 2  # two packets that come later
    show.picture(all_spatial(0))
    before = show.seen[-3].sequence
    assert [packet.sequence for packet in show.seen[-2:]] == [before + 3, before + 4], "their numbers are kept free"

    def packet(layer: tuple[int, int], at: int) -> None:
        if codec == "vp9":
            show.send(vp9_payload(layer, show.picture_number, predicted=True, begins=False), at=at)
        else:
            show.send(b"\x00obu", extension=descriptor(FULL, layer, show.frame, key=False, begins=False), at=at)

    packet((0, 0), first)
    assert show.seen[-1].sequence == before + 1 and show.seen[-1].payload
    packet((2, 0), first + 1)
    assert show.seen[-1].sequence == before + 2 and not show.seen[-1].payload, (
        "what is not wanted leaves an empty packet"
    )
    twins.do("retransmit", "b", 500, [before + 1, before + 2, before + 4])
    counts = [state.retransmitted for state in twins.do("senders", "b")]
    assert counts == [2], "and is not repeated"


@needs_c
def test_an_av1_structure_that_comes_late_is_taken_all_the_same(twins: Twins) -> None:
    show = Show(twins, "av1").subscribe()
    show.picture(all_spatial(0), key=True)
    show.taken()
    # The next key frame's first packet, with another structure, is overtaken by its second one.
    first, offset = show.sequence, 20
    show.sequence += 1
    show.frame += 1

    def described(*, begins: bool, key: bool, told: tuple[int, ...] | None = None) -> bytes:
        return descriptor(FULL, (0, 0), show.frame, key=key, begins=begins, ends=not begins, widths=told, offset=offset)

    show.send(b"\x00obu", extension=described(begins=False, key=True), marker=True)
    show.send(b"\x08obu", extension=described(begins=True, key=True, told=WIDTHS), at=first)
    before = twins.do("streams_of", "t")[0].layers[0].octets
    for _ in range(2):
        show.frame += 1
        for begins in (True, False):
            show.send(b"\x00obu", extension=described(begins=begins, key=False), marker=not begins)
    assert twins.do("streams_of", "t")[0].layers[0].octets > before, "what follows is read"
    assert [packet.sequence for packet in show.seen[-4:]] == [show.seen[-4].sequence + n for n in range(4)]


@needs_c
@pytest.mark.parametrize("codec", ["vp9", "av1"])
def test_what_each_layer_costs_is_told(twins: Twins, codec: str) -> None:
    show = Show(twins, codec).subscribe()
    show.picture(all_spatial(0), key=True)
    show.picture(all_spatial(2))
    (state,) = twins.do("streams_of", "t")
    assert [(one.name, one.width) for one in state.layers] == [
        (f"S{spatial}T{temporal}", WIDTHS[spatial]) for spatial in range(3) for temporal in (0, 2)
    ]
    assert all(one.octets > 20 and one.last_ns for one in state.layers) and state.width == 1280


@needs_c
def test_who_cannot_show_a_codec_does_not_get_it(twins: Twins) -> None:
    show = Show(twins, "vp9")
    twins.do("add_sender", "b", SenderSpec("s", "video", "vp8", 90000, 96, 500, 97, 501))
    twins.do("route", "b", "s", "t")
    show.picture(all_spatial(0), key=True)
    assert not show.seen and twins.do("waiting", ["b"]) == []


@needs_c
def test_sound_with_older_sound_before_it_goes_to_who_takes_it_and_plain_to_others(twins: Twins) -> None:
    show = Show(twins, "opus").subscribe()
    twins.do("add_sender", "b", SenderSpec("r", "audio", "opus", 48000, 109, 600, red_payload_type=110))
    twins.do("route", "b", "r", "t")
    twins.tap("add_tap", "t")
    show.send(red_payload(98, b"newest", [b"older", b"old"]), kind=63)
    show.send(b"plain")
    show.send(b"\xe2\xff\xff", kind=63)
    twins.same()
    got = [(packet.ssrc, packet.payload_type, packet.payload) for packet in show.seen]
    assert got == [
        (500, 96, b"newest"),
        (600, 110, red_payload(109, b"newest", [b"older", b"old"])),
        (500, 96, b"plain"),
        (600, 109, b"plain"),
    ]
    heard = [rtp.parse(what[2]) for what in twins.taps["t"][0].heard if what[0] == "packet"]
    assert [(packet.payload_type, packet.payload) for packet in heard if packet] == [(98, b"newest"), (98, b"plain")]
