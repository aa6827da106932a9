"""The unit of work: one actor, one clinic, one transaction — and everything it gathered, written before the commit.

Order at the end: events and jobs first, live notices, the audit last, because appending holds the clinic's chain head
until the commit.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from qanun import audit, events, jobs
from qanun.config import Config
from qanun.context import Actor, Context, RecordsLike
from qanun.db import Database
from qanun.errors import ConfigurationError
from qanun.events.live import LiveLine, send
from qanun.registry import Registry
from qanun.storage import BlobStore, Keyring
from qanun.tenancy import TenantInfo, tenant_session


@dataclass(slots=True, kw_only=True)
class Runtime:
    """What a process has one of. Built by `qanun.app`, passed along, never global."""

    config: Config
    database: Database
    registry: Registry
    keys: Keyring
    blobs: BlobStore
    live: LiveLine
    slugs: frozenset[str]
    records_for: Callable[[Context], RecordsLike]
    services: dict[str, Any] = field(default_factory=dict)


@asynccontextmanager
async def open_context(
    runtime: Runtime,
    tenant: TenantInfo,
    actor: Actor,
    locale: Any,
    *,
    address: str = "",
    disabled: frozenset[str] = frozenset(),
) -> AsyncIterator[Context]:
    """A context whose body is one transaction: committed when it ends well, rolled back when it raises."""
    async with tenant_session(runtime.database, tenant.id) as session:
        ctx = Context(
            actor=actor, tenant=tenant, locale=locale, db=session, runtime=runtime, address=address,
            enabled=runtime.slugs - disabled,
        )  # fmt: skip
        yield ctx
        await finish(ctx)


async def finish(ctx: Context) -> None:
    """Write what the context gathered and commit."""
    for entry in ctx.audits:
        if ctx.registry.get(audit.AuditEventType, entry.type) is None:
            raise ConfigurationError(f"audit event {entry.type!r} is written but not declared by any plugin")
    events.write(ctx)
    for request in ctx.jobs:
        job = ctx.registry.get(jobs.Job, request.name)
        if job is None:
            raise ConfigurationError(f"job {request.name!r} is deferred but not declared by any plugin")
        await jobs.defer(ctx.db, ctx.tenant.id, request, queue=job.queue)
    ctx.jobs.clear()
    await send(ctx)
    await audit.append_and_commit(ctx)
