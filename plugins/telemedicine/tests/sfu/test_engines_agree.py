"""The C engine does what the Python engine does: for the same packets and orders the same bytes leave, to the last bit.

The traffic is random but not wild: simulcast cameras, microphones, retransmissions, switches, repetitions, reordering,
padding, every form of header extension, and rubbish in between.
"""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from qanun_telemedicine.sfu import rtcp, rtp
from qanun_telemedicine.sfu.engine import SenderSpec, TrackSpec
from qanun_telemedicine.sfu.rtcp import SenderReport

from .engines import needs_c
from .test_packets import vp8_payload
from .twins import Client, Twins

pytestmark = needs_c

MS = 1_000_000
MID, RID, REPAIRED, LEVEL, NUMBER, ORIENTATION, DELAY = 4, 10, 11, 1, 3, 13, 5
IDS = {
    rtp.MID: MID,
    rtp.RID: RID,
    rtp.REPAIRED_RID: REPAIRED,
    rtp.AUDIO_LEVEL: LEVEL,
    rtp.TRANSPORT_CC: NUMBER,
    rtp.VIDEO_ORIENTATION: ORIENTATION,
    rtp.PLAYOUT_DELAY: DELAY,
}
TRACKS = (
    TrackSpec("a/mic", "a", "audio", "opus", 48000, 111, mid="0", extensions=IDS),
    TrackSpec("a/cam", "a", "video", "vp8", 90000, 96, 97, mid="1", extensions=IDS, rids=("q", "h", "f")),
    TrackSpec("b/mic", "b", "audio", "opus", 48000, 109, mid="0", extensions={rtp.MID: 3, rtp.AUDIO_LEVEL: 200}),
    TrackSpec("b/cam", "b", "video", "vp8", 90000, 100, 101, mid="x", ssrcs={7000: ("", False), 7001: ("", True)}),
)
SENDERS = {
    "a": [
        SenderSpec("5", "audio", "opus", 48000, 111, 501, extensions={rtp.AUDIO_LEVEL: 2}, cname="a"),
        SenderSpec("6", "video", "vp8", 90000, 120, 502, 121, 503, {rtp.TRANSPORT_CC: 6}, "a"),
    ],
    "b": [
        SenderSpec("5", "video", "vp8", 90000, 120, 601, extensions={rtp.VIDEO_ORIENTATION: 7, rtp.TRANSPORT_CC: 17}),
        SenderSpec("6", "audio", "opus", 48000, 99, 602, extensions=IDS),
    ],
    "c": [
        SenderSpec("0", "audio", "opus", 48000, 111, 701, extensions={rtp.TRANSPORT_CC: 3, rtp.AUDIO_LEVEL: 15}),
        SenderSpec("1", "video", "vp8", 90000, 96, 702, 97, 703, {**IDS, rtp.TRANSPORT_CC: 8}),
        SenderSpec("2", "video", "vp8", 90000, 96, 704, 97, 705, {rtp.PLAYOUT_DELAY: 1}),
    ],
}
PORTS = {"a": 1001, "b": 1002, "c": 1003}
#: One of them has IPv6.
PLACES = {"a": ("10.0.0.1", 1001), "b": ("2001:db8::1", 1002), "c": ("10.0.0.1", 1003)}


def elements(chance: random.Random, pairs: list[tuple[int, bytes]]) -> bytes:
    """An extension block in one of the two forms, at times with padding and nonsense in it."""
    if chance.random() < 0.15:
        body = b"".join(bytes((number, len(value))) + value + bytes(chance.randrange(2)) for number, value in pairs)
        head = b"\x10" + bytes((chance.randrange(16),))
    else:
        body = b"".join(
            bytes((number << 4 | len(value) - 1,)) + value + bytes(chance.choice((0, 0, 0, 1, 2)))
            for number, value in pairs
            if 0 < number < 15 and 0 < len(value) < 17
        )
        head = b"\xbe\xde"
    if chance.random() < 0.05:
        body += chance.randbytes(chance.randrange(1, 12))
    body += bytes(-len(body) % 4)
    return head + (len(body) // 4).to_bytes(2, "big") + body


class Source:
    """One SSRC of one publisher, with all the irregularities of a network and a browser or two."""

    def __init__(
        self, chance: random.Random, who: str, kind: int, ssrc: int, mid: bytes, rid: bytes, video: bool
    ) -> None:
        self.chance, self.who, self.kind, self.ssrc, self.mid, self.rid, self.video = (
            chance,
            who,
            kind,
            ssrc,
            mid,
            rid,
            video,
        )
        self.sequence = chance.choice((1, 65_000, 32_760, chance.randrange(1 << 16)))
        self.timestamp = chance.randrange(1 << 32)
        self.picture = chance.randrange(1 << 15)
        self.ids = {"mid": 3, "level": 200} if who == "b" else {"mid": MID, "level": LEVEL}
        self.late: list[bytes] = []
        #: Sequence number, timestamp and payload of packets that never came, and of the last that did.
        self.lost: list[tuple[int, int, bytes]] = []
        self.sent: list[tuple[int, int, bytes]] = []

    def payload(self) -> bytes:
        chance = self.chance
        if not self.video:
            return chance.randbytes(chance.choice((0, 1, 3, 80)))
        key = chance.random() < 0.08
        whole = vp8_payload(
            key=key, picture=self.picture & 0x7FFF, tl0=self.picture & 255, width=chance.choice((160, 320, 640))
        )
        form = chance.random()
        if form < 0.1:
            return chance.randbytes(chance.randrange(0, 14))
        if form < 0.15:
            return whole[: chance.randrange(1, len(whole))]
        if form < 0.25:  # a short picture id, or none
            rest = b"\x10\x02\x00\x9d\x01\x2a\x40\x01\xf0\x00" if key else b"\x11\x02"
            return b"\x90" + chance.choice((b"\x80" + bytes((self.picture & 127,)), b"\x00", b"\x60\x07\x20")) + rest
        return whole + chance.randbytes(chance.choice((0, 30, 900)))

    def block(self, repaired: bool = False) -> bytes:
        chance = self.chance
        if chance.random() < 0.1:
            return b""
        pairs: list[tuple[int, bytes]] = []
        if self.mid and chance.random() < 0.8:
            pairs.append((self.ids["mid"], self.mid))
        if self.rid and chance.random() < 0.9:
            pairs.append((REPAIRED if repaired else RID, self.rid))
        if chance.random() < 0.8:
            pairs.append((NUMBER, chance.randbytes(chance.choice((2, 2, 2, 1, 3)))))
        if not self.video:
            pairs.append((self.ids["level"], chance.randbytes(1)))
        if self.video and chance.random() < 0.4:
            pairs += [
                (ORIENTATION, chance.randbytes(1)),
                (DELAY, chance.randbytes(3)),
                (ORIENTATION, chance.randbytes(2)),
            ]
        chance.shuffle(pairs)
        return elements(chance, pairs) if pairs else b""

    def packet(self, kind: int, ssrc: int, sequence: int, timestamp: int, payload: bytes, block: bytes) -> bytes:
        chance = self.chance
        sources = chance.choice((0, 0, 0, 0, 2))
        padded = chance.random() < 0.06
        if padded:
            size = chance.randrange(1, 8)
            payload += bytes(size - 1) + bytes((size,))
        first = 0x80 | padded << 5 | bool(block) << 4 | sources
        second = (chance.random() < 0.2) << 7 | kind
        head = (
            bytes((first, second))
            + (sequence & 0xFFFF).to_bytes(2, "big")
            + (timestamp & 0xFFFFFFFF).to_bytes(4, "big")
        )
        return head + ssrc.to_bytes(4, "big") + chance.randbytes(4 * sources) + block + payload

    def next(self) -> list[bytes]:
        """What arrives next: mostly one packet."""
        chance = self.chance
        self.sequence += chance.choice((1,) * 40 + (2, 3, 200))
        self.timestamp += chance.choice((0, 3000, 3000))
        self.picture += 1
        payload = self.payload()
        made = self.packet(self.kind, self.ssrc, self.sequence, self.timestamp, payload, self.block())
        fate = chance.random()
        if fate < 0.06:
            self.lost.append((self.sequence, self.timestamp, payload))
            return []
        self.sent = [*self.sent[-20:], (self.sequence, self.timestamp, payload)]
        if fate < 0.14:
            self.late.append(made)
            return []
        if fate < 0.18:
            return [made, made]
        late, self.late = (self.late, []) if chance.random() < 0.3 else ([], self.late)
        return [made, *late]


class Scene:
    """Publishers, subscribers and a director with a dice."""

    def __init__(self, twins: Twins, seed: int) -> None:
        self.twins = twins
        self.chance = chance = random.Random(seed)
        self.keys = {name: chance.randbytes(44) for name in PORTS}
        self.clients = {name: Client(key) for name, key in self.keys.items()}
        self.published: set[str] = set()
        for name in PORTS:
            self.connect(name)
        self.sources = [
            Source(chance, "a", 111, 1, b"0", b"", False),
            *(Source(chance, "a", 96, 10 + at, b"1", rid, True) for at, rid in enumerate((b"q", b"h", b"f"))),
            Source(chance, "b", 109, 20, b"", b"", False),
            Source(chance, "b", 100, 7000, b"", b"", True),
        ]

    def connect(self, name: str) -> None:
        self.twins.connect(name, self.keys[name], PLACES[name])
        self.clients[name] = Client(self.keys[name])
        for track in TRACKS:
            if track.participant == name:
                self.twins.do("publish", name, track)
        for spec in SENDERS[name]:
            self.twins.do("add_sender", name, spec)

    def arrive(self, who: str, data: bytes) -> None:
        sealed = self.clients[who].seal(data)
        if sealed is not None:
            self.twins.feed(PLACES[who], sealed)

    def step(self) -> None:
        chance = self.chance
        self.twins.now_ns += chance.choice(
            (0, MS, 5 * MS, 20 * MS, 20 * MS, 400 * MS) if chance.random() < 0.9 else (0,)
        )
        roll = chance.random()
        if roll < 0.82:
            source = chance.choice(self.sources)
            for data in source.next():
                self.arrive(source.who, data)
        elif roll < 0.86:
            self.repair()
        elif roll < 0.90:
            self.rubbish()
        elif roll < 0.97:
            self.order()
        else:
            self.ask()

    def repair(self) -> None:
        """A retransmission, as a publisher sends it."""
        source = self.chance.choice([one for one in self.sources if one.video])
        # At times for something that came after all.
        missing = source.lost if self.chance.random() < 0.7 else source.sent
        if not missing:
            return
        sequence, timestamp, payload = missing.pop(self.chance.randrange(len(missing)))
        kind, ssrc = (97, source.ssrc + 100) if source.who == "a" else (101, 7001)
        body = sequence.to_bytes(4, "big")[2:] + payload
        made = source.packet(kind, ssrc, self.chance.randrange(1 << 16), timestamp, body, source.block(repaired=True))
        self.arrive(source.who, made)

    def rubbish(self) -> None:
        chance = self.chance
        who = chance.choice(list(PORTS))
        data = chance.randbytes(chance.randrange(0, 60))
        match chance.randrange(5):
            case 0:
                self.twins.feed(PLACES[who], data)
            case 1:
                self.twins.feed((chance.choice(("10.0.0.9", "2001:db8::9")), 9), b"\x80\x60" + data)
            case 2:
                self.arrive(
                    who, bytes((chance.choice((0x80, 0x90, 0xB0, 0xA0)), chance.choice((96, 97, 100, 111)))) + data
                )
            case 3:
                ssrc = chance.choice((1, 10, 11, 12, 7000, chance.randrange(200)))
                self.arrive(who, b"\x80\x60\x00\x01\x00\x00\x00\x02" + ssrc.to_bytes(4, "big") + data)
            case 4:
                plain = rtcp.picture_loss(1, chance.randrange(1 << 32))
                self.twins.feed(PLACES[who], self.clients[who].rtcp.protect_rtcp(plain))

    def order(self) -> None:
        chance, do = self.chance, self.twins.do
        who = chance.choice(list(PORTS))
        sender = chance.choice(SENDERS[who])
        fitting = [track for track in TRACKS if track.kind == sender.kind]
        match chance.randrange(16):
            case 0 | 1 | 2 | 3 | 4:
                do("route", who, sender.id, chance.choice(fitting).id, paused=chance.random() < 0.15)
            case 5:
                do("route", who, sender.id, chance.choice((None, "nobody")))
            case 6 | 7 | 8:
                do("select", who, sender.id, chance.choice(("q", "h", "f", "", "z")))
            case 9 | 10:
                self.twins.tap("add_tap", chance.choice(TRACKS).id)
            case 11:
                self.twins.tap("remove_tap", chance.choice(TRACKS).id)
            case 12:
                track = chance.choice(TRACKS)
                do("unpublish", track.id)
                if chance.random() < 0.9:
                    do("publish", track.participant, track)
            case 13:
                do("remove_sender", who, sender.id)
                do("add_sender", who, sender)
            case 14:
                network = chance.choice(("10.0.0.", "2001:db8::", "2001:db8:1::"))
                address = (f"{network}{chance.randrange(1, 20)}", PORTS[who])
                do(chance.choice(("bind", "send_to")), who, address)
            case 15 if chance.random() < 0.4:
                do("remove_transport", who)
                self.connect(who)
            case _:
                self.again(who, sender)

    def again(self, who: str, sender: SenderSpec) -> None:
        """NACKs for what went out lately, and for what never did."""
        out = self.twins.engines[0]._transports[who].senders[sender.id]
        back = self.chance.choice((40, 40, 200, 700, 1200))
        wanted = [
            (out._sequence - self.chance.randrange(-3, back)) & 0xFFFF for _ in range(self.chance.randrange(1, 9))
        ]
        for engine in self.twins.engines:
            engine.retransmit(who, sender.ssrc, wanted)
        self.twins.same(("retransmit", who, sender.id, wanted))

    def ask(self) -> None:
        do, chance = self.twins.do, self.chance
        for name in PORTS:
            do("missing", name, self.twins.now_ns)
            do("senders", name)
            do("counters", name)
            do("take_arrivals", name)
            do("sent", name, chance.randrange(1 << 16), 30)
            do("sent", name, (self.twins.engines[0]._transports[name].number - 20) & 0xFFFF, 30)
            if chance.random() < 0.5:
                do("streams", name)
            for sender in SENDERS[name]:
                self.again(name, sender)
        do("receiving", self.twins.now_ns - chance.randrange(4_000_000_000))
        do("waiting", list(PORTS))
        for track in TRACKS:
            do("level", track.id)
            do("streams_of", track.id)
            source = chance.choice(self.sources)
            report = SenderReport(source.ssrc, chance.randrange(1 << 64), source.timestamp & 0xFFFFFFFF, 5, 6)
            do("translate", report, track.id)


@pytest.fixture
def twins(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Twins]:
    made = Twins(monkeypatch, getattr(request, "param", 0))
    yield made
    made.close()


@pytest.mark.parametrize("seed", range(24))
def test_the_same_packets_leave_both_engines(twins: Twins, seed: int) -> None:
    scene = Scene(twins, seed)
    for who in PORTS:
        for sender in SENDERS[who]:
            track = scene.chance.choice([one for one in TRACKS if one.kind == sender.kind])
            twins.do("route", who, sender.id, track.id)
    for _ in range(3000):
        scene.step()
    scene.ask()
    assert twins.sent > 250, "there was something to compare"


def test_a_long_call_wraps_every_number(twins: Twins) -> None:
    scene = Scene(twins, 1)
    twins.do("route", "c", "1", "a/cam")
    camera: Any = scene.sources[1]
    for number in range(70_000):
        twins.now_ns += MS
        camera.sequence += 1
        camera.picture += 1
        payload = vp8_payload(key=number == 0, picture=camera.picture & 0x7FFF, tl0=camera.picture & 255)
        block = rtp.extension_block([(MID, b"1"), (RID, b"q")])
        made = rtp.Packet(96, camera.sequence & 0xFFFF, number * 90 & 0xFFFFFFFF, camera.ssrc, payload)
        scene.arrive("a", rtp.serialise(made, block))
        if number % 997 == 0:
            scene.again("c", SENDERS["c"][1])
    assert twins.sent > 70_000
    scene.ask()
