"""When practitioners are there: the week, the days that differ — and no appointment is dropped by changing either."""

import uuid
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import select

from qanun.audit import AuditEvent
from qanun_scheduling import reading
from qanun_scheduling.models import Appointment, Schedule
from qanun_scheduling.slots import Differing, Plan
from qanun_scheduling.working_hours import as_clock, clock_minutes

from .conftest import at, book, open_hours

HOURS = "/scheduling/hours"
WHO, OTHER = uuid.uuid4(), uuid.uuid4()
DAY = date(2026, 5, 12)  # a Tuesday


def _week(clinic, **more):
    """The whole week as it is typed, 9 to 17 with a break, and what differs."""
    fields = {"slot_minutes": "20"}
    for day in range(7):
        fields |= {
            f"start-{day}-1": "09:00",
            f"end-{day}-1": "12:30",
            f"start-{day}-2": "13:30",
            f"end-{day}-2": "17:00",
        }
    return f"{HOURS}/week/{clinic.practitioner.id}", fields | more


async def _free(clinic, days=1):
    async with clinic.context("reception") as ctx:
        day = ctx.local(ctx.now).date() + timedelta(days=days)
        found = await reading.offers(ctx, day, 1)
        return [f"{ctx.local(slot.start):%H:%M}" for slot in found[day].free]


def test_a_practitioners_own_day_counts_before_the_clinics_and_hours_before_a_day_off():
    weekly = [(WHO, 1, 540, 1020, 30), (OTHER, 1, 600, 720, 20)]
    shut = Differing(None, DAY, DAY, None, None)
    own_hours, away = Differing(WHO, DAY, DAY, 600, 660), Differing(WHO, DAY, DAY + timedelta(days=3), None, None)
    assert Plan(weekly).spans(DAY, WHO) == [(540, 1020, 30)]
    assert Plan(weekly, [shut]).hours(DAY) == []
    assert Plan(weekly, [shut, own_hours]).hours(DAY) == [(WHO, 1, 600, 660, 30)], "somebody works on a holiday"
    assert Plan(weekly, [away]).hours(DAY) == [(OTHER, 1, 600, 720, 20)]
    assert Plan(weekly, [away, own_hours]).spans(DAY, WHO) == [(600, 660, 30)]
    assert Plan(weekly, [away]).spans(DAY - timedelta(days=7), WHO) == [(540, 1020, 30)], "only on those days"
    assert Plan(
        [],
        [
            Differing(
                WHO,
                DAY,
                DAY,
                600,
                640,
            )
        ],
    ).hours(DAY) == [(WHO, 1, 600, 640, 20)]


@pytest.mark.parametrize(
    ("typed", "minutes"), [("08:30", 510), ("8.30", 510), ("0830", 510), ("٠٨:٣٠", 510), ("24:00", 1440)]
)
def test_a_time_is_understood_as_people_type_it(typed, minutes):
    assert clock_minutes(typed) == minutes
    assert clock_minutes(as_clock(minutes)) == minutes


@pytest.mark.parametrize("typed", ["", "8", "25:00", "08:60", "24:01", "noon", "-1:00"])
def test_what_is_no_time_is_refused(typed):
    with pytest.raises(ValueError):
        clock_minutes(typed)


async def test_a_week_is_saved_and_its_slots_are_offered(clinic, other_clinic):
    desk = await clinic.client("reception")
    path, fields = _week(clinic)
    saved = await desk.post(path, data=fields)
    assert (saved.status_code, saved.headers["location"]) == (303, f"{HOURS}?practitioner={clinic.practitioner.id}")
    free = await _free(clinic)
    assert free[0] == "09:00" and "12:20" not in free and "13:30" in free and free[-1] == "16:30"
    shown = (await desk.get(HOURS)).text
    assert 'value="13:30"' in shown and clinic.practitioner.name in shown
    await desk.post(path, data={"slot_minutes": "30"})
    assert await _free(clinic) == [], "an empty week"
    async with clinic.context("system") as ctx:
        events = select(AuditEvent.type).where(AuditEvent.type == "scheduling.hours.change")
        assert len((await ctx.db.execute(events)).all()) == 2
    async with other_clinic.context("system") as ctx:
        assert (await ctx.db.execute(select(Schedule))).first() is None


async def test_a_week_that_cannot_be_names_every_field_keeps_what_was_typed_and_changes_nothing(clinic):
    await open_hours(clinic)
    desk, before = await clinic.client("reception"), await _free(clinic)
    path, fields = _week(
        clinic, **{"start-0-1": "morning", "end-1-1": "08:00", "start-2-2": "11:00", "slot_minutes": "3", "end-3-2": ""}
    )
    refused = await desk.post(path, data=fields)
    assert refused.status_code == 422 and 'value="morning"' in refused.text and 'value="11:00"' in refused.text
    for field in ("start-0-1", "end-1-1", "start-2-2", "end-3-2"):
        assert f'id="{field}-error"' in refused.text, field
    assert "Between 5 and 240" in refused.text
    assert await _free(clinic) == before


async def test_an_appointment_outside_the_new_hours_stays_and_is_shown(clinic, other_clinic):
    await open_hours(clinic)
    patient = await clinic.patient()
    early = await book(clinic, patient, at(clinic, hour=8))
    kept = await book(clinic, patient, at(clinic, hour=10))
    desk = await clinic.client("reception")
    assert "Booked outside these hours" not in (await desk.get(HOURS)).text
    path, fields = _week(clinic)
    await desk.post(path, data=fields)
    shown = (await desk.get(HOURS)).text
    assert "Booked outside these hours" in shown and shown.count(patient.name) == 1
    tomorrow = f"{at(clinic).astimezone(clinic.tenant.zone).date()}"
    await desk.post(f"{HOURS}/exceptions", data={"who": str(clinic.practitioner.id), "first": tomorrow})
    assert (await desk.get(HOURS)).text.count(patient.name) == 2, "a day off puts the other one outside, too"
    async with clinic.context("system") as ctx:
        rows = (await ctx.db.execute(select(Appointment.id, Appointment.status))).all()
        assert {(row.id, row.status) for row in rows} == {(early.id, "booked"), (kept.id, "booked")}


async def test_days_off_other_hours_and_a_shut_clinic_change_what_is_offered(clinic, other_clinic):
    await open_hours(clinic)
    await open_hours(other_clinic)
    desk, who = await clinic.client("reception"), str(clinic.practitioner.id)
    day = {n: f"{at(clinic, days=n).astimezone(clinic.tenant.zone).date()}" for n in range(1, 6)}
    for data in (
        {"who": who, "first": day[1], "last": day[2], "note": "Conference"},
        {"who": who, "first": day[3], "start": "14:00", "end": "15:00"},
        {"who": "", "first": day[4], "note": "Eid"},
    ):
        assert (await desk.post(f"{HOURS}/exceptions", data=data)).status_code == 303
    assert [await _free(clinic, n) for n in (1, 2, 4)] == [[], [], []]
    assert await _free(clinic, 3) == ["14:00", "14:20", "14:40"]
    assert len(await _free(clinic, 5)) == 30 and len(await _free(other_clinic, 4)) == 30
    shown = (await desk.get(HOURS)).text
    assert "Conference" in shown and "The clinic is shut" in shown
    removed = shown.split(f"{HOURS}/exceptions/")[1].split("/remove")[0]
    theirs = await other_clinic.client("reception")
    assert (await theirs.post(f"{HOURS}/exceptions/{removed}/remove")).status_code == 404
    assert "Conference" not in (await theirs.get(HOURS)).text
    assert (await desk.post(f"{HOURS}/exceptions/{removed}/remove", data={"practitioner": who})).status_code == 303
    assert len(await _free(clinic, 1)) == 30


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"first": "soon"}, "first"),
        ({"first": "2030-01-01", "last": "2029-01-01"}, "last"),
        ({"first": "2020-01-01"}, "last"),
        ({"first": "2026-12-24", "start": "9", "end": "10:00"}, "start"),
        ({"first": "2026-12-24", "start": "12:00", "end": "10:00"}, "end"),
        ({"who": "", "first": "2026-12-24", "start": "09:00", "end": "10:00"}, "who"),
        ({"who": "nobody", "first": "2026-12-24"}, "who"),
    ],
)
async def test_days_that_cannot_be_are_named(clinic, data, field):
    desk = await clinic.client("reception")
    sent = {"who": str(clinic.practitioner.id), "note": "typed by hand", **data}
    refused = await desk.post(f"{HOURS}/exceptions", data=sent)
    assert refused.status_code == 422 and f'id="{field}-error"' in refused.text and "typed by hand" in refused.text


async def test_another_clinics_practitioner_is_not_here(clinic, other_clinic):
    desk, theirs = await clinic.client("reception"), other_clinic.practitioner.id
    _, fields = _week(clinic)
    assert (await desk.post(f"{HOURS}/week/{theirs}", data=fields)).status_code == 404
    assert (await desk.get(f"{HOURS}?practitioner={theirs}")).status_code == 404
    day = f"{datetime.now(UTC).date() + timedelta(days=1)}"
    assert (await desk.post(f"{HOURS}/exceptions", data={"who": str(theirs), "first": day})).status_code == 404
    for role in ("doctor", "nurse", "lab-technician"):
        assert (await (await clinic.client(role)).post(f"{HOURS}/exceptions", data={"first": day})).status_code == 403
