"""A patient behind bad networks: real browsers on hosts of their own, the patient's joined to the server by a link that is bad.

Figures are printed. Freezes and made-up sound are what the receiving browser counts. Both browsers, the server and the links
share this machine's processors, and a machine that is busy with other things freezes pictures without any network. So what it
did by itself is measured beside: how long the other's camera gave no picture, how long no link carried anything, and the
whole on a good line before the bad one. A freeze counts against the line with what is left of it beyond the machine's own
standing still; where the good line was not free of freezes above the bar either, the bar was not shown, and the output says so.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import pytest_asyncio

from . import lab
from .conftest import until
from .far import (
    DESK,
    MEDIA_PORT,
    SERVER,
    SIX,
    Call,
    CallFromFirefox,
    CallFromFirefoxOverSix,
    CallOnNode,
    CallOnNodeOverSix,
    CallOverSix,
    CallThroughSix,
)

_MISSING = lab.missing()
pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.browser,
    pytest.mark.long,
    pytest.mark.skipif(bool(_MISSING), reason=_MISSING or "there is a lab"),
]


@pytest.fixture
def kind() -> type[Call]:
    return Call


@pytest.fixture
def options() -> dict[str, Any]:
    return {}


@pytest_asyncio.fixture
async def call(
    tmp_path: Path, media: ModuleType, media_files: Any, kind: type[Call], options: dict[str, Any]
) -> AsyncIterator[Call]:
    made = kind(tmp_path, **options)
    try:
        await made.start(media, media_files)
        yield made
    finally:
        await made.stop()


@pytest.mark.parametrize(
    ("line", "fps", "made_up", "seconds", "longest"),
    [
        ({"rate": 2e6, "delay": 0.02}, 12, 0.02, 20, 0.5),
        ({"rate": 5e5, "delay": 0.02}, 10, 0.03, 20, 0.5),
        ({"loss": 0.03, "delay": 0.02}, 12, 0.02, 60, 0.5),
        ({"loss": 0.1, "delay": 0.02}, 8, 0.06, 20, 1.0),
        ({"delay": 0.2, "jitter": 0.03}, 10, 0.05, 20, 0.5),
    ],
    ids=["2 Mbit/s", "500 kbit/s", "3 % loss", "10 % loss", "200 ms"],
)
async def test_a_bad_line_costs_sharpness_and_neither_sound_nor_visit(
    call: Call, line: dict[str, float], fps: float, made_up: float, seconds: float, longest: float
) -> None:
    good = await call.watch(seconds, "good line")
    call.line.set(**line)
    await asyncio.sleep(15)
    bad = await call.watch(seconds, str(line))
    assert not call.ended() and not await call.rejoined()
    if any(usual.longest > longest or usual.fps <= fps or usual.made_up > made_up for usual in good.values()):
        pytest.skip(f"this machine does not hold the bars on a good line: {good}")
    for who, seen in bad.items():
        assert seen.longest - seen.machine <= longest, who
        assert seen.made_up <= made_up, who
        assert seen.fps > fps, who


@pytest.mark.parametrize("kind", [CallFromFirefox], ids=["firefox"])
async def test_firefox_behind_a_bad_line_is_seen_and_heard_and_sees_and_hears(call: Call) -> None:
    good = await call.watch(20, "good line")
    call.line.set(rate=2e6, delay=0.05, loss=0.03)
    await asyncio.sleep(15)
    bad = await call.watch(20, "2 Mbit/s, 3 % loss")
    assert not call.ended() and not await call.rejoined()
    for who, seen in bad.items():
        assert seen.fps > 0.6 * good[who].fps, who
        assert seen.made_up <= 0.05 + good[who].made_up, who


@pytest.mark.parametrize("kind", [CallFromFirefox], ids=["firefox"])
async def test_firefox_finds_its_way_back_from_a_cut_line_and_from_another_address(call: Call) -> None:
    for seconds in (3, 20):
        call.line.set(cut=True)
        await asyncio.sleep(seconds)
        call.line.set(cut=False)
        await call.back(within=5)
    call.line.readdress(call.home, "10.91.1.9")
    await call.back(within=8)
    assert await call.doctor.remote() == ["patient"]


async def test_150_kbit_carry_the_sound_and_the_page_says_what_is_left_out(call: Call) -> None:
    good = await call.watch(20, "good line")
    call.line.set(rate=150_000, delay=0.02)
    await asyncio.sleep(15)
    bad = await call.watch(40, "150 kbit/s")
    for who, seen in bad.items():
        assert seen.made_up <= 0.02 + good[who].made_up, f"what {who} hears is whole"
    assert not call.ended() and not await call.rejoined()
    assert not await call.held_back(call.doctor), "whose way out is wide"
    call.line.set(rate=0)
    await call.back(within=45)

    async def well() -> bool:
        return (await call.patient.figures())["quality"] == "good"

    await until(well, "all is well again", 90)


async def test_64_kbit_carry_the_sound_alone(call: Call) -> None:
    good = await call.watch(10, "good line")
    call.line.set(rate=64_000, delay=0.04)
    await asyncio.sleep(20)
    bad = await call.watch(40, "64 kbit/s")
    for who, seen in bad.items():
        assert seen.made_up <= 0.05 + good[who].made_up, f"what {who} hears is as good as whole"
    assert not call.ended() and not await call.rejoined()
    assert await call.held_back(call.patient)
    assert not await call.held_back(call.doctor), "whose way out is wide, however little is asked of them"
    call.line.set(rate=0)

    async def seen() -> bool:
        """Pictures come, both ways: the sound in full is tried first, at most a minute after the last time."""
        before = [(await one.figures())["frames"] for one in (call.patient, call.doctor)]
        await asyncio.sleep(2)
        after = [(await one.figures())["frames"] for one in (call.patient, call.doctor)]
        return all(now > then + 10 for now, then in zip(after, before, strict=True))

    await until(seen, "both see each other again", 150)


@pytest.mark.parametrize(("seconds", "within"), [(3, 4), (20, 5), (60, 8)])
async def test_a_cut_line_heals_into_the_same_visit_without_a_click(call: Call, seconds: float, within: float) -> None:
    call.line.set(cut=True)
    await asyncio.sleep(seconds)
    call.line.set(cut=False)
    await call.back(within=within)
    assert await call.doctor.remote() == ["patient"]
    assert not await call.rejoined(call.doctor)
    if seconds < 20:
        assert not call.ended() and not await call.rejoined()


async def test_another_address_is_found_without_a_click(call: Call) -> None:
    call.line.readdress(call.home, "10.91.1.9")
    await call.back(within=5)
    assert not call.ended() and not await call.rejoined()


async def test_a_killed_worker_behind_a_bad_line_comes_back(call: Call) -> None:
    call.line.set(delay=0.05, loss=0.02, rate=2e6)
    pid = call.supervisor.pid()
    assert pid is not None
    killed = time.monotonic()
    os.kill(pid, 9)
    await until(lambda: [one for one in call.bridge.events if one.event == "worker.restarted"], "it is announced")
    await call.back(within=5, since=killed)


@pytest.mark.parametrize("options", [{"relay": True}], ids=["relay"])
async def test_a_killed_relay_costs_a_moment_and_not_the_visit(call: Call) -> None:
    assert (await call.patient.figures())["local"] == {"type": "relay", "protocol": "udp"}
    first = call.turn.pid
    assert first is not None
    killed = time.monotonic()
    os.kill(first, 9)
    await call.stalled(call.patient)
    await call.back(within=6, since=killed)
    assert call.turn.restarts == 1
    assert (await call.patient.figures())["local"] == {"type": "relay", "protocol": "udp"}
    assert not call.ended() and not await call.rejoined(call.doctor)


@pytest.mark.parametrize(
    ("kind", "how", "within"),
    [(CallOnNode, "killed", 5), (CallOnNode, "unplugged", 7), (CallOnNodeOverSix, "killed", 5)],
    ids=["killed", "unplugged", "killed, IPv6"],
)
async def test_a_media_node_that_is_lost_costs_its_rooms_a_moment(call: CallOnNode, how: str, within: float) -> None:
    before = {who.name: (await who.figures())["remote"] for who in (call.doctor, call.patient)}
    lost = time.monotonic()
    call.kill_node() if how == "killed" else call.unplug_node()
    await until(lambda: [one for one in call.bridge.events if one.event == "worker.restarted"], "it is announced")
    await call.back(within=within, since=lost)
    after = {who.name: (await who.figures())["remote"] for who in (call.doctor, call.patient)}
    assert all(before[who].endswith(":40100") and after[who].endswith(":40000") for who in before), (before, after)
    assert await call.doctor.remote() == ["patient"] and await call.patient.remote() == ["doctor"]


@pytest.mark.parametrize("kind", [CallOverSix], ids=["IPv6"])
async def test_a_patient_with_ipv6_alone_reaches_the_server_directly_and_keeps_the_visit_with_ipv4(
    call: CallOverSix,
) -> None:
    first = await call.patient.figures()
    assert first["local"] == {"type": "host", "protocol": "udp"} and SIX["server"] in first["remote"], first
    assert (await call.doctor.figures())["remote"] == f"{DESK}:{MEDIA_PORT}", "the doctor has IPv4"
    call.line.readdress(call.home, "10.91.1.9")
    await call.back(within=8)
    then = await call.patient.figures()
    assert then["remote"] == f"{SERVER}:{MEDIA_PORT}", then
    call.line.readdress(call.home, "2001:db8:91:1::9")
    await call.back(within=8)
    assert SIX["server"] in (await call.patient.figures())["remote"]
    assert not call.ended() and not await call.rejoined() and not await call.rejoined(call.doctor)
    assert await call.doctor.remote() == ["patient"]


@pytest.mark.parametrize("kind", [CallFromFirefoxOverSix], ids=["firefox"])
async def test_firefox_with_ipv6_alone_reaches_the_server_directly(call: CallFromFirefoxOverSix) -> None:
    assert SIX["server"] in (await call.patient.figures())["remote"]
    call.line.set(cut=True)
    await asyncio.sleep(3)
    call.line.set(cut=False)
    await call.back(within=5)
    assert not call.ended() and not await call.rejoined()


@pytest.mark.parametrize("kind", [CallThroughSix], ids=["IPv6"])
@pytest.mark.parametrize("options", [{"relay": True}], ids=["relay"])
async def test_a_patient_with_ipv6_alone_reaches_a_server_with_ipv4_alone_through_the_relay(
    call: CallThroughSix,
) -> None:
    figures = await call.patient.figures()
    assert figures["local"] == {"type": "relay", "protocol": "udp"} and figures["remote"] == f"{DESK}:{MEDIA_PORT}"
    assert not call.ended() and not await call.rejoined()
