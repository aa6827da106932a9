"""Closed records, and breaking the glass: a record that only named people open, and the emergency that cannot wait for them.

Who breaks the glass says why, has an hour, is marked in every line of the audit meanwhile, and is asked about it afterwards by
somebody else. A clinic that closed none pays nothing for it; in others a record costs one look at an index.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, select, update
from sqlalchemy.orm import Mapped, mapped_column

from qanun.audit import AuditEvent
from qanun.context import Context
from qanun.db import TenantModel, new_id, patient_key
from qanun.errors import Conflict, Forbidden, Invalid, NotFound, RecordClosed
from qanun.i18n import N_
from qanun.identity import Membership, Patient, User
from qanun.tenancy import Tenant

GLASS_LIFE = timedelta(hours=1)
LIMIT = 200
SHORTEST = 10
SAY_WHY = N_("Say why, in a few words that somebody else will understand tomorrow.")


class ClosedRecord(TenantModel):
    """A patient's record is closed while a row without `opened_at` stands."""

    __tablename__ = "core_closed_record"
    __table_args__ = (
        Index(
            "uq_core_closed_record_now", "tenant_id", "patient_id", unique=True, postgresql_where="opened_at is null"
        ),
    )

    patient_id: Mapped[uuid.UUID] = patient_key()
    reason: Mapped[str]
    closed_by: Mapped[uuid.UUID]
    opened_at: Mapped[datetime | None]


class RecordAccess(TenantModel):
    """One person's way into a closed record: named by who closed it, or by breaking the glass for a while."""

    __tablename__ = "core_record_access"
    __table_args__ = (
        CheckConstraint("kind in ('named', 'glass')", name="kind"),
        CheckConstraint("(kind = 'glass') = (ends_at is not null)", name="glass_ends"),
        CheckConstraint("verdict in ('', 'justified', 'unjustified')", name="verdict"),
        Index("ix_core_record_access_who", "tenant_id", "patient_id", "user_id"),
    )

    patient_id: Mapped[uuid.UUID] = patient_key()
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("core_user.id"))
    kind: Mapped[str]
    reason: Mapped[str] = mapped_column(default="")
    ends_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    verdict: Mapped[str] = mapped_column(default="")
    note: Mapped[str] = mapped_column(default="")
    reviewed_by: Mapped[uuid.UUID | None]
    reviewed_at: Mapped[datetime | None]


def asked_of(ctx: Context) -> bool:
    """Whether records can be closed to who acts at all: staff, of a clinic that closed one."""
    return ctx.actor.kind == "user" and ctx.tenant.closed_records != 0


async def closed_to(
    ctx: Context, patients: Collection[uuid.UUID], *, user_id: uuid.UUID | None = None
) -> set[uuid.UUID]:  # fmt: skip
    """Which of these patients' records are closed to who acts; or to this user of the clinic, whoever acts: what somebody
    shows of themselves in a call, others see."""
    asked = asked_of(ctx) if user_id is None else ctx.tenant.closed_records != 0
    if not patients or not asked:
        return set()
    whose = user_id or ctx.actor.id
    closed = select(ClosedRecord.patient_id).where(
        ClosedRecord.patient_id.in_(patients), ClosedRecord.opened_at.is_(None)
    )
    shut = set((await ctx.db.execute(closed)).scalars())
    if not shut:
        return set()
    mine = select(RecordAccess.patient_id).where(
        RecordAccess.patient_id.in_(shut), RecordAccess.user_id == whose, RecordAccess.ended_at.is_(None),
        (RecordAccess.ends_at.is_(None)) | (RecordAccess.ends_at > ctx.now),
    )  # fmt: skip
    return shut - set((await ctx.db.execute(mine)).scalars())


async def must_be_open(ctx: Context, patient_id: uuid.UUID) -> None:
    """Raises RecordClosed when staff may not open this patient's record now. While somebody is in by a broken glass, every
    act of this context is marked with it. Patients and the system are not asked."""
    if not asked_of(ctx):
        return
    closed = select(ClosedRecord.id).where(ClosedRecord.patient_id == patient_id, ClosedRecord.opened_at.is_(None))
    if (await ctx.db.execute(closed.limit(1))).first() is None:
        return
    mine = (
        select(RecordAccess.id, RecordAccess.kind)
        .where(
            RecordAccess.patient_id == patient_id, RecordAccess.user_id == ctx.actor.id, RecordAccess.ended_at.is_(None),
            (RecordAccess.ends_at.is_(None)) | (RecordAccess.ends_at > ctx.now),
        )
        .order_by(RecordAccess.kind.desc())
        .limit(1)
    )  # fmt: skip
    found = (await ctx.db.execute(mine)).first()
    if found is None:
        raise RecordClosed("this record is closed", patient_id=patient_id)
    if found.kind == "glass":
        ctx.marks["glass"] = str(found.id)


async def break_glass(ctx: Context, patient_id: uuid.UUID, reason: str) -> RecordAccess:
    """Open a closed record for an hour. Raises Invalid without a reason, Conflict when it is not closed to the actor."""
    why = _why(reason)
    try:
        await must_be_open(ctx, patient_id)
    except RecordClosed:
        pass
    else:
        raise Conflict("this record is open")
    access = RecordAccess(
        id=new_id(), patient_id=patient_id, user_id=ctx.actor.id, kind="glass", reason=why, ends_at=ctx.now + GLASS_LIFE,
        verdict="", note="",
    )  # fmt: skip
    ctx.db.add(access)
    ctx.audit(
        "core.record.break-glass", patient_id=patient_id,
        detail={"access": access.id, "reason": why, "until": access.ends_at},
    )  # fmt: skip
    ctx.notify("core.glass", access=access.id)
    return access


def _why(reason: str, field: str = "reason") -> str:
    why = " ".join(reason.split())
    if len(why) < SHORTEST:
        raise Invalid({field: SAY_WHY})
    if len(why) > 500:
        raise Invalid({field: N_("This text is too long.")})
    return why


# --- closing and opening ------------------------------------------------------------------------------------------------


async def close_record(ctx: Context, mrn: str, reason: str, people: Iterable[uuid.UUID]) -> uuid.UUID:
    """Close the record with this number to all but `people`, who must be of this clinic; the patient's id."""
    faults: dict[str, object] = {}
    patient = (await ctx.db.execute(select(Patient).where(Patient.mrn == mrn.strip().upper()))).scalar_one_or_none()
    if patient is None:
        faults["mrn"] = N_("No record has this number.")
    try:
        why = _why(reason)
    except Invalid as error:
        faults |= error.fields
    chosen = set(people)
    if not chosen:
        faults["people"] = N_("Choose at least one person who may open it.")
    elif chosen - await _members(ctx):
        faults["people"] = N_("Choose one of the listed values.")
    if faults or patient is None:
        raise Invalid(faults)
    there = select(ClosedRecord.id).where(ClosedRecord.patient_id == patient.id, ClosedRecord.opened_at.is_(None))
    if (await ctx.db.execute(there)).first() is not None:
        raise Conflict("closed already", field="mrn")
    ctx.db.add(ClosedRecord(id=new_id(), patient_id=patient.id, reason=why, closed_by=ctx.actor.id))
    await _count(ctx, 1)
    for user_id in sorted(chosen):
        ctx.db.add(RecordAccess(id=new_id(), patient_id=patient.id, user_id=user_id, kind="named", verdict="", note=""))
    ctx.audit("core.record.close", patient_id=patient.id, detail={"people": sorted(map(str, chosen)), "reason": why})
    return patient.id


async def _count(ctx: Context, more: int) -> None:
    here = update(Tenant).where(Tenant.id == ctx.tenant.id)
    await ctx.db.execute(here.values(closed_records=Tenant.closed_records + more))


async def _members(ctx: Context) -> set[uuid.UUID]:
    here = select(Membership.user_id).where(Membership.tenant_id == ctx.tenant.id, Membership.ended_at.is_(None))
    return set((await ctx.db.execute(here.limit(1000))).scalars())


async def open_record(ctx: Context, patient_id: uuid.UUID) -> None:
    """The record is like any other again; who was named loses the name, so that a later closing begins anew."""
    now = update(ClosedRecord).where(ClosedRecord.patient_id == patient_id, ClosedRecord.opened_at.is_(None))
    opened = await ctx.db.execute(now.values(opened_at=ctx.now).returning(ClosedRecord.id))
    if opened.first() is None:
        raise NotFound("closed record")
    await _count(ctx, -1)
    ways = update(RecordAccess).where(RecordAccess.patient_id == patient_id, RecordAccess.ended_at.is_(None))
    await ctx.db.execute(ways.values(ended_at=ctx.now))
    ctx.audit("core.record.open", patient_id=patient_id)


# --- the officer's lists ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Closed:
    """A closed record and who may open it."""

    record: ClosedRecord
    patient: Patient
    people: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Broken:
    """A broken glass as it is reviewed: `acts` counts what its breaker did in that record while it was open."""

    access: RecordAccess
    patient: Patient
    who: str
    acts: int
    own: bool


async def closed_records(ctx: Context) -> list[Closed]:
    rows = (
        select(ClosedRecord, Patient)
        .join(Patient, Patient.id == ClosedRecord.patient_id)
        .where(ClosedRecord.opened_at.is_(None))
        .order_by(ClosedRecord.created_at.desc())
        .limit(LIMIT)
    )
    found = (await ctx.db.execute(rows)).all()
    named = (
        select(RecordAccess.patient_id, User.name)
        .join(User, User.id == RecordAccess.user_id)
        .where(
            RecordAccess.patient_id.in_([patient.id for _, patient in found]), RecordAccess.kind == "named",
            RecordAccess.ended_at.is_(None),
        )
        .order_by(User.name)
    )  # fmt: skip
    names: dict[uuid.UUID, list[str]] = {}
    for patient_id, name in (await ctx.db.execute(named)).all() if found else ():
        names.setdefault(patient_id, []).append(name)
    return [Closed(record, patient, tuple(names.get(patient.id, ()))) for record, patient in found]


async def broken_glasses(ctx: Context) -> list[Broken]:
    """What waits for a review first, then the newest; at most `LIMIT`."""
    rows: Sequence[tuple[RecordAccess, Patient, str]] = [
        (row[0], row[1], row[2])
        for row in (
            await ctx.db.execute(
                select(RecordAccess, Patient, User.name)
                .join(Patient, Patient.id == RecordAccess.patient_id)
                .join(User, User.id == RecordAccess.user_id)
                .where(RecordAccess.kind == "glass")
                .order_by(RecordAccess.reviewed_at.is_not(None), RecordAccess.created_at.desc())
                .limit(LIMIT)
            )
        ).all()
    ]
    found = []
    for access, patient, who in rows:
        acts = select(func.count()).select_from(AuditEvent).where(
            AuditEvent.patient_id == patient.id, AuditEvent.actor_id == access.user_id,
            AuditEvent.body.contains(f'"glass":"{access.id}"'),
        )  # fmt: skip
        count = int((await ctx.db.execute(acts)).scalar_one())
        found.append(Broken(access, patient, who, count, access.user_id == ctx.actor.id))
    return found


async def review(ctx: Context, access_id: uuid.UUID, verdict: str, note: str) -> None:
    """Somebody else's judgement. `unjustified` needs a note, and ends what is still open. Once."""
    statement = select(RecordAccess).where(RecordAccess.id == access_id, RecordAccess.kind == "glass").with_for_update()
    access = (await ctx.db.execute(statement)).scalar_one_or_none()
    if access is None:
        raise NotFound("broken glass")
    if access.user_id == ctx.actor.id:
        raise Forbidden("nobody reviews themselves", code="own-glass")
    if access.reviewed_at is not None:
        raise Conflict("reviewed already")
    if verdict not in {"justified", "unjustified"}:
        raise Invalid({"verdict": N_("Choose one of the listed values.")})
    access.note = _why(note, "note") if verdict == "unjustified" or note.strip() else ""
    access.verdict, access.reviewed_by, access.reviewed_at = verdict, ctx.actor.id, ctx.now
    if verdict == "unjustified" and access.ended_at is None:
        access.ended_at = ctx.now
    ctx.audit(
        "core.record.review", patient_id=access.patient_id, detail={"access": access.id, "verdict": verdict},
    )  # fmt: skip
