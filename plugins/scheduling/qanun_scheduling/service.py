"""The verbs of the schedule: book, check in, call in, cancel."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from qanun.api import (
    N_,
    BookedAppointment,
    Conflict,
    Context,
    Invalid,
    NotFound,
    Practitioner,
    ResourceRef,
    VisitMode,
    new_id,
    patient,
)
from qanun_scheduling.events import AppointmentBooked, AppointmentCancelled
from qanun_scheduling.models import Appointment

TAKEN = N_("This slot has just been taken. Choose another one; everything else is kept.")
_NEXT = {
    "booked": {"arrived", "checked-in", "fulfilled", "cancelled", "noshow"},
    "arrived": {"checked-in", "fulfilled", "cancelled", "noshow"},
    "checked-in": {"fulfilled", "cancelled"},
}


async def practitioner_of(ctx: Context, practitioner_id: UUID) -> Practitioner:
    statement = select(Practitioner).where(Practitioner.id == practitioner_id, Practitioner.active)
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
    the database decides, also between fifty who press at once.
    """
    faults: dict[str, object] = {}
    if not 8 <= len(request_key) <= 80:
        faults["request_key"] = N_("Open the page again and repeat the booking.")
    if start.tzinfo is None or not 5 <= minutes <= 240:
        faults["slot"] = N_("Choose a slot.")
    elif start < ctx.now - timedelta(hours=4) or start > ctx.now + timedelta(days=730):
        faults["slot"] = N_("Choose a slot between today and two years from now.")
    mode = ctx.registry.get(VisitMode, visit_mode)
    if mode is None or visit_mode.split(".", maxsplit=1)[0] not in ctx.enabled:
        faults["visit_mode"] = N_("Choose one of the listed values.")
    if len(reason) > 500:
        faults["reason"] = N_("This text is too long.")
    if faults:
        raise Invalid(faults)
    known = select(Appointment).where(Appointment.request_key == request_key)
    repeated = (await ctx.db.execute(known)).scalar_one_or_none()
    if repeated is not None:
        return repeated
    person = await patient(ctx, patient_id)
    await practitioner_of(ctx, practitioner_id)
    start = start.astimezone(UTC)
    appointment = Appointment(
        id=new_id(),
        patient_id=person.id,
        practitioner_id=practitioner_id,
        start=start,
        end=start + timedelta(minutes=minutes),
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
            return again
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


async def appointment_of(ctx: Context, appointment_id: UUID, *, lock: bool = False) -> Appointment:
    """Raises NotFound for an unknown id and for another clinic's alike."""
    statement = select(Appointment).where(Appointment.id == appointment_id)
    found = (await ctx.db.execute(statement.with_for_update() if lock else statement)).scalar_one_or_none()
    if found is None:
        raise NotFound("appointment")
    return found


async def set_status(ctx: Context, appointment_id: UUID, status: str, *, reason: str = "") -> Appointment:
    """Move an appointment on. Repeating the same step does nothing; a step that is not possible raises Conflict."""
    appointment = await appointment_of(ctx, appointment_id, lock=True)
    if appointment.status == status:
        return appointment
    if status not in _NEXT.get(appointment.status, set()):
        raise Conflict(f"an appointment that is {appointment.status} cannot become {status}")
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
