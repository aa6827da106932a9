"""Reading the schedule: a day with names, a week of free slots. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select

from qanun.api import Context, Patient, Practitioner, VisitMode
from qanun_scheduling.models import LIVE, Appointment, Schedule, ScheduleException
from qanun_scheduling.slots import Differing, Plan, Slot, day_bounds, free_slots, slots_of_day

LIMIT = 500
_SHOWN = (*LIVE, "noshow")


@dataclass(frozen=True, slots=True)
class Row:
    """An appointment as a list shows it, its patient's name and its way of visit resolved."""

    id: UUID
    patient_id: UUID
    practitioner_id: UUID
    start: datetime
    end: datetime
    status: str
    reason: str
    arrived_at: datetime | None
    called_at: datetime | None
    name: str
    name_alt: str
    birth_date: date
    sex: str
    mode: VisitMode | None
    staff_href: str

    @property
    def virtual(self) -> bool:
        return self.mode is not None and self.mode.code == "VR"

    @property
    def in_visit(self) -> bool:
        return self.status == "checked-in" and self.called_at is not None

    @property
    def waiting(self) -> bool:
        return self.status in {"arrived", "checked-in"} and self.called_at is None


_ROWS = (
    select(
        Appointment.id,
        Appointment.patient_id,
        Appointment.practitioner_id,
        Appointment.start,
        Appointment.end,
        Appointment.status,
        Appointment.reason,
        Appointment.arrived_at,
        Appointment.called_at,
        Appointment.visit_mode,
        Patient.given,
        Patient.family,
        Patient.given_alt,
        Patient.family_alt,
        Patient.birth_date,
        Patient.sex,
    )
    .join(Patient, (Patient.id == Appointment.patient_id) & (Patient.tenant_id == Appointment.tenant_id))
    .order_by(Appointment.start)
    .limit(LIMIT)
)


async def rows(ctx: Context, *conditions: Any) -> list[Row]:
    found = (await ctx.db.execute(_ROWS.where(*conditions))).all()
    return [_row(ctx, item) for item in found]


def _row(ctx: Context, item: Any) -> Row:
    mode = ctx.registry.get(VisitMode, item.visit_mode)
    href = mode.staff_href(item.id) if mode and mode.staff_href else ""
    return Row(
        item.id, item.patient_id, item.practitioner_id, item.start, item.end, item.status, item.reason, item.arrived_at,
        item.called_at, f"{item.given} {item.family}".strip(), f"{item.given_alt} {item.family_alt}".strip(), item.birth_date, item.sex,
        mode, href,
    )  # fmt: skip


async def day(ctx: Context, day: date, practitioner_id: UUID | None = None) -> list[Row]:
    """The day's appointments in order, cancelled ones left out; of one practitioner or of all."""
    start, end = day_bounds(day, ctx.tenant.zone)
    conditions: list[Any] = [Appointment.start >= start, Appointment.start < end, Appointment.status.in_(_SHOWN)]
    if practitioner_id is not None:
        conditions.append(Appointment.practitioner_id == practitioner_id)
    return await rows(ctx, *conditions)


async def of_patient(ctx: Context, patient_id: UUID, *, limit: int = 5) -> list[Row]:
    """What is still to come for one patient, the next first."""
    found = await rows(
        ctx, Appointment.patient_id == patient_id, Appointment.end > ctx.now, Appointment.status.in_(LIVE[:3])
    )
    return found[:limit]


async def practitioners(ctx: Context) -> Sequence[Practitioner]:
    statement = select(Practitioner).where(Practitioner.active).order_by(Practitioner.created_at).limit(50)
    return (await ctx.db.execute(statement)).scalars().all()


async def hours(ctx: Context) -> list[tuple[UUID, int, int, int, int]]:
    columns = (Schedule.practitioner_id, Schedule.weekday, Schedule.start, Schedule.end, Schedule.slot_minutes)
    found = (await ctx.db.execute(select(*columns).limit(LIMIT))).all()
    return [(row[0], row[1], row[2], row[3], row[4]) for row in found]


async def plan(ctx: Context) -> Plan:
    """Everybody's hours from today on, with the days that differ."""
    columns = (
        ScheduleException.practitioner_id, ScheduleException.first, ScheduleException.last, ScheduleException.start,
        ScheduleException.end,
    )  # fmt: skip
    since = ctx.local(ctx.now).date() - timedelta(days=1)
    rows = select(*columns).where(ScheduleException.last >= since).limit(LIMIT)
    differing = [Differing(*row) for row in (await ctx.db.execute(rows)).all()]
    return Plan(await hours(ctx), differing)


@dataclass(frozen=True, slots=True)
class Offer:
    """A day's slots: all that the hours give, and those of them that can still be booked."""

    all: list[Slot]
    free: list[Slot]


async def offers(ctx: Context, first: date, days: int) -> dict[date, Offer]:
    """What all practitioners offer on `days` days from `first`."""
    zone = ctx.tenant.zone
    hours_of = await plan(ctx)
    start, _ = day_bounds(first, zone)
    _, end = day_bounds(first + timedelta(days=days - 1), zone)
    taken = select(Appointment.practitioner_id, Appointment.start, Appointment.end).where(
        Appointment.start < end, Appointment.end > start, Appointment.status.in_(LIVE)
    )
    busy = [(row[0], row[1], row[2]) for row in (await ctx.db.execute(taken.limit(5000))).all()]
    found = {}
    for day in (first + timedelta(days=n) for n in range(days)):
        slots = slots_of_day(day, hours_of.hours(day), zone)
        found[day] = Offer(slots, free_slots(slots, busy, ctx.now))
    return found
