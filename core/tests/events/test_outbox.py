"""What is announced is stored with the act or not at all; handlers run once however often they are called."""

import asyncio
import uuid
from dataclasses import dataclass
from typing import ClassVar

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy import select

from qanun.db import trusted
from qanun.errors import ConfigurationError
from qanun.events import Event, deliver, event_payload
from qanun.events.outbox import HandledEvent, StoredEvent
from qanun.registry import Contributed


@dataclass(frozen=True, kw_only=True)
class Told(Event):
    type: ClassVar[str] = "example.thing.told"
    thing_id: uuid.UUID


def test_an_event_carries_ids_and_codes_and_refuses_everything_else():
    thing = uuid.uuid4()
    assert event_payload(Told(thing_id=thing)) == {"thing_id": str(thing)}
    with pytest.raises(TypeError):
        event_payload(Told(thing_id=1.5))  # type: ignore[arg-type]


async def test_an_undeclared_event_aborts_the_act(clinic):
    with pytest.raises(ConfigurationError, match=r"example\.thing\.told"):
        async with clinic.context() as ctx:
            ctx.emit(Told(thing_id=uuid.uuid4()))
    async with clinic.context() as ctx:
        assert (await ctx.db.execute(select(StoredEvent))).first() is None


async def test_a_handler_runs_once_for_two_deliveries_and_not_at_all_in_another_clinic(
    clinic, other_clinic, monkeypatch
):
    from qanun.events import EventHandler

    seen: list[str] = []

    async def handle(ctx, payload):
        seen.append(payload["thing_id"])

    handler = EventHandler(id="core.example", event="example.thing.told", handle=handle)
    registry = clinic.assembly.registry
    monkeypatch.setitem(registry._ids, (EventHandler, "core.example"), Contributed("core", handler))
    stored = uuid.uuid4()
    async with clinic.context("system") as ctx:
        ctx.db.add(StoredEvent(id=stored, type="example.thing.told", payload={"thing_id": "1"}, at=ctx.now))
    async with other_clinic.context("system") as ctx:
        assert await deliver(ctx, stored, "core.example") is False
    for expected in (True, False):
        async with clinic.context("system") as ctx:
            assert await deliver(ctx, stored, "core.example") is expected
    assert seen == ["1"]
    async with clinic.context("system") as ctx:
        assert len((await ctx.db.execute(select(HandledEvent))).scalars().all()) == 1


async def test_a_job_is_queued_with_the_act_and_vanishes_with_it(clinic):
    count = trusted(sa.text("select count(*) from procrastinate_jobs where args->>'event_id' = :id"))
    kept, lost = str(uuid.uuid4()), str(uuid.uuid4())
    async with clinic.context("system") as ctx:
        ctx.defer("core.deliver_event", event_id=kept, handler="core.nobody")
    with pytest.raises(RuntimeError):
        async with clinic.context("system") as ctx:
            ctx.defer("core.deliver_event", event_id=lost, handler="core.nobody")
            raise RuntimeError
    async with clinic.context("system") as ctx:
        assert (await ctx.db.execute(count, {"id": kept})).scalar_one() == 1
        assert (await ctx.db.execute(count, {"id": lost})).scalar_one() == 0
    await clinic.run_jobs()
    async with clinic.context("system") as ctx:
        assert (await ctx.db.execute(count, {"id": kept})).scalar_one() == 0


async def _listens(url):
    """Wait until somebody listens; what is told before is lost."""
    asked = "select 1 from pg_stat_activity where application_name = 'qanun-live' and query like 'LISTEN %' and state = 'idle'"
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection, asyncio.timeout(30):
        while not await (await connection.execute(asked)).fetchone():
            await asyncio.sleep(0.05)


async def test_a_notice_reaches_open_pages_of_its_clinic_only_and_only_after_the_commit(clinic, other_clinic):
    line = type(clinic.assembly.runtime.live)(clinic.assembly.config.database_url)
    line.start()
    try:
        async with line.listen(clinic.tenant.id) as ours, line.listen(other_clinic.tenant.id) as theirs:
            await _listens(clinic.assembly.config.database_url)
            with pytest.raises(RuntimeError):
                async with clinic.context("system") as ctx:
                    ctx.notify("example.lost", id=1)
                    raise RuntimeError
            async with clinic.context("system") as ctx:
                ctx.notify("example.told", id=7)
                await asyncio.sleep(0.1)
                assert ours.empty()
            async with asyncio.timeout(30):
                notice = await ours.get()
            assert (notice.topic, notice.ids) == ("example.told", {"id": "7"})
            assert ours.empty() and theirs.empty()
    finally:
        await line.close()
