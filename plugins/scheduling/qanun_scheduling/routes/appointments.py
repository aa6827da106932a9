"""Booking, and moving an appointment on. Plain forms; htmx gets the list that changed."""

from __future__ import annotations

from uuid import UUID

from litestar import Controller, Response

from qanun.api import N_, Conflict, Context, Form, Invalid, fragment, page, patient_href, post, redirect
from qanun_scheduling import service
from qanun_scheduling.agenda import day_values, parse_day
from qanun_scheduling.models import IN_PERSON, Appointment
from qanun_scheduling.permissions import Scheduling
from qanun_scheduling.reception import Desk, arrivals_values, day_of, parse_slot
from qanun_scheduling.routes.desk import desk_page, optional_id

OVERTAKEN = N_("Somebody else has changed this appointment meanwhile. This is how it stands now.")
_SENTENCES = {"slot": service.TAKEN, "request_key": service.USED}


class AppointmentsController(Controller):
    path = "/scheduling/appointments"

    @post(permission=Scheduling.APPOINTMENT_BOOK)
    async def book(self, ctx: Context, form: Form) -> Response[str]:
        """409 with what was typed when the slot has gone, 422 when something is missing."""
        kept = {name: form.get(name, "") for name in ("visit_mode", "reason", "request_key")}
        try:
            booked = await self._book(ctx, form)
        except Invalid as error:
            status, errors = 422, dict(error.fields)
        except Conflict as error:
            fault = str(error.details.get("field", ""))
            if fault not in _SENTENCES:
                raise
            status, errors = 409, {fault: _SENTENCES[fault]}
        else:
            day = ctx.local(booked.start).date().isoformat()
            return redirect(ctx, f"/scheduling/desk?appointment={booked.id}&booked=1&date={day}")
        if not ctx.can(Scheduling.DESK_USE):
            raise Invalid(errors)
        if "request_key" in errors:
            del kept["request_key"]
        slot = "" if status == 422 and "slot" in errors else _slot(form)
        desk = Desk(
            day=day_of(ctx, form.text("date"), slot),
            patient_id=None if "patient" in errors else optional_id("patient", form.text("patient")),
            slot=slot,
            values=kept,
            errors=errors,
        )
        return await desk_page(ctx, desk, status=status)

    @staticmethod
    async def _book(ctx: Context, form: Form) -> Appointment:
        faults: dict[str, object] = {}
        try:
            patient_id = optional_id("patient", form.text("patient"))
        except Invalid:
            patient_id = None
        if patient_id is None:
            faults["patient"] = N_("Find or register the patient first.")
        try:
            practitioner_id, start, minutes = parse_slot(_slot(form))
        except Invalid as error:
            raise Invalid(faults | error.fields) from None
        if patient_id is None:
            raise Invalid(faults)
        return await service.book(
            ctx, patient_id=patient_id, practitioner_id=practitioner_id, start=start, minutes=minutes,
            visit_mode=form.text("visit_mode") or IN_PERSON, reason=form.text("reason"),
            request_key=form.text("request_key"),
        )  # fmt: skip

    @post("/{appointment_id:uuid}/status", permission=Scheduling.APPOINTMENT_BOOK)
    async def status(self, ctx: Context, appointment_id: UUID, form: Form) -> Response[str]:
        """Arrived, checked in, did not come, cancelled, done."""
        notice, code = None, 200
        try:
            await service.set_status(ctx, appointment_id, form.text("status"), reason=form.text("reason"))
        except Conflict:
            notice, code = OVERTAKEN, 409
        except Invalid as error:
            if not ctx.can(Scheduling.DESK_USE):
                raise
            desk = Desk(
                day=parse_day(ctx, form.text("date")),
                appointment_id=appointment_id,
                values={"reason": form.get("reason", "")},
                errors=error.fields,
            )
            return await desk_page(ctx, desk, status=422)
        await ctx.db.flush()
        return await _after(ctx, form, notice, code)

    @post("/{appointment_id:uuid}/start", permission=Scheduling.APPOINTMENT_BOOK)
    async def start(self, ctx: Context, appointment_id: UUID, form: Form) -> Response[str]:
        """Call in; whoever may write in the record goes on to the chart."""
        try:
            appointment = await service.start_visit(ctx, appointment_id)
        except Conflict:
            return await _after(ctx, form, OVERTAKEN, 409)
        chart = patient_href(ctx, appointment.patient_id) if appointment.patient_id else ""
        if ctx.actor.practitioner_id is not None and chart:
            return redirect(ctx, chart)
        await ctx.db.flush()
        return await _after(ctx, form, None, 200)


def _slot(form: Form) -> str:
    """The slot chosen in the day that is shown; when another day is shown, the one that is held."""
    return form.text("slot") or form.text("held")


async def _after(ctx: Context, form: Form, notice: object, status: int) -> Response[str]:
    """Back to where the form was: the fragment for htmx, the page for everybody else."""
    day = parse_day(ctx, form.text("date"))
    if form.text("view") == "day" and ctx.can(Scheduling.DAY_READ):
        whose = str(optional_id("practitioner", form.text("practitioner")) or "")
        if not ctx.web.fragment and status == 200:
            also = f"&practitioner={whose}" if whose else ""
            return redirect(ctx, f"/scheduling/day?date={day.isoformat()}{also}")
        values = await day_values(ctx, day, whose, notice=notice)
        if ctx.web.fragment:
            return fragment(ctx, "scheduling/parts/day.html", status=status, **values | {"refresh": True})
        return page(ctx, "scheduling/day.html", status=status, **values)
    if not ctx.can(Scheduling.DESK_USE):
        return redirect(ctx, "/")
    if ctx.web.fragment:
        values = await arrivals_values(ctx, notice=notice)
        return fragment(ctx, "scheduling/parts/arrivals.html", status=status, **values | {"refresh": True})
    if status != 200:
        return await desk_page(ctx, Desk(day=day, notice=notice), status=status)
    return redirect(ctx, f"/scheduling/desk?date={day.isoformat()}")
