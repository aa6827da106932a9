"""Rooms of made-up participants on a worker of their own: how much it carries, what that costs, how long packets take."""

import argparse
import asyncio
import contextlib
import heapq
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from aiortc import RTCCertificate

from qanun_telemedicine.load.participant import AUDIO_RATE, FRAME_RATE, Participant
from qanun_telemedicine.sfu.client import MediaClient
from qanun_telemedicine.sfu.engines import CHOICES

_PAGE = os.sysconf("SC_PAGE_SIZE")
#: What is on its way when the sending stops may still arrive.
_AFTER_S = 0.5
_AT_ONCE = 8
_PATIENCE_S = 20.0


@dataclass(frozen=True)
class Load:
    """What is asked for. `bitrate` in kbit/s of one picture."""

    rooms: int
    participants: int
    bitrate: int
    seconds: float
    engine: str = "auto"


@dataclass(frozen=True)
class Figures:
    """What was measured. Rates per second, times in milliseconds, memory in KB; `core` is the share of one processor core."""

    engine: str
    participants: int
    packets_in: float
    packets_out: float
    delivered: float
    core: float
    per_packet_us: float
    delay_p50_ms: float
    delay_p99_ms: float
    memory_kb: float
    #: The senders could not keep their own pace: the figures say less about the worker than about this machine.
    late: bool


def command(arguments: Sequence[str]) -> int:
    """`qanun telemedicine load`: prints a table, or one JSON object. 1 when packets were lost."""
    parser = argparse.ArgumentParser(
        prog="qanun telemedicine load", description="What this machine's media worker carries."
    )
    parser.add_argument("--rooms", type=int, default=10)
    parser.add_argument("--participants", type=int, default=3, help="in each room; all send and all receive")
    parser.add_argument("--bitrate", type=int, default=1000, help="of each picture, in kbit/s")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--engine", choices=CHOICES, default="auto")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    if not (1 <= given.rooms <= 2000 and 2 <= given.participants <= 12 and given.bitrate > 0 and given.seconds > 0):
        parser.error("1 to 2000 rooms, 2 to 12 participants in each, a bitrate and a time")
    load = Load(given.rooms, given.participants, given.bitrate, given.seconds, given.engine)
    figures = asyncio.run(measure(load))
    print(json.dumps(asdict(figures)) if given.json else table(load, figures))
    return 0 if figures.delivered >= 0.9999 else 1


def table(load: Load, figures: Figures) -> str:
    rows = [
        ("engine", figures.engine),
        ("rooms × participants", f"{load.rooms} × {load.participants}"),
        ("packets a second, in and out", f"{figures.packets_in:,.0f}  {figures.packets_out:,.0f}"),
        ("delivered", f"{figures.delivered:.3%}"),
        ("processor, of one core", f"{figures.core:.1%}"),
        ("processor per delivered packet", f"{figures.per_packet_us:.2f} µs"),
        ("delay, half and 99 of 100 packets within", f"{figures.delay_p50_ms:.2f} ms  {figures.delay_p99_ms:.2f} ms"),
        ("memory per participant", f"{figures.memory_kb:.0f} KB"),
    ]
    text = "\n".join(f"{name:42} {value}" for name, value in rows)
    if figures.late:
        text += "\nThe senders were too slow for this load: delay and loss are theirs as much as the worker's."
    return text


async def measure(load: Load) -> Figures:
    """Start a worker, fill it, measure, and end it. Raises RuntimeError when it does not come up."""
    address = _own_address()
    with tempfile.TemporaryDirectory(prefix="qanun-load-") as folder:
        path = Path(folder) / "media.sock"
        with (Path(folder) / "log").open("w+b") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "qanun_telemedicine.sfu.worker", "--socket", str(path)),
                *("--listen", f"{address}:{_free_port(address)}", "--advertise", address, "--engine", load.engine),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            client = MediaClient(path, timeout=20)
            try:
                await _started(client, process)
                _share_processors(process.pid)
                return await _fill(load, client, process.pid)
            except Exception as error:
                log.seek(0)
                raise RuntimeError(f"{error}: {log.read()[-2000:].decode(errors='replace')}") from error
            finally:
                await client.close()
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                try:
                    await asyncio.wait_for(process.wait(), 8)
                except TimeoutError:
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()


async def _started(client: MediaClient, process: asyncio.subprocess.Process) -> None:
    """Raises RuntimeError as soon as the worker has ended, TimeoutError when it says nothing."""
    answers, ended = asyncio.ensure_future(client.start(wait=_PATIENCE_S)), asyncio.ensure_future(process.wait())
    try:
        await asyncio.wait((answers, ended), return_when=asyncio.FIRST_COMPLETED)
        if not answers.done():
            raise RuntimeError(f"the media worker ended with {ended.result()}")
        await answers
    finally:
        answers.cancel()
        ended.cancel()
        await asyncio.gather(answers, ended, return_exceptions=True)


async def _fill(load: Load, client: MediaClient, pid: int) -> Figures:
    assert client.worker is not None
    certificate = RTCCertificate.generateCertificate()
    people = [
        (f"room-{room}", Participant(f"{room}-{number}", load.participants - 1, certificate))
        for room in range(load.rooms)
        for number in range(load.participants)
    ]
    empty = _resident(pid)
    turns = asyncio.Semaphore(_AT_ONCE)

    async def join(room: str, one: Participant) -> None:
        async with turns:
            await one.join(client, room)

    await asyncio.gather(*(join(room, one) for room, one in people))
    await _met(client, load)
    memory = (_resident(pid) - empty) / len(people) / 1024
    traffic = _Traffic([one for _, one in people], load, asyncio.get_running_loop())
    before = _processor(pid)
    await asyncio.to_thread(traffic.run)
    used = _processor(pid) - before
    sent = sum(one.sent for _, one in people)
    received = sum(one.received for _, one in people)
    delays = sorted(delay for _, one in people for delay in one.delays_ms)
    for _, one in people:
        await one.leave()
    return Figures(
        engine=client.worker.engine,
        participants=len(people),
        packets_in=sent / traffic.took,
        packets_out=received / traffic.took,
        delivered=received / max(1, sent * (load.participants - 1)),
        core=used / traffic.took,
        per_packet_us=used * 1e6 / max(1, received),
        delay_p50_ms=_share(delays, 0.5),
        delay_p99_ms=_share(delays, 0.99),
        memory_kb=memory,
        late=traffic.late,
    )


async def _met(client: MediaClient, load: Load) -> None:
    """Until everybody is connected and has a section for each of the others' tracks: before that nothing counts."""
    theirs = 2 * (load.participants - 1)
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            rooms = (await client.stats()).values()
            people = [one for room in rooms for one in room.values()]
            met = [
                one for one in people if one["connected"] and len({got["track"] for got in one["receives"]}) >= theirs
            ]
            if len(met) == load.rooms * load.participants:
                return
            await asyncio.sleep(0.2)


class _Traffic:
    """Sends and receives for everybody, in one thread."""

    def __init__(self, people: Sequence[Participant], load: Load, loop: asyncio.AbstractEventLoop) -> None:
        self._people, self._load, self._loop = people, load, loop
        self.took = load.seconds
        self.late = False

    def run(self) -> None:
        taken: list[int] = []
        ready = threading.Event()

        def take_over() -> None:
            taken.extend(one.take_over(self._loop) for one in self._people)
            ready.set()

        self._loop.call_soon_threadsafe(take_over)
        ready.wait()
        poll = select.epoll()
        by_descriptor = dict(zip(taken, self._people, strict=True))
        for descriptor in by_descriptor:
            poll.register(descriptor, select.EPOLLIN)
        began = time.monotonic()
        # Spread over a frame's time: people do not speak in step.
        due = [
            (began + place / len(self._people) / rate, number, rate, 0)
            for number in range(len(self._people))
            for place, rate in ((number, AUDIO_RATE), (number, FRAME_RATE))
        ]
        heapq.heapify(due)
        octets = self._load.bitrate * 1000 // 8 // FRAME_RATE
        worst = 0.0
        while True:
            now = time.monotonic()
            while due and due[0][0] <= now:
                at, number, rate, count = due[0]
                if at - began >= self._load.seconds:
                    heapq.heappop(due)
                    continue
                worst = max(worst, now - at)
                one = self._people[number]
                if rate == AUDIO_RATE:
                    one.sound()
                else:
                    one.picture(count, octets)
                heapq.heapreplace(due, (at + 1 / rate, number, rate, count + 1))
            if not due and now - began > self._load.seconds + _AFTER_S:
                break
            wait = max(0.0, min(0.05, due[0][0] - time.monotonic())) if due else 0.05
            for descriptor, _ in poll.poll(wait, 256):
                one = by_descriptor[descriptor]
                for data, sender in one.readable():
                    if data[0] < 128:
                        self._loop.call_soon_threadsafe(one.protocol.datagram_received, data, sender)
        poll.close()
        self.late = worst > 0.1


def _share(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _share_processors(pid: int) -> None:
    """The worker on one processor, this process on the others, so that they do not measure each other."""
    own = sorted(os.sched_getaffinity(0))
    if len(own) > 1:
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), own[:1])
        os.sched_setaffinity(0, own[1:])


def _processor(pid: int) -> float:
    """Seconds that all threads of a process have run."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def _own_address() -> str:
    """An address of this machine that is not the loopback, which ICE leaves out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError as error:
            raise RuntimeError("this machine has no network address but the loopback") from error
        return str(probe.getsockname()[0])


def _free_port(address: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
