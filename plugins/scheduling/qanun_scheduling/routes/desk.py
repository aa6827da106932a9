"""The reception desk: find or register, see who is free, see who comes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

from litestar import Controller, Response

from qanun.api import (
    N_,
    Context,
    Form,
    Invalid,
    fragment,
    get,
    likely_duplicates,
    page,
    post,
    redirect,
    register_patient,
)
from qanun_scheduling.agenda import parse_day
from qanun_scheduling.permissions import Scheduling
from qanun_scheduling.reception import (
    DRAFT_FIELDS,
    Desk,
    arrivals_values,
    board_values,
    day_of,
    desk_values,
    draft_of,
    found_values,
    likeness,
)


def optional_id(name: str, text: str) -> UUID | None:
    """Raises Invalid naming the field for what is no id."""
    try:
        return UUID(text) if text.strip() else None
    except ValueError:
        raise Invalid({name: N_("Choose one of the listed values.")}) from None


async def desk_page(ctx: Context, desk: Desk, *, status: int = 200) -> Response[str]:
    return page(ctx, "scheduling/desk.html", status=status, **await desk_values(ctx, desk))


class DeskController(Controller):
    path = "/scheduling/desk"

    @get(permission=Scheduling.DESK_USE)
    async def desk(
        self, ctx: Context, date: str = "", patient: str = "", appointment: str = "", q: str = "", slot: str = "",
        booked: str = "",
    ) -> Response[str]:  # fmt: skip
        """The whole of what is chosen stands in the address: patient, day, slot, appointment."""
        desk = Desk(
            day=day_of(ctx, date, slot),
            patient_id=optional_id("patient", patient),
            appointment_id=optional_id("appointment", appointment),
            booked=booked == "1",
            query=q,
            slot=slot,
        )
        return await desk_page(ctx, desk)

    @get("/patients", permission=Scheduling.DESK_USE)
    async def patients(self, ctx: Context, q: str = "", date: str = "") -> Response[str]:
        """Who resembles what is typed."""
        return fragment(ctx, "scheduling/parts/found.html", **await found_values(ctx, q, parse_day(ctx, date)))

    @get("/board", permission=Scheduling.DESK_USE, live=True)
    async def board(self, ctx: Context, date: str = "", patient: str = "", held: str = "") -> Response[str]:
        """Week and day anew: another day was chosen, or somebody booked."""
        values = await board_values(
            ctx, parse_day(ctx, date), patient_id=optional_id("patient", patient), slot=held.strip()
        )
        return fragment(ctx, "scheduling/parts/board.html", **values)

    @get("/arrivals", permission=Scheduling.DESK_USE, live=True)
    async def arrivals(self, ctx: Context) -> Response[str]:
        values: dict[str, Any] = await arrivals_values(ctx)
        return fragment(ctx, "scheduling/parts/arrivals.html", **values | {"refresh": True})

    @post("/patients", permission=Scheduling.DESK_USE)
    async def register(self, ctx: Context, form: Form) -> Response[str]:
        """Register; whoever may be registered already is shown first, with the reasons, and asks for a second press."""
        draft = draft_of(form)
        typed = {name: form.get(name, "") for name in DRAFT_FIELDS}
        held = form.text("held")
        alike = await likely_duplicates(ctx, draft)
        known = [(found, likeness(draft, found)) for found in alike]
        desk = Desk(day=day_of(ctx, form.text("date"), held), slot=held, draft=typed, duplicates=known)
        if {str(found.id) for found in alike} - set(form.text("seen").split()):
            return await desk_page(ctx, desk, status=422)
        try:
            person = await register_patient(ctx, draft)
        except Invalid as error:
            return await desk_page(ctx, replace(desk, faults=error.fields), status=422)
        slot = f"&slot={held}" if held else ""
        return redirect(ctx, f"/scheduling/desk?patient={person.id}&date={desk.day.isoformat()}{slot}")
