"""When practitioners are there: the pattern of their week, days that differ, days on which the clinic is shut.

Nothing here touches an appointment. One that lies outside the hours afterwards stays, and is shown to who changed them: a
patient is called by a person, never dropped by a form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from uuid import UUID

from sqlalchemy import delete, select

from qanun.api import N_, Context, Invalid, NotFound, new_id, to_ascii_digits
from qanun_scheduling import reading
from qanun_scheduling.models import Appointment, Schedule, ScheduleException
from qanun_scheduling.service import practitioner_of

#: Morning and afternoon; who works in more pieces than that has days that differ.
PIECES = 2
LIMIT = 200
_CLOCK = re.compile(r"(\d{1,2})[:.]?(\d{2})")
_TIME = N_("Enter a time such as 08:30.")

Week = dict[int, list[tuple[int, int]]]


def clock_minutes(text: str) -> int:
    """`8:30`, `0830`, `٠٨:٣٠` → minutes after midnight. Raises ValueError; 24:00 is the end of the day."""
    found = _CLOCK.fullmatch(to_ascii_digits(text).strip())
    if found is None:
        raise ValueError(text)
    minutes = int(found[1]) * 60 + int(found[2])
    if int(found[2]) > 59 or minutes > 1440:
        raise ValueError(text)
    return minutes


def as_clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


@dataclass(frozen=True, slots=True)
class WeekHours:
    """A practitioner's week: pieces by weekday (0 Monday), and how long a slot is."""

    week: Week
    slot_minutes: int


async def week_of(ctx: Context, practitioner_id: UUID) -> WeekHours:
    rows = (
        select(Schedule).where(Schedule.practitioner_id == practitioner_id).order_by(Schedule.weekday, Schedule.start)
    )
    found = (await ctx.db.execute(rows.limit(100))).scalars().all()
    week: Week = {day: [] for day in range(7)}
    for row in found:
        week[row.weekday].append((row.start, row.end))
    return WeekHours(week, found[0].slot_minutes if found else 20)


def parse_week(fields: Mapping[str, str]) -> WeekHours:
    """`start-0-1`, `end-0-1`, … and `slot_minutes` as typed. Raises Invalid naming each field that cannot be."""
    faults: dict[str, object] = {}
    week: Week = {}
    for day in range(7):
        pieces: list[tuple[int, int]] = []
        for piece in range(1, PIECES + 1):
            names = (f"start-{day}-{piece}", f"end-{day}-{piece}")
            typed = [fields.get(name, "").strip() for name in names]
            if not any(typed):
                continue
            read = _span(names, typed, faults)
            if read is None:
                continue
            if pieces and read[0] < pieces[-1][1]:
                faults[names[0]] = N_("This begins before the one above ends.")
            pieces.append(read)
        week[day] = pieces
    try:
        slot = int(to_ascii_digits(fields.get("slot_minutes", "")).strip())
    except ValueError:
        slot = 0
    if not 5 <= slot <= 240:
        faults["slot_minutes"] = N_("Between 5 and 240 minutes.")
    if faults:
        raise Invalid(faults)
    return WeekHours(week, slot)


def _span(names: Sequence[str], typed: Sequence[str], faults: dict[str, object]) -> tuple[int, int] | None:
    read: list[int] = []
    for name, text in zip(names, typed, strict=True):
        try:
            read.append(clock_minutes(text))
        except ValueError:
            faults[name] = _TIME
    if len(read) < 2:
        return None
    if read[0] >= read[1]:
        faults[names[1]] = N_("The end must be after the beginning.")
        return None
    return read[0], read[1]


async def set_week(ctx: Context, practitioner_id: UUID, hours: WeekHours) -> None:
    """The practitioner's week from now on. Raises NotFound for who is not this clinic's."""
    await practitioner_of(ctx, practitioner_id, lock=True)
    await ctx.db.execute(delete(Schedule).where(Schedule.practitioner_id == practitioner_id))
    for weekday, pieces in hours.week.items():
        for start, end in pieces:
            ctx.db.add(
                Schedule(
                    id=new_id(), practitioner_id=practitioner_id, weekday=weekday, start=start, end=end,
                    slot_minutes=hours.slot_minutes,
                )
            )  # fmt: skip
    ctx.audit("scheduling.hours.change", detail={"practitioner": practitioner_id})
    ctx.notify("scheduling.appointment", practitioner=practitioner_id)


# --- days that differ ---------------------------------------------------------------------------------------------------


async def exceptions(ctx: Context, practitioner_id: UUID | None = None) -> Sequence[ScheduleException]:
    """Those that are not over, the clinic's own and the practitioner's (all of them without one)."""
    today = ctx.local(ctx.now).date()
    rows = select(ScheduleException).where(ScheduleException.last >= today).order_by(ScheduleException.first)
    if practitioner_id is not None:
        mine = ScheduleException.practitioner_id
        rows = rows.where((mine == practitioner_id) | mine.is_(None))
    return (await ctx.db.execute(rows.limit(LIMIT))).scalars().all()


async def add_exception(ctx: Context, fields: Mapping[str, str]) -> ScheduleException:
    """`who` (a practitioner's id, or empty for the whole clinic), `first`, `last`, and hours when it is not a day off.

    Raises Invalid naming the fields, NotFound for who is not this clinic's.
    """
    faults: dict[str, object] = {}
    who = fields.get("who", "").strip()
    days: list[date] = []
    for name in ("first", "last"):
        typed = to_ascii_digits(fields.get(name, "")).strip() or (fields.get("first", "") if name == "last" else "")
        try:
            days.append(date.fromisoformat(to_ascii_digits(typed).strip()))
        except ValueError:
            faults[name] = N_("Enter the day as year-month-day, for example 2026-05-12.")
    today = ctx.local(ctx.now).date()
    if len(days) == 2:
        if days[1] < days[0]:
            faults["last"] = N_("The last day is before the first.")
        elif days[1] < today or days[1] - today > timedelta(days=730):
            faults["last"] = N_("Choose days between today and two years from now.")
    clocks = [fields.get(name, "").strip() for name in ("start", "end")]
    span = _span(("start", "end"), clocks, faults) if any(clocks) else None
    if any(clocks) and not who:
        faults["who"] = N_("Other hours belong to one practitioner; the whole clinic can only be shut.")
    note = " ".join(fields.get("note", "").split())
    if len(note) > 200:
        faults["note"] = N_("This text is too long.")
    try:
        practitioner_id = UUID(who) if who else None
    except ValueError:
        faults["who"] = N_("Choose one of the listed values.")
        practitioner_id = None
    if faults:
        raise Invalid(faults)
    if practitioner_id is not None:
        await practitioner_of(ctx, practitioner_id)
    start, end = span or (None, None)
    row = ScheduleException(
        id=new_id(), practitioner_id=practitioner_id, first=days[0], last=days[1], start=start, end=end, note=note
    )  # fmt: skip
    ctx.db.add(row)
    ctx.audit("scheduling.exception.add", detail={"exception": row.id, "practitioner": practitioner_id})
    ctx.notify("scheduling.appointment", practitioner=practitioner_id or "")
    return row


async def remove_exception(ctx: Context, exception_id: UUID) -> None:
    found = (
        await ctx.db.execute(select(ScheduleException).where(ScheduleException.id == exception_id))
    ).scalar_one_or_none()
    if found is None:
        raise NotFound("exception")
    await ctx.db.delete(found)
    ctx.audit("scheduling.exception.remove", detail={"exception": exception_id})
    ctx.notify("scheduling.appointment", practitioner=found.practitioner_id or "")


# --- what lies outside ---------------------------------------------------------------------------------------------------


async def outside_hours(ctx: Context, practitioner_id: UUID) -> list[reading.Row]:
    """Booked appointments of the coming year that no hours cover: to be moved or kept, by a person, one by one."""
    booked = await reading.rows(
        ctx, Appointment.practitioner_id == practitioner_id, Appointment.status == "booked", Appointment.start > ctx.now
    )
    plan = await reading.plan(ctx)
    zone = ctx.tenant.zone
    found = []
    for row in booked:
        start, end = row.start.astimezone(zone), row.end.astimezone(zone)
        begins = start.hour * 60 + start.minute
        ends = begins + int((row.end - row.start).total_seconds() // 60)
        if end.date() != start.date() and ends > 1440:
            ends = 1440
        spans = plan.spans(start.date(), practitioner_id)
        if not any(first <= begins and ends <= last for first, last, _ in spans):
            found.append(row)
    return found
