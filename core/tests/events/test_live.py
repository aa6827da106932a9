"""Live notices: what changes between the making of a page and the beginning of its stream is told when the stream begins."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest_asyncio

from qanun.events import live
from qanun.events.live import LiveLine, LiveNotice

PATIENCE_S = 20


def payload(clinic, number: int = 0) -> str:
    return json.dumps({"t": str(clinic.tenant.id), "n": "test.changed", "i": {"number": number}})


async def heard(line: LiveLine, clinic, since: datetime | None) -> list[LiveNotice]:
    """What a stream that begins now has to tell at once."""
    async with line.listen(clinic.tenant.id, since=since) as queue:
        return [queue.get_nowait() for _ in range(queue.qsize())]


@pytest_asyncio.fixture
async def line(clinic):
    """A line that listens to the database."""
    line = LiveLine(clinic.assembly.config.database_url)
    line.start()
    async with asyncio.timeout(PATIENCE_S):
        while line._complete_since > datetime.now(UTC):
            await asyncio.sleep(0.01)
    yield line
    await line.close()


async def test_what_was_announced_since_the_page_was_made_is_told_when_its_stream_begins(clinic, other_clinic, line):
    async with clinic.context() as ctx:
        before = ctx.now
        ctx.notify("test.changed", number=1)
    async with other_clinic.context() as ctx:
        ctx.notify("test.changed", number=2)
    async with asyncio.timeout(PATIENCE_S):
        while len(line._kept) < 2:
            await asyncio.sleep(0.01)
    assert [(one.topic, one.ids) for one in await heard(line, clinic, before)] == [("test.changed", {"number": "1"})]
    assert await heard(line, clinic, datetime.now(UTC)) == [], "a page that was made afterwards knows it"
    assert await heard(line, clinic, None) == []


async def test_a_page_that_is_older_than_what_is_remembered_looks_at_everything_anew(clinic, line, monkeypatch):
    monkeypatch.setattr(live, "_MOST_KEPT", 3)
    made = datetime.now(UTC)
    for number in range(4):
        line._receive(payload(clinic, number))
    assert [one.topic for one in await heard(line, clinic, made)] == ["core.reconnected"]
    assert [one.topic for one in await heard(line, clinic, made - timedelta(hours=1))] == ["core.reconnected"]
    second = line._kept[0][0]
    assert [one.ids["number"] for one in await heard(line, clinic, second)] == ["1", "2", "3"]


async def test_a_process_that_cannot_hear_yet_does_not_say_that_nothing_happened(clinic):
    deaf = LiveLine("postgresql://nobody@127.0.0.1:9/nothing")
    assert [one.topic for one in await heard(deaf, clinic, datetime.now(UTC))] == ["core.reconnected"]


async def test_a_page_says_when_it_was_made(clinic):
    staff = await clinic.client("doctor")
    page = (await staff.get("/account")).text
    assert 'data-live="/live?since=' in page
    assert (await staff.get("/live?since=yesterday")).status_code == 422
