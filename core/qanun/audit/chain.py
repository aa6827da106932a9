"""The chain: canonical JSON (RFC 8785 for the values used here) → SHA-256 leaf → SHA-256 of previous hash and leaf.

`append_and_commit` ends a transaction: the head of the clinic's chain is held from the appending to the commit, so both
travel to PostgreSQL together — a busy process would otherwise let everybody wait for its next turn. The hash is computed
inside PostgreSQL; `verify` recomputes it in Python from the stored bodies, so the two are independent of one another.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from qanun.audit.models import AuditEvent, AuditHead
from qanun.context import Context
from qanun.db import new_id

GENESIS = bytes(32)
_PAGE = 2000

# The function is created by core's first migration.
_APPEND = "select core_audit_append(%s::uuid, %s::text[])"


def canonical(value: Mapping[str, Any]) -> str:
    """RFC 8785 for objects of strings, integers, booleans and null: sorted keys, no spaces, UTF-8 kept."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


async def append_and_commit(ctx: Context) -> None:
    """Write the context's gathered audit entries, clear them, and commit: both or neither, in one round trip.

    Raises SQLAlchemy's IntegrityError for a constraint that waits for the commit, as a plain commit would. Nothing to
    write: only the commit, and no lock is taken.
    """
    bodies = _bodies(ctx)
    if bodies:
        await ctx.db.flush()
        connection = await (await ctx.db.connection()).get_raw_connection()
        driver: Any = connection.driver_connection
        try:
            async with driver.pipeline():
                await driver.execute(_APPEND, (ctx.tenant.id, bodies), prepare=True)
                await driver.execute("COMMIT")
        except psycopg.Error as error:
            kind = IntegrityError if isinstance(error, psycopg.IntegrityError) else DBAPIError
            raise kind("audit and commit", None, error) from error
    # What SQLAlchemy still believes to be open; the database has nothing left to do.
    await ctx.db.commit()


def _bodies(ctx: Context) -> list[str]:
    bodies = []
    for entry in ctx.audits:
        body: dict[str, Any] = {
            "id": str(new_id()),
            "at": ctx.now.isoformat(timespec="microseconds"),
            "type": entry.type,
            "actor": {"kind": ctx.actor.kind, "id": str(ctx.actor.id)},
        }
        if ctx.actor.session_id:
            body["session"] = str(ctx.actor.session_id)
        if entry.patient_id:
            body["patient"] = str(entry.patient_id)
        if entry.entity:
            body["entity"] = str(entry.entity)
        if entry.detail:
            body["detail"] = {key: _plain(value) for key, value in entry.detail.items()}
        bodies.append(canonical(body))
    ctx.audits.clear()
    return bodies


def _plain(value: Any) -> Any:
    """Detail values as canonical JSON allows them: floats are refused, they have no one spelling."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, datetime | uuid.UUID) or (hasattr(value, "__str__") and not isinstance(value, float)):
        return value.isoformat() if isinstance(value, datetime) else str(value)
    raise TypeError(f"{type(value).__name__} cannot be written into the audit")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a verification: `fault` is empty when the chain holds, else what is wrong at `seq`."""

    events: int
    head: bytes
    fault: str = ""
    seq: int | None = None

    @property
    def holds(self) -> bool:
        return not self.fault


async def verify(session: AsyncSession) -> Verdict:
    """Recompute the session's clinic from the first event to the head. Finds edits, gaps, swaps and truncation."""
    head = (await session.execute(select(AuditHead))).scalar_one_or_none()
    previous, expected = GENESIS, 1
    while True:
        rows = (
            await session.execute(
                select(AuditEvent).where(AuditEvent.seq >= expected).order_by(AuditEvent.seq).limit(_PAGE)
            )
        ).scalars().all()  # fmt: skip
        for event in rows:
            if event.seq != expected:
                return Verdict(expected - 1, previous, f"event {expected} is missing", expected)
            fault = _columns_differ(event)
            if fault:
                return Verdict(expected - 1, previous, f"event {expected}: {fault}", expected)
            previous = hashlib.sha256(previous + hashlib.sha256(event.body.encode()).digest()).digest()
            if previous != event.hash:
                return Verdict(expected - 1, previous, f"event {expected} was changed", expected)
            session.expunge(event)
            expected += 1
        if len(rows) < _PAGE:
            break
    if head is None:
        return Verdict(expected - 1, previous, "" if expected == 1 else "the chain head is missing", None)
    if head.seq != expected - 1 or head.hash != previous:
        return Verdict(expected - 1, previous, f"the chain ends at {expected - 1}, its head says {head.seq}", head.seq)
    return Verdict(expected - 1, previous)


def _columns_differ(event: AuditEvent) -> str:
    try:
        body = json.loads(event.body)
        same = (
            body["id"] == str(event.id)
            and datetime.fromisoformat(body["at"]) == event.at
            and body["type"] == event.type
            and body["actor"] == {"kind": event.actor_kind, "id": str(event.actor_id)}
            and body.get("patient") == (str(event.patient_id) if event.patient_id else None)
            and body.get("entity") == event.entity
        )
    except (ValueError, KeyError, TypeError):
        return "its body cannot be read"
    return "" if same else "its columns do not match its body"
