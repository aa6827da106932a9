"""Live notices: PostgreSQL NOTIFY in the act's transaction, one listening connection per process, many open pages.

A notice says *that* something changed, with ids; a page that cares fetches the change with its own permission. Lost
notices are harmless by design: pages also refresh when their stream reconnects, and what changed between a page's making and its
stream's beginning is told when it begins.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import psycopg
import structlog
from sqlalchemy import text

from qanun.context import Context
from qanun.db import trusted

CHANNEL = "qanun_live"
_QUEUE_LIMIT = 256
#: Notices are remembered for pages whose stream begins later than they were made: so long, and so many at most.
_KEPT, _MOST_KEPT = timedelta(seconds=30), 2000
_NEVER = datetime.max.replace(tzinfo=UTC)
_NOTIFY = trusted(text("select pg_notify(:channel, :payload)"))

log = structlog.get_logger("qanun.live")


@dataclass(frozen=True, slots=True)
class LiveNotice:
    """`topic` is `slug.something`, `ids` are strings. `topic == "core.reconnected"` means: refresh, notices may be lost."""

    tenant_id: uuid.UUID
    topic: str
    ids: dict[str, str] = field(default_factory=dict)


async def send(ctx: Context) -> None:
    """Queue the context's notices with its transaction; PostgreSQL delivers them on commit."""
    for topic, ids in ctx.notices:
        payload = json.dumps({"t": str(ctx.tenant.id), "n": topic, "i": ids}, separators=(",", ":"))
        await ctx.db.execute(_NOTIFY, {"channel": CHANNEL, "payload": payload})
    ctx.notices.clear()


class LiveLine:
    """The process's ear. `listen(tenant)` gives an asynchronous stream of that clinic's notices, and of no other's."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._queues: dict[uuid.UUID, set[asyncio.Queue[LiveNotice]]] = {}
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._kept: deque[tuple[datetime, LiveNotice]] = deque()
        #: Since when nothing is missing in it.
        self._complete_since = _NEVER

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="qanun-live")

    async def close(self) -> None:
        self._closing = True
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @asynccontextmanager
    async def listen(
        self, tenant_id: uuid.UUID, *, since: datetime | None = None
    ) -> AsyncIterator[asyncio.Queue[LiveNotice]]:  # fmt: skip
        """`since`: when what the listener knows was read; what was announced from then on comes first."""
        queue: asyncio.Queue[LiveNotice] = asyncio.Queue(_QUEUE_LIMIT)
        if since is not None:
            for notice in self._missed(tenant_id, since)[-_QUEUE_LIMIT:]:
                queue.put_nowait(notice)
        self._queues.setdefault(tenant_id, set()).add(queue)
        try:
            yield queue
        finally:
            waiting = self._queues.get(tenant_id, set())
            waiting.discard(queue)
            if not waiting:
                self._queues.pop(tenant_id, None)

    def _missed(self, tenant_id: uuid.UUID, since: datetime) -> list[LiveNotice]:
        if since < self._complete_since:
            return [LiveNotice(tenant_id, "core.reconnected")]
        return [notice for at, notice in self._kept if at >= since and notice.tenant_id == tenant_id]

    def _keep(self, notice: LiveNotice) -> None:
        now = datetime.now(UTC)
        self._kept.append((now, notice))
        while len(self._kept) > _MOST_KEPT or self._kept[0][0] < now - _KEPT:
            self._complete_since = self._kept.popleft()[0] + timedelta(microseconds=1)

    def _put(self, notice: LiveNotice) -> None:
        for queue in self._queues.get(notice.tenant_id, ()):
            if queue.full():  # a page that stopped reading loses the oldest, never blocks the others
                queue.get_nowait()
            queue.put_nowait(notice)

    async def _run(self) -> None:
        first = True
        while not self._closing:
            try:
                connection = await psycopg.AsyncConnection.connect(
                    self._url, autocommit=True, connect_timeout=2, application_name="qanun-live"
                )
                async with connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    self._complete_since = datetime.now(UTC)
                    if not first:
                        for tenant_id in list(self._queues):
                            self._put(LiveNotice(tenant_id, "core.reconnected"))
                    first = False
                    async for message in connection.notifies():
                        self._receive(message.payload)
            except (psycopg.Error, OSError) as error:
                log.warning("live_line_lost", error=type(error).__name__)
            self._complete_since = _NEVER
            await asyncio.sleep(0.5)

    def _receive(self, payload: str) -> None:
        try:
            data = json.loads(payload)
            notice = LiveNotice(uuid.UUID(data["t"]), str(data["n"]), {k: str(v) for k, v in data["i"].items()})
        except (ValueError, KeyError, TypeError, AttributeError):
            log.warning("live_notice_unreadable")
            return
        self._keep(notice)
        self._put(notice)
