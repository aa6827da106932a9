"""From weekly hours to the slots of a day, in the clinic's own time. Pure: no database, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class Slot:
    """A bookable stretch, aware and in UTC."""

    practitioner_id: UUID
    start: datetime
    end: datetime


def local_moment(day: date, minutes: int, zone: ZoneInfo) -> datetime | None:
    """The moment so many minutes after local midnight; None when the clocks jump over it."""
    wall = datetime.combine(day, time()) + timedelta(minutes=minutes)
    moment = wall.replace(tzinfo=zone).astimezone(UTC)
    return moment if moment.astimezone(zone).replace(tzinfo=None) == wall else None


@dataclass(frozen=True, slots=True)
class Differing:
    """Days that differ from the week, as `ScheduleException` keeps them."""

    practitioner_id: UUID | None
    first: date
    last: date
    start: int | None
    end: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """The weeks of all practitioners (practitioner, weekday, start, end, slot minutes) and the days that differ."""

    weekly: Sequence[tuple[UUID, int, int, int, int]]
    differing: Sequence[Differing] = ()

    def spans(self, day: date, practitioner_id: UUID) -> list[tuple[int, int, int]]:
        """When that practitioner is there on `day`: (start, end, slot minutes). Their own differing day counts before the
        clinic's, hours before a day off: somebody may work on a holiday."""
        today = [one for one in self.differing if one.first <= day <= one.last]
        week = [(start, end, length) for who, _, start, end, length in self.weekly if who == practitioner_id]
        length = week[0][2] if week else 20
        own = [one for one in today if one.practitioner_id == practitioner_id]
        hours = sorted((one.start, one.end, length) for one in own if one.start is not None and one.end is not None)
        if hours:
            return hours
        if own or any(one.practitioner_id is None for one in today):
            return []
        return sorted(
            (start, end, minutes)
            for who, weekday, start, end, minutes in self.weekly
            if who == practitioner_id and weekday == day.weekday()
        )

    def hours(self, day: date) -> list[tuple[UUID, int, int, int, int]]:
        """Everybody's hours of `day`, as `slots_of_day` takes them."""
        people = dict.fromkeys(
            [*(row[0] for row in self.weekly), *(one.practitioner_id for one in self.differing if one.practitioner_id)]
        )
        return [(who, day.weekday(), *span) for who in people for span in self.spans(day, who)]


def slots_of_day(day: date, hours: Iterable[tuple[UUID, int, int, int, int]], zone: ZoneInfo) -> list[Slot]:
    """Slots of `day` from `hours` rows (practitioner, weekday, start, end, slot minutes), in order of time.

    A slot that the change to summer time swallows is left out; the hour that comes twice in autumn is offered once.
    """
    found = []
    for practitioner_id, weekday, start, end, length in hours:
        if weekday != day.weekday():
            continue
        for minute in range(start, end - length + 1, length):
            begins = local_moment(day, minute, zone)
            if begins is not None:
                found.append(Slot(practitioner_id, begins, begins + timedelta(minutes=length)))
    return sorted(found, key=lambda slot: (slot.start, str(slot.practitioner_id)))


def free_slots(slots: Sequence[Slot], taken: Iterable[tuple[UUID, datetime, datetime]], now: datetime) -> list[Slot]:
    """Slots that end in the future and touch no taken stretch of the same practitioner."""
    busy: dict[UUID, list[tuple[datetime, datetime]]] = {}
    for practitioner_id, start, end in taken:
        busy.setdefault(practitioner_id, []).append((start, end))
    return [
        slot
        for slot in slots
        if slot.end > now
        and not any(start < slot.end and slot.start < end for start, end in busy.get(slot.practitioner_id, ()))
    ]


def day_bounds(day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Local midnight to local midnight, in UTC."""
    start = datetime.combine(day, time(), zone).astimezone(UTC)
    return start, datetime.combine(day + timedelta(days=1), time(), zone).astimezone(UTC)
