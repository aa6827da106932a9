"""Starts media workers, watches them, and starts them again when they die.

supervisor = Supervisor([WorkerSpec(socket, "[::]:40000", ["192.0.2.10", "2001:db8::10"])], on_event)
await supervisor.start()
client = supervisor.clients[0]
"""

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from qanun_telemedicine.sfu import protocol as p
from qanun_telemedicine.sfu.client import MediaClient

log = logging.getLogger(__name__)

#: A worker that lived shorter than this is started again more and more slowly.
_STABLE_S = 10.0
_MOST_WAIT_S = 10.0
_STOP_S = 8.0


@dataclass(frozen=True)
class WorkerSpec:
    """One worker: where it takes orders, where media arrives, and what clients are told."""

    socket: Path
    listen: str
    advertise: Sequence[str]
    allow_taps: Sequence[str] = ()
    #: "auto", "c" or "python".
    engine: str = "auto"
    #: In the order of preference, like "vp9,vp8"; empty for the usual one.
    codecs: str = ""

    def command(self) -> list[str]:
        command = [sys.executable, "-m", "qanun_telemedicine.sfu.worker", "--socket", str(self.socket)]
        command += ["--listen", self.listen, "--advertise", ",".join(self.advertise)]
        command += ["--engine", self.engine]
        if self.codecs:
            command += ["--codecs", self.codecs]
        for package in self.allow_taps:
            command += ["--allow-tap", package]
        return command


OnEvent = Callable[["MediaClient", p.Event], Awaitable[None] | None]


class Supervisor:
    """Keeps one process per spec running. A worker's death reaches `on_event` as `worker.restarted`."""

    def __init__(self, specs: Sequence[WorkerSpec], on_event: OnEvent | None = None) -> None:
        self.specs = list(specs)
        self.restarts = 0
        self.clients = [self._client(spec, on_event) for spec in self.specs]
        self._processes: dict[Path, asyncio.subprocess.Process] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    @staticmethod
    def _client(spec: WorkerSpec, on_event: OnEvent | None) -> MediaClient:
        client = MediaClient(spec.socket)
        if on_event is not None:
            client._on_event = lambda event: on_event(client, event)
        return client

    async def start(self, *, wait: float = 10.0) -> None:
        """Start everything; returns when every worker answers."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._keep(spec)) for spec in self.specs]
        for client in self.clients:
            await client.start(wait=wait)

    def client_for(self, room: str) -> MediaClient:
        """The worker of a room: always the same one for the same name."""
        number = sum(room.encode()) if len(self.clients) > 1 else 0
        return self.clients[number % len(self.clients)]

    def pid(self, index: int = 0) -> int | None:
        process = self._processes.get(self.specs[index].socket)
        return process.pid if process is not None and process.returncode is None else None

    async def _keep(self, spec: WorkerSpec) -> None:
        wait = 0.0
        while not self._stopping:
            began = time.monotonic()
            process = await asyncio.create_subprocess_exec(
                *spec.command(), stdin=asyncio.subprocess.DEVNULL, env={**os.environ, "PYTHONUNBUFFERED": "1"}
            )
            self._processes[spec.socket] = process
            try:
                code = await process.wait()
            except asyncio.CancelledError:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                try:
                    await asyncio.wait_for(process.wait(), _STOP_S)
                except TimeoutError:
                    process.kill()
                    await process.wait()
                raise
            self.restarts += 1
            log.error("media worker %s ended with %s; starting it again", process.pid, code)
            wait = 0.0 if time.monotonic() - began > _STABLE_S else min(_MOST_WAIT_S, max(0.1, wait * 2))
            await asyncio.sleep(wait)

    async def stop(self) -> None:
        """End the workers; they say goodbye to everybody connected."""
        self._stopping = True
        for client in self.clients:
            await client.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
