"""What the doctor's day shows: the day's appointments in order, who waits and for how long, who is next. Decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from qanun.api import N_, Context, Invalid, NotFound, Practitioner, patient_href, render_slot, to_ascii_digits
from qanun_scheduling import reading, sessions
from qanun_scheduling.permissions import Scheduling
from qanun_scheduling.reading import Row

#: From so many minutes on, a wait is long; from so many on, it is too long.
LONG, TOO_LONG = 15, 30
_YEARS = 10


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the schedule: how it is tinted, what its chip says, and where its patient and its visit are opened."""

    row: Row
    tone: str
    label: object
    chip: str
    chart: str
    with_whom: str
    waited: int

    @property
    def start(self) -> datetime:
        return self.row.start

    @property
    def end(self) -> datetime:
        return self.row.end


def parse_day(ctx: Context, text: str) -> date:
    """The day asked for, today when none is. Raises Invalid for what is no day, or one that nobody books."""
    today = ctx.local(ctx.now).date()
    if not text.strip():
        return today
    try:
        day = date.fromisoformat(to_ascii_digits(text).strip())
    except ValueError:
        raise Invalid({"date": N_("Enter the day as year-month-day, for example 2026-05-12.")}) from None
    if abs(day.year - today.year) > _YEARS:
        raise Invalid({"date": N_("Choose a day within ten years from today.")})
    return day


def spoken_name(ctx: Context, doctor: Practitioner | None) -> str:
    """The practitioner's name in the script of the reader, when the clinic has both."""
    if doctor is None:
        return ""
    return doctor.name_alt if doctor.name_alt and ctx.locale.code != ctx.tenant.locale else doctor.name


def minutes_since(moment: datetime | None, now: datetime) -> int:
    return 0 if moment is None else max(0, int((now - moment).total_seconds() // 60))


def wait_tone(minutes: int) -> str:
    """Green under 15 minutes, amber to 30, red above."""
    return "ok" if minutes < LONG else "warn" if minutes <= TOO_LONG else "crit"


def _state(row: Row, now: datetime) -> tuple[str, object, str]:
    """(tint of the line, what the chip says, tint of the chip)."""
    if row.status == "fulfilled":
        return "done", N_("Done"), "ok"
    if row.status == "noshow":
        return "done", N_("Did not come"), "line"
    if row.in_visit:
        return ("cur", N_("In call"), "tele") if row.virtual else ("cur here", N_("In the room"), "accent")
    if row.waiting:
        tone = wait_tone(minutes_since(row.arrived_at, now))
        label = N_("Waits online") if row.virtual else N_("Waiting")
        return ("late" if tone == "crit" else "wait"), label, "crit" if tone == "crit" else "warn"
    if row.start < now:
        return "", N_("Not here yet"), "warn"
    return "", N_("Booked"), "tele" if row.virtual else ""


def _line(ctx: Context, row: Row, names: dict[UUID, str]) -> Line:
    tone, label, chip = _state(row, ctx.now)
    waited = minutes_since(row.arrived_at, ctx.now) if row.waiting else 0
    return Line(row, tone, label, chip, patient_href(ctx, row.patient_id), names.get(row.practitioner_id, ""), waited)


def _next(lines: Sequence[Line], now: datetime) -> Line | None:
    """Who waits and was due first; when nobody waits, who is due next."""
    waiting = [line for line in lines if line.row.waiting]
    if waiting:
        return min(waiting, key=lambda line: (line.row.start, line.row.arrived_at))
    return next((line for line in lines if line.row.status == "booked" and line.row.end > now), None)


async def whose_day(ctx: Context, practitioner: str) -> tuple[UUID | None, list[Practitioner]]:
    """Whose appointments are shown, and whose could be: a practitioner's own; else everybody's, or the one picked.

    Raises Invalid for what is no id, NotFound for somebody who is not this clinic's (or, to a practitioner, another's day).
    """
    team = list(await reading.practitioners(ctx))
    own = ctx.actor.practitioner_id
    if not practitioner:
        return own, team
    try:
        asked = UUID(practitioner)
    except ValueError:
        raise Invalid({"practitioner": N_("Choose one of the listed values.")}) from None
    if asked not in {doctor.id for doctor in team} or (own is not None and asked != own):
        raise NotFound("practitioner")
    return asked, team


async def day_values(ctx: Context, day: date, practitioner: str, *, notice: object = "") -> dict[str, Any]:
    """Everything on the doctor's day; the same for the page and for a refresh of it."""
    chosen, team = await whose_day(ctx, practitioner)
    today = ctx.local(ctx.now).date()
    by_id = {doctor.id: doctor for doctor in team}
    names = {doctor.id: spoken_name(ctx, doctor) for doctor in team}
    lines = [_line(ctx, row, names) for row in await reading.day(ctx, day, chosen)]
    schedule: list[Line | sessions.Session] = [*lines, *await sessions.of_day(ctx, day, chosen)]
    schedule.sort(key=lambda one: one.start)
    is_today = day == today
    waiting = sorted(
        (line for line in lines if line.row.waiting and not line.row.virtual), key=lambda line: -line.waited
    )
    return {
        "day": day,
        "is_today": is_today,
        "previous": day - timedelta(days=1),
        "following": day + timedelta(days=1),
        "chosen": chosen,
        "practitioner": by_id.get(chosen) if chosen else None,
        "team": [(doctor.id, names[doctor.id]) for doctor in team],
        "names": names,
        "own": ctx.actor.practitioner_id is not None,
        "lines": lines,
        "now": ctx.now,
        "schedule": schedule,
        "now_at": sum(one.start <= ctx.now for one in schedule) if is_today else -1,
        "waiting": waiting,
        "wait_tone": wait_tone,
        "current": [line for line in lines if line.row.in_visit] if is_today else [],
        "next": _next(lines, ctx.now) if is_today else None,
        "may_act": ctx.can(Scheduling.APPOINTMENT_BOOK),
        "counts": _counts(ctx, lines, is_today),
        "elsewhere": await render_slot(ctx, "day.waiting", practitioner_id=chosen) if is_today else [],
        "side": await render_slot(ctx, "day.side", practitioner_id=chosen, day=day),
        "notice": notice,
        "refresh": False,
    }


def _counts(ctx: Context, lines: Sequence[Line], is_today: bool) -> dict[str, int]:
    waiting = [line.row for line in lines if line.row.waiting]
    behind = max((minutes_since(row.start, ctx.now) for row in waiting), default=0) if is_today else 0
    return {
        "booked": sum(line.row.status != "noshow" for line in lines),
        "done": sum(line.row.status == "fulfilled" for line in lines),
        "waiting": len(waiting),
        "behind": behind,
    }
