"""What anybody can send: kept inputs are read alike by both sides on every push; fuzzers look for others for minutes (--long)."""

import asyncio
import contextlib
import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from aioice import stun

from qanun_telemedicine.sfu import dependency, native, payloads, rtcp, rtp, sdp
from qanun_telemedicine.sfu.client import MediaClient
from qanun_telemedicine.sfu.paths import Paths, heard
from qanun_telemedicine.sfu.supervisor import Supervisor, WorkerSpec

from .conftest import next_port, own_address
from .fuzz_corpus import FOLDER, MADE, inputs, targets
from .peer import Peer
from .test_native import needs_compiler
from .test_sdp import CHROMIUM, FIREFOX, agreed

SOURCE = FOLDER / "parsers.c"
C_TARGETS = [target for target in targets() if target != "rtcp"]
#: Seconds for each target under --long.
SECONDS = int(os.environ.get("QANUN_FUZZ_SECONDS", "30"))
MALFORMED = int(os.environ.get("QANUN_FUZZ_PACKETS", "1000000"))


def look(what: payloads.Glance | None) -> str:
    if what is None:
        return "none"
    numbers = (
        *(what.key, what.width, what.picture_at, what.picture_long, what.tl0_at, what.begins, what.ends),
        *(what.predicted, what.up, what.layered, what.spatial, what.temporal, *what.widths),
    )
    return " ".join(str(int(one)) for one in numbers)


def _packet(data: bytes) -> str:
    read = rtp.parse(data)
    if read is None:
        return "none"
    head = (read.payload_type, read.sequence, read.timestamp, read.ssrc, read.marker, read.padding, len(read.payload))
    found = [f"{number}={value.hex()}" for number, value in sorted(read.extensions.items())]
    return " ".join([*(str(int(one)) for one in head), *found])


def _dependency(data: bytes) -> str:
    if not data or data[0] > len(data) - 1:
        return "none"
    known: dependency.Structure | None = None
    told = ""
    for piece in (data[1 : 1 + data[0]][:255], data[1 + data[0] :][:255]):
        read = dependency.read(piece, known)
        if read is None:
            told += "none;"
            continue
        known = read.structure
        numbers = [read.frame, int(read.attached), *read.indications, known.target(1, 1)]
        told += f"{look(dependency.glance(read))} {' '.join(map(str, numbers))};"
    return told


PYTHON: dict[str, Callable[[bytes], str]] = {
    **{name: lambda data, name=name: look(payloads.READERS[name](data)) for name in ("vp8", "vp9", "av1", "h264")},  # type: ignore[misc]
    "packet": _packet,
    "dependency": _dependency,
    "red": lambda data: str(payloads.red_primary(data) or 0),
    "demux": lambda data: "done",
}


def _built(made: Path, *flags: str, compiler: str) -> Path:
    done = subprocess.run(
        [
            compiler,
            "-std=c11",
            "-g",
            "-O1",
            "-fno-sanitize-recover=all",
            "-Wall",
            "-Wextra",
            *flags,
            f"-I{native.FOLDER}",
            "-pthread",
            "-o",
            made,
            SOURCE,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and ("cannot find" in done.stderr or "unsupported" in done.stderr):
        pytest.skip("this compiler has no such sanitizer")
    assert not done.returncode, done.stderr
    return made


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[tuple[str, bytes]]], list[str]]:
    compiler = native.compiler()
    assert compiler is not None
    made = _built(
        tmp_path_factory.mktemp("fuzz") / "replay", "-fsanitize=address,undefined", "-DREPLAY", compiler=compiler
    )

    def run(given: list[tuple[str, bytes]]) -> list[str]:
        text = "".join(f"{target} {data.hex()}\n" for target, data in given)
        done = subprocess.run([made], input=text, capture_output=True, text=True, timeout=120, check=False)
        assert not done.returncode, done.stderr[-4000:]
        return done.stdout.splitlines()

    return run


def mutated(chance: random.Random, data: bytes) -> bytes:
    made = bytearray(data)
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(made) + 1)
        match chance.randrange(5):
            case 0:
                made[at : at + 1] = bytes((chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256))),))
            case 1:
                made[at:at] = chance.randbytes(chance.randrange(1, 5))
            case 2:
                del made[at : at + chance.randrange(1, 5)]
            case 3 if at < len(made):
                made[at] ^= 1 << chance.randrange(8)
            case _:
                made[at:] = made[chance.randrange(len(made) + 1) :]
    return bytes(made[:1500])


def test_every_parser_has_kept_inputs() -> None:
    assert set(targets()) == set(MADE) == {*PYTHON, "rtcp"}
    for target in targets():
        kept = inputs(target)
        assert kept[: len(set(MADE[target]()))] == list(dict.fromkeys(MADE[target]())), f"{target}: write them anew"


@needs_compiler
def test_kept_and_changed_inputs_are_read_alike_by_both_sides_and_within_their_memory(
    replay: Callable[[list[tuple[str, bytes]]], list[str]],
) -> None:
    chance = random.Random(11)
    given = [(target, data) for target in C_TARGETS for data in inputs(target)]
    given += [(target, mutated(chance, data)) for target, data in given for _ in range(60)]
    told = replay(given)
    assert len(told) == len(given)
    for (target, data), said in zip(given, told, strict=True):
        assert said.strip() == PYTHON[target](data).strip(), (target, data.hex())


@pytest.mark.long
@pytest.mark.parametrize("target", C_TARGETS)
def test_a_fuzzer_that_sees_the_code_finds_nothing(tmp_path: Path, target: str) -> None:
    compiler = shutil.which("clang")
    if compiler is None:
        pytest.skip("clang is not installed")
    program = _built(tmp_path / f"parsers-{target}", "-fsanitize=fuzzer,address,undefined", compiler=compiler)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, data in enumerate(inputs(target)):
        (corpus / str(number)).write_bytes(data)
    limits = [
        f"-max_total_time={SECONDS}",
        "-timeout=10",
        "-rss_limit_mb=2048",
        "-max_len=4096",
        "-print_final_stats=1",
    ]
    done = subprocess.run(
        [program, corpus, *limits, f"-artifact_prefix={tmp_path}/"],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS + 120,
    )
    found = [path.read_bytes().hex() for path in tmp_path.glob("*-*") if path.suffix == "" and "crash" in path.name]
    assert not done.returncode, f"add to fuzz/corpus/{target}.txt: {found}\n{done.stderr[-4000:]}"
    print(target, [line for line in done.stderr.splitlines() if "executed_units" in line or "new_units" in line])


@pytest.mark.long
def test_changed_feedback_stun_and_descriptions_are_refused_and_nothing_worse() -> None:
    chance = random.Random(12)
    places = [("192.0.2.7", 50_000), ("2001:db8::7", 50_000), ("fe80::7", 50_000)]
    known = Paths(places)
    messages = [heard(bytes(12), place, b"key") for place in places]
    for place in places:
        message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        message.attributes |= {"USERNAME": "one:other", "PRIORITY": 1, "XOR-MAPPED-ADDRESS": place}
        message.add_message_integrity(b"key")
        messages.append(bytes(message))
    deadline = time.monotonic() + SECONDS
    rounds = 0
    while time.monotonic() < deadline:
        rounds += 1
        list(rtcp.parse(mutated(chance, chance.choice(inputs("rtcp")))))
        data = mutated(chance, chance.choice(messages))
        if data:
            known.datagram(data, chance.choice(places))
        text = bytearray(chance.choice((CHROMIUM, FIREFOX)).encode())
        for _ in range(chance.randrange(1, 6)):
            text[chance.randrange(len(text))] = chance.randrange(256)
        with contextlib.suppress(sdp.SdpError):
            agreed(text.decode("utf-8", "replace"))
    assert rounds > 100 and not known.by_address


@pytest_asyncio.fixture
async def worker(tmp_path: Path) -> AsyncIterator[tuple[Supervisor, int]]:
    port = next_port()
    spec = WorkerSpec(tmp_path / "media.sock", f"0.0.0.0:{port}", [own_address()])
    supervisor = Supervisor([spec])
    await supervisor.start()
    yield supervisor, port
    await supervisor.stop()


async def _pair(client: MediaClient, room: str) -> tuple[Peer, Peer]:
    await client.open_room(room)
    peers = Peer(f"{room}-1"), Peer(f"{room}-2")
    for peer in peers:
        await peer.join(client, room)
        await peer.connect()
    return peers


@pytest.mark.long
async def test_a_million_malformed_packets_harm_nobody(worker: tuple[Supervisor, int]) -> None:
    """From strangers, from a participant's own address, and authentic ones from a participant who means harm."""
    supervisor, port = worker
    client, pid = supervisor.clients[0], supervisor.pid()
    good, bad = await _pair(client, "good"), await _pair(client, "bad")
    chance = random.Random(13)
    seeds = [*inputs("packet"), *inputs("rtcp"), *inputs("vp9")]
    headed = [b"\x90\x60" + bytes(10) + one for one in (*inputs("dependency"), *inputs("h264"))]
    stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    count, failed = 0, 0
    quiet = asyncio.Event()

    async def talk() -> tuple[int, int]:
        sent = 0
        before = good[1].heard()
        while not quiet.is_set():
            await good[0].speak(2)
            sent += 4
        await asyncio.sleep(1)
        return sent, good[1].heard() - before

    talking = asyncio.create_task(talk())
    while count < MALFORMED:
        for _ in range(400):
            data = mutated(chance, chance.choice(seeds)) or b"\x80"
            stranger.sendto(data, ("127.0.0.1", port))
        for _ in range(60):
            await bad[0].ice._send(mutated(chance, chance.choice(seeds)) or b"\x80")
        for _ in range(60):
            try:
                await bad[0].send(mutated(chance, chance.choice(headed)))
            except Exception:
                failed += 1  # what libsrtp itself refuses to encrypt
        count += 520
        await asyncio.sleep(0.02)
    quiet.set()
    sent, heard = await talking
    stranger.close()
    print(f"{count} sent, {failed} not encrypted; the other room: {heard} of {sent}")
    assert supervisor.pid() == pid and supervisor.restarts == 0, "the worker lives"
    # The first packets may come before a key frame; nothing else is missing.
    assert sent - 10 <= heard <= sent + 10
    stats = await client.stats("good")
    assert all(one["counters"]["failures"] == one["counters"]["rejected"] == 0 for one in stats["good"].values())
    for peer in (*good, *bad):
        await peer.leave()
