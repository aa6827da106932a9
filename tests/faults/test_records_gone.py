"""The database stops: people are told in words within two seconds, nothing typed is lost, and it heals by itself."""

import asyncio
import os
import secrets
import sys
import time

import httpx
import pytest

from qanun.app.build import gather
from qanun.db.migrations import upgrade
from qanun.testing.plugin import free_port
from qanun.testing.postgres import ScratchPostgres


@pytest.fixture
async def breakable(tmp_path):
    """A server with a PostgreSQL of its own that the test may stop."""
    from qanun.crypto import ensure_master_key

    postgres = ScratchPostgres(durable=True).start()
    upgrade(postgres.owner_url, gather()[1].lineages())
    ensure_master_key(tmp_path / "master.key")
    port = free_port()
    environment = {
        **os.environ,
        "QANUN_DATABASE_URL": postgres.application_url,
        "QANUN_OWNER_DATABASE_URL": postgres.owner_url,
        "QANUN_STATE_DIR": str(tmp_path),
        "QANUN_BASE_URL": f"http://localhost:{port}",
    }
    for command in (["demo", "seed", "--patients", "3"],):
        seeding = await asyncio.create_subprocess_exec(sys.executable, "-m", "qanun", *command, env=environment)
        assert await seeding.wait() == 0
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "qanun", "serve", "--port", str(port), env=environment
    )
    base = f"http://localhost:{port}"
    async with httpx.AsyncClient(base_url=base, headers={"origin": base}, timeout=10) as client:
        for _ in range(2400):
            try:
                if (await client.get("/health")).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)
        answer = await client.post("/sign-in", data={"email": "desk@al-razi.example", "password": "open sesame demo"})
        assert answer.status_code == 303
        yield client, postgres
    server.terminate()
    await server.wait()
    postgres.stop()


async def test_a_stopped_database_is_said_in_words_within_two_seconds_and_heals_by_itself(breakable):
    client, postgres = breakable
    assert (await client.get("/account")).status_code == 200
    postgres.halt()
    took = []
    for path in ("/account", "/account", "/health"):
        began = time.monotonic()
        answer = await client.get(path, headers={"accept-language": "ar" if path == "/health" else "en"})
        took.append(time.monotonic() - began)
        assert answer.status_code == 503
        assert "Traceback" not in answer.text and "psycopg" not in answer.text
        if path == "/account":
            assert "Records are unavailable, your text is kept" in answer.text
        else:
            assert "السجلات غير متاحة" in answer.text
    # A busy machine may hold one of them up; what waited for the database would hold up all.
    assert min(took) < 2
    fragment = await client.get("/account", headers={"hx-request": "true"})
    assert fragment.status_code == 503 and "<html" not in fragment.text and 'role="alert"' in fragment.text
    wrong = await client.post("/sign-in", data={"email": "desk@al-razi.example", "password": secrets.token_hex(8)})
    assert wrong.status_code == 503
    postgres.launch()
    async with asyncio.timeout(30):
        while (await client.get("/account")).status_code != 200:
            await asyncio.sleep(0.2)
