"""The verbs of the schedule: book, check in, call in, cancel."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from qanun.api import (
    N_,
    BookedAppointment,
    Conflict,
    Context,
    Forbidden,
    Invalid,
    NotFound,
    Practitioner,
    ResourceRef,
    VisitMode,
    new_id,
    patient,
)
from qanun_scheduling.events import AppointmentBooked, AppointmentCancelled
from qanun_scheduling.models import IN_PERSON, LIVE, Appointment

TAKEN = N_("This slot has just been taken. Choose another one; everything else is kept.")
USED = N_("This form has already booked an appointment. Check what is chosen and press Book again for a second one.")
_NEXT = {
    "booked": {"arrived", "checked-in", "fulfilled", "cancelled", "noshow"},
    "arrived": {"checked-in", "fulfilled", "cancelled", "noshow"},
    "checked-in": {"fulfilled", "cancelled"},
    "noshow": {"checked-in"},
}


async def practitioner_of(ctx: Context, practitioner_id: UUID, *, lock: bool = False) -> Practitioner:
    """Raises NotFound for an unknown id, another clinic's, and somebody who has left."""
    statement = select(Practitioner).where(Practitioner.id == practitioner_id, Practitioner.active)
    if lock:
        statement = statement.with_for_update(key_share=True)
    found = (await ctx.db.execute(statement)).scalar_one_or_none()
    if found is None:
        raise NotFound("practitioner")
    return found


async def book(
    ctx: Context,
    *,
    patient_id: UUID,
    practitioner_id: UUID,
    start: datetime,
    minutes: int,
    visit_mode: str,
    reason: str,
    request_key: str,
) -> Appointment:
    """Book, in one transaction with what the visit mode prepares. The same `request_key` gives the same appointment.

    Raises Invalid naming the field, NotFound for people who are not this clinic's, Conflict when the slot is taken — which
    the database decides, also between fifty who press at once — or the key has already booked something else; its
    `details["field"]` says which.
    """
    faults: dict[str, object] = {}
    if not 8 <= len(request_key) <= 80:
        faults["request_key"] = N_("Open the page again and repeat the booking.")
    if start.tzinfo is None or not 5 <= minutes <= 240:
        faults["slot"] = N_("Choose a slot.")
    elif start < ctx.now - timedelta(hours=4) or start > ctx.now + timedelta(days=730):
        faults["slot"] = N_("Choose a slot between today and two years from now.")
    mode = ctx.registry.get(VisitMode, visit_mode)
    if mode is None or not mode.bookable or visit_mode.split(".", maxsplit=1)[0] not in ctx.enabled:
        faults["visit_mode"] = N_("Choose one of the listed values.")
    if len(reason) > 500:
        faults["reason"] = N_("This text is too long.")
    if faults:
        raise Invalid(faults)
    person = await patient(ctx, patient_id)
    # In line behind whoever books with the same practitioner: two that wait for one another inside the exclusion
    # constraint would be a deadlock. What is read from here on is what the one before has left.
    await practitioner_of(ctx, practitioner_id, lock=True)
    known = select(Appointment).where(Appointment.request_key == request_key)
    repeated = (await ctx.db.execute(known)).scalar_one_or_none()
    if repeated is not None:
        return _the_same(repeated, person.id, practitioner_id, start)
    start = start.astimezone(UTC)
    end = start + timedelta(minutes=minutes)
    if await taken(ctx, practitioner_id, start, end):
        raise Conflict("the slot is taken", field="slot")
    appointment = Appointment(
        id=new_id(),
        patient_id=person.id,
        practitioner_id=practitioner_id,
        start=start,
        end=end,
        status="booked",
        visit_mode=visit_mode,
        reason=reason.strip(),
        request_key=request_key,
        booked_by=ctx.actor.id,
    )
    try:
        async with ctx.db.begin_nested():
            ctx.db.add(appointment)
            await ctx.db.flush()
    except IntegrityError as error:
        again = (await ctx.db.execute(known)).scalar_one_or_none()
        if again is not None:
            return _the_same(again, person.id, practitioner_id, start)
        if "ex_scheduling_appointment_slot" in str(error.orig):
            raise Conflict("the slot is taken", field="slot") from None
        raise
    if mode is not None and mode.prepare is not None:
        await mode.prepare(
            ctx,
            BookedAppointment(
                id=appointment.id,
                patient_id=person.id,
                practitioner_id=practitioner_id,
                start=appointment.start,
                end=appointment.end,
            ),
        )
    ctx.audit(
        "scheduling.appointment.book",
        patient_id=person.id,
        entity=ResourceRef("Appointment", appointment.id),
        detail={"mode": visit_mode},
    )
    ctx.emit(
        AppointmentBooked(
            appointment_id=appointment.id,
            patient_id=person.id,
            practitioner_id=practitioner_id,
            visit_mode=visit_mode,
            start=appointment.start,
        )
    )
    ctx.notify("scheduling.appointment", appointment=appointment.id, practitioner=practitioner_id)
    return appointment


async def taken(ctx: Context, practitioner_id: UUID, start: datetime, end: datetime) -> bool:
    """Whether something lies there already; a quick answer, while the constraint has the last word."""
    there = select(Appointment.id).where(
        Appointment.practitioner_id == practitioner_id,
        Appointment.start < end,
        Appointment.end > start,
        Appointment.status.in_(LIVE),
    )
    return (await ctx.db.execute(there.limit(1))).first() is not None


def _the_same(booked: Appointment, patient_id: UUID, practitioner_id: UUID, start: datetime) -> Appointment:
    """A form that was sent twice is one booking; one that was changed and sent again must not look like a second."""
    if (booked.patient_id, booked.practitioner_id, booked.start) != (patient_id, practitioner_id, start):
        raise Conflict("this form has already booked another appointment", field="request_key")
    return booked


async def appointment_of(ctx: Context, appointment_id: UUID, *, lock: bool = False) -> Appointment:
    """Raises NotFound for an unknown id and for another clinic's alike."""
    statement = select(Appointment).where(Appointment.id == appointment_id)
    found = (await ctx.db.execute(statement.with_for_update() if lock else statement)).scalar_one_or_none()
    if found is None:
        raise NotFound("appointment")
    return found


async def set_status(ctx: Context, appointment_id: UUID, status: str, *, reason: str = "") -> Appointment:
    """Move an appointment on. Repeating the same step does nothing; a step that is not possible raises Conflict.

    Who did not come and comes after all is checked in, unless the slot has been given to somebody else.
    """
    appointment = await appointment_of(ctx, appointment_id, lock=True)
    if appointment.status == status:
        return appointment
    if status not in _NEXT.get(appointment.status, set()):
        raise Conflict(f"an appointment that is {appointment.status} cannot become {status}")
    if appointment.status == "noshow" and await taken(
        ctx, appointment.practitioner_id, appointment.start, appointment.end
    ):
        raise Conflict("the slot has been given to somebody else", field="slot")
    if status == "cancelled":
        if not reason.strip():
            raise Invalid({"reason": N_("Say why the appointment is cancelled.")})
        appointment.cancelled_at, appointment.cancel_reason = ctx.now, reason.strip()[:500]
        ctx.emit(
            AppointmentCancelled(
                appointment_id=appointment.id, patient_id=appointment.patient_id, visit_mode=appointment.visit_mode
            )
        )
    if status in {"arrived", "checked-in"} and appointment.arrived_at is None:
        appointment.arrived_at = ctx.now
    appointment.status = status
    ctx.audit(
        "scheduling.appointment.change",
        patient_id=appointment.patient_id,
        entity=ResourceRef("Appointment", appointment.id),
        detail={"status": status},
    )
    ctx.notify("scheduling.appointment", appointment=appointment.id, practitioner=appointment.practitioner_id)
    return appointment


async def call_in(ctx: Context, appointment_id: UUID) -> Appointment:
    """The visit begins: the wait ends, whoever had not been checked in is. Twice changes nothing.

    Raises Conflict when the appointment is over or was cancelled.
    """
    appointment = await appointment_of(ctx, appointment_id, lock=True)
    if appointment.called_at is not None and appointment.status == "checked-in":
        return appointment
    appointment = await set_status(ctx, appointment_id, "checked-in")
    appointment.called_at = ctx.now
    ctx.audit(
        "scheduling.appointment.change",
        patient_id=appointment.patient_id,
        entity=ResourceRef("Appointment", appointment.id),
        detail={"called": True},
    )
    ctx.notify("scheduling.appointment", appointment=appointment.id, practitioner=appointment.practitioner_id)
    return appointment


async def start_visit(ctx: Context, appointment_id: UUID) -> Appointment:
    """Call in, and open the visit in the record for whoever may write there.

    A visit that is held elsewhere (by video) is opened by its own page, which first makes sure who is there. Raises NotFound
    for a session, which is nobody's visit.
    """
    if (await appointment_of(ctx, appointment_id)).patient_id is None:
        raise NotFound("appointment")
    appointment = await call_in(ctx, appointment_id)
    if appointment.visit_mode != IN_PERSON or not ctx.records.provides("Encounter"):
        return appointment
    visit = {
        "resourceType": "Encounter",
        "status": "in-progress",
        "class": {"code": "AMB"},
        "subject": {"reference": f"Patient/{appointment.patient_id}"},
        "participant": [{"individual": {"reference": f"Practitioner/{appointment.practitioner_id}"}}],
        "period": {"start": ctx.now.isoformat()},
        "appointment": [{"reference": f"Appointment/{appointment.id}"}],
        "reasonCode": [{"text": appointment.reason}] if appointment.reason else [],
    }
    # A nurse calls in without opening the doctor's visit.
    with suppress(Forbidden):
        await ctx.records.create("Encounter", visit)
    return appointment
