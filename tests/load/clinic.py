"""A clinic of a given size in a PostgreSQL of its own, and the product's web server in front of it, for measuring."""

import asyncio
import contextlib
import http.cookies
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tests.load import machine

_GIVEN = ("Layla", "Omar", "Nadia", "Youssef", "Salma", "Karim", "Huda", "Samir", "Amina", "Tariq", "Mariam", "Idris")
_FAMILY = ("Haddad", "Mansour", "Alaoui", "Berrada", "Cherkaoui", "Fassi", "Idrissi", "Lahlou", "Naciri", "Tazi")


@dataclass
class Clinic:
    """Where it is and how to get in."""

    tenant_id: str
    superuser_url: str
    environment: dict[str, str]
    cookie: str
    postgres: Any

    def database_cpu(self) -> float:
        """Seconds, of all processes of the database."""
        return sum(machine.cpu(pid).exact for pid in machine.family(self.postgres.pid))

    def fill(self, table: str, source: str, columns: dict[str, str]) -> None:
        """Rows made by the database: one per row of `source`, an SQL FROM clause; each column an expression over it.

        Text that is not given is empty; any other column that is not given and has no default is named in an error.
        """
        with psycopg.connect(self.superuser_url, autocommit=True) as connection:
            known = connection.execute(
                "select column_name, data_type, is_nullable = 'NO' and column_default is null "
                "from information_schema.columns where table_name = %s",
                [table],
            ).fetchall()
            # A box's PostgreSQL is older than the one that tests bring along and cannot make ids that grow with time.
            made_id = "uuidv7()" if connection.info.server_version >= 180_000 else "gen_random_uuid()"
            values = {"tenant_id": f"'{self.tenant_id}'", "id": made_id}
            values |= {name: "''" for name, kind, needed in known if needed and kind == "text"}
            values |= columns
            missing = sorted(name for name, _, needed in known if needed and name not in values)
            unknown = sorted(set(values) - {name for name, _, _ in known})
            if missing or unknown:
                raise RuntimeError(f"{table}: needs {missing}, has no {unknown}")
            # Foreign keys and policies are the product's business and tested there; here they would only take time.
            connection.execute("set session_replication_role = replica")
            names = ", ".join(map(_quoted, values))
            statement = f"insert into {table} ({names}) select {', '.join(values.values())} from {source}"
            connection.execute(statement.encode())

    def patients(self, count: int) -> list[str]:
        """Make `count` patients; their ids."""
        given, family = (f"(array[{', '.join(map(repr, names))}])" for names in (_GIVEN, _FAMILY))
        first, last = f"{given}[1 + n % {len(_GIVEN)}]", f"{family}[1 + n / {len(_GIVEN)} % {len(_FAMILY)}]"
        self.fill(
            "core_patient",
            f"generate_series(0, {count - 1}) n",
            {
                "mrn": "'L' || lpad(n::text, 8, '0')",
                "given": first,
                "family": last,
                "sex": "case n % 2 when 0 then 'female' else 'male' end",
                "birth_date": "date '1940-01-01' + (n * 7919 % 29000)",
                "phone": "'+2126' || lpad(n::text, 8, '0')",
                "language": "'en'",
                "search": f"lower({first} || ' ' || {last}) || ' l' || lpad(n::text, 8, '0')",
            },
        )
        with psycopg.connect(self.superuser_url) as connection:
            rows = connection.execute(
                "select id::text from core_patient where tenant_id = %s order by mrn", [self.tenant_id]
            ).fetchall()
        return [row[0] for row in rows]

    def analyse(self) -> None:
        """What autovacuum would have done by tomorrow."""
        with psycopg.connect(self.superuser_url, autocommit=True) as connection:
            connection.execute("vacuum analyze")


def _quoted(name: str) -> str:
    return f'"{name}"'


@contextlib.contextmanager
def clinic() -> Iterator[Clinic]:
    """An empty clinic with one doctor, who is signed in, over a durable PostgreSQL with the product's tables."""
    from qanun.testing.postgres import ScratchPostgres

    postgres = ScratchPostgres(durable=True).start()
    with tempfile.TemporaryDirectory(prefix="qanun-load-") as state:
        try:
            made = asyncio.run(_make(postgres, Path(state)))
            made.superuser_url = postgres.url("postgres")
            yield made
        finally:
            postgres.stop()


async def _make(postgres: Any, state: Path) -> Clinic:
    from qanun.app import assemble, web_application
    from qanun.app.build import gather
    from qanun.config import Config
    from qanun.crypto import ensure_master_key
    from qanun.db.migrations import upgrade
    from qanun.testing.clinics import make_clinic
    from qanun.web.security import COOKIES

    upgrade(postgres.owner_url, gather()[1].lineages())
    ensure_master_key(state / "master.key")
    configuration = Config(
        database_url=postgres.application_url,
        owner_database_url=postgres.owner_url,
        state_dir=state,
        master_key_file=state / "master.key",
        base_url="http://localhost",
    )
    assembly = assemble(configuration)
    try:
        made = await make_clinic(assembly, web_application(assembly), "razi", "en", "Africa/Casablanca")
        token = await made.staff_token("doctor")
        await made.close()
    finally:
        await assembly.runtime.live.close()
        await assembly.runtime.database.close()
    environment = {
        "QANUN_DATABASE_URL": postgres.application_url,
        "QANUN_OWNER_DATABASE_URL": postgres.owner_url,
        "QANUN_STATE_DIR": str(state),
        "QANUN_MASTER_KEY_FILE": str(state / "master.key"),
    }
    cookie = http.cookies.SimpleCookie({COOKIES["staff"]: token}).output(header="", sep=";").strip()
    return Clinic(str(made.tenant.id), "", environment, cookie, postgres)


@dataclass
class Server:
    """The product's web server in processes of its own."""

    port: int
    pid: int
    cold_start: float

    def cpu(self) -> float:
        """Seconds, of all its processes."""
        return sum(machine.cpu(pid).exact for pid in machine.family(self.pid))

    def largest(self) -> int:
        """Resident bytes of the largest of its processes: the one that answers."""
        return max(machine.rss(pid) for pid in machine.family(self.pid))

    def total(self) -> int:
        return sum(machine.rss(pid) for pid in machine.family(self.pid))


@contextlib.contextmanager
def server(clinic: Clinic) -> Iterator[Server]:
    """Started with a worker per core, as on an appliance; ready when `/health` answers, which is what `cold_start` (s) measures."""
    port = machine.free_port()
    environment = os.environ | clinic.environment | {"QANUN_BASE_URL": f"http://localhost:{port}"}
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "qanun", "serve", "--port", str(port), "--workers", str(os.cpu_count() or 1)],
        env=environment,
    )
    try:
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
                    json.loads(answer.read() or b"null")
                break
            except (OSError, ValueError, urllib.error.URLError):
                if process.poll() is not None or time.perf_counter() - began > 60:
                    raise RuntimeError("the web server did not start") from None
                time.sleep(0.02)
        yield Server(port, process.pid, time.perf_counter() - began)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
