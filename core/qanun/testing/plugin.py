"""The pytest plugin: fixtures by name. One PostgreSQL and one application per session, two fresh clinics per test."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from qanun.testing.postgres import ScratchPostgres

_session: Any = pytest_asyncio.fixture(loop_scope="session", scope="session")
_each: Any = pytest_asyncio.fixture(loop_scope="session")


@pytest.fixture(scope="session")
def postgres() -> Iterator[ScratchPostgres]:
    """A migrated database with the owner's and the application's roles apart."""
    from qanun.app.build import gather
    from qanun.db.migrations import upgrade

    scratch = ScratchPostgres().start()
    _, plugins = gather()
    upgrade(scratch.owner_url, plugins.lineages())
    yield scratch
    scratch.stop()


@pytest.fixture(scope="session")
def configuration(postgres: ScratchPostgres, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The session's process configuration: own state folder, own master key."""
    from qanun.config import Config
    from qanun.crypto import ensure_master_key

    state = tmp_path_factory.mktemp("state")
    ensure_master_key(state / "master.key")
    locale_dir = os.environ.get("QANUN_LOCALE_DIR")
    return Config(
        database_url=postgres.application_url,
        owner_database_url=postgres.owner_url,
        state_dir=state,
        master_key_file=state / "master.key",
        base_url="http://clinic.test",
        locale_dir=Path(locale_dir) if locale_dir else None,
    )


@_session
async def assembly(configuration: Any) -> AsyncIterator[Any]:
    from qanun.app import assemble

    built = assemble(configuration)
    yield built
    await built.runtime.live.close()
    await built.runtime.database.close()


@_session
async def application(assembly: Any) -> Any:
    """The Litestar application; its lifespan is not entered (no outward connections)."""
    from qanun.app import web_application

    return web_application(assembly)


@_each
async def clinic(assembly: Any, application: Any) -> AsyncIterator[Any]:
    """An English-speaking clinic."""
    from qanun.testing.clinics import make_clinic

    made = await make_clinic(assembly, application, "razi", "en", "Africa/Casablanca")
    yield made
    await made.close()


@_each
async def other_clinic(assembly: Any, application: Any) -> AsyncIterator[Any]:
    """An Arabic-speaking clinic on the same appliance: what must never see, and never be seen."""
    from qanun.testing.clinics import make_clinic

    made = await make_clinic(assembly, application, "sina", "ar", "Asia/Amman")
    yield made
    await made.close()


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@_each
async def server(configuration: Any, clinic: Any, other_clinic: Any) -> AsyncIterator[str]:
    """The product's web server in a process of its own, for browsers: yields its base URL."""
    import sys

    import httpx

    port = free_port()
    base = f"http://localhost:{port}"
    environment = {
        **os.environ,
        "QANUN_DATABASE_URL": configuration.database_url,
        "QANUN_OWNER_DATABASE_URL": configuration.owner_database_url,
        "QANUN_STATE_DIR": str(configuration.state_dir),
        "QANUN_MASTER_KEY_FILE": str(configuration.master_key_file),
        "QANUN_BASE_URL": base,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "qanun", "serve", "--port", str(port), env=environment
    )
    try:
        async with httpx.AsyncClient() as probe:
            for _ in range(2400):
                try:
                    if (await probe.get(f"{base}/health")).status_code == 200:
                        break
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.05)
            else:
                raise RuntimeError("the web server did not answer")
        yield base
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 60)
