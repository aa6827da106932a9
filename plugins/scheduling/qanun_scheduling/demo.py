"""A believable week for a demonstration clinic: yesterday done, today half done, tomorrow booked.

Hours run from early morning to late evening on every day of the week, so that a demonstration at any hour has somebody
who is due now.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any

from sqlalchemy import select

from qanun.api import BookedAppointment, Context, DemoClinic, VisitMode, new_id
from qanun_scheduling.models import Appointment, Schedule
from qanun_scheduling.slots import slots_of_day

_REASONS = {
    "en": ["Blood pressure review", "Cough", "Back pain", "Diabetes review", "Headache", "New patient", "Test results",
           "Vaccination", "Medication review", "Fatigue"],
    "ar": ["متابعة ضغط الدم", "سعال", "ألم الظهر", "متابعة السكري", "صداع", "مريض جديد", "نتائج التحاليل", "تطعيم",
           "مراجعة الأدوية", "إرهاق"],
}  # fmt: skip
_DAY = (8 * 60, 18 * 60)
_SLOT = 20
#: Who sits in the waiting room already, and for how many minutes.
_EARLY = (34, 19, 6)


async def seed(ctx: Context, clinic: DemoClinic) -> None:
    """Hours for every practitioner and appointments from three days ago to three days ahead."""
    await _hours(ctx, clinic)
    await _fill(ctx, clinic, range(-3, 4))


async def renew(ctx: Context, clinic: DemoClinic) -> None:
    """Today and the days ahead again, for a demonstration that is opened days later. What stands there stays."""
    await _hours(ctx, clinic)
    today = ctx.local(ctx.now).date()
    begin = datetime.combine(today, time.min, ctx.tenant.zone)
    booked = select(Appointment.start).where(Appointment.start >= begin).limit(1000)
    filled = {ctx.local(start).date() for start in (await ctx.db.execute(booked)).scalars()}
    await _fill(ctx, clinic, [days for days in range(4) if today + timedelta(days=days) not in filled])


async def _hours(ctx: Context, clinic: DemoClinic) -> None:
    """Every day of the week from morning to evening, and as long as it takes for now to be among the hours."""
    now_minutes = ctx.local(ctx.now).hour * 60 + ctx.local(ctx.now).minute
    first, last = min(_DAY[0], now_minutes // 60 * 60), max(_DAY[1], min(1440, now_minutes // 60 * 60 + 180))
    known = {(row.practitioner_id, row.weekday) for row in await _schedules(ctx)}
    for doctor in clinic.practitioners:
        for weekday in range(7):
            if (doctor.id, weekday) not in known:
                ctx.db.add(
                    Schedule(practitioner_id=doctor.id, weekday=weekday, start=first, end=last, slot_minutes=_SLOT)
                )
    for row in await _schedules(ctx):
        row.start, row.end = min(row.start, first), max(row.end, last)
    await ctx.db.flush()


async def _schedules(ctx: Context) -> Sequence[Schedule]:
    return (await ctx.db.execute(select(Schedule).limit(200))).scalars().all()


async def _fill(ctx: Context, clinic: DemoClinic, days: Iterable[int]) -> None:
    """Appointments on these days, counted from today; the patient of the pictures is due next, by video."""
    rng, zone = clinic.random, ctx.tenant.zone
    weekly = [(row.practitioner_id, row.weekday, row.start, row.end, row.slot_minutes) for row in await _schedules(ctx)]
    today = ctx.local(ctx.now).date()
    video = ctx.registry.get(VisitMode, "telemedicine.video")
    people = list(clinic.patients[1:])
    reasons = _REASONS["ar" if ctx.locale.code == "ar" else "en"]
    promised = False
    for offset in days:
        slots = slots_of_day(today + timedelta(days=offset), weekly, zone)
        for doctor in clinic.practitioners:
            own = [slot for slot in slots if slot.practitioner_id == doctor.id]
            if not promised and offset >= 0:
                # Late in the evening the next slot is tomorrow's first.
                soon = next((slot for slot in own if slot.start > ctx.now), None)
                if soon is not None:
                    await _add(ctx, clinic.patients[0], doctor, soon, video, reasons[-1], "booked")
                    own.remove(soon)
                    promised = True
            if offset == 0:
                # Late in the evening the last slots stay free, for whoever tries out the booking.
                ahead = [slot for slot in own if slot.start > ctx.now]
                early = ahead[: max(0, len(ahead) - 3)]
                for slot, minutes in zip(early, _EARLY, strict=False):
                    arrived = ctx.now - timedelta(minutes=minutes)
                    reason = rng.choice(reasons)
                    await _add(ctx, rng.choice(people), doctor, slot, None, reason, "checked-in", arrived)
                    own.remove(slot)
            core = [slot for slot in own if _DAY[0] <= _minutes(ctx, slot.start) < _DAY[1]] or own
            for slot in rng.sample(core, min(len(core), rng.randrange(11, 16))):
                status = "booked"
                if slot.end < ctx.now:
                    status = "noshow" if rng.random() < 0.08 else "fulfilled"
                elif slot.start < ctx.now:
                    status = "checked-in"
                mode = video if video and rng.random() < 0.33 else None
                await _add(ctx, rng.choice(people), doctor, slot, mode, rng.choice(reasons), status)


def _minutes(ctx: Context, moment: Any) -> int:
    local = ctx.local(moment)
    return int(local.hour * 60 + local.minute)


async def _add(
    ctx: Context,
    person: Any,
    doctor: Any,
    slot: Any,
    mode: Any,
    reason: str,
    status: str,
    arrived: datetime | None = None,
) -> None:
    row = Appointment(
        id=new_id(), patient_id=person.id, practitioner_id=doctor.id, start=slot.start.astimezone(UTC), end=slot.end,
        status=status, visit_mode=mode.id if mode else "scheduling.in-person", reason=reason,
        request_key=f"demo-{new_id()}", booked_by=ctx.actor.id,
        arrived_at=arrived or (slot.start if status in {"fulfilled", "checked-in"} else None),
    )  # fmt: skip
    ctx.db.add(row)
    await ctx.db.flush()
    if mode is not None and mode.prepare is not None and status == "booked":
        booked = BookedAppointment(
            id=row.id, patient_id=person.id, practitioner_id=doctor.id, start=row.start, end=row.end
        )
        await mode.prepare(ctx, booked)
