"""From what plugins ask of a machine (`SystemService`) to processes: the commands with their fields filled in, and their keeping.

On an appliance systemd keeps them; where a person only tries Qanun out, `Keeper` does. It decides nothing about what runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qanun.app import SystemService
from qanun.app.build import gather
from qanun.config import Config

_STABLE_S = 10.0
_MOST_WAIT_S = 10.0
_STOP_S = 10.0


@dataclass(frozen=True, slots=True)
class Daemon:
    """A process to keep: `prepare` is run to its end before each start."""

    name: str
    command: Sequence[str]
    prepare: Sequence[str] = ()


def services(config: Config) -> list[SystemService]:
    """Every plugin's, but those that need a part of the configuration which is not given: they have nothing to do."""
    return [one for one in gather()[0].all(SystemService) if not one.needs or getattr(config, one.needs)]


def daemon(service: SystemService, config: Config) -> Daemon:
    """Raises KeyError for a field that the configuration does not have: a plugin's mistake, seen at start."""
    fields = {
        "python": sys.executable,
        "state_dir": str(config.state_dir),
        "media_socket": str(config.media_socket or ""),
        "media_listen": config.media_listen,
        "media_advertise": ",".join(config.media_advertise),
    }

    def filled(words: Sequence[str]) -> list[str]:
        return [word.format_map(fields) for word in words]

    return Daemon(service.id, filled(service.command), filled(service.prepare))


@dataclass(slots=True)
class Keeper:
    """Runs daemons, starts again what dies, more and more slowly, and stops all of them in reverse order."""

    environment: Mapping[str, str]
    logs: Path
    restarts: dict[str, int] = field(default_factory=dict)
    processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def keep(self, daemon: Daemon) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        self._tasks[daemon.name] = asyncio.get_running_loop().create_task(self._keep(daemon))

    async def _keep(self, daemon: Daemon) -> None:
        wait = 0.0
        while True:
            began = time.monotonic()
            with (self.logs / f"{daemon.name}.log").open("ab") as log:
                try:
                    if daemon.prepare:
                        await self._prepare(daemon, log.fileno())
                    self.processes[daemon.name] = process = await asyncio.create_subprocess_exec(
                        *ends_with_us(), *daemon.command, env=dict(self.environment), stdin=asyncio.subprocess.DEVNULL,
                        stdout=log, stderr=log, start_new_session=True,
                    )  # fmt: skip
                    await process.wait()
                except OSError as error:
                    log.write(f"{daemon.name}: {error}\n".encode())
            self.restarts[daemon.name] = self.restarts.get(daemon.name, 0) + 1
            wait = 0.0 if time.monotonic() - began > _STABLE_S else min(_MOST_WAIT_S, max(0.3, wait * 2))
            await asyncio.sleep(wait)

    async def _prepare(self, daemon: Daemon, log: int) -> None:
        preparing = await asyncio.create_subprocess_exec(
            *daemon.prepare, env=dict(self.environment), stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
        )
        if await preparing.wait():
            raise OSError(f"preparing ended with {preparing.returncode}")

    async def stop(self) -> None:
        for name in reversed(list(self._tasks)):
            self._tasks[name].cancel()
            process = self.processes.get(name)
            if process is None or process.returncode is not None:
                continue
            _signal_group(process.pid, signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), _STOP_S)
            except TimeoutError:
                _signal_group(process.pid, signal.SIGKILL)
                await process.wait()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def ends_with_us() -> list[str]:
    """The prefix that makes a process end with the one that started it, where util-linux is there."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []
