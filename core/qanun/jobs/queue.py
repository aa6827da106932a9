"""Deferring with the session's transaction, and the procrastinate application that a worker runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import procrastinate
from procrastinate.schema import SchemaManager
from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from qanun.context import JobRequest
from qanun.db import trusted

_DEFER = trusted(
    text(
        "select procrastinate_defer_jobs_v1(ARRAY[ROW(:queue, :name, 0, null, null, :args, "
        "cast(:at as timestamptz))::procrastinate_job_to_defer_v1])"
    ).bindparams(bindparam("args", type_=JSONB))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A piece of background work: `run(ctx, **arguments)` in its own transaction of the clinic it was deferred for.

    `retries` attempts with growing pauses, then it is parked as failed where an operator can replay it. `cron` makes it
    periodic: run once per clinic at those times (five fields, UTC).
    """

    id: str
    run: Callable[..., Awaitable[None]]
    queue: str = "default"
    retries: int = 8
    cron: str | None = None


async def defer(session: AsyncSession, tenant_id: object, request: JobRequest, *, queue: str = "default") -> None:
    """Insert the job through the session's own transaction: no commit, no job."""
    await session.execute(
        _DEFER,
        {
            "queue": queue,
            "name": request.name,
            "args": {**request.arguments, "tenant_id": str(tenant_id)},
            "at": request.at.isoformat() if isinstance(request.at, datetime) else None,
        },
    )


def tables_sql() -> str:
    """Procrastinate's own schema, for core's first migration."""
    return SchemaManager.get_schema()


def worker_app(
    url: str, jobs: list[Job], call: Callable[[Job, str, dict[str, Any]], Awaitable[None]],
    periodic: Callable[[Job], Awaitable[None]] | None,
) -> procrastinate.App:  # fmt: skip
    """A procrastinate application with every job registered. `call(job, tenant_id, arguments)` runs one, `periodic(job)` what the
    clock asks for; without it the clock asks for nothing."""
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url, min_size=1, max_size=3, timeout=5))

    def register(job: Job) -> None:
        async def run(**arguments: Any) -> None:
            await call(job, str(arguments.pop("tenant_id")), arguments)

        retry = procrastinate.RetryStrategy(max_attempts=job.retries, exponential_wait=2)
        app.task(name=job.id, queue=job.queue, retry=retry)(run)
        if job.cron and periodic is not None:

            async def spread(timestamp: int) -> None:
                await periodic(job)

            task = app.task(name=f"{job.id}.cron", queue=job.queue, queueing_lock=f"{job.id}.cron", pass_context=False)(
                spread
            )
            app.periodic(cron=job.cron, periodic_id=job.id)(task)

    for job in jobs:
        register(job)
    return app
