"""The engines agree on every codec and on every layer, with what networks do to packets and with descriptors that lie."""

import random
from collections.abc import Iterator

import pytest

from qanun_telemedicine.sfu import rtp
from qanun_telemedicine.sfu.engine import SenderSpec, TrackSpec

from .engines import needs_c
from .pictures import IDR, INTER, PPS, Mode, descriptor, fragments, red_payload, sps, stap, vp9_payload
from .test_packets import vp8_payload
from .twins import Client, Twins

pytestmark = needs_c

MS = 1_000_000
IDS = {rtp.RID: 10, rtp.REPAIRED_RID: 11, rtp.VIDEO_ORIENTATION: 13, rtp.DEPENDENCY: 12, rtp.COLOR_SPACE: 8}
PUBLISHERS = {
    "vp9": TrackSpec("vp9/t", "vp9", "video", "vp9", 90000, 98, 99, extensions={rtp.VIDEO_ORIENTATION: 13}),
    "av1": TrackSpec("av1/t", "av1", "video", "av1", 90000, 45, 46, extensions=IDS),
    "two": TrackSpec("two/t", "two", "video", "av1", 90000, 45, 46, extensions=IDS, rids=("h", "f")),
    "h264": TrackSpec("h264/t", "h264", "video", "h264", 90000, 102, 103, extensions=IDS, rids=("h", "f")),
    "high": TrackSpec("high/t", "high", "video", "h264-high", 90000, 102, 103),
    "vp8": TrackSpec("vp8/t", "vp8", "video", "vp8", 90000, 96, 97),
    "opus": TrackSpec("opus/t", "opus", "audio", "opus", 48000, 111, red_payload_type=63),
}
_ALL = {"vp9": (98, 99), "av1": (45, 46), "h264": (102, 103), "h264-high": (104, None)}
SUBSCRIBERS = [
    SenderSpec("0", "video", "vp8", 90000, 96, 702, 97, 703, {rtp.TRANSPORT_CC: 3, **IDS}, others=_ALL),
    SenderSpec("1", "video", "vp9", 90000, 98, 704, None, 0, {rtp.DEPENDENCY: 15, rtp.VIDEO_ORIENTATION: 2}, others=_ALL),
    SenderSpec("2", "video", "av1", 90000, 45, 706, 46, 707, {rtp.TRANSPORT_CC: 17, rtp.DEPENDENCY: 5, rtp.COLOR_SPACE: 5}),
    SenderSpec("3", "video", "h264", 90000, 102, 708, 103, 709, {rtp.TRANSPORT_CC: 3}, others={"vp8": (96, 97)}),
    SenderSpec("4", "audio", "opus", 48000, 109, 710, red_payload_type=110),
    SenderSpec("5", "audio", "opus", 48000, 109, 711, extensions={rtp.TRANSPORT_CC: 3}),
]  # fmt: skip


class Camera:
    """One stream of one publisher: pictures of several layers in several packets, some of them odd."""

    def __init__(self, chance: random.Random, who: str, ssrc: int, rid: str = "") -> None:
        self.chance, self.who, self.ssrc, self.rid = chance, who, ssrc, rid
        self.spec = PUBLISHERS[who]
        self.sequence = chance.choice((1, 65_000, 32_760))
        self.picture = chance.randrange(1 << 15)
        self.frame = chance.choice((1, 65_500))
        self.timestamp = chance.randrange(1 << 32)
        self.mode = Mode(chance.randrange(1, 4), chance.randrange(1, 4), chance.random() < 0.5)
        self.offset, self.flexible = chance.randrange(64), chance.random() < 0.5
        self.held: list[bytes] = []
        self.lost: list[tuple[int, bytes, bytes]] = []

    def shown(self) -> list[bytes]:
        """The packets of one picture as they arrive."""
        chance = self.chance
        self.picture += 1
        self.timestamp += 3000
        key = chance.random() < 0.12
        temporal = 0 if key else chance.randrange(self.mode.temporal)
        arrive: list[bytes] = []
        for payload, extension, marker in self.parts(key, temporal):
            self.sequence += chance.choice((1,) * 60 + (2, 3, 150))
            if chance.random() < 0.03:
                payload = chance.randbytes(chance.randrange(20))
            elif chance.random() < 0.03 and payload:
                at = chance.randrange(min(8, len(payload)))
                payload = payload[:at] + chance.randbytes(1) + payload[at + 1 :]
            if chance.random() < 0.04 and extension:
                at = chance.randrange(len(extension))
                extension = extension[:at] + chance.randbytes(1) + extension[at + 1 :][: chance.choice((99, 1))]
            packet = self.packet(self.sequence, payload, extension, marker)
            fate = chance.random()
            if fate < 0.04:
                self.lost = [*self.lost[-20:], (self.sequence, payload, extension)]
            elif fate < 0.12:
                self.held.append(packet)
            else:
                arrive += [packet] * (2 if fate > 0.97 else 1)
        if chance.random() < 0.5:
            arrive += self.held
            self.held = []
        return arrive

    def packet(
        self, sequence: int, payload: bytes, extension: bytes, marker: bool, *, kind: int = 0, ssrc: int = 0
    ) -> bytes:
        chance = self.chance
        pairs = [(10 if not kind else 11, self.rid.encode())] if self.rid else []
        if extension and chance.random() < 0.97:
            pairs.append((12, extension))
        if chance.random() < 0.2:
            pairs += [(13, chance.randbytes(1)), (8, chance.randbytes(chance.choice((4, 28))))]
        padded = chance.random() < 0.04
        if padded:
            payload = chance.choice((payload, b"")) + b"\0\x02"
        red = self.who == "opus" and chance.random() < 0.5
        if red:
            older = [chance.randbytes(chance.randrange(9)) for _ in range(chance.randrange(3))]
            payload = red_payload(111, payload, older) if chance.random() < 0.9 else payload
        kind = kind or (63 if red else self.spec.payload_type)
        made = rtp.Packet(
            kind, sequence & 0xFFFF, self.timestamp & 0xFFFFFFFF, ssrc or self.ssrc, payload, marker, padded
        )
        block = rtp.extension_block(pairs, wide=any(len(value) > 16 or not value for _, value in pairs))
        return rtp.serialise(made, block)

    def parts(self, key: bool, temporal: int) -> list[tuple[bytes, bytes, bool]]:
        chance = self.chance
        match self.spec.codec:
            case "opus":
                return [(chance.randbytes(20), b"", False)]
            case "vp8":
                return [(vp8_payload(key=key, picture=self.picture & 0x7FFF, tl0=self.picture & 255), b"", True)]
            case "h264" | "h264-high":
                unit = sps(chance.choice((320, 640)), 360, high=chance.random() < 0.5)
                pieces = [stap(unit, PPS), *fragments(IDR, 4)] if key else [INTER]
                pieces = [unit, PPS, IDR] if key and chance.random() < 0.3 else pieces
                return [(piece, b"", at == len(pieces) - 1) for at, piece in enumerate(pieces)]
        made: list[tuple[bytes, bytes, bool]] = []
        uppermost = chance.choice((self.mode.spatial, self.mode.spatial, 1))
        for spatial in range(uppermost):
            self.frame += 1
            for half in (0, 1):
                first = key and not spatial and not half
                last = half == 1 and spatial == uppermost - 1
                if self.spec.codec == "vp9":
                    free = key or (spatial > 0 and chance.random() < 0.1)
                    payload = vp9_payload(
                        (spatial, temporal) if self.mode.spatial * self.mode.temporal > 1 else None,
                        self.picture, predicted=not free, begins=not half, ends=bool(half), up=chance.random() < 0.5,
                        flexible=self.flexible, tl0=self.picture, short=chance.random() < 0.1,
                        widths=[160 << at for at in range(self.mode.spatial)] if first else (),
                    )  # fmt: skip
                    made.append((payload, b"", last))
                    continue
                told = [160 << at for at in range(self.mode.spatial)] if first else None
                layers = len(self.mode.layers())
                extension = descriptor(
                    self.mode, (spatial, temporal), self.frame, key=key and not temporal, begins=not half, ends=bool(half),
                    offset=self.offset, widths=told, chains=chance.randrange(layers + 1),
                    active=chance.randrange(1 << layers) if chance.random() < 0.05 else None,
                    custom=[chance.randrange(4) for _ in range(layers)] if chance.random() < 0.05 else (),
                )  # fmt: skip
                made.append((bytes((0x08 if first else 0,)) + b"obu", extension, last))
        return made

    def repaired(self) -> bytes | None:
        """A retransmission of something that was lost."""
        if not self.lost or self.spec.rtx_payload_type is None:
            return None
        sequence, payload, extension = self.lost.pop(self.chance.randrange(len(self.lost)))
        body = (sequence & 0xFFFF).to_bytes(2, "big") + payload
        kind, ssrc = self.spec.rtx_payload_type, self.ssrc + 100
        return self.packet(self.chance.randrange(1 << 16), body, extension, False, kind=kind, ssrc=ssrc)


@pytest.fixture
def twins(monkeypatch: pytest.MonkeyPatch) -> Iterator[Twins]:
    made = Twins(monkeypatch, 5)
    yield made
    made.close()


def played(twins: Twins, seed: int, steps: int) -> None:
    chance = random.Random(seed)
    names = [*PUBLISHERS, "viewer"]
    ports = {name: 2000 + at for at, name in enumerate(names)}
    keys = {name: chance.randbytes(44) for name in names}
    clients = {name: Client(key) for name, key in keys.items()}
    for name in names:
        twins.connect(name, keys[name], ("10.0.0.1", ports[name]))
    for track in PUBLISHERS.values():
        twins.do("publish", track.participant, track)
    for spec in SUBSCRIBERS:
        twins.do("add_sender", "viewer", spec)
    cameras = [
        Camera(chance, who, 10 * at + 10 + step, rid)
        for at, (who, spec) in enumerate(PUBLISHERS.items())
        for step, rid in enumerate(spec.rids or ("",))
    ]

    def feed(camera: Camera, data: bytes) -> None:
        sealed = clients[camera.who].seal(data)
        if sealed is not None:
            twins.feed(("10.0.0.1", ports[camera.who]), sealed)

    def route(spec: SenderSpec, *, paused: bool = False) -> None:
        fitting = [track for track in PUBLISHERS.values() if track.kind == spec.kind]
        taken = [track for track in fitting if spec.payloads(track.codec)]
        chosen = chance.choice(taken if chance.random() < 0.9 else fitting)
        twins.do("route", "viewer", spec.id, chosen.id, paused=paused)

    def order() -> None:
        spec = chance.choice(SUBSCRIBERS)
        match chance.randrange(8):
            case 0 | 1:
                route(spec, paused=chance.random() < 0.1)
            case 2 | 3 | 4:
                layer = f"S{chance.randrange(4)}T{chance.randrange(4)}"
                twins.do("select", "viewer", spec.id, chance.choice((layer, layer, layer, "h", "f", "", "S9T0", "S1")))
            case 5:
                twins.tap(chance.choice(("add_tap", "remove_tap")), chance.choice(list(PUBLISHERS.values())).id)
            case 6:
                twins.do("remove_sender", "viewer", spec.id)
                twins.do("add_sender", "viewer", spec)
                route(spec)
            case _:
                newest = twins.engines[0]._transports["viewer"].senders[spec.id].sequence
                wanted = [(newest - chance.randrange(-2, 60)) & 0xFFFF for _ in range(8)]
                for engine in twins.engines:
                    engine.retransmit("viewer", spec.ssrc, wanted)
                twins.same(("retransmit", spec.id, wanted))

    def ask() -> None:
        twins.do("waiting", ["viewer"])
        twins.do("senders", "viewer")
        twins.do("missing", "av1", twins.now_ns)
        for track in PUBLISHERS.values():
            twins.do("streams_of", track.id)
            twins.do("counters", track.participant)

    for spec in SUBSCRIBERS:
        route(spec)
    for _ in range(steps):
        twins.now_ns += chance.choice((0, MS, 5 * MS, 33 * MS))
        camera = chance.choice(cameras)
        for data in camera.shown():
            feed(camera, data)
        if chance.random() < 0.15 and (repaired := camera.repaired()) is not None:
            feed(camera, repaired)
        if chance.random() < 0.12:
            order()
        if chance.random() < 0.04:
            ask()
    ask()
    assert twins.sent > steps // 10, "there was something to compare"


@pytest.mark.parametrize("seed", range(12))
def test_the_same_packets_leave_both_engines(twins: Twins, seed: int) -> None:
    played(twins, seed, 2_000)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 180))
def test_the_same_packets_leave_both_engines_for_long(twins: Twins, seed: int) -> None:
    played(twins, seed, 6_000)
