"""Whole rooms of three on one media worker with one processor: what a packet costs, how late it is, how many rooms it carries.

Everybody sends 120 packets of picture and 50 of sound a second and gets those of the two others. The clients (drive.c) have the
other processor. With `--idle`, people who are connected and send nothing. Beside ours, Debian's Janus with its video room under
the same load, as shipped and in its best configuration; each server agrees with the clients on the SRTP profile that it agrees
on with Chromium, unless another one is asked for.

    python -m tests.load rooms [--rooms 20 60 100 300] [--engine c python janus janus-best] [--seconds 10] [--idle 600]
                               [--profile chromium|gcm|cm] [--quick]
"""

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cffi
from aiortc import RTCCertificate
from pylibsrtp._binding import ffi as srtp_ffi

from qanun_telemedicine.load.participant import Participant
from qanun_telemedicine.sfu import native
from tests.load import machine
from tests.load.janus import NAMES as JANUS
from tests.load.janus import Janus
from tests.load.ours import NAMES as OURS
from tests.load.ours import Worker
from tests.load.sfu import PROFILES

ENGINES = ("c", "python", "janus", "janus-best")
NAMES = {**OURS, **JANUS}
#: Ours agrees on GCM with Chromium, Janus on the older profile.
_CHROMIUM = {"c": "gcm", "python": "gcm", "janus": "cm", "janus-best": "cm"}
_JANUS_PORTS = (26_000, 29_990)
_DECLARED = """
struct client { int32_t fd; uint8_t to[16]; int32_t sends; void *out, *in; uint64_t sent, received; uint32_t since_sample;
                uint32_t count, next, sequence[2]; int64_t phase_ns; uint8_t *packets, *at; uint16_t *lengths; int64_t *sent_at; };
struct plan { uint32_t audio_rate, video_rate, audio_octets, video_octets, per_frame, key_every; };
int prepare(struct client *, uint32_t, double, const struct plan *, void *);
uint32_t drive(struct client *, uint32_t, double, const struct plan *, void *, uint32_t *, uint32_t);
"""
_AUDIO_RATE, _VIDEO_RATE, _AUDIO_OCTETS, _VIDEO_OCTETS, _PER_FRAME, _KEY_EVERY = 50, 120, 120, 1050, 4, 120
_MOST_DELAYS = 1_000_000
#: More than this and a count of rooms is not lossless.
_LOSSLESS = 0.0001
#: The bars: rooms on one core; added latency p99 at half load; idle 600: percent of a core, kB a participant.
ROOMS, LATE_MS, IDLE_PERCENT, IDLE_KB = 60, 2.0, 8.0, 400.0


@dataclass(frozen=True)
class Result:
    """One run. Processor time is the worker's alone."""

    engine: str
    rooms: int
    participants: int
    core_percent: float
    us: float
    delivered_per_s: float
    loss: float
    p50_ms: float
    p99_ms: float
    kb: float
    #: What the clients could not send in time says nothing of the worker.
    unsent: float


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.load rooms", description="Rooms of three on one core.")
    parser.add_argument("--rooms", type=int, nargs="+", default=[20, 60, 100, 300])
    parser.add_argument("--engine", choices=ENGINES, nargs="+", default=["c", "python"])
    parser.add_argument("--profile", choices=("chromium", "gcm", "cm"), default="chromium", help="SRTP profile")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each, taking turns; the median counts")
    parser.add_argument("--idle", type=int, default=600, help="people connected without media; 0 leaves it out")
    parser.add_argument("--quick", action="store_true", help="small and short: that it works, not what it costs")
    parser.add_argument("--json", type=Path, help="append every run to this file")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.quick:
        options.rooms, options.seconds, options.rounds, options.idle = [2, 5], 3.0, 1, min(options.idle, 12)
    if options.run:
        engine, rooms, idle = options.run.split(",")
        _agree_on(options.profile, engine)
        print(json.dumps(asdict(asyncio.run(_one(engine, int(rooms), int(idle), options.seconds)))), flush=True)
        os._exit(0)  # the clients' sockets were taken over; asyncio cannot end them
    return _table(options)


def _agree_on(profile: str, engine: str) -> None:
    """The clients offer this one and no other."""
    import aiortc.rtcdtlstransport

    wanted = PROFILES[_CHROMIUM[engine] if profile == "chromium" else profile].encode()
    known = aiortc.rtcdtlstransport.SRTP_PROFILES
    known[:] = [one for one in known if one.openssl_profile == wanted]


def _table(options: argparse.Namespace) -> int:
    if any(name.startswith("janus") for name in options.engine) and (reason := Janus.missing()):
        print(f"not compared: {reason}")
        options.engine = [name for name in options.engine if not name.startswith("janus")]
    cases = [(engine, rooms, 0) for rooms in options.rooms for engine in options.engine]
    cases += [(engine, 0, options.idle) for engine in options.engine if options.idle and engine in OURS]
    runs: dict[tuple[str, int, int], list[Result]] = {case: [] for case in cases}
    missing = 0
    for turn in range(options.rounds):
        for case in cases if turn % 2 == 0 else cases[::-1]:
            if (result := _run(case, options)) is None:
                missing += 1
                continue
            runs[case].append(result)
            if options.json:
                with options.json.open("a") as file:
                    file.write(json.dumps(asdict(result)) + "\n")
    columns = "people", "% core", "µs/packet", "packets/s", "loss", "p50 ms", "p99 ms", "kB each", "unsent"
    print(f"\n{'':16}{'rooms':>6}" + "".join(f"{column:>11}" for column in columns))
    lossless: dict[str, int] = {}
    late: list[str] = []
    for (engine, rooms, idle), results in runs.items():
        if not results:
            continue

        def median(name: str, results: list[Result] = results) -> float:
            return statistics.median(getattr(one, name) for one in results)

        print(
            f"{NAMES[engine]:16}{rooms or 'idle':>6}{results[0].participants:11}{median('core_percent'):11.1f}"
            f"{median('us'):11.2f}{median('delivered_per_s'):11,.0f}{median('loss'):11.3%}{median('p50_ms'):11.2f}"
            f"{median('p99_ms'):11.2f}{median('kb'):11.0f}{median('unsent'):11.2%}"
        )
        if not idle and median("loss") <= _LOSSLESS and median("unsent") <= 0.01:
            lossless[engine] = max(rooms, lossless.get(engine, 0))
        if not idle and engine == "c" and median("core_percent") <= 50 and median("p99_ms") > LATE_MS:
            late.append(f"p99 {median('p99_ms'):.2f} ms with {rooms} rooms, bar {LATE_MS}")
        if idle >= 600 and engine == "c":
            if median("core_percent") > IDLE_PERCENT:
                late.append(f"idle {median('core_percent'):.1f} % of a core, bar {IDLE_PERCENT}")
            if median("kb") > IDLE_KB:
                late.append(f"idle {median('kb'):.0f} kB each, bar {IDLE_KB}")
    for engine, rooms in lossless.items():
        print(f"{NAMES[engine]}: {rooms} rooms without a loss on one core")
    if max(options.rooms) >= ROOMS and "c" in options.engine and lossless.get("c", 0) < ROOMS:
        late.append(f"{lossless.get('c', 0)} rooms without a loss, bar {ROOMS}")
    for one in late:
        print(f"ABOVE THE BAR: {one}")
    return 1 if late or missing else 0


def _run(case: tuple[str, int, int], options: argparse.Namespace) -> Result | None:
    command = [*machine.pinned(1), sys.executable, "-m", "tests.load", "rooms", "--seconds", str(options.seconds)]
    command += ["--profile", options.profile, "--run", ",".join(map(str, case))]
    limit = 120 + options.seconds + 0.5 * (3 * case[1] + case[2])
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        print(f"{case}: not finished after {limit:.0f} s")
        return None
    if done.returncode:
        print(f"{case}: failed\n{done.stderr[-3000:]}")
        return None
    return Result(**json.loads(done.stdout.splitlines()[-1]))


def _driver(folder: Path) -> tuple[Any, Any]:
    compiler = native.compiler()
    if compiler is None:
        raise RuntimeError("there is no C compiler for the clients")
    library = folder / "drive.so"
    source = Path(__file__).with_name("drive.c")
    subprocess.run([compiler, "-std=c11", "-O2", "-fPIC", "-shared", "-o", library, source], check=True, timeout=60)
    ffi = cffi.FFI()
    ffi.cdef(_DECLARED)
    return ffi, ffi.dlopen(str(library))


async def _one(engine: str, rooms: int, idle: int, seconds: float) -> Result:
    with tempfile.TemporaryDirectory(prefix="qanun-load-") as directory:
        folder = Path(directory)
        ffi, lib = _driver(folder)
        if engine in JANUS:
            return await _beside(engine, folder, rooms, seconds, ffi, lib)
        worker = Worker(folder, processor=0, engine=engine)
        await worker.start()
        try:
            await asyncio.sleep(1)
            empty = machine.rss(worker.pid)
            people = await _connect(worker, rooms or -(-idle // 3))
            await asyncio.sleep(2)
            kb = (machine.rss(worker.pid) - empty) / 1024 / len(people)
            if idle:
                before, began = machine.cpu(worker.pid), time.monotonic()
                await asyncio.sleep(seconds)
                percent = (machine.cpu(worker.pid) - before).exact / (time.monotonic() - began) * 100
                return Result(engine, 0, len(people), percent, 0, 0, 0, 0, 0, kb, 0)
            loop = asyncio.get_running_loop()
            clients = [_Client(one.take_over(loop), one._address[:2], one._dtls) for one in people]
            result = await _driven(engine, worker.pid, clients, rooms, seconds, ffi, lib)
            return replace(result, kb=(machine.rss(worker.pid) - empty) / 1024 / len(people))
        finally:
            await worker.stop()


async def _connect(worker: Worker, rooms: int) -> list[Participant]:
    certificate = RTCCertificate.generateCertificate()
    people: list[Participant] = []
    for room in range(rooms):
        await worker._client.open_room(f"room-{room}")
        three = [Participant(f"{room}-{number}", 2, certificate) for number in range(3)]
        for one in three:
            await one.join(worker._client, f"room-{room}")
        people += three
    return people


async def _beside(engine: str, folder: Path, rooms: int, seconds: float, ffi: Any, lib: Any) -> Result:
    janus = Janus(folder, processor=0, best=engine == "janus-best", ports=_JANUS_PORTS)
    await janus.start()
    try:
        await asyncio.sleep(1)
        empty = machine.rss(janus.pid)
        peers = [one for number in range(rooms) for one in await janus.room(1000 + number, 3)]
        await asyncio.sleep(2)
        loop = asyncio.get_running_loop()
        clients = [_Client(one.take_over(loop), one.address, one.dtls, one.sends) for one in peers]
        result = await _driven(engine, janus.pid, clients, rooms, seconds, ffi, lib)
        return replace(result, kb=(machine.rss(janus.pid) - empty) / 1024 / result.participants)
    finally:
        await janus.stop()


@dataclass(frozen=True)
class _Client:
    """A socket of somebody, where it sends to, and the keys."""

    descriptor: int
    address: tuple[str, int]
    dtls: Any
    sends: bool = True


async def _driven(
    engine: str, pid: int, people: list[_Client], rooms: int, seconds: float, ffi: Any, lib: Any
) -> Result:
    clients = ffi.new("struct client[]", len(people))
    for client, one in zip(clients, people, strict=True):
        client.fd, client.sends = one.descriptor, one.sends
        host, port = one.address
        client.to[0:8] = socket.AF_INET.to_bytes(2, sys.byteorder) + port.to_bytes(2, "big") + socket.inet_aton(host)
        for name, session in (("out", one.dtls._tx_srtp), ("in", one.dtls._rx_srtp)):
            setattr(client, name, ffi.cast("void *", int(srtp_ffi.cast("uintptr_t", session._srtp[0]))))
    senders = sum(one.sends for one in people)
    plan = ffi.new("struct plan *", [_AUDIO_RATE, _VIDEO_RATE, _AUDIO_OCTETS, _VIDEO_OCTETS, _PER_FRAME, _KEY_EVERY])
    delays = ffi.new("uint32_t[]", _MOST_DELAYS)
    protect, unprotect = (ffi.cast("void *", address) for address in native.addresses())
    if await asyncio.to_thread(lib.prepare, clients, len(people), seconds, plan, protect):
        raise RuntimeError("the clients' packets could not be made")
    before, began = machine.cpu(pid), time.monotonic()
    count = await asyncio.to_thread(lib.drive, clients, len(people), seconds, plan, unprotect, delays, _MOST_DELAYS)
    used = (machine.cpu(pid) - before).exact
    passed = time.monotonic() - began
    sent, received = sum(one.sent for one in clients), sum(one.received for one in clients)
    owed = sum(one.count for one in clients if one.sends)
    # Each picture goes to two, from its first key frame on; the first packets make the connection known.
    expected = 2 * sent
    times = sorted(delays[0:count]) or [0]
    return Result(
        engine,
        rooms,
        senders,
        used / passed * 100,
        used / max(1, received) * 1e6,
        received / passed,
        max(0.0, 1 - received / max(1, expected)),
        times[len(times) // 2] / 1000,
        times[int(len(times) * 0.99)] / 1000,
        0,
        max(0.0, 1 - sent / owed),
    )
