"""However a picture's layers are switched and paused, what a subscriber gets has the holes that the network made, and no others."""

import itertools
import random
from collections.abc import Iterator

import pytest

from qanun_telemedicine.sfu import rtp
from qanun_telemedicine.sfu.engine import SenderSpec, TrackSpec

from .engines import needs_c
from .test_packets import vp8_payload
from .twins import Client, Twins

pytestmark = needs_c

KEY = bytes(range(44))
RIDS = ("q", "h", "f")
ADDRESS = ("10.0.0.1", 1001)


class Show:
    """A camera in three layers, and one who looks; both engines forward, and must do the same."""

    def __init__(self, twins: Twins) -> None:
        self.twins = twins
        twins.connect("a", KEY, ADDRESS)
        twins.connect("b", bytes(reversed(KEY)), ("10.0.0.1", 1002))
        twins.do("publish", "a", TrackSpec("a/cam", "a", "video", "vp8", 90000, 96, 97, "1", "", {rtp.RID: 10}, RIDS))
        twins.do("add_sender", "b", SenderSpec("3", "video", "vp8", 90000, 120, 500, 121, 501, {rtp.TRANSPORT_CC: 3}))
        twins.do("route", "b", "3", "a/cam")
        self.camera = Client(KEY)
        #: What the subscriber's browser decrypts with.
        self.seen: list[rtp.Packet] = []
        self.numbers = dict.fromkeys(RIDS, 0)
        self.clock = 0

    def send(self, rid: str, *, key: bool, number: int | None = None) -> None:
        self.numbers[rid] = self.numbers[rid] + 1 if number is None else number
        at = self.numbers[rid]
        payload = vp8_payload(key=key, picture=at & 0x7FFF, tl0=at & 255, width=160 << RIDS.index(rid))
        made = rtp.Packet(96, at & 0xFFFF, self.clock * 3000 & 0xFFFFFFFF, 10 + RIDS.index(rid), payload, True)
        sealed = self.camera.seal(rtp.serialise(made, rtp.extension_block([(10, rid.encode())])))
        assert sealed is not None
        outcomes = []
        for engine in self.twins.engines:
            engine.feed(ADDRESS, sealed, self.twins.now_ns)
            outcomes.append(engine.outcome())
            engine._listener.heard.clear()
        assert outcomes[0] == outcomes[1]
        for _, data in outcomes[0]:
            # The header is not encrypted, and numbers are all that matters here.
            packet = rtp.parse(data)
            assert packet is not None
            self.seen.append(packet)

    def picture(self, rids: str, *, key: bool) -> None:
        self.clock += 1
        self.twins.now_ns += 33_000_000
        for rid in rids:
            self.send(rid, key=key)

    def steps(self) -> list[int]:
        return [(after.sequence - before.sequence) & 0xFFFF for before, after in itertools.pairwise(self.seen)]


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Iterator[Show]:
    twins = Twins(monkeypatch, 7)
    yield Show(twins)
    twins.close()


@pytest.mark.parametrize("seed", range(8))
def test_switching_and_pausing_layers_never_skips_a_number(show: Show, seed: int) -> None:
    chance = random.Random(seed)
    show.numbers = {rid: chance.randrange(1 << 16) for rid in RIDS}
    sent, chosen = "qhf", set()
    for step in range(4_000):
        if chance.random() < 0.05:
            sent = "".join(rid for rid in RIDS if chance.random() < 0.6) or chance.choice(RIDS)
        if chance.random() < 0.05:
            chosen.add(rid := chance.choice(RIDS))
            for engine in show.twins.engines:
                engine.select("b", "3", rid)
                engine._listener.heard.clear()
        show.picture(sent, key=step == 0 or chance.random() < 0.08)
    assert set(show.steps()) == {1} and len(show.seen) > 1_000 and chosen == set(RIDS)
    later = [(after.timestamp - before.timestamp) & 0xFFFFFFFF for before, after in itertools.pairwise(show.seen)]
    assert all(0 < step < 1 << 31 for step in later), "time never runs backwards"


def test_a_hole_that_the_publisher_has_stays_one_so_that_it_can_be_asked_for(show: Show) -> None:
    for _ in range(5):
        show.picture("f", key=True)
    show.send("f", key=False, number=show.numbers["f"] + 95)
    show.picture("f", key=False)
    assert show.steps() == [1, 1, 1, 1, 95, 1]
