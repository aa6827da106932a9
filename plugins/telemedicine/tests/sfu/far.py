"""A call between hosts of a lab: a doctor on a good line, a patient on a bad one, and the clinic's machine between them.

Signalling has links of its own, so that what is seen is what media does. Cameras are small: on a machine of two processors that
holds both browsers, a large picture would freeze without any network.
"""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from playwright.async_api import async_playwright

from qanun_telemedicine.nodes.gateway import Order, order
from qanun_telemedicine.sfu import protocol as p
from qanun_telemedicine.sfu.addresses import shown
from qanun_telemedicine.sfu.client import MediaClient
from qanun_telemedicine.sfu.pool import MediaPool
from qanun_telemedicine.sfu.supervisor import Supervisor, WorkerSpec
from qanun_telemedicine.turn import TurnServer, TurnSettings, ephemeral_credentials, ice_servers

from . import lab
from .bridge import Bridge
from .conftest import CHROMIUM, ROOT, Caller, _load, until

PAGE_PORT, MEDIA_PORT, NODE_PORT, GATEWAY_PORT, TURN_PORT = 8000, 40_000, 40_100, 8443, 3478
SERVER, SIGNALS, DESK = "10.91.1.1", "10.91.2.1", "10.91.3.1"
#: The other machine, as the patient, the doctor and the clinic's machine reach it.
NODE = {"home": "10.91.4.1", "desk": "10.91.5.1", "server": "10.91.6.2"}
#: The same places on a network of IPv6 alone.
SIX = {
    "server": "2001:db8:91:1::1",
    "patient": "2001:db8:91:1::2",
    "signals": "2001:db8:91:2::1",
    "home": "2001:db8:91:2::2",
}
_SECRET = "a-secret-of-the-appliance"
_CAMERA = {"width": 320, "height": 240, "frameRate": 15}
_BETWEEN_PICTURES_S = 0.2
ROOM = "nour-1"


@dataclass(frozen=True)
class FarWorker(WorkerSpec):
    """A worker on another host."""

    host: str = ""

    def command(self) -> list[str]:
        return ["ip", "netns", "exec", self.host, *super().command()]


@dataclass(frozen=True)
class Seen:
    """What somebody got: pictures a second; the longest freeze; the longest that the machine itself stood still meanwhile, which
    is when the other's camera gave no picture or no link carried anything (s); the share of sound that was made up."""

    fps: float
    longest: float
    machine: float
    made_up: float


class Call:
    """`line` is the patient's; with `relay` the patient reaches the server through its TURN server only."""

    #: The patient's networks, for media and for the page: the server's address and the patient's.
    media, page = (SERVER, "10.91.1.2"), (SIGNALS, "10.91.2.2")
    #: What the first of them carries, in bytes.
    largest = 1400
    #: Where the worker listens, and what it tells.
    listen, advertise = "[::]", [SERVER, DESK]
    #: Where the relay listens, and to whom it hands on.
    relays, peers = [SERVER], [SERVER, DESK]

    def __init__(self, folder: Path, *, relay: bool = False) -> None:
        self.folder = folder
        self.lab = lab.Lab()
        self.bridge = Bridge()
        self._relay = relay
        self._browsers: list[Any] = []
        self._closing: list[Callable[[], Awaitable[Any]]] = [self.bridge.stop]

    async def start(self, media: ModuleType, media_files: Any) -> None:
        self.server, self.desk, self.home = (self.lab.host(name) for name in ("server", "desk", "home"))
        self.line = self.lab.link(self.server, self.media[0], self.home, self.media[1], self.largest)
        self.lab.link(self.server, self.page[0], self.home, self.page[1]).set(udp=False)
        self.lab.link(self.server, DESK, self.desk, "10.91.3.2")
        spec = FarWorker(self.folder / "media.sock", f"{self.listen}:{MEDIA_PORT}", self.advertise, host=self.server)
        self.supervisor = Supervisor([spec], self._worker_says)
        self._closing.insert(0, self.supervisor.stop)
        await self.supervisor.start(wait=30)
        self.bridge.client = self.supervisor.clients[0]
        await self._between()
        pages = [lab.listen(self.server, one, PAGE_PORT) for one in (self.page[0], DESK)]
        await self.bridge.start(PAGE_PORT, sockets=pages)
        self._playwright = await async_playwright().start()
        flags = media.chromium_flags(media_files)
        self.doctor = await self._caller("doctor", self.desk, DESK, flags)
        self.patient = await self._caller("patient", self.home, self.page[0], flags)
        await self.doctor.begin(ROOM, camera=_CAMERA)
        await self.patient.begin(ROOM, camera=_CAMERA, **self._patients_camera(), **await self._through_relay())
        for caller in (self.doctor, self.patient):
            await caller.sees_and_hears()
        await self._met()

    def _patients_camera(self) -> dict[str, Any]:
        """What a browser needs to know that has no camera to talk of."""
        return {}

    async def _worker_says(self, client: MediaClient, event: p.Event) -> None:
        await self.bridge.hear(client, event)

    async def _between(self) -> None:
        """What stands between page and worker, for those who have more."""

    async def _met(self) -> None:
        """They see and hear each other."""

    async def _through_relay(self) -> dict[str, Any]:
        if not self._relay:
            return {}
        settings = TurnSettings("clinic.example", self.relays, self.peers, port=TURN_PORT)
        binary = self.lab.program(self.server, self.folder, "/usr/bin/turnserver")
        self.turn = TurnServer(settings, _SECRET, self.folder / "turn", binary)
        self._closing.insert(0, self.turn.stop)

        async def answers() -> bool:
            # This process is on no host of the lab: that it listens is asked there.
            return lab.reachable(self.server, self.relays[0], TURN_PORT)

        self.turn._answers = answers  # type: ignore[method-assign]
        await self.turn.start(wait=30)
        servers = ice_servers(self.relays[0], settings, ephemeral_credentials(_SECRET, "patient", 600))
        servers[0]["urls"] = [url for url in servers[0]["urls"] if url.endswith("udp")]  # type: ignore[attr-defined]
        return {"policy": "relay", "iceServers": servers}

    async def _caller(self, name: str, host: str, address: str, flags: list[str]) -> Caller:
        origin = f"http://{shown((address, PAGE_PORT))}"
        browser = await self._playwright.chromium.launch(
            executable_path=self.lab.program(host, self.folder, CHROMIUM),
            args=[*flags, f"--unsafely-treat-insecure-origin-as-secure={origin}"],
        )
        self._browsers.append(browser)
        # Nobody looks at it: what is shown large costs a processor more than what is decoded.
        caller = Caller(await browser.new_page(viewport={"width": 200, "height": 160}), name)
        await caller.page.goto(origin)
        await caller.page.wait_for_function("window.ready")
        return caller

    async def stop(self) -> None:
        for browser in self._browsers:
            await browser.close()
        if hasattr(self, "_playwright"):
            await self._playwright.stop()
        for close in self._closing:
            await close()
        self.lab.close()

    async def watch(self, seconds: float, what: str) -> dict[str, Seen]:
        """What both get during so many seconds."""
        both = self.patient, self.doctor
        self.lab.stood_still()
        found = await asyncio.gather(*(one.page.evaluate("watch", seconds) for one in both))
        links = self.lab.stood_still()
        seen = {}
        for one, got, other in zip(both, found, found[::-1], strict=True):
            machine = max(links, other["camera"] - _BETWEEN_PICTURES_S)
            seen[one.name] = Seen(got["fps"], got["longest"], machine, got["made_up"])
            told = ", ".join(f"{name} {value:.3f}" for name, value in asdict(seen[one.name]).items())
            print(f"{what}: {one.name} {told}, {got['freezes']} freezes, load {os.getloadavg()[0]:.1f}")
        return seen

    async def back(self, *, within: float, since: float | None = None) -> float:
        """Seconds until both see and hear again, from now on or from a moment before."""
        began = time.monotonic() if since is None else since
        await asyncio.gather(self.doctor.sees_and_hears(5), self.patient.sees_and_hears(5))
        took = time.monotonic() - began
        print(f"media back after {took:.1f} s, load {os.getloadavg()[0]:.1f}")
        for one in (self.doctor, self.patient):
            print(one.name, await self.told(one))
        assert took < within
        return took

    async def told(self, caller: Caller) -> str:
        """What the page noted last, each with how many seconds ago it was."""
        now = await caller.page.evaluate("performance.now()")
        last = [one for one in await caller.log() if now - one[0] < 90_000][-10:]
        return ", ".join(f"{(now - at) / 1000:.1f} s ago {' '.join(filter(None, what))}" for at, what in last)

    async def stalled(self, caller: Caller) -> None:
        """Wait until nothing comes any more."""
        before = -1

        async def still() -> bool:
            nonlocal before
            now = (await caller.figures())["frames"]
            same, before = now == before, now
            return same

        await until(still, f"{caller.name} gets no pictures")

    def ended(self) -> list[Any]:
        return [one for one in self.bridge.events if one.event == "participant.disconnected"]

    async def held_back(self, caller: Caller) -> bool:
        """Whether the page ever held its own picture back for the sound."""
        return any(what[0] == "uplink" for _, what in await caller.log())

    async def rejoined(self, caller: Caller | None = None) -> bool:
        return any(what[0] == "rejoin" for _, what in await (caller or self.patient).log())


class CallOverSix(Call):
    """The patient's networks have IPv6 alone, and the one for media carries no more than every network of IPv6 must; the doctor's
    has IPv4."""

    largest = 1280
    media, page = (SIX["server"], SIX["patient"]), (SIX["signals"], SIX["home"])
    advertise = [SERVER, SIX["server"], DESK]

    async def _between(self) -> None:
        # Where the patient's phone may find itself later.
        self.line.also(self.server, SERVER)


class CallThroughSix(CallOverSix):
    """The same, and the worker has IPv4 alone: the relay stands between the two."""

    listen, advertise = "0.0.0.0", [DESK]
    relays, peers = [SIX["server"], DESK], [DESK]


class CallFromFirefox(Call):
    """The same, and the patient's browser is Firefox, whose camera is a film on a canvas."""

    async def start(self, media: ModuleType, media_files: Any) -> None:
        self.bridge.files["/face.webm"] = media_files.face_webm
        await super().start(media, media_files)

    def _patients_camera(self) -> dict[str, Any]:
        return {"source": "/face.webm"}

    async def _caller(self, name: str, host: str, address: str, flags: list[str]) -> Caller:
        if name != "patient":
            return await super()._caller(name, host, address, flags)
        module = _load("browser_firefox", ROOT / "tests" / "browser" / "firefox.py")

        def reach(port: int) -> socket.socket:
            return lab.inside(host, lambda: socket.create_connection(("127.0.0.1", port), 10))  # type: ignore[no-any-return]

        firefox = module.Firefox(
            # Media goes another way than the page came: to whoever has no microphone Firefox shows only that one.
            {"dom.securecontext.allowlist": address, "permissions.default.microphone": 1},
            program=self.lab.program(host, self.folder, module.BINARY),
            reach=reach,
        )
        await firefox.__aenter__()
        self._closing.insert(0, lambda: firefox.__aexit__(None, None, None))
        page = await firefox.page(f"http://{shown((address, PAGE_PORT))}")
        await page.wait_for_function("window.ready")
        return Caller(page, name)


class CallFromFirefoxOverSix(CallOverSix, CallFromFirefox):
    """Firefox, with IPv6 alone."""


class CallOnNode(Call):
    """The same, with a second machine that has joined the clinic's and carries the call."""

    #: The cables of the other machine: its address and the other end's.
    cables = {
        "home": (NODE["home"], "10.91.4.2"),
        "desk": (NODE["desk"], "10.91.5.2"),
        "server": (NODE["server"], "10.91.6.1"),
    }

    async def _between(self) -> None:
        node = self.node = self.lab.host("node")
        self._cables = [
            self.lab.link(node, self.cables[name][0], other, self.cables[name][1])
            for name, other in (("home", self.home), ("desk", self.desk), ("server", self.server))
        ]
        gateway = self.cables["server"][1]
        code = (
            "import sys; from pathlib import Path; from qanun_telemedicine.nodes.gateway import run; "
            "sys.exit(run(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4].split(','), sys.argv[5]))"
        )
        addresses = [self.cables["home"][0], self.cables["desk"][0]]
        clinic = f"https://{shown((gateway, 443))}/"
        socket = self.folder / "media.sock"
        listening = shown((gateway, GATEWAY_PORT))
        await self._run(self.server, "-c", code, self.folder / "nodes", socket, listening, ",".join(addresses), clinic)
        await until(lambda: (self.folder / "nodes.sock").exists(), "the gateway listens")
        invited = await order(self.folder / "nodes.sock", Order("invite", "one", by="somebody", addresses=addresses))
        own = self.folder / "n"
        words = "-m", "qanun", "telemedicine", "node"
        joining = await self._run(node, *words, "join", clinic, "--token", invited["token"], "--folder", own)
        assert await asyncio.wait_for(joining.wait(), 60) == 0
        listen = f"[::]:{NODE_PORT}"
        self.process = await self._run(node, *words, "run", "--listen", listen, "--workers", "1", "--folder", own)
        self.pool = MediaPool(socket, self._heard, timeout=10.0)
        await self.pool.start()
        self._closing.insert(0, self.pool.close)

        async def pooled() -> bool:
            return len(await self.pool.workers()) == 2

        await until(pooled, "the node serves")
        self.bridge.client = self.pool  # type: ignore[assignment]
        # The first room goes to the other machine: the clinic's own worker takes none meanwhile.
        await self.supervisor.clients[0]._request(p.Drain(7, True, False))

    async def _met(self) -> None:
        """The next room may be here."""
        await self.supervisor.clients[0]._request(p.Drain(8, False))

    async def _worker_says(self, client: MediaClient, event: p.Event) -> None:
        """Heard from the pool."""

    async def _heard(self, event: p.Event) -> None:
        await self.bridge.hear(self.supervisor.clients[0], event)

    def kill_node(self) -> None:
        """Every process of the other machine at once."""
        for pid in self.lab.processes(self.node):
            os.kill(pid, signal.SIGKILL)

    def unplug_node(self) -> None:
        """As when its power fails: nothing says goodbye, and nothing answers."""
        for cable in self._cables:
            cable.set(cut=True)

    async def _run(self, host: str, *words: object) -> asyncio.subprocess.Process:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("QANUN_")}
        process = await asyncio.create_subprocess_exec(
            *("ip", "netns", "exec", host, sys.executable, *map(str, words)), env=environment
        )

        async def end() -> None:
            if process.returncode is None:
                process.terminate()
                await asyncio.wait_for(process.wait(), 20)

        self._closing.insert(0, end)
        return process


class CallOnNodeOverSix(CallOnNode):
    """The same, and all of the node's cables have IPv6 alone: its line to the clinic's machine as well as media."""

    cables = {
        "home": ("2001:db8:91:4::1", "2001:db8:91:4::2"),
        "desk": ("2001:db8:91:5::1", "2001:db8:91:5::2"),
        "server": ("2001:db8:91:6::2", "2001:db8:91:6::1"),
    }
