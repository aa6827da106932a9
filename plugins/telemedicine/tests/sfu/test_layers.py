"""Pictures in several layers: who gets which, what the publisher is told, and that a switch leaves no seam. On both engines."""

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest

from qanun_telemedicine.sfu import rtp
from qanun_telemedicine.sfu.layers import Published
from qanun_telemedicine.sfu.quality import Layer, LayerChoice

from .conftest import until
from .peer import LAYERS, Peer
from .test_packets import picture_numbers
from .test_worker import Inside, inside  # noqa: F401  (a fixture)

Q, H, F = Layer("q", 160, 100_000), Layer("h", 320, 400_000), Layer("f", 640, 1_000_000)


def test_a_layer_that_nobody_wants_is_paused_after_a_while_and_comes_back_at_once() -> None:
    published = Published("qhf")
    assert not published.want({"f"}, [Q, H, F], 0.0), "what comes is left alone at first"
    assert not published.want({"f"}, [Q, H, F], 4.0)
    assert published.want({"f"}, [Q, H, F], 5.0) and published.told() == ["f"]
    assert not published.want({"f"}, [F], 6.0)
    assert published.want({"q", "f"}, [F], 7.0) and published.told() == ["q", "f"]


def test_somebody_who_joins_always_finds_one_layer() -> None:
    published = Published("qhf")
    for second in range(8):
        published.want(set(), [Q, H, F], second)
    assert published.told() == ["q"]
    assert {one.rid for one in published.choice([Q], 8.0)} == set("qhf"), "and can have any other"


def test_who_pauses_is_reminded_so_that_a_lost_message_does_no_harm() -> None:
    published = Published("qhf")
    told = [second for second in range(20) if published.want({"f"}, [F], second)]
    assert told == [5, 10, 15]
    everything = Published("qhf")
    assert not any(everything.want(set("qhf"), [Q, H, F], second) for second in range(20))


def test_a_paused_layer_can_be_chosen_at_what_it_cost_last_time_or_usually_costs() -> None:
    published = Published("qhf")
    wide = Layer("f", 1280, 900_000)
    assert {one.rid: one.width for one in published.choice([wide], 0.0)} == {"q": 320, "h": 640, "f": 1280}
    published.choice([Layer("h", 640, 333_000), wide], 1.0)
    assert next(one for one in published.choice([wide], 2.0) if one.rid == "h").bitrate == 333_000
    assert published.choice([], 0.0), "what was seen once is remembered"
    assert Published(("one", "two")).choice([], 0.0) == [], "of strangers' names nothing is known"


def test_a_picture_that_has_only_just_begun_is_the_widest_all_the_same() -> None:
    for begun in (Layer("f", 0, 0), Layer("f", 320, 0)):
        layers = Published("hf").choice([begun], 0.0)
        assert LayerChoice().choose(layers, 8_000_000) == "f", begun


def test_a_layer_that_was_asked_for_in_vain_is_left_alone_for_a_while() -> None:
    published = Published("qhf")
    published.want({"f"}, [F], 0.0)
    assert published.want({"q"}, [F], 1.0) and published.told() == ["q", "f"]
    assert "q" in {one.rid for one in published.choice([F], 2.0)}
    assert "q" not in {one.rid for one in published.choice([F], 6.0)}
    assert "q" in {one.rid for one in published.choice([F], 17.0)}


def test_a_step_up_that_the_way_did_not_carry_makes_the_next_one_wait_longer() -> None:
    choice = LayerChoice()
    choice.choose([Q, H], 200_000)
    waits = []
    for _ in range(4):
        waited = 0
        while choice.rid == "q":
            choice.choose([Q, H], 500_000)
            waited += 1
        waits.append(waited)
        choice.choose([Q, H], 200_000)
    assert waits == [3, 6, 12, 24]
    for _ in range(70):
        choice.choose([Q, H], 200_000)
    choice.choose([Q, H], 500_000)
    choice.choose([Q, H], 500_000)
    assert choice.choose([Q, H], 500_000) == "h"


def test_only_who_is_about_to_get_more_is_probed() -> None:
    choice = LayerChoice()
    probes = [(choice.choose([Q, H, F], budget), choice.probe) for budget in (200_000, 200_000, *4 * [500_000])]
    assert probes == [("q", 0), ("q", 0), ("q", 0), ("q", H.bitrate), ("h", 0), ("h", 0)]


class Room:
    """A doctor who shows three layers, and two who look."""

    def __init__(self, inside: Inside) -> None:  # noqa: F811
        self.inside = inside
        self.doctor, self.near, self.far = Peer("doctor", layers=True), Peer("near"), Peer("far")
        #: Whether the doctor sends what the server asks for, or every layer.
        self.obeys = False
        self._tasks: list[asyncio.Task[None]] = []
        self.loss = 0

    async def begin(self) -> None:
        for peer in (self.doctor, self.near, self.far):
            await peer.join(self.inside.client, "nour")
            await peer.connect()
        self._tasks = [asyncio.create_task(self._show()), asyncio.create_task(self._report())]

    async def _show(self) -> None:
        for number in range(100_000):
            rids = "".join(self.asked()) if self.obeys else ""
            await self.doctor.show(rids or "qhf", key=number % 25 == 0)
            await asyncio.sleep(0.01)

    async def _report(self) -> None:
        await until(lambda: self.pictures(self.near) and self.pictures(self.far), "both see something")
        while True:
            await self.near.report(0)
            await self.far.report(self.loss)
            await asyncio.sleep(0.1)

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @staticmethod
    def pictures(peer: Peer) -> list[rtp.Packet]:
        parsed = (rtp.parse(data) for data in list(peer.dtls.rtp))
        return [packet for packet in parsed if packet is not None and packet.payload_type == 96]

    def sees(self, peer: Peer) -> str:
        """The layer of the newest picture, told by its size."""
        sizes = {size: rid for rid, (_, _, size) in LAYERS.items()}
        pictures = self.pictures(peer)
        return sizes.get(len(pictures[-1].payload), "?") if pictures else ""

    def asked(self) -> list[str]:
        told = [one.data["layers"] for one in self.inside.events if one.event == "participant.layers"]
        return told[-1]["1"] if told else []


@pytest.fixture
async def room(inside: Inside) -> AsyncIterator[Room]:  # noqa: F811
    made = Room(inside)
    await made.begin()
    yield made
    await made.end()


async def test_a_weak_line_gets_a_smaller_layer_and_nobody_else_does(room: Room) -> None:
    await until(lambda: room.sees(room.near) == room.sees(room.far) == "f", "both get the widest")
    room.loss = 100
    await until(lambda: room.sees(room.far) in "qh", "the weak line gets less at once")
    assert room.sees(room.near) == "f"
    room.loss = 30  # still more than nothing, so the estimate stays
    await until(lambda: len(room.asked()) == 2 and "f" in room.asked(), "what nobody receives is not asked for")
    # A publisher that does as told, now and later: the other layers go on, and whoever gets them notices nothing.
    room.obeys = True
    await asyncio.sleep(1)
    assert room.sees(room.near) == "f"
    room.loss = 0
    repeated = await _repeated(room)
    await until(lambda: room.sees(room.far) == "f", "a good line gets everything back")
    assert await _repeated(room) > repeated, "but only after it was shown to carry more"
    for peer in (room.near, room.far):
        pictures = room.pictures(peer)
        steps = {(after.sequence - before.sequence) & 0xFFFF for before, after in itertools.pairwise(pictures)}
        assert steps == {1}, "one stream without gaps"
        assert len({packet.ssrc for packet in pictures}) == 1
        numbers = [number for packet in pictures if (number := picture_numbers(packet.payload)) is not None]
        assert {(after[0] - before[0]) & 0x7FFF for before, after in itertools.pairwise(numbers)} == {1}
        later = [(after.timestamp - before.timestamp) & 0xFFFFFFFF for before, after in itertools.pairwise(pictures)]
        assert all(0 < step < 90_000 for step in later)


async def _repeated(room: Room) -> int:
    stats = await room.inside.client.stats("nour")
    return sum(one["retransmitted"] for one in stats["nour"]["far"]["receives"])
