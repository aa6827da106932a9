"""From weekly hours to slots: the clinic's own clock, also when it is changed, and what is taken is not offered."""

import itertools
import uuid
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from qanun_scheduling.slots import Slot, day_bounds, free_slots, local_moment, slots_of_day

BERLIN, AMMAN = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Amman")
WHO = uuid.uuid4()


def _walls(day, zone, start, end, minutes=30):
    hours = [(WHO, day.weekday(), start * 60, end * 60, minutes)]
    return [f"{slot.start.astimezone(zone):%H:%M}" for slot in slots_of_day(day, hours, zone)]


def test_hours_are_the_clinics_clock_in_every_zone():
    assert _walls(date(2026, 5, 12), AMMAN, 9, 11) == ["09:00", "09:30", "10:00", "10:30"]
    first = slots_of_day(date(2026, 5, 12), [(WHO, 1, 540, 600, 30)], AMMAN)[0]
    assert first.start == datetime(2026, 5, 12, 6, 0, tzinfo=UTC)


def test_the_hour_that_the_change_to_summer_time_swallows_is_not_offered():
    assert _walls(date(2026, 3, 29), BERLIN, 1, 4) == ["01:00", "01:30", "03:00", "03:30"]


def test_the_hour_that_comes_twice_in_autumn_is_offered_once():
    assert _walls(date(2026, 10, 25), BERLIN, 1, 4) == ["01:00", "01:30", "02:00", "02:30", "03:00", "03:30"]


def test_no_two_slots_of_one_practitioner_overlap_on_the_days_the_clock_changes():
    for day in (date(2026, 3, 29), date(2026, 10, 25)):
        slots = slots_of_day(day, [(WHO, day.weekday(), 0, 1440, 20)], BERLIN)
        assert all(one.end <= next_.start for one, next_ in itertools.pairwise(slots))


def test_a_days_bounds_are_23_and_25_hours_when_the_clock_changes():
    spring, autumn = day_bounds(date(2026, 3, 29), BERLIN), day_bounds(date(2026, 10, 25), BERLIN)
    assert spring[1] - spring[0] == timedelta(hours=23) and autumn[1] - autumn[0] == timedelta(hours=25)


def test_a_moment_that_does_not_exist_is_none():
    assert local_moment(date(2026, 3, 29), 150, BERLIN) is None


def test_another_weekday_and_a_rest_shorter_than_a_slot_are_not_offered():
    assert slots_of_day(date(2026, 5, 12), [(WHO, 2, 540, 600, 30)], AMMAN) == []
    assert len(slots_of_day(date(2026, 5, 12), [(WHO, 1, 540, 605, 30)], AMMAN)) == 2


def test_what_is_taken_by_the_same_practitioner_or_past_is_not_free():
    start = datetime(2026, 5, 12, 9, 0, tzinfo=UTC)
    step = timedelta(minutes=20)
    slots = [Slot(WHO, start + n * step, start + (n + 1) * step) for n in range(4)]
    taken = [(WHO, start + step, start + 2 * step), (uuid.uuid4(), start + 2 * step, start + 3 * step)]
    free = free_slots(slots, taken, now=start + step)
    assert [slot.start for slot in free] == [start + 2 * step, start + 3 * step]
