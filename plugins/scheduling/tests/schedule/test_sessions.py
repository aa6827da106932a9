"""A group of a telemedicine clinic stands in the calendar of who leads it: it keeps the slot, shows there, and gives it back."""

import uuid
from datetime import timedelta

import pytest
from sqlalchemy import select

from qanun.api import Conflict, Forbidden, Invalid, NotFound
from qanun.audit import AuditEvent
from qanun_scheduling import reading, service, sessions
from qanun_scheduling.models import Appointment
from qanun_telemedicine.models import Consultation
from qanun_telemedicine.service import call_of, together

from .conftest import at, book, open_hours

TITLE = "Living with diabetes"


async def plan(clinic, start, *, minutes=60, role="reception"):
    async with clinic.context(role) as ctx:
        return await together.arrange(ctx, TITLE, clinic.practitioner.id, start, minutes)


async def kept(clinic, call) -> Appointment:
    async with clinic.context("system") as ctx:
        return await service.appointment_of(ctx, call.appointment_id)


async def test_a_group_takes_the_slots_of_who_leads_it_and_of_nobody_else(clinic, other_clinic):
    await open_hours(clinic)
    await open_hours(other_clinic)
    start = at(clinic, hour=10)
    call = await plan(clinic, start)
    day = start.astimezone(clinic.tenant.zone).date()
    async with clinic.context("reception") as ctx:
        offer = (await reading.offers(ctx, day, 1))[day]
    taken = {slot.start for slot in offer.all} - {slot.start for slot in offer.free}
    assert taken == {start + timedelta(minutes=minutes) for minutes in (0, 20, 40)}
    with pytest.raises(Conflict) as refused:
        await book(clinic, await clinic.patient(), start + timedelta(minutes=40))
    assert refused.value.details["field"] == "slot"
    await book(clinic, await clinic.patient(), start + timedelta(minutes=60))
    await book(other_clinic, await other_clinic.patient(), start)
    await plan(other_clinic, start + timedelta(hours=1))
    async with other_clinic.context("reception") as ctx:
        with pytest.raises(NotFound):
            await service.appointment_of(ctx, call.appointment_id)
        assert [one.id for one in await sessions.of_day(ctx, day)] != [call.appointment_id]


async def test_a_group_on_a_booked_slot_is_refused_and_nothing_of_it_stays(clinic):
    start = at(clinic, hour=10)
    await book(clinic, await clinic.patient(), start + timedelta(minutes=40))
    with pytest.raises(Invalid) as refused:
        await plan(clinic, start)
    assert set(refused.value.fields) == {"starts_at"}
    await plan(clinic, start, minutes=30)
    with pytest.raises(Invalid):
        await plan(clinic, start + timedelta(minutes=15), minutes=30)
    async with clinic.context("system") as ctx:
        assert len((await ctx.db.execute(select(Consultation))).all()) == 1
        assert len((await ctx.db.execute(select(Appointment))).all()) == 2
    reception = await clinic.client("reception")
    typed = {
        "title": "Another one", "practitioner": str(clinic.practitioner.id), "minutes": "60",
        "date": start.astimezone(clinic.tenant.zone).date().isoformat(), "time": "10:00",
    }  # fmt: skip
    page = await reception.post("/telemedicine/groups", data=typed)
    assert page.status_code == 422 and "something else at this time" in page.text and 'value="Another one"' in page.text


async def test_the_database_itself_keeps_a_group_and_an_appointment_apart(clinic, monkeypatch):
    async def blind(*_):
        return False

    monkeypatch.setattr(sessions, "taken", blind)
    monkeypatch.setattr(service, "taken", blind)
    start = at(clinic, hour=10)
    await book(clinic, await clinic.patient(), start)
    with pytest.raises(Invalid):
        await plan(clinic, start)
    await plan(clinic, start + timedelta(hours=1))
    with pytest.raises(Conflict):
        await book(clinic, await clinic.patient(), start + timedelta(hours=1))


async def test_it_is_seen_in_the_day_and_on_the_desk_and_in_no_list_of_patients(clinic, other_clinic):
    await open_hours(clinic)
    start = at(clinic, hour=10)
    call = await plan(clinic, start)
    day = start.astimezone(clinic.tenant.zone).date().isoformat()
    doctor, reception = await clinic.client("doctor"), await clinic.client("reception")
    way = f"/telemedicine/appointments/{call.appointment_id}"
    for client, path in ((doctor, f"/scheduling/day?date={day}"), (reception, f"/scheduling/desk?date={day}")):
        page = (await client.get(path)).text
        assert TITLE in page and way in page and "Group by video" in page, path
    led = await doctor.get(way)
    assert led.status_code == 303 and led.headers["location"].endswith(f"/telemedicine/groups/{call.id}")
    foreign = await other_clinic.client("nurse")
    assert TITLE not in (await foreign.get(f"/scheduling/day?date={day}")).text
    assert (await foreign.get(way)).status_code == 404
    async with clinic.context("reception") as ctx:
        assert await reading.day(ctx, start.astimezone(clinic.tenant.zone).date()) == []
    # It is nobody's appointment: no card of a patient, no visit to start, not offered when booking one.
    assert (await reception.get(f"/scheduling/desk?appointment={call.appointment_id}")).status_code == 404
    assert (await doctor.post(f"/scheduling/appointments/{call.appointment_id}/start")).status_code == 404
    person = await clinic.patient()
    assert "telemedicine.group" not in (await reception.get(f"/scheduling/desk?patient={person.id}")).text
    with pytest.raises(Invalid):
        await book(clinic, person, at(clinic, hour=15), visit_mode=together.GROUP_MODE)
    async with clinic.context(actor=clinic.patient_actor(person)) as ctx:
        assert await ctx.records.search("Appointment") == []
        with pytest.raises(NotFound):
            await ctx.records.read("Appointment", call.appointment_id)


async def test_a_group_that_ends_early_gives_back_what_is_left(clinic):
    async with clinic.context("doctor") as ctx:
        start = ctx.now - timedelta(minutes=30)
    call = await plan(clinic, start, minutes=120)
    doctor = await clinic.client("doctor")
    assert (await doctor.post(f"/telemedicine/groups/{call.id}/begin")).status_code == 303
    await clinic.run_jobs()
    running = await kept(clinic, call)
    assert (running.status, running.end) == ("checked-in", start + timedelta(minutes=120))
    assert (await doctor.post(f"/telemedicine/groups/{call.id}/end")).status_code == 303
    await clinic.run_jobs()
    over = await kept(clinic, call)
    async with clinic.context("system") as ctx:
        ended = (await call_of(ctx, call.id)).ended_at
        await sessions.release(ctx, over.id, held=True, at=ctx.now)
    assert (over.status, over.end) == ("fulfilled", ended)
    assert (await kept(clinic, call)).end == ended, "a second delivery changes nothing"
    await book(clinic, await clinic.patient(), start + timedelta(minutes=60))


@pytest.mark.parametrize("role", ["reception", "doctor"])
async def test_a_group_that_is_called_off_frees_its_slot_by_whoever_may_plan_it(clinic, other_clinic, role):
    start = at(clinic, hour=10)
    call = await plan(clinic, start)
    path = f"/telemedicine/groups/{call.id}/cancel"
    assert (await (await other_clinic.client(role)).post(path)).status_code == 404
    assert (await (await clinic.client("administrator")).post(path)).status_code == 403
    staff = await clinic.client(role)
    assert "Call the group off" in (await staff.get(f"/telemedicine/groups/{call.id}")).text
    assert (await staff.post(path)).status_code == 303
    await clinic.run_jobs()
    assert (await kept(clinic, call)).status == "cancelled"
    await book(clinic, await clinic.patient(), start)
    assert (await staff.post(path)).status_code == 303, "twice changes nothing"


async def test_one_that_runs_is_not_called_off(clinic):
    async with clinic.context("doctor") as ctx:
        start = ctx.now
    call = await plan(clinic, start)
    doctor = await clinic.client("doctor")
    assert (await doctor.post(f"/telemedicine/groups/{call.id}/begin")).status_code == 303
    refused = await doctor.post(f"/telemedicine/groups/{call.id}/cancel")
    assert refused.status_code == 409 and "has begun" in refused.text
    async with clinic.context("doctor") as ctx:
        assert (await call_of(ctx, call.id)).state == "in-progress"


async def test_a_group_whose_time_is_cancelled_in_the_calendar_does_not_take_place(clinic):
    start = at(clinic, hour=10)
    call = await plan(clinic, start)
    person = await clinic.patient()
    async with clinic.context("reception") as ctx:
        visit = await together.add(ctx, await call_of(ctx, call.id), person.id)
    async with clinic.context("reception") as ctx:
        gone = {"status": "cancelled", "cancelationReason": "Ill"}
        await ctx.records.update("Appointment", call.appointment_id, gone)
    await clinic.run_jobs()
    async with clinic.context("doctor") as ctx:
        found = (await ctx.db.execute(select(Consultation))).scalars()
        assert {one.id: one.state for one in found} == {call.id: "cancelled", visit.id: "cancelled"}


async def test_only_sessions_are_made_from_outside_and_only_by_who_may_book(clinic):
    start = at(clinic, hour=10)
    asked = {
        "description": TITLE, "identifier": [{"value": f"test/{uuid.uuid4()}"}],
        "appointmentType": {"text": together.GROUP_MODE}, "start": start.isoformat(),
        "end": (start + timedelta(hours=1)).isoformat(),
        "participant": [{"actor": {"reference": f"Practitioner/{clinic.practitioner.id}"}}],
    }  # fmt: skip
    person = await clinic.patient()
    wrong = {
        "participant": [*asked["participant"], {"actor": {"reference": f"Patient/{person.id}"}}],
        "start": "soon", "end": start.isoformat(), "description": " ", "identifier": [],
        "appointmentType": {"text": "telemedicine.video"},
    }  # fmt: skip
    async with clinic.context("reception") as ctx:
        for name, value in wrong.items():
            with pytest.raises(Invalid):
                await ctx.records.create("Appointment", asked | {name: value})
        with pytest.raises(Invalid):
            await ctx.records.create(
                "Appointment", asked | {"participant": [{"actor": {"reference": "Practitioner/x"}}]}
            )
    async with clinic.context("administrator") as ctx:
        with pytest.raises(Forbidden):
            await ctx.records.create("Appointment", asked)
    async with clinic.context("reception") as ctx:
        made = await ctx.records.create("Appointment", asked)
        assert (await ctx.records.create("Appointment", asked))["id"] == made["id"], "asking again is harmless"
        assert "subject" not in made and made["status"] == "booked"
    row = await book(clinic, person, at(clinic, hour=15))
    async with clinic.context("system") as ctx:
        with pytest.raises(NotFound):
            await sessions.release(ctx, row.id, held=False, at=ctx.now)
        lines = (
            await ctx.db.execute(select(AuditEvent).where(AuditEvent.type == "scheduling.appointment.book"))
        ).scalars()
        assert sorted(line.patient_id is None for line in lines) == [False, True]
