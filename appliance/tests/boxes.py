"""A box in a folder, for tests: the clinic's database with its archive, two seeded clinics, files beside them, a backup disk.

Real PostgreSQL under its own account, the product's own migrations and demonstration clinics.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from qanun.app.build import gather
from qanun.db.cluster import prepare_cluster
from qanun.db.migrations import upgrade
from qanun_appliance.apply import postgres_programs
from qanun_appliance.backup import Live, back_up, repository
from qanun_appliance.backup.facts import take_facts
from qanun_appliance.places import Places
from qanun_appliance.postgres import account, hand_over, prepare_cluster_files
from qanun_appliance.secrets import ensure_secrets
from qanun_appliance.site import parse_site

CODE = Path(sys.executable).parent


@contextmanager
def running(places, programs):
    """The clinic's database as a box has it: archiving, on a socket."""
    sockets = places.root / "run"
    sockets.mkdir(exist_ok=True)
    places.wal.mkdir(mode=0o700, exist_ok=True)
    for folder in (sockets, places.wal):
        hand_over(folder)
    access = places.root / "hba"
    access.write_text("local all all trust\nlocal replication all trust\n")
    hand_over(access)
    settings = {
        "listen_addresses": "", "unix_socket_directories": sockets, "hba_file": access, "archive_mode": "on",
        "archive_command": f"test ! -e {places.wal}/%f && cp %p {places.wal}/.%f && mv {places.wal}/.%f {places.wal}/%f",
        "archive_timeout": "60", "shared_buffers": "64MB",
    }  # fmt: skip
    data = next(path.parent for path in places.clusters.glob("*/PG_VERSION") if path.parent.name.isdigit())
    words = [f"{programs}/postgres", "-D", str(data)]
    for name, value in settings.items():
        words += ["-c", f"{name}={value}"]
    with (places.root / "log").open("ab") as log:
        server = subprocess.Popen(words, stdout=log, stderr=log, user=account(), cwd="/", start_new_session=True)
    superuser = f"postgresql://postgres@/postgres?host={sockets}"
    try:
        for _ in range(600):
            try:
                psycopg.connect(superuser).close()
                break
            except psycopg.OperationalError:
                time.sleep(0.1)
        yield sockets
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


def url(sockets, role="postgres"):
    return f"postgresql://{role}@/qanun?host={sockets}"


def facts(sockets):
    with psycopg.connect(url(sockets)) as connection:
        return take_facts(connection)


@dataclass
class Box:
    site: object
    places: Places
    sockets: Path
    live: Live
    before: dict
    report: dict

    @property
    def store(self):
        return repository(self.site, self.places)

    def copied(self, folder):
        """The backup disk, to be harmed."""
        shutil.copytree(self.site.backup.target, folder / "copy")
        return dataclasses.replace(self.store, target=str(folder / "copy"), cache=folder / "cache")


def quiet(_):
    """Nobody listens."""


def write(sockets, slug):
    with psycopg.connect(url(sockets)) as connection:
        connection.execute(
            "insert into core_tenant (id, slug, name, name_alt, locale, timezone, currency, country, phone, active)"
            " values (gen_random_uuid(), %s, %s, '', 'en', 'UTC', 'USD', '', '', true)", (slug, slug),
        )  # fmt: skip


def blank(shared_folder, name="blank"):
    places = Places(shared_folder / name, CODE)
    places.data.mkdir(parents=True)
    return places


@contextmanager
def made_box(site_text: str) -> Iterator[Box]:
    """Raises ConfigurationError where PostgreSQL is not installed."""
    folder = Path(tempfile.mkdtemp(prefix="qanun-box-", dir="/var/tmp"))
    folder.chmod(0o755)
    programs = postgres_programs(Places())
    places = Places(folder, CODE)
    places.data.mkdir(parents=True)
    disk = folder / "disk"
    disk.mkdir()
    table = tomllib.loads(site_text)
    table["backup"]["target"] = str(disk)
    site = parse_site(table)
    ensure_secrets(site, places, [])
    places.site.write_text(site_text.replace("/mnt/backup", str(disk)))
    prepare_cluster_files(places, programs)
    with running(places, programs) as sockets:
        prepare_cluster(f"postgresql://postgres@/postgres?host={sockets}")
        upgrade(url(sockets, "qanun_owner"), gather()[1].lineages())
        environment = {
            **os.environ, "QANUN_DATABASE_URL": url(sockets, "qanun_app"), "QANUN_STATE_DIR": str(places.data),
            "QANUN_MASTER_KEY_FILE": str(places.keys / "master.key"),
        }  # fmt: skip
        seeded = subprocess.run(
            [sys.executable, "-m", "qanun", "demo", "seed", "--patients", "12"],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert seeded.returncode == 0, seeded.stderr
        for name in ("blobs/a/one", "recordings/b/two"):
            path = places.data / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(5000))
        live = Live(programs=programs, url=url(sockets))
        before = facts(sockets)
        report = back_up(site, places, live, say=quiet)
        yield Box(site, places, sockets, live, before, report)
    shutil.rmtree(folder, ignore_errors=True)
