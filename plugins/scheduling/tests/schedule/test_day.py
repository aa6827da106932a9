"""The doctor's day: own appointments, who waits, what can be done; nothing of another clinic."""

import uuid
from datetime import timedelta

from sqlalchemy import select

from qanun.api import Practitioner, new_id
from qanun_scheduling import service
from qanun_scheduling.agenda import wait_tone
from qanun_scheduling.models import Appointment

from .conftest import at, book


async def _second_doctor(clinic):
    async with clinic.context("system") as ctx:
        other = Practitioner(id=new_id(), name="Dr Second", specialty="Internal medicine")
        ctx.db.add(other)
    return other


async def _set(clinic, row, **values):
    async with clinic.context("system") as ctx:
        stored = await service.appointment_of(ctx, row.id)
        for name, value in values.items():
            setattr(stored, name, value(ctx.now) if callable(value) else value)


async def test_a_doctor_sees_the_own_day_a_nurse_everybodys_or_the_one_she_picks(clinic):
    second = await _second_doctor(clinic)
    await book(clinic, await clinic.patient(given="Mine"), at(clinic))
    await book(clinic, await clinic.patient(given="Colleague"), at(clinic), practitioner_id=second.id)
    tomorrow = at(clinic).astimezone(clinic.tenant.zone).date().isoformat()
    doctor, nurse = await clinic.client("doctor"), await clinic.client("nurse")
    own = (await doctor.get(f"/scheduling/day?date={tomorrow}")).text
    assert "Mine" in own and "Colleague" not in own
    everybody = (await nurse.get(f"/scheduling/day?date={tomorrow}")).text
    assert "Mine" in everybody and "Colleague" in everybody
    picked = (await nurse.get(f"/scheduling/day?date={tomorrow}&practitioner={second.id}")).text
    assert "Mine" not in picked and "Colleague" in picked
    assert (await doctor.get(f"/scheduling/day?practitioner={second.id}")).status_code == 404


async def test_the_day_is_closed_to_reception_and_to_strangers(clinic):
    assert (await (await clinic.client("reception")).get("/scheduling/day")).status_code == 403
    assert (await clinic.anonymous().get("/scheduling/day")).status_code == 303


async def test_another_clinic_sees_nothing_of_the_day(clinic, other_clinic):
    await book(clinic, await clinic.patient(given="Hidden"), at(clinic))
    client = await other_clinic.client("nurse")
    tomorrow = at(clinic).astimezone(clinic.tenant.zone).date().isoformat()
    for path in (f"/scheduling/day?date={tomorrow}", f"/scheduling/day/list?date={tomorrow}"):
        assert "Hidden" not in (await client.get(path)).text
    assert (await client.get(f"/scheduling/day?practitioner={clinic.practitioner.id}")).status_code == 404


async def test_a_bad_day_or_practitioner_is_refused_by_name(clinic):
    client = await clinic.client("nurse")
    for query, field in (
        ("date=2026-13-40", "date"), ("date=0001-01-01", "date"), ("date=9999-12-31", "date"), ("practitioner=x", "practitioner"),
    ):  # fmt: skip
        answer = await client.get(f"/scheduling/day?{query}", headers={"accept": "application/json"})
        assert answer.status_code == 422 and set(answer.json()["fields"]) == {field}, query
    assert (await client.get(f"/scheduling/day?practitioner={uuid.uuid4()}")).status_code == 404
    assert (await client.get("/scheduling/day?date=٢٠٢٦-٠٥-١٢")).status_code == 200


def test_a_wait_is_green_under_15_minutes_amber_to_30_red_above():
    assert [wait_tone(minutes) for minutes in (0, 14, 15, 30, 31)] == ["ok", "ok", "warn", "warn", "crit"]


async def test_who_waits_is_listed_with_minutes_and_next_until_called_in(clinic):
    person = await clinic.patient(given="Patience")
    row = await book(clinic, person, at(clinic, days=0, hour=23, minute=30))
    await _set(clinic, row, start=lambda now: now - timedelta(minutes=5), end=lambda now: now + timedelta(minutes=15),
               status="checked-in", arrived_at=lambda now: now - timedelta(minutes=40))  # fmt: skip
    doctor = await clinic.client("doctor")
    shown = (await doctor.get("/scheduling/day")).text
    assert "q-wait w3" in shown and ">40<" in shown and "Start visit" in shown
    started = await doctor.post(f"/scheduling/appointments/{row.id}/start", data={"view": "day"})
    assert started.status_code == 303 and started.headers["location"] == f"/emr/patients/{person.id}"
    after = (await doctor.get("/scheduling/day/list", headers={"hx-request": "true"})).text
    assert "q-wait" not in after and "In the room" in after and 'id="fulfilled-' in after
    assert "<html" not in after and 'hx-swap-oob="true"' in after


async def test_finishing_by_htmx_gives_the_day_back_by_a_plain_form_a_redirect(clinic):
    row = await book(clinic, await clinic.patient(), at(clinic))
    day = at(clinic).astimezone(clinic.tenant.zone).date().isoformat()
    await _set(clinic, row, status="checked-in")
    doctor = await clinic.client("doctor")
    form = {"status": "fulfilled", "view": "day", "date": day}
    answer = await doctor.post(f"/scheduling/appointments/{row.id}/status", data=form, headers={"hx-request": "true"})
    assert answer.status_code == 200 and 'id="scheduling-day"' in answer.text and "<html" not in answer.text
    again = await doctor.post(f"/scheduling/appointments/{row.id}/status", data=form)
    assert again.status_code == 303 and again.headers["location"] == f"/scheduling/day?date={day}"


async def test_a_step_that_somebody_overtook_says_so_and_shows_how_it_stands(clinic):
    row = await book(clinic, await clinic.patient(), at(clinic))
    await _set(clinic, row, status="cancelled")
    doctor = await clinic.client("doctor")
    for headers in ({}, {"hx-request": "true"}):
        answer = await doctor.post(
            f"/scheduling/appointments/{row.id}/status", data={"status": "fulfilled", "view": "day"}, headers=headers
        )
        assert answer.status_code == 409 and "changed this appointment meanwhile" in answer.text
    started = await doctor.post(f"/scheduling/appointments/{row.id}/start", data={"view": "day"})
    assert started.status_code == 409


async def test_unknown_and_foreign_appointments_are_equally_nowhere(clinic, other_clinic):
    row = await book(clinic, await clinic.patient(), at(clinic))
    client = await other_clinic.client("doctor")
    for appointment in (row.id, uuid.uuid4()):
        for step in ("status", "start"):
            answer = await client.post(f"/scheduling/appointments/{appointment}/{step}", data={"status": "checked-in"})
            assert answer.status_code == 404
    async with clinic.context("system") as ctx:
        assert (
            await ctx.db.execute(select(Appointment.status).where(Appointment.id == row.id))
        ).scalar_one() == "booked"


async def test_a_video_visit_leads_to_its_call_and_not_to_starting_a_visit(clinic):
    row = await book(clinic, await clinic.patient(given="Remote"), at(clinic), visit_mode="telemedicine.video")
    day = at(clinic).astimezone(clinic.tenant.zone).date().isoformat()
    shown = (await (await clinic.client("doctor")).get(f"/scheduling/day?date={day}")).text
    assert f"/telemedicine/appointments/{row.id}" in shown and f"/scheduling/appointments/{row.id}/start" not in shown


async def test_an_empty_day_says_what_will_happen(clinic):
    assert "Nobody is booked" in (await (await clinic.client("doctor")).get("/scheduling/day")).text
