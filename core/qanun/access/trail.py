"""Who opened a patient's record: the audit, read back for the patient and for the privacy officer."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from qanun.audit import AuditEvent, AuditEventType
from qanun.context import Context
from qanun.identity import GuestPass, Membership, User


@dataclass(frozen=True, slots=True)
class TrailEntry:
    """One act on a patient's record: when, by whom (empty for the system), in which roles, and what, in words.

    `actor_id` tells apart people of one name.
    """

    at: datetime
    actor_kind: str
    name: str
    roles: tuple[str, ...]
    type: str
    label: object
    actor_id: uuid.UUID | None = None


async def record_views(ctx: Context, patient_id: uuid.UUID, *, limit: int = 50) -> list[TrailEntry]:
    """The newest acts on a patient's record, at most `limit` (≤ 500). The caller has checked who may ask."""
    statement = (
        select(AuditEvent.at, AuditEvent.type, AuditEvent.actor_kind, AuditEvent.actor_id)
        .where(AuditEvent.patient_id == patient_id)
        .order_by(AuditEvent.seq.desc())
        .limit(max(1, min(limit, 500)))
    )
    rows = (await ctx.db.execute(statement)).all()
    people = {row.actor_id for row in rows if row.actor_kind == "user"}
    known: dict[uuid.UUID, tuple[str, tuple[str, ...]]] = {}
    if people:
        staff = (
            select(User.id, User.name, User.name_alt, Membership.roles)
            .outerjoin(Membership, (Membership.user_id == User.id) & (Membership.tenant_id == ctx.tenant.id))
            .where(User.id.in_(people))
        )
        other = ctx.locale.code != ctx.tenant.locale  # then the name in the other script, where there is one
        known = {
            row.id: ((other and row.name_alt) or row.name, tuple(row.roles or ()))
            for row in (await ctx.db.execute(staff)).all()
        }
    guests = {row.actor_id for row in rows if row.actor_kind == "guest"}
    if guests:
        passes = select(GuestPass.id, GuestPass.name).where(GuestPass.id.in_(guests))
        known |= {row.id: (row.name, ()) for row in (await ctx.db.execute(passes)).all()}
    entries = []
    for row in rows:
        name, roles = known.get(row.actor_id, ("", ()))
        declared = ctx.registry.get(AuditEventType, row.type)
        entries.append(
            TrailEntry(
                row.at, row.actor_kind, name, roles, row.type, declared.label if declared else row.type, row.actor_id
            )
        )
    return entries
