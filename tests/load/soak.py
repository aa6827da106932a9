"""Days of coming and going in minutes: thousands join a media worker and leave it in every way there is; what stays behind?

Some leave politely, some are told to, some close the page, some come again under their own name, some vanish without a word,
some never connect at all, and some look for another way meanwhile. Everybody who connects sends and receives a few pictures.
After a warm-up, which ends with a crowd, and after each quarter of what follows, everybody is waited for: memory, descriptors,
threads and what the worker waits for must be what they were. In between, memory is shown but not judged: it follows the number of
people, those who vanished and are still waited for among them.

    python -m tests.load soak [--joins 10000] [--engine c python] [--at-once 6] [--minutes 60] [--quick]
"""

import argparse
import asyncio
import contextlib
import itertools
import logging
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aiortc import RTCCertificate, RTCIceGatherer

from qanun_telemedicine.load.participant import Participant
from qanun_telemedicine.sfu.client import MediaError
from tests.load import machine
from tests.load.bars import Bar, judged
from tests.load.ours import NAMES, Worker

#: How somebody goes, and how often of a hundred.
_WAYS = {"polite": 38, "told": 20, "again": 14, "closed": 10, "vanished": 8, "restarted": 6, "never": 4}
#: A participant who is gone without a word is forgotten by the worker after this.
_FORGOTTEN_S = 75.0
_PICTURES = 6
#: Rooms of two that are full at the same moment of the warm-up.
_CROWDED = 250
#: A room is closed after so many others, as a visit that is over: by then everybody has left it or was forgotten. A worker holds
#: on to an empty room for ten minutes, and a quick machine would come to the most that it takes.
_CLOSED_AFTER = 1500
#: Of the joins: what a process needs once (imports, pools, caches) is there by then.
_WARM = 0.2
#: So often is everybody waited for after the warm-up.
_QUARTERS = 4
_SAMPLES = 40
#: The bars: what a day may leave behind when everybody has gone, in kB for 1,000 joins and in MB.
SLOPE_KB, KEPT_MB = 100.0, 4.0


@dataclass(frozen=True)
class Sample:
    """The worker, after so many joins."""

    joins: int
    #: Seconds of a clock that only goes forward.
    at: float
    rss_mb: float
    descriptors: int
    threads: int
    tasks: int
    participants: int


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.load soak", description="Joins and leaves; what stays behind?"
    )
    parser.add_argument("--joins", type=int, default=10_000)
    parser.add_argument("--engine", choices=("c", "python"), nargs="+", default=["c", "python"])
    parser.add_argument("--at-once", type=int, default=6, help="rooms that are busy at the same time")
    parser.add_argument(
        "--minutes", type=float, default=120.0, help="for each engine: joins that did not come until then are left out"
    )
    parser.add_argument("--quick", action="store_true", help="small: that it works, not what stays behind")
    options = parser.parse_args(arguments)
    if options.quick:
        options.joins = min(options.joins, 120)
    # Who vanishes leaves work of the clients' library behind, which it complains of.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    failed = 0
    for engine in options.engine:
        failed |= asyncio.run(_soak(engine, options))
    sys.stdout.flush()
    os._exit(failed)  # the clients' sockets were taken over; asyncio cannot end them


async def _soak(engine: str, options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="qanun-load-") as directory:
        worker = Worker(Path(directory), processor=0, engine=engine)
        await worker.start()
        try:
            began = time.monotonic()
            crowd = _Crowd(worker, began + options.minutes * 60)
            await crowd.come_and_go(int(options.joins * _WARM), options.at_once)
            await crowd.throng(3 if options.quick else _CROWDED)
            empty = [await crowd.emptied()]
            met = crowd.joins
            for quarter in range(1, _QUARTERS + 1):
                await crowd.come_and_go(met + (options.joins - met) * quarter // _QUARTERS, options.at_once)
                empty.append(await crowd.emptied())
        finally:
            await worker.stop()
    passed = time.monotonic() - began
    print(
        f"\n{NAMES[engine]}: {crowd.joins} joins in {passed / 60:.1f} min ({dict(crowd.ways)}), {crowd.refused} refused"
    )
    print(f"{'':14}{'joins':>8}{'MB':>9}{'sockets':>9}{'threads':>9}{'tasks':>8}{'people':>8}")
    warm, cold = empty[0], empty[-1]
    shown = [("", one) for one in crowd.samples[:: max(1, len(crowd.samples) // 8)]] + [
        ("all gone", one) for one in empty
    ]
    for name, one in sorted(shown, key=lambda each: each[1].at):
        print(
            f"{name:14}{one.joins:8}{one.rss_mb:9.1f}{one.descriptors:9}{one.threads:9}{one.tasks:8}{one.participants:8}"
        )
    if options.quick:
        return 0 if cold.participants == 0 else 1
    return judged(
        [
            Bar("memory that joins add", slope(empty), SLOPE_KB, "kB/1000 joins"),
            Bar("memory kept when all are gone", cold.rss_mb - min(one.rss_mb for one in empty[:-1]), KEPT_MB, "MB"),
            Bar("more sockets and files", cold.descriptors - warm.descriptors, 0, ""),
            Bar("more threads", cold.threads - warm.threads, 0, ""),
            Bar("more tasks", cold.tasks - warm.tasks, 0, ""),
            Bar("people who never left", cold.participants, 0, ""),
            Bar("joins refused or failed", crowd.refused, crowd.joins * 0.001, ""),
        ]
    )


def slope(samples: Sequence[Sample]) -> float:
    """kB that 1,000 joins add: the median over every two looks at an empty worker. What leaks rises between any two; one step is
    told of by the memory kept at the end."""
    rises = [
        (later.rss_mb - one.rss_mb) / (later.joins - one.joins)
        for one, later in itertools.combinations(samples, 2)
        if later.joins > one.joins
    ]
    return statistics.median(rises) * 1000 * 1024 if rises else 0.0


class _Crowd:
    """Everybody who comes and goes."""

    def __init__(self, worker: Worker, deadline: float) -> None:
        self._worker = worker
        self._client = worker.client
        # A crowded machine is no reason to give up: what stays behind is asked here, and not how long anything takes.
        self._client._timeout = 60.0
        self._deadline = deadline
        self._certificate = RTCCertificate.generateCertificate()
        self._chance = random.Random(7)
        self._room = 0
        self.joins = self.refused = 0
        self.ways: Counter[str] = Counter()
        self.samples: list[Sample] = []

    async def come_and_go(self, until: int, at_once: int) -> None:
        """Until there were so many joins in all."""
        every = max(1, until // _SAMPLES)
        due = self.joins + every

        async def rooms() -> None:
            nonlocal due
            while self.joins < until and time.monotonic() < self._deadline:
                self._room += 1
                try:
                    await self._visit(f"room-{self._room}")
                except OSError:
                    self.refused += 1  # this machine's own network changed meanwhile
                with contextlib.suppress(MediaError):  # closed by somebody already
                    await self._client.close_room(f"room-{self._room - _CLOSED_AFTER}")
                if self.joins >= due:
                    due = self.joins + every
                    self.samples.append(await self._sample())
                    print(self.samples[-1], flush=True)

        await asyncio.gather(*(rooms() for _ in range(at_once)))

    async def throng(self, rooms: int) -> None:
        """So many rooms of two at once."""
        people: list[tuple[str, Participant]] = []
        for _ in range(rooms):
            self._room += 1
            room = f"room-{self._room}"
            await self._client.open_room(room)
            for number in range(2):
                one = Participant(f"somebody-{number}", 1, self._certificate)
                await asyncio.wait_for(one.join(self._client, room), 90)
                people.append((room, one))
        self.joins += len(people)
        print(await self._sample(), flush=True)
        for room, one in people:
            await self._client.leave(room, one.name)
            await one.leave()

    async def _visit(self, room: str) -> None:
        ways = self._chance.choices(list(_WAYS), list(_WAYS.values()), k=2)
        await self._client.open_room(room)
        people: list[tuple[str, Participant]] = []
        for number, way in enumerate(ways):
            one = Participant(f"somebody-{number}", 1, self._certificate)
            self.joins += 1
            self.ways[way] += 1
            try:
                if way == "never":
                    await self._knock(one, room)
                else:
                    await asyncio.wait_for(one.join(self._client, room), 90)
                    people.append((way, one))
            except (MediaError, ConnectionError, RuntimeError, TimeoutError):
                self.refused += 1
        for _, one in people:
            one.take_over(asyncio.get_running_loop())
        for frame in range(_PICTURES):
            for _, one in people:
                one.sound()
                one.picture(frame, 3000)
                for _ in one.readable():
                    pass
            await asyncio.sleep(0.02)
        for way, one in people:
            # Whose room was closed meanwhile is not found any more.
            with contextlib.suppress(MediaError, ConnectionError, RuntimeError, TimeoutError):
                await self._go(way, one, room)
            if way in ("vanished", "restarted"):
                one.vanish()
            else:
                await one.leave()

    async def _knock(self, one: Participant, room: str) -> None:
        """Ask to join and never come."""
        gatherer = RTCIceGatherer(iceServers=[])
        await gatherer.gather()
        try:
            await self._client.join(room, one.name, one.describe(gatherer))
        finally:
            await gatherer._connection.close()

    async def _go(self, way: str, one: Participant, room: str) -> None:
        match way:
            case "told":
                await self._client.leave(room, one.name)
            case "closed":
                await self._client.close_room(room)
            case "again":
                self.joins += 1
                other = Participant(one.name, 1, self._certificate)
                await asyncio.wait_for(other.join(self._client, room), 90)
                await other.leave()
            case "restarted":
                gatherer = RTCIceGatherer(iceServers=[])
                await gatherer.gather()
                try:
                    await self._client.offer(room, one.name, one.describe(gatherer))
                finally:
                    await gatherer._connection.close()

    async def emptied(self) -> Sample:
        """The worker once it has forgotten everybody."""
        deadline = time.monotonic() + _FORGOTTEN_S
        while (await self._client.hello()).participants and time.monotonic() < deadline:
            await asyncio.sleep(1)
        for number in range(self._room + 1):
            with contextlib.suppress(MediaError):
                await self._client.close_room(f"room-{number}")
        await asyncio.sleep(3)
        return await self._sample()

    async def _sample(self) -> Sample:
        pid, told = self._worker.pid, await self._client.hello()
        return Sample(
            self.joins,
            time.monotonic(),
            machine.rss(pid) / 1e6,
            len(list(Path(f"/proc/{pid}/fd").iterdir())),
            len(list(Path(f"/proc/{pid}/task").iterdir())),
            told.tasks,
            told.participants,
        )
