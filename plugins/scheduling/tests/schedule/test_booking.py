"""Booking and moving on: one slot, one appointment, whatever is pressed how often by how many."""

import asyncio
import uuid
from datetime import timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import TimeoutError as PoolTimeout

from qanun.access import open_context
from qanun.api import AuditEvent, Conflict, Invalid, NotFound, get_locale
from qanun_scheduling import service
from qanun_scheduling.models import Appointment

from .conftest import at, book


async def _patiently(function, *args, **more):
    """Again when the pool of connections has none to give: the product says 503, and the person presses again."""
    while True:
        try:
            return await function(*args, **more)
        except PoolTimeout:
            await asyncio.sleep(0.05)


async def _count(clinic, *conditions):
    async with clinic.context("system") as ctx:
        rows = await ctx.db.execute(select(func.count(Appointment.id)).where(*conditions))
        return rows.scalar_one()


async def test_a_booked_slot_is_in_the_audit_and_announced(clinic):
    person = await clinic.patient()
    async with clinic.context("reception") as ctx:
        row = await service.book(
            ctx, patient_id=person.id, practitioner_id=clinic.practitioner.id, start=at(clinic), minutes=20,
            visit_mode="scheduling.in-person", reason="  Cough ", request_key="a-key-of-its-own",
        )  # fmt: skip
        assert row.status == "booked" and row.reason == "Cough" and row.end - row.start == timedelta(minutes=20)
        assert [event.type for event in ctx.events] == ["scheduling.appointment.booked"]
        assert ctx.notices[0][0] == "scheduling.appointment"
    async with clinic.context("system") as ctx:
        written = await ctx.db.execute(select(AuditEvent.type).where(AuditEvent.patient_id == person.id))
        assert "scheduling.appointment.book" in written.scalars().all()


async def test_the_same_form_sent_twice_is_one_appointment(clinic):
    person = await clinic.patient()
    first = await book(clinic, person, at(clinic), key="pressed-twice")
    again = await book(clinic, person, at(clinic), key="pressed-twice")
    assert first.id == again.id and await _count(clinic) == 1


async def test_a_form_that_was_changed_and_sent_again_does_not_pretend_to_have_booked(clinic):
    person, other = await clinic.patient(), await clinic.patient(given="Omar")
    await book(clinic, person, at(clinic), key="used-already")
    with pytest.raises(Conflict) as refused:
        await book(clinic, other, at(clinic, hour=11), key="used-already")
    assert refused.value.details["field"] == "request_key" and await _count(clinic) == 1


async def test_fifty_who_press_at_once_get_one_appointment_and_49_conflicts(clinic):
    person = await clinic.patient()
    start = at(clinic)

    async def press():
        try:
            return await _patiently(book, clinic, person, start)
        except Conflict as error:
            return error.details["field"]

    results = await asyncio.gather(*(press() for _ in range(50)))
    assert results.count("slot") == 49
    assert await _count(clinic) == 1


async def test_one_form_pressed_by_a_nervous_finger_fifty_times_is_one_appointment(clinic):
    person = await clinic.patient()
    start = at(clinic)
    results = await asyncio.gather(*(_patiently(book, clinic, person, start, key="the-one-form") for _ in range(50)))
    assert len({row.id for row in results}) == 1 and await _count(clinic) == 1


async def test_the_database_itself_refuses_what_overlaps_whatever_the_code_believes(clinic, monkeypatch):
    async def blind(*_):
        return False

    monkeypatch.setattr(service, "taken", blind)
    person = await clinic.patient()
    await book(clinic, person, at(clinic))
    with pytest.raises(Conflict) as refused:
        await book(clinic, person, at(clinic, hour=10, minute=10))
    assert refused.value.details["field"] == "slot" and await _count(clinic) == 1


async def test_slots_that_touch_are_both_free_slots_that_overlap_are_not(clinic):
    person = await clinic.patient()
    await book(clinic, person, at(clinic, hour=10))
    await book(clinic, person, at(clinic, hour=10, minute=20))
    with pytest.raises(Conflict):
        await book(clinic, person, at(clinic, hour=10, minute=10))
    assert await _count(clinic) == 2


async def test_another_clinic_books_the_same_time_and_sees_nothing_of_it(clinic, other_clinic):
    start = at(clinic)
    mine = await book(clinic, await clinic.patient(), start)
    theirs = await book(other_clinic, await other_clinic.patient(), start)
    assert mine.id != theirs.id and await _count(clinic) == 1 and await _count(other_clinic) == 1
    async with other_clinic.context("reception") as ctx:
        with pytest.raises(NotFound):
            await service.appointment_of(ctx, mine.id)
        with pytest.raises(NotFound):
            await service.set_status(ctx, mine.id, "checked-in")


async def test_nobody_books_a_patient_or_a_practitioner_of_another_clinic(clinic, other_clinic):
    stranger = await other_clinic.patient()
    with pytest.raises(NotFound):
        await book(clinic, stranger, at(clinic))
    with pytest.raises(NotFound):
        await book(clinic, await clinic.patient(), at(clinic), practitioner_id=other_clinic.practitioner.id)
    assert await _count(clinic) == 0 and await _count(other_clinic) == 0


async def test_a_cancelled_slot_is_free_again_and_says_why(clinic):
    person = await clinic.patient()
    row = await book(clinic, person, at(clinic))
    async with clinic.context("reception") as ctx:
        with pytest.raises(Invalid) as refused:
            await service.set_status(ctx, row.id, "cancelled", reason="  ")
        assert "reason" in refused.value.fields
        cancelled = await service.set_status(ctx, row.id, "cancelled", reason="Has a cold")
        assert cancelled.cancel_reason == "Has a cold" and cancelled.cancelled_at is not None
        assert [event.type for event in ctx.events] == ["scheduling.appointment.cancelled"]
    again = await book(clinic, person, at(clinic))
    assert again.id != row.id and again.status == "booked"


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("slot", {"minutes": 0}),
        ("slot", {"minutes": 500}),
        ("visit_mode", {"visit_mode": "nobody.offers-this"}),
        ("reason", {"reason": "x" * 501}),
        ("request_key", {"key": "short"}),
    ],
)
async def test_what_cannot_be_booked_names_its_field(clinic, field, values):
    with pytest.raises(Invalid) as refused:
        await book(clinic, await clinic.patient(), at(clinic), **values)
    assert set(refused.value.fields) == {field} and await _count(clinic) == 0


async def test_a_way_of_visit_of_a_plugin_that_is_switched_off_here_is_refused(clinic):
    person = await clinic.patient()
    off = frozenset({"telemedicine"})
    async with open_context(
        clinic.assembly.runtime, clinic.tenant, clinic.actor("reception"), get_locale("en"), disabled=off
    ) as ctx:
        with pytest.raises(Invalid) as refused:
            await service.book(
                ctx, patient_id=person.id, practitioner_id=clinic.practitioner.id, start=at(clinic), minutes=20,
                visit_mode="telemedicine.video", reason="", request_key="switched-off",
            )  # fmt: skip
    assert set(refused.value.fields) == {"visit_mode"}


@pytest.mark.parametrize("days", [-1, 800])
async def test_neither_yesterday_nor_the_far_future_is_booked(clinic, days):
    with pytest.raises(Invalid) as refused:
        await book(clinic, await clinic.patient(), at(clinic, days=days))
    assert set(refused.value.fields) == {"slot"}


async def test_an_appointment_moves_only_forward(clinic):
    row = await book(clinic, await clinic.patient(), at(clinic, days=0, hour=23, minute=30))
    async with clinic.context("reception") as ctx:
        moved = await service.set_status(ctx, row.id, "checked-in")
        arrived = moved.arrived_at
        assert arrived is not None
        with pytest.raises(Conflict):
            await service.set_status(ctx, row.id, "arrived")
        await service.set_status(ctx, row.id, "fulfilled")
        assert moved.arrived_at == arrived
        with pytest.raises(Conflict):
            await service.set_status(ctx, row.id, "cancelled", reason="too late")
        with pytest.raises(Conflict):
            await service.set_status(ctx, row.id, "nonsense")


async def test_who_did_not_come_and_comes_after_all_is_checked_in_unless_the_slot_is_gone(clinic):
    first, second = await book(clinic, await clinic.patient(), at(clinic)), await clinic.patient(given="Omar")
    async with clinic.context("reception") as ctx:
        await service.set_status(ctx, first.id, "noshow")
        await service.set_status(ctx, first.id, "checked-in")
    other = await book(clinic, second, at(clinic, hour=11))
    async with clinic.context("reception") as ctx:
        await service.set_status(ctx, other.id, "noshow")
    await book(clinic, second, at(clinic, hour=11))
    async with clinic.context("reception") as ctx:
        with pytest.raises(Conflict):
            await service.set_status(ctx, other.id, "checked-in")


async def test_calling_in_ends_the_wait_once(clinic):
    row = await book(clinic, await clinic.patient(), at(clinic))
    async with clinic.context("nurse") as ctx:
        called = await service.call_in(ctx, row.id)
        moment = called.called_at
        assert called.status == "checked-in" and called.arrived_at is not None and moment is not None
        assert (await service.call_in(ctx, row.id)).called_at == moment
    async with clinic.context("nurse") as ctx:
        await service.set_status(ctx, row.id, "cancelled", reason="went home")
        with pytest.raises(Conflict):
            await service.call_in(ctx, row.id)


async def test_a_doctor_who_starts_the_visit_opens_it_in_the_record_once_a_nurse_does_not(clinic):
    person = await clinic.patient()
    row = await book(clinic, person, at(clinic))
    async with clinic.context("nurse") as ctx:
        await service.start_visit(ctx, row.id)
        assert await ctx.records.search("Encounter", patient=person.id) == []
    for _ in range(2):
        async with clinic.context("doctor") as ctx:
            await service.start_visit(ctx, row.id)
    async with clinic.context("doctor") as ctx:
        found = await ctx.records.search("Encounter", patient=person.id)
    assert [visit["appointment"] for visit in found] == [[{"reference": f"Appointment/{row.id}"}]]
    assert found[0]["reasonCode"] == [{"text": "Cough"}]


async def test_an_unknown_appointment_is_nowhere(clinic):
    async with clinic.context("reception") as ctx:
        with pytest.raises(NotFound):
            await service.set_status(ctx, uuid.uuid4(), "checked-in")
