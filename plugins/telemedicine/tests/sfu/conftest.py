"""A real worker, a real Chromium with a talking face before its camera, and a page between them."""

import asyncio
import importlib.util
import itertools
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright

from qanun_telemedicine.sfu import protocol as p
from qanun_telemedicine.sfu.supervisor import Supervisor, WorkerSpec

from .bridge import Bridge

ROOT = Path(__file__).parents[4]
CHROMIUM = "/usr/bin/chromium"
#: Long enough for a slow machine; nothing is concluded from how long something took.
PATIENCE_S = 45.0
_ports = itertools.count(21020 + os.getpid() % 18 * 50)


def _load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def next_port() -> int:
    return next(_ports)


def own_address() -> str:
    """An address of this machine that is not the loopback: browsers gather no loopback candidates."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


async def until(condition: Callable[[], Any], what: str, patience: float = PATIENCE_S) -> Any:
    """Wait until `condition` (plain or async) gives something true; fail with `what` when it never does."""
    deadline = asyncio.get_running_loop().time() + patience
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        if asyncio.get_running_loop().time() > deadline:
            pytest.fail(f"waited in vain: {what}")
        await asyncio.sleep(0.2)


class Caller:
    """One page in a call."""

    def __init__(self, page: Page, name: str) -> None:
        self.page = page
        self.name = name
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    async def begin(self, room: str, **options: Any) -> None:
        await self.page.evaluate("(options) => begin(options)", {"room": room, "participant": self.name, **options})

    async def figures(self) -> dict[str, Any]:
        return dict(await self.page.evaluate("figures()"))

    async def sees_and_hears(self, frames: int = 20) -> dict[str, Any]:
        """Wait until so many more pictures are decoded and sound with energy in it arrives; gives the last figures."""
        before = await self.figures()

        async def grown() -> dict[str, Any] | None:
            now = await self.figures()
            # A connection made anew counts from zero.
            base = before if now["frames"] >= before["frames"] else {"frames": 0, "samples": 0, "energy": 0}
            more = now["frames"] >= base["frames"] + frames and now["samples"] > base["samples"] + 9600
            return now if more and now["energy"] > base["energy"] else None

        try:
            return dict(await until(grown, f"{self.name} sees and hears"))
        except BaseException:
            print(self.name, await self.figures(), await self.log(), self.errors)
            raise

    async def log(self) -> list[Any]:
        return list(await self.page.evaluate("window.log"))

    async def remote(self) -> list[str]:
        return list(await self.page.evaluate("[...session.participants.keys()].sort()"))


class Clinic:
    """A supervisor with one worker, and the server of the page."""

    def __init__(self, directory: Path, engine: str = "auto") -> None:
        self.directory = directory
        self.engine = engine
        self.bridge = Bridge()
        self.port = next_port()
        self.supervisor: Supervisor

    async def start(self, advertise: list[str] | None = None) -> None:
        spec = WorkerSpec(
            self.directory / "media.sock",
            f"0.0.0.0:{self.port}",
            advertise or [own_address()],
            engine=self.engine,
        )
        self.supervisor = Supervisor([spec], self.bridge.hear)
        await self.supervisor.start(wait=90)
        self.bridge.client = self.supervisor.clients[0]
        await self.bridge.start(next_port())

    async def stop(self) -> None:
        await self.supervisor.stop()
        await self.bridge.stop()

    @property
    def client(self) -> Any:
        return self.supervisor.clients[0]

    def events(self, name: str, participant: str | None = None) -> list[p.Event]:
        return [
            event for event in self.bridge.events if event.event == name and participant in (None, event.participant)
        ]

    async def caller(self, browser: Browser, name: str) -> Caller:
        caller = Caller(await browser.new_page(), name)
        await caller.page.goto(f"http://127.0.0.1:{self.bridge.port}/")
        await caller.page.wait_for_function("window.ready")
        return caller


@pytest.fixture(scope="session")
def media() -> ModuleType:
    return _load("browser_media", ROOT / "tests" / "browser" / "media.py")


@pytest.fixture(scope="session")
def media_files(media: ModuleType) -> Any:
    try:
        return media.prepare()
    except media.MediaMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture
def engine() -> str:
    """Which one the worker runs: what a worker runs by itself. Tests that concern both parametrise it."""
    return "auto"


@pytest_asyncio.fixture
async def clinic(tmp_path: Path, engine: str) -> AsyncIterator[Clinic]:
    clinic = Clinic(tmp_path, engine)
    await clinic.start()
    yield clinic
    await clinic.stop()


@pytest_asyncio.fixture
async def chromium(media: ModuleType, media_files: Any) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, headless=True, args=media.chromium_flags(media_files)
        )
        yield browser
        await browser.close()
