"""The page of hours: a practitioner's week, the days that differ, and what lies outside them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from litestar import Controller, Response

from qanun.api import N_, Context, Form, Invalid, NotFound, get, page, patient_href, post, redirect
from qanun_scheduling import reading, working_hours
from qanun_scheduling.agenda import spoken_name
from qanun_scheduling.permissions import Scheduling

DAYS = (N_("Monday"), N_("Tuesday"), N_("Wednesday"), N_("Thursday"), N_("Friday"), N_("Saturday"), N_("Sunday"))


async def _page(
    ctx: Context, chosen: UUID | None, *, status: int = 200, values: dict[str, str] | None = None,
    errors: dict[str, object] | None = None, differs: bool = False,
) -> Response[str]:  # fmt: skip
    team = list(await reading.practitioners(ctx))
    who = next((one for one in team if one.id == chosen), None) if chosen else (team[0] if team else None)
    if chosen and who is None:
        raise NotFound("practitioner")
    shown: dict[str, str] = {}
    if who is not None:
        hours = await working_hours.week_of(ctx, who.id)
        shown["slot_minutes"] = str(hours.slot_minutes)
        for day, pieces in hours.week.items():
            for number, (start, end) in enumerate(pieces[: working_hours.PIECES], 1):
                shown[f"start-{day}-{number}"] = working_hours.as_clock(start)
                shown[f"end-{day}-{number}"] = working_hours.as_clock(end)
    names = {one.id: spoken_name(ctx, one) for one in team}
    outside = await working_hours.outside_hours(ctx, who.id) if who else []
    return page(
        ctx, "scheduling/hours.html", status=status, team=[(one.id, names[one.id]) for one in team], who=who,
        name=names.get(who.id, "") if who else "", days=list(enumerate(DAYS)), pieces=range(1, working_hours.PIECES + 1),
        values=shown | (values or {}), errors=errors or {}, differs=differs, names=names,
        exceptions=await working_hours.exceptions(ctx, who.id if who else None), as_clock=working_hours.as_clock,
        outside=[(row, patient_href(ctx, row.patient_id)) for row in outside],
    )  # fmt: skip


class HoursController(Controller):
    path = "/scheduling/hours"

    @get(permission=Scheduling.HOURS_MANAGE)
    async def hours(self, ctx: Context, practitioner: str = "") -> Response[str]:
        return await _page(ctx, _id(practitioner))

    @post("/week/{practitioner_id:uuid}", permission=Scheduling.HOURS_MANAGE)
    async def set_week(self, ctx: Context, practitioner_id: UUID, form: Form) -> Response[str]:
        typed: dict[str, Any] = {name: form.text(name) for name in form}
        try:
            await working_hours.set_week(ctx, practitioner_id, working_hours.parse_week(typed))
        except Invalid as error:
            return await _page(ctx, practitioner_id, status=422, values=typed, errors=error.fields)
        return redirect(ctx, f"/scheduling/hours?practitioner={practitioner_id}")

    @post("/exceptions", permission=Scheduling.HOURS_MANAGE)
    async def add_exception(self, ctx: Context, form: Form) -> Response[str]:
        typed = {name: form.text(name) for name in ("who", "first", "last", "start", "end", "note", "practitioner")}
        shown = _id(typed["practitioner"])
        try:
            await working_hours.add_exception(ctx, typed)
        except Invalid as error:
            return await _page(ctx, shown, status=422, values=typed, errors=error.fields, differs=True)
        return redirect(ctx, "/scheduling/hours" + (f"?practitioner={shown}" if shown else ""))

    @post("/exceptions/{exception_id:uuid}/remove", permission=Scheduling.HOURS_MANAGE)
    async def remove_exception(self, ctx: Context, exception_id: UUID, form: Form) -> Response[str]:
        await working_hours.remove_exception(ctx, exception_id)
        shown = _id(form.text("practitioner"))
        return redirect(ctx, "/scheduling/hours" + (f"?practitioner={shown}" if shown else ""))


def _id(text: str) -> UUID | None:
    """Raises NotFound for what is no id."""
    try:
        return UUID(text) if text else None
    except ValueError:
        raise NotFound("practitioner") from None
