"""A whole appliance for one journey: PostgreSQL, web workers, job worker, media worker and coturn, each a real process.

Two addresses lead to it: the host's end of a virtual cable for whoever sits in the other network namespace, and loopback
names for everybody else. What dies is started again, as on a machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from appliance.services import Daemon, Keeper, daemon, services
from qanun.config import Config
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
        self.folder = Path(tempfile.mkdtemp(prefix="qanun-stack-"))
        self.state = self.folder / "state"
        self.state.mkdir()
        self.postgres = ScratchPostgres(durable=True)
        self.port = free_port()
        self.addresses = [HOST] if cable else [_own_address()]
        turn_port, media_port = free_port(), free_port(socket.SOCK_DGRAM)
        self.environment = {
            **os.environ,
            "QANUN_DATABASE_URL": self.postgres.application_url,
            "QANUN_OWNER_DATABASE_URL": self.postgres.owner_url,
            "QANUN_STATE_DIR": str(self.state),
            "QANUN_BASE_URL": self.base,
            "QANUN_MEDIA_SOCKET": str(self.state / "media.sock"),
            "QANUN_MEDIA_LISTEN": f"0.0.0.0:{media_port}",
            "QANUN_MEDIA_ADVERTISE": ",".join(self.addresses),
            "QANUN_TURN_URLS": ",".join(
                f"turn:{self.addresses[0]}:{turn_port}?transport={way}" for way in ("udp", "tcp")
            ),
            "QANUN_TURN_LISTEN": ",".join(self.addresses),
            "QANUN_TURN_PORT": str(turn_port),
            "QANUN_TURN_SECRET_FILE": str(self.state / "turn" / "secret"),
        }
        self.keeper = Keeper(self.environment, self.folder / "logs")

    @property
    def base(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def far_base(self) -> str:
        return f"http://{HOST}:{self.port}"

    async def start(self, *, patients: int = 60) -> None:
        await asyncio.to_thread(self.postgres.start)
        for command in (("keys", "create"), ("db", "upgrade"), ("demo", "seed", "--patients", str(patients))):
            await self.qanun(*command)
        config = Config.from_environment(self.environment)
        for service in services(config):
            self.keeper.keep(daemon(service, config))
        serve = [
            sys.executable,
            "-m",
            "qanun",
            "serve",
            "--host",
            "0.0.0.0",
            "--port",
            str(self.port),
            "--workers",
            "2",
        ]
        self.keeper.keep(Daemon("web", serve))
        self.keeper.keep(Daemon("jobs", [sys.executable, "-m", "qanun", "worker"]))
        await self.ready()

    async def qanun(self, *arguments: str) -> str:
        """Run one `qanun` command to its end and give back what it printed."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "qanun", *arguments, env=self.environment, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), 300)
        if process.returncode:
            raise RuntimeError(f"qanun {' '.join(arguments)}: {(out + err).decode()[-2000:]}")
        return out.decode()

    async def ready(self) -> None:
        """Returns when the web answers; raises with the end of the logs when it does not in three minutes."""
        deadline = time.monotonic() + 180
        async with httpx.AsyncClient(timeout=10) as probe:
            while time.monotonic() < deadline:
                with contextlib.suppress(httpx.TransportError):
                    if (await probe.get(f"{self.base}/health")).status_code == 200:
                        return
                await asyncio.sleep(0.2)
        raise RuntimeError(self.log()[-4000:])

    def log(self, name: str = "*") -> str:
        return "".join(path.read_text(errors="replace") for path in sorted((self.folder / "logs").glob(f"{name}.log")))

    def kill(self, name: str) -> None:
        """`kill -9` the process and all its children; it is started again, as on a machine."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.keeper.processes[name].pid, signal.SIGKILL)

    async def stop(self) -> None:
        await self.keeper.stop()
        await asyncio.to_thread(self.postgres.stop)
        shutil.rmtree(self.folder, ignore_errors=True)


def _own_address() -> str:
    """An address of this machine other than loopback, which ICE does not use."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # documentation address: no packet is sent by connecting
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
