"""Sessions: time of a practitioner that another plugin holds for several patients at once, such as a group.

They stand in the calendar beside the appointments and keep the slot as these do; whose they are, and who comes, is known to
the plugin that asked for them. Nobody of a session is in a list of patients because of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from qanun.api import N_, Conflict, Context, Invalid, NotFound, ResourceRef, VisitMode, new_id
from qanun_scheduling.models import LIVE, Appointment
from qanun_scheduling.service import appointment_of, practitioner_of, taken
from qanun_scheduling.slots import day_bounds

LIMIT = 200
MOST_TITLE = 500
_LONGEST = timedelta(hours=12)
OVER_EARLY = "Ended before it was due."
NOT_HELD = "Not held."


@dataclass(frozen=True, slots=True)
class Session:
    """A session as a list shows it."""

    id: UUID
    practitioner_id: UUID
    start: datetime
    end: datetime
    status: str
    title: str
    mode: VisitMode | None
    href: str

    @property
    def done(self) -> bool:
        return self.status == "fulfilled"

    @property
    def running(self) -> bool:
        return self.status == "checked-in"


async def hold(
    ctx: Context, *, practitioner_id: UUID, start: datetime, end: datetime, visit_mode: str, title: str, request_key: str
) -> Appointment:  # fmt: skip
    """Take this time of the practitioner. The same `request_key` gives the same session.

    Raises Invalid naming the field, NotFound for who is not this clinic's, and Conflict (`details["field"]` is `slot`) when
    something lies there already, which the database decides.
    """
    faults: dict[str, object] = {}
    if start.tzinfo is None or end.tzinfo is None or not start < end <= start + _LONGEST:
        faults["slot"] = N_("Choose a slot.")
    mode = ctx.registry.get(VisitMode, visit_mode)
    if mode is None or mode.bookable or visit_mode.split(".", maxsplit=1)[0] not in ctx.enabled:
        faults["visit_mode"] = N_("Choose one of the listed values.")
    if not 1 <= len(title.strip()) <= MOST_TITLE:
        faults["description"] = N_("This text is too long.") if title.strip() else N_("Write what it is called.")
    if not 8 <= len(request_key) <= 80:
        faults["identifier"] = N_("Open the page again and repeat the booking.")
    if faults:
        raise Invalid(faults)
    await practitioner_of(ctx, practitioner_id, lock=True)
    known = select(Appointment).where(Appointment.request_key == request_key)
    repeated = (await ctx.db.execute(known)).scalar_one_or_none()
    if repeated is not None:
        return repeated
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    if await taken(ctx, practitioner_id, start, end):
        raise Conflict("the slot is taken", field="slot")
    session = Appointment(
        id=new_id(), patient_id=None, practitioner_id=practitioner_id, start=start, end=end, status="booked",
        visit_mode=visit_mode, reason=title.strip(), request_key=request_key, booked_by=ctx.actor.id,
    )  # fmt: skip
    try:
        async with ctx.db.begin_nested():
            ctx.db.add(session)
            await ctx.db.flush()
    except IntegrityError as error:
        if "ex_scheduling_appointment_slot" in str(error.orig):
            raise Conflict("the slot is taken", field="slot") from None
        raise
    ctx.audit(
        "scheduling.appointment.book", entity=ResourceRef("Appointment", session.id), detail={"mode": visit_mode}
    )  # fmt: skip
    ctx.notify("scheduling.appointment", appointment=session.id, practitioner=practitioner_id)
    return session


async def release(ctx: Context, session_id: UUID, *, held: bool, at: datetime) -> None:
    """It is over, or does not take place: what is left of its time is free again. Twice changes nothing.

    Raises NotFound for an unknown id and for a patient's appointment.
    """
    session = await appointment_of(ctx, session_id, lock=True)
    if session.patient_id is not None:
        raise NotFound("session")
    if session.status not in ("booked", "arrived", "checked-in"):
        return
    if held and at > session.start:
        session.status, session.end = "fulfilled", min(session.end, at)
    else:
        # Of one that was over before it was due, nothing is left that could be marked as held.
        session.status, session.cancelled_at = "cancelled", ctx.now
        session.cancel_reason = OVER_EARLY if held else NOT_HELD
    ctx.audit(
        "scheduling.appointment.change", entity=ResourceRef("Appointment", session.id),
        detail={"status": session.status},
    )  # fmt: skip
    ctx.notify("scheduling.appointment", appointment=session.id, practitioner=session.practitioner_id)


async def of_day(ctx: Context, day: date, practitioner_id: UUID | None = None) -> list[Session]:
    """The day's sessions in order, of one practitioner or of all."""
    start, end = day_bounds(day, ctx.tenant.zone)
    statement = select(Appointment).where(
        Appointment.patient_id.is_(None), Appointment.start >= start, Appointment.start < end,
        Appointment.status.in_(LIVE),
    )  # fmt: skip
    if practitioner_id is not None:
        statement = statement.where(Appointment.practitioner_id == practitioner_id)
    rows = (await ctx.db.execute(statement.order_by(Appointment.start).limit(LIMIT))).scalars()
    found = []
    for row in rows:
        mode = ctx.registry.get(VisitMode, row.visit_mode)
        href = mode.staff_href(row.id) if mode and mode.staff_href else ""
        found.append(
            Session(row.id, row.practitioner_id, row.start, row.end, row.status, row.reason, mode, href)
        )  # fmt: skip
    return found
