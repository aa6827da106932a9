"""Who waits for whom, and what the day holds."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select

from qanun.api import Context, Patient, Practitioner
from qanun_telemedicine.models import (
    CANCELLED,
    IN_PROGRESS,
    WAITING,
    WRITTEN,
    Consultation,
    Presence,
)
from qanun_telemedicine.service.presence import HEARD


@dataclass(frozen=True, slots=True)
class WaitingPatient:
    """A line of the waiting list. `here`: their page is open right now; `with_whom` in the script of the reader's page."""

    consultation: Consultation
    patient: Patient
    practitioner: Practitioner
    here: bool
    with_whom: str


async def waiting_list(ctx: Context, practitioner_id: uuid.UUID | None = None) -> list[WaitingPatient]:
    """Patients in the waiting room, the longest wait first."""
    conditions = [Consultation.state == WAITING, Consultation.mode != WRITTEN]
    if practitioner_id is not None:
        conditions.append(Consultation.practitioner_id == practitioner_id)
    rows = await _rows(ctx, conditions, Consultation.waiting_since)
    return await _with_presence(ctx, rows)


async def day_list(ctx: Context, practitioner_id: uuid.UUID | None = None) -> list[WaitingPatient]:
    """Today's consultations in the clinic's zone, and those that still run."""
    start = ctx.local(ctx.now).replace(hour=0, minute=0, second=0, microsecond=0)
    today = (Consultation.starts_at >= start) & (Consultation.starts_at < start + timedelta(days=1))
    conditions = [
        today | Consultation.state.in_((WAITING, IN_PROGRESS)),
        Consultation.state != CANCELLED,
        Consultation.mode != WRITTEN,
    ]
    if practitioner_id is not None:
        conditions.append(Consultation.practitioner_id == practitioner_id)
    return await _with_presence(ctx, await _rows(ctx, conditions, Consultation.starts_at))


async def position(ctx: Context, row: Consultation) -> int:
    """How many wait for the same practitioner before this patient. 0: next."""
    if row.waiting_since is None or row.group_id is not None:
        return 0
    statement = (
        select(Consultation.id)
        .where(
            Consultation.state == WAITING,
            Consultation.mode != WRITTEN,
            Consultation.practitioner_id == row.practitioner_id,
            Consultation.group_id.is_(None),
            Consultation.waiting_since < row.waiting_since,
        )
        .limit(50)
    )
    return len((await ctx.db.execute(statement)).all())


async def _rows(
    ctx: Context, conditions: Sequence[object], order: object
) -> list[tuple[Consultation, Patient, Practitioner]]:
    statement = (
        select(Consultation, Patient, Practitioner)
        .join(Patient, Patient.id == Consultation.patient_id)
        .join(Practitioner, Practitioner.id == Consultation.practitioner_id)
        .where(*conditions)  # type: ignore[arg-type]
        .order_by(order)  # type: ignore[arg-type]
        .limit(200)
    )
    return [(row[0], row[1], row[2]) for row in (await ctx.db.execute(statement)).all()]


async def _with_presence(
    ctx: Context, rows: Sequence[tuple[Consultation, Patient, Practitioner]]
) -> list[WaitingPatient]:
    if not rows:
        return []
    statement = select(Presence.consultation_id).where(
        Presence.consultation_id.in_([row[0].id for row in rows]),
        Presence.place == "lobby",
        Presence.left_at.is_(None),
        Presence.connection != "",
        Presence.seen_at > ctx.now - HEARD,
    )
    here = set((await ctx.db.execute(statement)).scalars())
    return [
        WaitingPatient(row, patient, practitioner, row.id in here, called(ctx, practitioner))
        for row, patient, practitioner in rows
    ]


def called(ctx: Context, practitioner: Practitioner) -> str:
    """The name in the script of the page, where the clinic knows it."""
    return (
        practitioner.name_alt if practitioner.name_alt and ctx.locale.code != ctx.tenant.locale else practitioner.name
    )


def minutes_waiting(row: Consultation, now: datetime) -> int:
    return max(0, int((now - row.waiting_since).total_seconds() // 60)) if row.waiting_since else 0
