"""PostgreSQL's own programs, run as its account: making a cluster once, starting one aside, asking its files.

The cluster that serves the clinic is systemd's to keep; what is started here is a copy that is looked at and thrown away.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from qanun.api import ConfigurationError, Unavailable
from qanun_appliance.places import Places
from qanun_appliance.secrets import write_private

ACCOUNT = "postgres"
LIVE_SOCKETS = Path("/run/postgresql")
DATABASE = "qanun"
_START_S = 120.0


def account() -> str | None:
    """Whose processes these are; None when this process cannot change accounts and already is somebody plain."""
    return ACCOUNT if os.geteuid() == 0 else None


def as_postgres(words: list[str], *, timeout: float = 600, **more: Any) -> subprocess.CompletedProcess[bytes]:
    """Run one of PostgreSQL's programs to its end, as its account."""
    return subprocess.run(
        words, capture_output=True, check=False, timeout=timeout, user=account(), group=account(),
        extra_groups=[] if account() else None, cwd="/", env={**os.environ, "LC_ALL": "C.UTF-8"}, **more,
    )  # fmt: skip


def hand_over(path: Path) -> None:
    """Give a file or a folder with all that is in it to PostgreSQL's account."""
    if account() is None:
        return
    owner = pwd.getpwnam(ACCOUNT)
    os.chown(path, owner.pw_uid, owner.pw_gid)
    for place in path.rglob("*") if path.is_dir() else ():
        os.chown(place, owner.pw_uid, owner.pw_gid, follow_symlinks=False)


def prepare_cluster_files(places: Places, programs: str) -> str:
    """Make the cluster's files on the first day; on every other day only see that they are there. Returns what was done.

    Raises ConfigurationError, and makes nothing, when a cluster once existed and is gone: an empty one in its place would
    look like a clinic that never had a patient.
    """
    major = int(next(part for part in programs.split("/") if part.isdigit()))
    data = places.clusters / str(major)
    marker = read_marker(places)
    if (data / "PG_VERSION").exists():
        theirs = marker.get("major")
        if theirs not in {None, major} and (places.clusters / str(theirs) / "PG_VERSION").exists():
            raise ConfigurationError(
                f"the clinic's data is of PostgreSQL {theirs}; {data} was left behind: qanun appliance carry-over"
            )
        if theirs != major:
            write_marker(places, major)
        return "kept"
    others = sorted(path.parent.name for path in places.clusters.glob("*/PG_VERSION"))
    if others:
        raise ConfigurationError(
            f"the data is of PostgreSQL {', '.join(others)}, this release has {major}: it must be carried over, not begun anew"
        )
    if marker:
        raise ConfigurationError(
            f"this machine had a database since {marker.get('since', 'an earlier day')}, and {data} is empty: is the disk "
            "there? No new one is made. Mend the disk, or restore with: qanun appliance restore"
        )
    places.clusters.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = places.clusters / f".{major}.new"
    shutil.rmtree(draft, ignore_errors=True)
    hand_over(places.clusters)
    initialise(programs, draft)
    draft.rename(data)
    write_marker(places, major)
    return "made"


def initialise(programs: str, data: Path) -> None:
    """A new cluster's files. Raises Unavailable."""
    made = as_postgres([
        f"{programs}/initdb", "-D", str(data), "-U", "postgres", "--encoding=UTF8", "--locale=C.UTF-8",
        "--data-checksums", "--auth=peer",
    ])  # fmt: skip
    if made.returncode:
        raise Unavailable(f"initdb: {made.stderr.decode(errors='replace').strip()[-800:]}")


def read_marker(places: Places) -> dict[str, Any]:
    try:
        found = json.loads(places.marker.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        return {"since": "an earlier day"}  # unreadable is not absent
    return found if isinstance(found, dict) and found else {"since": "an earlier day"}


def write_marker(places: Places, major: int) -> None:
    since = read_marker(places).get("since") or datetime.now(UTC).isoformat(timespec="seconds")
    write_private(places.marker, json.dumps({"since": since, "major": major}).encode(), 0o644)


@dataclass(slots=True)
class Aside:
    """A cluster started on a private socket: `data` are its files, `log` what it says. Used as a context manager."""

    programs: str
    data: Path
    sockets: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    #: Seconds until it must answer; replaying much of the log takes long.
    patience: float = _START_S
    _process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.sockets / "postgres.log"

    def url(self, role: str = "postgres", database: str = DATABASE) -> str:
        return f"postgresql://{role}@/{database}?host={self.sockets}"

    def __enter__(self) -> Aside:
        import psycopg  # most who look at a cluster's files never ask it anything

        self.sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
        access = self.sockets / "pg_hba.conf"
        # Whoever can enter the folder is root or PostgreSQL's account; nobody else gets as far as the socket.
        access.write_text("local all all trust\n", encoding="ascii")
        hand_over(self.sockets)
        settings = {
            "listen_addresses": "", "unix_socket_directories": str(self.sockets), "hba_file": str(access),
            "hot_standby": "off", "jit": "off", "archive_mode": "off", "max_connections": "20", "shared_buffers": "64MB",
            "max_wal_senders": "0", "config_file": str(self._configuration()), **self.settings,
        }  # fmt: skip
        words = [f"{self.programs}/postgres", "-D", str(self.data)]
        for name, value in settings.items():
            words += ["-c", f"{name}={value}"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, user=account(), group=account(), cwd="/",
                extra_groups=[] if account() else None, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with psycopg.connect(self.url(database="postgres"), connect_timeout=2) as connection:
                    if not connection.execute("select pg_is_in_recovery()").fetchone()[0]:  # type: ignore[index]
                        return self
            except psycopg.OperationalError:
                pass
            time.sleep(0.1)
        said = self.log.read_text(encoding="utf-8", errors="replace")[-1500:]
        self.__exit__()
        raise Unavailable(f"the copy of the database does not start: {said}")

    def _configuration(self) -> Path:
        """An empty one: what the copied cluster was set to is not wanted here, neither its archive nor its addresses."""
        path = self.sockets / "postgresql.conf"
        if not path.exists():
            path.write_text("", encoding="ascii")
            hand_over(path)
        return path

    def __exit__(self, *_: object) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
