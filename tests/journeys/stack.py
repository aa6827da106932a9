"""A whole appliance for one journey: PostgreSQL, web workers, job worker, media worker and coturn, each a real process.

Two addresses lead to it: the host's end of a virtual cable for whoever sits in the other network namespace, and loopback
names for everybody else. What dies is started again, as on a machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import httpx

from qanun.testing.postgres import ScratchPostgres

CABLE = "10.213.77."  # one /24 for the virtual cable; nothing else on a test machine uses it
HOST, FAR = CABLE + "1", CABLE + "2"


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("0.0.0.0", 0))
        return int(probe.getsockname()[1])


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=20)


class Cable:
    """A network namespace joined to this one by a veth pair; `cut()` and `mend()` are what the patient's network does."""

    def __init__(self) -> None:
        self.name = f"qanun{os.getpid() % 10000}"
        self.near, self.far = f"qv{os.getpid() % 10000}a", f"qv{os.getpid() % 10000}b"

    def lay(self) -> None:
        self.remove()
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", self.near, "type", "veth", "peer", "name", self.far)
        run("ip", "link", "set", self.far, "netns", self.name)
        run("ip", "addr", "add", f"{HOST}/24", "dev", self.near)
        run("ip", "link", "set", self.near, "up")
        for command in (
            ("addr", "add", f"{FAR}/24", "dev", self.far),
            ("link", "set", self.far, "up"),
            ("link", "set", "lo", "up"),
            ("route", "add", "default", "via", HOST),
        ):
            run("ip", "-n", self.name, *command)

    def cut(self) -> None:
        run("ip", "link", "set", self.near, "down")

    def mend(self) -> None:
        run("ip", "link", "set", self.near, "up")
        with contextlib.suppress(subprocess.CalledProcessError):  # the route went with the link
            run("ip", "-n", self.name, "route", "add", "default", "via", HOST)

    def browser(self, folder: Path) -> Path:
        """An executable that starts Chromium inside the namespace."""
        wrapper = folder / "chromium-far"
        wrapper.write_text(f'#!/bin/sh\nexec ip netns exec {self.name} /usr/bin/chromium "$@"\n')
        wrapper.chmod(0o755)
        return wrapper

    def remove(self) -> None:
        for command in (("ip", "link", "del", self.near), ("ip", "netns", "del", self.name)):
            subprocess.run(command, capture_output=True, timeout=20, check=False)


class Stack:
    """`await start()`, then `base` is its address for browsers here and `far_base` from the other side of the cable."""

    def __init__(self, *, cable: Cable | None = None) -> None:
        self.cable = cable
        self.folder = Path(tempfile.mkdtemp(prefix="qanun-stack-"))
        self.state = self.folder / "state"
        self.state.mkdir()
        self.postgres = ScratchPostgres(durable=True)
        self.port, self.media_port, self.turn_port = free_port(), free_port(socket.SOCK_DGRAM), free_port()
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self.log = (self.folder / "log").open("ab")
        self._keepers: list[asyncio.Task[None]] = []
        self.addresses = [HOST] if cable else [_own_address()]
        self.environment: dict[str, str] = {}

    @property
    def base(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def far_base(self) -> str:
        return f"http://{HOST}:{self.port}"

    async def start(self) -> None:
        self.postgres.start()
        secret = self.state / "turn.secret"
        secret.write_text(secrets.token_urlsafe(32))
        turn = self.addresses[0]
        self.environment = {
            **os.environ,
            "QANUN_DATABASE_URL": self.postgres.application_url,
            "QANUN_OWNER_DATABASE_URL": self.postgres.owner_url,
            "QANUN_STATE_DIR": str(self.state),
            "QANUN_BASE_URL": self.base,
            "QANUN_MEDIA_SOCKET": str(self.state / "media.sock"),
            "QANUN_TURN_URLS": f"turn:{turn}:{self.turn_port}?transport=udp,turn:{turn}:{self.turn_port}?transport=tcp",
            "QANUN_TURN_SECRET_FILE": str(secret),
        }
        for command in (("keys", "create"), ("db", "upgrade"), ("demo", "seed", "--patients", "60")):
            await self.qanun(*command)
        self._keep("web", self._python("-m", "qanun", "serve", "--host", "0.0.0.0", "--port", str(self.port),
                                       "--workers", "2"))  # fmt: skip
        self._keep("jobs", self._python("-m", "qanun", "worker"))
        self._keep(
            "media",
            self._python(
                "-m", "qanun_telemedicine.sfu.worker", "--socket", str(self.state / "media.sock"),
                "--listen", f"0.0.0.0:{self.media_port}", "--advertise", ",".join(self.addresses),
            ),
        )  # fmt: skip
        self._keep("turn", self._turn_command(secret))
        await self.ready()

    def _turn_command(self, secret: Path) -> list[str]:
        from qanun_telemedicine.turn import TurnSettings, coturn_config

        config = self.folder / "turnserver.conf"
        config.write_text(
            coturn_config(
                TurnSettings(
                    secret=secret.read_text(), listen=self.addresses, port=self.turn_port,
                    allowed_peers=self.addresses, realm="clinic.test", state=self.folder,
                )
            )
        )  # fmt: skip
        return [shutil.which("turnserver") or "turnserver", "-c", str(config)]

    def _python(self, *arguments: str) -> list[str]:
        return [sys.executable, *arguments]

    async def qanun(self, *arguments: str) -> str:
        """Run one `qanun` command to its end and give back what it printed."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "qanun", *arguments, env=self.environment, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), 120)
        if process.returncode:
            raise RuntimeError(f"qanun {' '.join(arguments)}: {err.decode()[-2000:]}")
        return out.decode()

    def _keep(self, name: str, command: Sequence[str]) -> None:
        self._keepers.append(asyncio.create_task(self._run_again(name, command)))

    async def _run_again(self, name: str, command: Sequence[str]) -> None:
        while True:
            process = await asyncio.create_subprocess_exec(
                *command, env=self.environment, stdout=self.log, stderr=self.log, start_new_session=True
            )
            self.processes[name] = process
            await process.wait()
            await asyncio.sleep(0.3)

    async def ready(self) -> None:
        """Returns when the web answers; raises with the end of the log when it does not in half a minute."""
        async with httpx.AsyncClient(timeout=2) as probe:
            for _ in range(150):
                with contextlib.suppress(httpx.TransportError):
                    if (await probe.get(f"{self.base}/health")).status_code == 200:
                        return
                await asyncio.sleep(0.2)
        raise RuntimeError((self.folder / "log").read_text(errors="replace")[-4000:])

    def kill(self, name: str) -> None:
        """`kill -9` the process and all its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.processes[name].pid, signal.SIGKILL)

    async def stop(self) -> None:
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in self.processes.values():
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        self.postgres.stop()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _own_address() -> str:
    """An address of this machine other than loopback, which ICE does not use."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # documentation address: no packet is sent by connecting
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
