"""On the node: joins a clinic's machine, keeps a media worker per core, and their lines to the clinic's gateway.

It carries bytes: what the workers are asked and what they answer passes through unread. Nothing is kept but this machine's own key
and certificate and who it belongs to.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import signal
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import uvloop

from qanun_telemedicine.nodes import far_tap, link
from qanun_telemedicine.nodes.identity import (
    GATEWAY_NAME,
    Token,
    joining_context,
    keep,
    node_context,
    request_certificate,
)
from qanun_telemedicine.nodes.registry import Refusal
from qanun_telemedicine.sfu import protocol as p
from qanun_telemedicine.sfu.addresses import shown
from qanun_telemedicine.sfu.supervisor import Supervisor, WorkerSpec

log = logging.getLogger(__name__)

_CONNECT_S = 5.0
_AGAIN_S, _MOST_AGAIN_S = 0.1, 2.0
#: What a refusal that needs a person says again and again is not said more often than this.
_REFUSED_S = 10.0
_SENT_MOST = 8 << 20
#: The exit code when the clinic has revoked this node: starting again would change nothing.
REVOKED = 3


class Membership(msgspec.Struct):
    """What a node remembers of the clinic's machine that it belongs to."""

    host: str
    port: int
    node: str
    name: str
    addresses: list[str]


@dataclass(frozen=True)
class Place:
    """Where this node's workers listen for media: the first port, one more for each further worker."""

    host: str
    port: int
    workers: int
    engine: str = "auto"


def greeting(kind: str, **more: object) -> link.Greeting:
    made = {"kind": kind, "link": link.VERSION, "protocol": p.VERSION, "release": link.release(), "wall": time.time()}
    return msgspec.convert({**made, **more}, link.Greeting)


async def join(folder: Path, clinic: str, token: Token) -> Membership:
    """Become a node of the machine at `clinic` (a URL or a host). Raises Refusal, or OSError when it is not reached."""
    host = urlsplit(clinic if "//" in clinic else f"//{clinic}").hostname
    if not host:
        raise Refusal("clinic", f"{clinic!r} names no machine")
    try:
        async with asyncio.timeout(_CONNECT_S):
            reader, writer = await asyncio.open_connection(host, token.port, ssl=joining_context())
    except TimeoutError:
        raise ConnectionError(f"{host} does not answer at port {token.port}") from None
    try:
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        # Before anything is said: the secret goes to nobody but whom the token names.
        if hashlib.sha256(shown or b"").digest() != token.gateway:
            raise Refusal("stranger", f"{host} is not the machine that gave this token out: nothing was told to it")
        request = request_certificate(folder)
        welcome = await link.greet(reader, writer, greeting("join", secret=token.secret.hex(), request=request))
    except TimeoutError:
        raise ConnectionError(f"{host} does not answer") from None
    finally:
        writer.close()
    if welcome.refused:
        raise Refusal(welcome.refused, welcome.words)
    keep(folder, "node.crt", welcome.certificate.encode())
    keep(folder, "authority.crt", welcome.authority.encode())
    member = Membership(host, token.port, welcome.node, welcome.name, welcome.addresses)
    keep(folder, "member.json", msgspec.json.format(msgspec.json.encode(member)))
    return member


def membership(folder: Path) -> Membership:
    """Raises Refusal when this machine has not joined."""
    try:
        return msgspec.json.decode((folder / "member.json").read_bytes(), type=Membership)
    except (OSError, msgspec.MsgspecError):
        raise Refusal(
            "joined", "this machine belongs to no clinic: qanun telemedicine node join URL --token …"
        ) from None


class Agent:
    """A node at work; `serve` runs it and returns the exit code."""

    def __init__(self, folder: Path, place: Place) -> None:
        self.member = membership(folder)
        self.finished = asyncio.Event()
        self._context = node_context(folder)
        self._folder = folder
        self._code = 0
        self._said: dict[str, float] = {}
        # The workers find the way to the recorder by this.
        self._taps = folder / "taps.sock"
        os.environ[far_tap.SOCKET] = str(self._taps)
        self._specs = [
            WorkerSpec(
                folder / f"worker-{number}.sock", shown((place.host, place.port + number - 1)), self.member.addresses,
                ("qanun_telemedicine.nodes",), place.engine,
            )
            for number in range(1, place.workers + 1)
        ]  # fmt: skip

    async def serve(self) -> int:
        self._taps.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            taps = await asyncio.start_unix_server(self._tap, self._taps)
        finally:
            os.umask(mask)
        supervisor = Supervisor(self._specs)
        await supervisor.start(wait=30.0)
        lines = [asyncio.ensure_future(self._keep(number, spec)) for number, spec in enumerate(self._specs, 1)]
        try:
            await self.finished.wait()
        finally:
            for line in lines:
                line.cancel()
            await asyncio.gather(*lines, return_exceptions=True)
            taps.close()
            await supervisor.stop()
            self._taps.unlink(missing_ok=True)
        return self._code

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(_CONNECT_S):
            return await asyncio.open_connection(
                self.member.host, self.member.port, ssl=self._context, server_hostname=GATEWAY_NAME, limit=p.MAX_LINE
            )

    async def _keep(self, number: int, spec: WorkerSpec) -> None:
        """One worker's line, made again whenever it ends."""
        wait = _AGAIN_S
        while True:
            try:
                began = time.monotonic()
                await self._line(number, spec)
                wait = _AGAIN_S if time.monotonic() - began > link.SILENT_S else wait
            except Refusal as refusal:
                self._refused(refusal)
                wait = _MOST_AGAIN_S
            except (OSError, TimeoutError, ssl.SSLError, ValueError, msgspec.MsgspecError) as error:
                self._say("line", f"no line to {self.member.host}: {error or type(error).__name__}")
            await asyncio.sleep(wait)
            wait = min(_MOST_AGAIN_S, wait * 2)

    async def _line(self, number: int, spec: WorkerSpec) -> None:
        reader, writer = await self._connect()
        try:
            welcome = await link.greet(reader, writer, greeting("worker", worker=number))
            if welcome.refused:
                raise Refusal(welcome.refused, welcome.words)
            inner, outer = await asyncio.open_unix_connection(spec.socket, limit=p.MAX_LINE)
            try:
                # The gateway asks twice a second how the worker is: whoever hears nothing for long is cut off.
                await carry((reader, outer, link.SILENT_S), (inner, writer, None))
            finally:
                outer.transport.abort()
        finally:
            writer.transport.abort()

    def _refused(self, refusal: Refusal) -> None:
        self._say(refusal.code, f"the clinic's machine refuses this node: {refusal}")
        if refusal.code == "revoked":
            self._code = REVOKED
            self.finished.set()

    def _say(self, about: str, words: str) -> None:
        now = time.monotonic()
        if now - self._said.get(about, -_REFUSED_S) >= _REFUSED_S:
            self._said[about] = now
            log.error("%s", words)

    async def _tap(self, inner: asyncio.StreamReader, outer: asyncio.StreamWriter) -> None:
        """A recording's packets, from a worker of ours to the recorder."""
        with contextlib.suppress(OSError, TimeoutError, ssl.SSLError, ValueError, KeyError, msgspec.MsgspecError):
            try:
                asked = json.loads(await asyncio.wait_for(inner.readline(), _CONNECT_S))
                reader, writer = await self._connect()
                try:
                    welcome = await link.greet(reader, writer, greeting("tap", recording=str(asked["recording"])))
                    outer.write(msgspec.json.encode(welcome) + b"\n")
                    if not welcome.refused:
                        await carry((reader, outer, None), (inner, writer, None))
                finally:
                    writer.close()
            finally:
                outer.close()


async def carry(*ways: tuple[asyncio.StreamReader, asyncio.StreamWriter, float | None]) -> None:
    """Bytes from each reader to its writer, until one of them ends or is silent for longer than it may be."""
    tasks = [asyncio.ensure_future(_copy(*way)) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _, writer, _ in ways:
            # What came last (a tap's goodbye) still goes out.
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(writer.drain(), 1.0)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, silent: float | None) -> None:
    with contextlib.suppress(OSError, TimeoutError):
        while True:
            async with asyncio.timeout(silent):
                data = await reader.read(65536)
            if not data:
                return
            writer.write(data)
            if writer.transport.get_write_buffer_size() > _SENT_MOST:
                async with asyncio.timeout(link.SILENT_S):
                    await writer.drain()


def run(folder: Path, place: Place) -> int:
    """The process. Raises Refusal when this machine has not joined."""

    async def serve() -> int:
        agent = Agent(folder, place)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, agent.finished.set)
        return await agent.serve()

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    return uvloop.run(serve())
