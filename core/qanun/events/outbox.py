"""Writing events with the transaction and handing them to handlers afterwards."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum
from typing import Any, ClassVar

from sqlalchemy import Index, UniqueConstraint, select
from sqlalchemy.orm import Mapped

from qanun.context import Context, JobRequest
from qanun.db import TenantModel, new_id
from qanun.errors import ConfigurationError

DELIVER_JOB = "core.deliver_event"


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base of announcements. Subclasses set `type = "slug.resource.past_tense"` and hold ids, codes and times only."""

    type: ClassVar[str] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventType:
    """Declares that a plugin announces `event`, with one valid example of its payload."""

    id: str
    event: type[Event]
    example: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventHandler:
    """Run `handle(ctx, payload)` for every event of type `event`; must be idempotent on `payload["event_id"]`."""

    id: str
    event: str
    handle: Callable[[Context, Mapping[str, Any]], Awaitable[None]]


class StoredEvent(TenantModel):
    """An event as it was announced."""

    __tablename__ = "core_event"
    __table_args__ = (Index("ix_core_event_type", "tenant_id", "type"),)

    type: Mapped[str]
    payload: Mapped[dict[str, Any]]
    at: Mapped[datetime]


class HandledEvent(TenantModel):
    """Marks that a handler has finished with an event, in the handler's own transaction: a second delivery does nothing."""

    __tablename__ = "core_event_handled"
    __table_args__ = (UniqueConstraint("tenant_id", "event_id", "handler"),)

    event_id: Mapped[uuid.UUID]
    handler: Mapped[str]


def event_payload(event: Event) -> dict[str, Any]:
    """The event's fields as JSON values."""
    return {field.name: _json(getattr(event, field.name)) for field in dataclasses.fields(event)}


def _json(value: Any) -> Any:
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    if value is None or isinstance(value, str | int | bool):
        return value
    raise TypeError(f"an event cannot carry a {type(value).__name__}")


def write(ctx: Context) -> None:
    """Store the context's gathered events and queue one delivery per handler, all in this transaction."""
    known = {declared.event for declared in ctx.registry.all(EventType)}
    for event in ctx.events:
        if type(event) not in known:
            raise ConfigurationError(f"event {event.type!r} is announced but not declared by any plugin")
        stored = StoredEvent(id=new_id(), type=event.type, payload=event_payload(event), at=ctx.now)
        ctx.db.add(stored)
        for entry in ctx.registry.entries(EventHandler, enabled=ctx.enabled):
            if entry.item.event == event.type:
                ctx.jobs.append(JobRequest(DELIVER_JOB, {"event_id": str(stored.id), "handler": entry.item.id}))
    ctx.events.clear()


async def deliver(ctx: Context, event_id: uuid.UUID, handler_id: str) -> bool:
    """Run one handler for one event inside `ctx`'s transaction. False when it had already run, or is gone."""
    handler = ctx.registry.get(EventHandler, handler_id)
    if handler is None or handler_id.split(".", maxsplit=1)[0] not in ctx.enabled | {"core"}:
        return False
    stored = (await ctx.db.execute(select(StoredEvent).where(StoredEvent.id == event_id))).scalar_one_or_none()
    if stored is None:
        return False
    done = select(HandledEvent.id).where(HandledEvent.event_id == event_id, HandledEvent.handler == handler_id)
    if (await ctx.db.execute(done)).first():
        return False
    ctx.db.add(HandledEvent(event_id=event_id, handler=handler_id))
    await ctx.db.flush()  # a concurrent second delivery stops here, on the unique constraint
    await handler.handle(ctx, {**stored.payload, "event_id": str(event_id), "event_type": stored.type})
    return True
