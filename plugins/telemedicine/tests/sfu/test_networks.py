"""A patient behind bad networks: real browsers on hosts of their own, the patient's joined to the server by a link that is bad.

Signalling has a link of its own, so that what is seen is what media does. Figures are printed. The limits are those that were
promised, for a machine that does nothing else meanwhile.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import async_playwright

from qanun_telemedicine.sfu.supervisor import Supervisor, WorkerSpec

from . import lab
from .bridge import Bridge
from .conftest import CHROMIUM, Caller, until

_MISSING = lab.missing()
pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.browser,
    pytest.mark.long,
    pytest.mark.skipif(bool(_MISSING), reason=_MISSING or "there is a lab"),
]
_PORT, _MEDIA_PORT = 8000, 40_000
_SERVER, _SIGNALS, _DESK = "10.91.1.1", "10.91.2.1", "10.91.3.1"

#: The longest time without a new picture, and what is heard and seen until now.
_WATCH = """() => {
  const video = document.getElementById('remote');
  window.gap = { longest: 0, last: performance.now() };
  const drawn = () => {
    const now = performance.now();
    window.gap.longest = Math.max(window.gap.longest, now - window.gap.last);
    window.gap.last = now;
    video.requestVideoFrameCallback(drawn);
  };
  video.requestVideoFrameCallback(drawn);
}"""


@dataclass(frozen=True)
class FarWorker(WorkerSpec):
    """A worker on another host."""

    host: str = ""

    def command(self) -> list[str]:
        return ["ip", "netns", "exec", self.host, *super().command()]


class Call:
    """A doctor on a good line and a patient on `line`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lab = lab.Lab()
        self.bridge = Bridge()

    async def start(self, media: ModuleType, media_files: Any) -> None:
        server, desk, home = (self.lab.host(name) for name in ("server", "desk", "home"))
        self.home = home
        self.line = self.lab.link(server, _SERVER, home, "10.91.1.2")
        signals = self.lab.link(server, _SIGNALS, home, "10.91.2.2")
        signals.set(udp=False)
        self.lab.link(server, _DESK, desk, "10.91.3.2")
        spec = FarWorker(self.folder / "media.sock", f"0.0.0.0:{_MEDIA_PORT}", [_SERVER, _DESK], host=server)
        self.supervisor = Supervisor([spec], self.bridge.hear)
        await self.supervisor.start(wait=20)
        self.bridge.client = self.supervisor.clients[0]
        await self.bridge.start(_PORT, sockets=[lab.listen(server, one, _PORT) for one in (_SIGNALS, _DESK)])
        self._playwright = await async_playwright().start()
        self._browsers = []
        self.doctor = await self._caller("doctor", desk, _DESK, media.chromium_flags(media_files))
        self.patient = await self._caller("patient", home, _SIGNALS, media.chromium_flags(media_files))
        for caller in (self.doctor, self.patient):
            await caller.begin("nour-1")
        for caller in (self.doctor, self.patient):
            await caller.sees_and_hears()

    async def _caller(self, name: str, host: str, address: str, flags: list[str]) -> Caller:
        origin = f"http://{address}:{_PORT}"
        browser = await self._playwright.chromium.launch(
            executable_path=self.lab.program(host, self.folder, CHROMIUM),
            args=[*flags, f"--unsafely-treat-insecure-origin-as-secure={origin}"],
        )
        self._browsers.append(browser)
        caller = Caller(await browser.new_page(), name)
        await caller.page.goto(origin)
        await caller.page.wait_for_function("window.ready")
        return caller

    async def stop(self) -> None:
        for browser in getattr(self, "_browsers", []):
            await browser.close()
        if hasattr(self, "_playwright"):
            await self._playwright.stop()
        if hasattr(self, "supervisor"):
            await self.supervisor.stop()
        await self.bridge.stop()
        self.lab.close()

    async def watch(self, caller: Caller, seconds: float) -> dict[str, float]:
        """What somebody got: pictures a second, the share of sound that was made up, the longest gap between pictures (s)."""
        await caller.page.evaluate(_WATCH)
        before, began = await caller.figures(), time.monotonic()
        await asyncio.sleep(seconds)
        after = await caller.figures()
        gap = await caller.page.evaluate("Math.max(gap.longest, performance.now() - gap.last) / 1000")
        played = after["played"] - before["played"]
        figures = {
            "fps": (after["frames"] - before["frames"]) / (time.monotonic() - began),
            "made_up": 1 - (after["samples"] - before["samples"]) / max(1, played),
            "gap": gap,
        }
        print(caller.name, {name: round(value, 3) for name, value in figures.items()}, f"load {os.getloadavg()[0]:.1f}")
        return figures

    async def back(self, *, within: float) -> float:
        """Seconds until both see and hear again."""
        began = time.monotonic()
        await asyncio.gather(self.doctor.sees_and_hears(5), self.patient.sees_and_hears(5))
        took = time.monotonic() - began
        print(f"media back after {took:.1f} s, load {os.getloadavg()[0]:.1f}")
        assert took < within
        return took

    def ended(self) -> list[Any]:
        return [one for one in self.bridge.events if one.event == "participant.disconnected"]

    async def rejoined(self) -> bool:
        return any(what[0] == "rejoin" for _, what in await self.patient.log())


@pytest_asyncio.fixture
async def call(tmp_path: Path, media: ModuleType, media_files: Any) -> AsyncIterator[Call]:
    made = Call(tmp_path)
    try:
        await made.start(media, media_files)
        yield made
    finally:
        await made.stop()


@pytest.mark.parametrize(
    ("line", "fps", "made_up", "seconds", "gap"),
    [
        ({"rate": 2e6, "delay": 0.02}, 12, 0.05, 20, 2),
        ({"rate": 5e5, "delay": 0.02}, 8, 0.1, 20, 2),
        ({"loss": 0.03, "delay": 0.02}, 12, 0.08, 60, 0.5),
        ({"loss": 0.1, "delay": 0.02}, 6, 0.2, 20, 2),
        ({"delay": 0.2, "jitter": 0.03}, 10, 0.1, 20, 2),
    ],
    ids=["2 Mbit/s", "500 kbit/s", "3 % loss", "10 % loss", "200 ms"],
)
async def test_a_bad_line_costs_sharpness_and_neither_sound_nor_visit(
    call: Call, line: dict[str, float], fps: float, made_up: float, seconds: float, gap: float
) -> None:
    call.line.set(**line)
    await asyncio.sleep(15)
    for caller in (call.patient, call.doctor):
        figures = await call.watch(caller, seconds)
        assert figures["fps"] > fps and figures["made_up"] < made_up
        assert figures["gap"] < gap
    assert not call.ended() and not await call.rejoined()


async def test_150_kbit_carry_the_sound_and_the_page_says_what_is_left_out(call: Call) -> None:
    call.line.set(rate=150_000, delay=0.02)
    await asyncio.sleep(25)
    for caller in (call.patient, call.doctor):
        assert (await call.watch(caller, 20))["made_up"] < 0.03, "the sound is whole"
    assert not call.ended() and not await call.rejoined()
    call.line.set(rate=0)
    await call.back(within=45)

    async def good() -> bool:
        return (await call.patient.figures())["quality"] == "good"

    await until(good, "all is well again", 90)


@pytest.mark.parametrize(("seconds", "within"), [(3, 4), (20, 5), (60, 8)])
async def test_a_cut_line_heals_into_the_same_visit_without_a_click(call: Call, seconds: float, within: float) -> None:
    call.line.set(cut=True)
    await asyncio.sleep(seconds)
    call.line.set(cut=False)
    await call.back(within=within)
    assert await call.doctor.remote() == ["patient"]
    if seconds < 20:
        assert not call.ended() and not await call.rejoined()


async def test_another_address_is_found_without_a_click(call: Call) -> None:
    call.line.readdress(call.home, "10.91.1.9")
    await call.back(within=25)
    assert not call.ended()


async def test_a_killed_worker_behind_a_bad_line_comes_back(call: Call) -> None:
    call.line.set(delay=0.05, loss=0.02, rate=2e6)
    pid = call.supervisor.pid()
    assert pid is not None
    os.kill(pid, 9)
    await until(lambda: [one for one in call.bridge.events if one.event == "worker.restarted"], "it is announced")
    await call.back(within=15)
