"""Several workers of one machine: rooms stay whole, go where least is going on, and leave a worker that drains or dies."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from qanun_telemedicine.draining import drain
from qanun_telemedicine.sfu import protocol as p
from qanun_telemedicine.sfu.client import MediaError, MediaUnavailable
from qanun_telemedicine.sfu.pool import MediaPool

from .conftest import until
from .peer import Peer
from .test_worker import Inside, talk


class Machine:
    """Two workers, and two web processes that use them."""

    def __init__(self, folder: Path) -> None:
        self.workers = [self._worker(folder, name) for name in ("media.sock", "media-2.sock")]
        self.events: list[p.Event] = []
        self.web = [MediaPool(folder / "media.sock", self.events.append, timeout=3.0) for _ in range(2)]

    @staticmethod
    def _worker(folder: Path, name: str) -> Inside:
        one = Inside(folder, "auto")
        one.path = folder / name
        one.client.path = one.path
        return one

    async def start(self) -> None:
        for one in self.workers:
            await one.start()
        for pool in self.web:
            await pool.start()

    async def stop(self) -> None:
        for pool in self.web:
            await pool.close()
        for one in self.workers:
            if not one.task.done():
                await one.stop()

    def serving(self, room: str) -> list[int]:
        return [
            number
            for number, one in enumerate(self.workers)
            if any(each.id == room and each.participants for each in one.worker.rooms)
        ]


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    made = Machine(tmp_path)
    await made.start()
    yield made
    await made.stop()


async def meet(machine: Machine, room: str) -> tuple[Peer, Peer]:
    """The two join at the same moment, through two web processes."""
    peers = Peer(f"{room}-doctor"), Peer(f"{room}-patient")
    await asyncio.gather(*(peer.join(pool, room) for peer, pool in zip(peers, machine.web, strict=True)))  # type: ignore[arg-type]
    for peer in peers:
        await peer.connect()
    return peers


async def test_rooms_go_where_least_is_going_on_and_stay_whole(machine: Machine) -> None:
    nour, shifa = await meet(machine, "nour"), await meet(machine, "shifa")
    await talk(*nour)
    await talk(*shifa)
    assert sorted(machine.serving("nour") + machine.serving("shifa")) == [0, 1]
    assert set(await machine.web[1].stats()) >= {"nour", "shifa"}
    assert len(await machine.web[0].workers()) == 2
    for room in ("nour", "shifa"):
        await machine.web[1].close_room(room)
        assert machine.serving(room) == []
        await machine.web[0].close_room(room)  # twice is as good as once


async def test_a_worker_that_drains_keeps_its_rooms_whole_gets_no_new_one_and_ends(machine: Machine) -> None:
    doctor, patient = await meet(machine, "nour")
    (old,) = machine.serving("nour")
    await machine.workers[old].client.drain()
    interpreter = Peer("interpreter")
    await interpreter.join(machine.web[1], "nour")  # type: ignore[arg-type]
    await interpreter.connect()
    assert machine.serving("nour") == [old], "who belongs to a room comes to the others"
    for room in ("shifa", "amal"):
        await talk(*(await meet(machine, room)))
        assert machine.serving(room) == [1 - old]
    await talk(doctor, patient)
    for peer in (doctor, patient, interpreter):
        await machine.web[0].leave("nour", peer.name)
    await until(machine.workers[old].task.done, "the worker ends")
    await talk(*(await meet(machine, "nour")))
    assert machine.serving("nour") == [1 - old]


async def test_before_a_machine_stops_its_calls_are_waited_for_and_no_new_one_begins(machine: Machine) -> None:
    doctor, patient = await meet(machine, "nour")
    socket = machine.workers[0].path
    assert await drain(socket, 0) == 2
    with pytest.raises(MediaUnavailable):
        await machine.web[0].open_room("shifa")
    await talk(doctor, patient)  # nobody is cut off
    waiting = asyncio.create_task(drain(socket, 60))
    for peer in (doctor, patient):
        await machine.web[0].leave("nour", peer.name)
    assert await waiting == 0
    assert not any(one.task.done() for one in machine.workers), "they are there for whoever changes their mind"
    assert await drain(socket, 0, on=False) == 0
    await talk(*(await meet(machine, "shifa")))
    assert await drain(socket.with_name("nowhere.sock"), 0) == 0


async def test_a_worker_that_dies_is_news_for_its_own_rooms_only(machine: Machine) -> None:
    await meet(machine, "nour")
    (dead,) = machine.serving("nour")
    # Where least is going on is chance on a busy machine; they are to be apart here.
    await machine.workers[dead].client.drain(ends=False)
    await meet(machine, "shifa")
    await machine.workers[dead].client.drain(on=False)
    assert machine.serving("shifa") == [1 - dead]
    await machine.workers[dead].stop()
    again = Machine._worker(machine.workers[dead].path.parent, machine.workers[dead].path.name)
    await again.start()
    machine.workers[dead] = again
    await until(lambda: len(_restarted(machine)) == 2, "both web processes hear of it")
    assert set(_restarted(machine)) == {"nour"}
    with pytest.raises(MediaError) as refused:
        await machine.web[0].offer("nour", "nour-doctor", "v=0")
    assert refused.value.code == "gone", "the page must join again"
    await talk(*(await meet(machine, "nour")))
    assert len(machine.serving("nour")) == 1


def _restarted(machine: Machine) -> list[str]:
    return [event.room for event in machine.events if event.event == "worker.restarted"]


async def test_a_second_worker_takes_new_rooms_and_none_of_the_firsts(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    first, second = machine.workers
    await first.start()
    for pool in machine.web:
        await pool.start()
    doctor, patient = await meet(machine, "nour")
    await second.start()
    await until(lambda: all(len(pool._clients) == 2 for pool in machine.web), "it is found")
    daughter = Peer("daughter")
    await daughter.join(machine.web[1], "nour")  # type: ignore[arg-type]
    await daughter.connect()
    await meet(machine, "shifa")
    assert machine.serving("nour") == [0] and machine.serving("shifa") == [1]
    await talk(doctor, patient)
    await machine.stop()


async def test_a_recording_is_found_whoever_started_it(machine: Machine) -> None:
    for pool in machine.web:
        with pytest.raises(MediaError) as refused:
            await pool.recording_status("nobody's")
        assert refused.value.code == "no-recording"


async def test_without_any_worker_that_takes_rooms_it_is_said_so(machine: Machine) -> None:
    for one in machine.workers:
        await one.client.drain()
    await until(lambda: all(one.task.done() for one in machine.workers), "empty workers end at once")
    with pytest.raises(MediaUnavailable):
        await Peer("late").join(machine.web[0], "nour")  # type: ignore[arg-type]
