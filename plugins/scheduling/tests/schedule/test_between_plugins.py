"""What others learn of appointments and what their events do: idempotent, and to a patient only the own."""

import uuid

import pytest
from sqlalchemy import select

from qanun.api import Forbidden, Invalid, NotFound
from qanun_scheduling import service
from qanun_scheduling.handlers import HANDLERS
from qanun_telemedicine.models import Consultation

from .conftest import at, book

BY_EVENT = {handler.event: handler.handle for handler in HANDLERS}


async def _status(clinic, row):
    async with clinic.context("system") as ctx:
        stored = await service.appointment_of(ctx, row.id)
        return stored.status, stored.called_at is not None


@pytest.mark.parametrize(
    ("event", "payload", "after"),
    [
        ("telemedicine.patient.waiting", lambda row: {"appointment_id": str(row)}, ("arrived", False)),
        ("telemedicine.consultation.admitted", lambda row: {"appointment_id": str(row)}, ("checked-in", True)),
        ("telemedicine.consultation.ended", lambda row: {"appointment_id": str(row)}, ("fulfilled", False)),
        ("emr.encounter.signed", lambda row: {"appointment": f"Appointment/{row}"}, ("fulfilled", False)),
    ],
)
async def test_an_event_moves_its_appointment_once_and_a_second_delivery_changes_nothing(clinic, event, payload, after):
    row = await book(clinic, await clinic.patient(), at(clinic))
    for _ in range(2):
        async with clinic.context("system") as ctx:
            await BY_EVENT[event](ctx, payload(row.id) | {"unknown": "field"})
    assert await _status(clinic, row) == after
    async with clinic.context("system") as ctx:
        stored = await service.appointment_of(ctx, row.id)
        arrived = stored.arrived_at
        await BY_EVENT[event](ctx, payload(row.id))
        assert stored.arrived_at == arrived


@pytest.mark.parametrize("event", sorted(BY_EVENT))
async def test_events_without_an_appointment_or_of_another_clinic_do_nothing(clinic, other_clinic, event):
    row = await book(clinic, await clinic.patient(), at(clinic))
    async with other_clinic.context("system") as ctx:
        for payload in (
            {}, {"appointment_id": None, "appointment": ""}, {"appointment_id": str(row.id), "appointment": f"Appointment/{row.id}"},
            {"appointment_id": str(uuid.uuid4()), "appointment": f"Appointment/{uuid.uuid4()}"}, {"appointment": "Visit/1"},
        ):  # fmt: skip
            await BY_EVENT[event](ctx, payload)
    assert await _status(clinic, row) == ("booked", False)


async def test_an_event_that_comes_late_does_not_undo_the_desk(clinic):
    row = await book(clinic, await clinic.patient(), at(clinic))
    async with clinic.context("reception") as ctx:
        await service.set_status(ctx, row.id, "cancelled", reason="Ill")
    for handle in BY_EVENT.values():
        async with clinic.context("system") as ctx:
            await handle(ctx, {"appointment_id": str(row.id), "appointment": f"Appointment/{row.id}"})
    assert (await _status(clinic, row))[0] == "cancelled"


async def test_a_patient_sees_the_own_appointments_and_never_anothers(clinic):
    mine, other = await clinic.patient(), await clinic.patient(given="Omar")
    own, foreign = await book(clinic, mine, at(clinic)), await book(clinic, other, at(clinic, hour=11))
    async with clinic.context(actor=clinic.patient_actor(mine)) as ctx:
        assert [found["id"] for found in await ctx.records.search("Appointment")] == [str(own.id)]
        assert [found["id"] for found in await ctx.records.search("Appointment", patient=other.id)] == [str(own.id)]
        assert (await ctx.records.read("Appointment", own.id))["status"] == "booked"
        with pytest.raises(NotFound):
            await ctx.records.read("Appointment", foreign.id)
        with pytest.raises(Forbidden):
            await ctx.records.update("Appointment", own.id, {"status": "cancelled", "cancelationReason": "x"})


async def test_another_clinic_finds_nothing(clinic, other_clinic):
    person = await clinic.patient()
    row = await book(clinic, person, at(clinic))
    async with other_clinic.context("doctor") as ctx:
        assert await ctx.records.search("Appointment", patient=person.id) == []
        with pytest.raises(NotFound):
            await ctx.records.read("Appointment", row.id)


async def test_staff_ask_by_day_practitioner_and_status_but_never_for_everything(clinic):
    row = await book(clinic, await clinic.patient(), at(clinic))
    day = at(clinic).astimezone(clinic.tenant.zone).date()
    async with clinic.context("doctor") as ctx:
        asked = {"date": day, "practitioner": clinic.practitioner.id, "status": ["booked"]}
        found = await ctx.records.search("Appointment", **asked)
        assert [one["id"] for one in found] == [str(row.id)]
        assert await ctx.records.search("Appointment", **asked | {"status": "fulfilled"}) == []
        assert await ctx.records.search("Appointment", after=at(clinic, days=2)) == []
        with pytest.raises(Invalid):
            await ctx.records.search("Appointment")
        changed = await ctx.records.update("Appointment", row.id, {"status": "checked-in"})
        assert changed["status"] == "checked-in"


async def test_a_cancelled_video_appointment_cancels_its_call_through_the_queue(clinic):
    """The whole way: announced here, delivered by the worker, moved in the other plugin."""
    row = await book(clinic, await clinic.patient(), at(clinic), visit_mode="telemedicine.video")
    async with clinic.context("reception") as ctx:
        await service.set_status(ctx, row.id, "cancelled", reason="Ill")
    await clinic.run_jobs()
    async with clinic.context("doctor") as ctx:
        held = await ctx.db.execute(select(Consultation.state).where(Consultation.appointment_id == row.id))
        assert held.scalar_one() == "cancelled"
