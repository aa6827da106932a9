"""The background worker: runs jobs, each in its own transaction of the clinic it was deferred for."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import select

from qanun.access import Runtime, open_context
from qanun.app.build import Assembly
from qanun.context import SYSTEM
from qanun.i18n import get_locale
from qanun.jobs import Job, worker_app
from qanun.tenancy import Tenant, TenantInfo, global_session

log = structlog.get_logger("qanun.worker")

#: Jobs that jobs ask for: deeper than this no queue is emptied in a test.
_ROUNDS = 50


async def tenants(runtime: Runtime) -> list[TenantInfo]:
    """Every active clinic."""
    async with global_session(runtime.database) as session:
        found = await session.execute(select(Tenant).where(Tenant.active).order_by(Tenant.slug).limit(10_000))
        return [TenantInfo.of(tenant) for tenant in found.scalars()]


async def run_job(runtime: Runtime, job: Job, tenant_id: str, arguments: dict[str, Any]) -> None:
    """Run one job in its clinic. Raises whatever the job raised, so that the queue tries again."""
    tenant = next((t for t in await tenants(runtime) if t.id == uuid.UUID(tenant_id)), None)
    if tenant is None:
        log.warning("job_without_clinic", job=job.id, tenant=tenant_id)
        return
    async with open_context(runtime, tenant, SYSTEM, get_locale(tenant.locale)) as ctx:
        await job.run(ctx, **arguments)


async def run_worker(assembly: Assembly, *, wait: bool = True) -> None:
    """Work until cancelled; with `wait=False` until the queue is empty, and nothing that only the clock asks for (tests)."""
    runtime = assembly.runtime

    async def call(job: Job, tenant_id: str, arguments: dict[str, Any]) -> None:
        await run_job(runtime, job, tenant_id, arguments)

    async def periodic(job: Job) -> None:
        for tenant in await tenants(runtime):
            await run_job(runtime, job, str(tenant.id), {})

    application = worker_app(assembly.config.database_url, assembly.registry.all(Job), call, periodic if wait else None)
    async with application.open_async():
        for _ in range(_ROUNDS):
            await application.run_worker_async(
                wait=wait, concurrency=4, listen_notify=wait, delete_jobs="successful", install_signal_handlers=False,
                fetch_job_polling_interval=2.0,
            )  # fmt: skip
            if wait:
                return
            # What the last jobs asked for is not waited for by a worker that found nothing more to take.
            waiting = await application.job_manager.list_jobs_async(status="todo")
            if not any(one.scheduled_at is None or one.scheduled_at <= datetime.now(UTC) for one in waiting):
                return
        raise RuntimeError("jobs ask for one another without end")
