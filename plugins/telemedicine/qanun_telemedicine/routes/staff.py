"""Staff's pages of consultations: who waits, the call's lobby, confirming, admitting, ending."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import structlog
from litestar import Controller, Response, WebSocket

from qanun.api import (
    Conflict,
    Context,
    Form,
    Invalid,
    NotFound,
    OpenContext,
    Unavailable,
    fragment,
    get,
    must_be_open,
    page,
    patient_href,
    post,
    redirect,
    websocket,
)
from qanun_telemedicine import service
from qanun_telemedicine.media import media_of
from qanun_telemedicine.models import IN_PROGRESS, OPEN, VIDEO, VOICE, WRITTEN, Consultation
from qanun_telemedicine.permissions import Telemedicine
from qanun_telemedicine.service import written
from qanun_telemedicine.settle import out_of_the_media, settle_in
from qanun_telemedicine.sfu.client import MediaError
from qanun_telemedicine.sockets import Line
from qanun_telemedicine.views import announce_view, call_view, chips_view, place_view, whole_view

log = structlog.get_logger("qanun.telemedicine")

_LOBBY = "telemedicine/parts/lobby.html"


def _place(ctx: Context, row: Consultation) -> str:
    """Where this person holds or reads a visit."""
    if row.mode == WRITTEN:
        return f"/telemedicine/written/{row.id}"
    chart = patient_href(ctx, row.whose) if row.state in OPEN and ctx.can(Telemedicine.CONSULTATION_HOLD) else ""
    return chart or f"/telemedicine/consultations/{row.id}"


class StaffController(Controller):
    path = "/telemedicine"

    @get("/consultations", permission=Telemedicine.CONSULTATION_READ)
    async def consultations(self, ctx: Context, told: int | None = None) -> Response[str]:
        """Today's calls: who waits, what runs, what comes. `told`: so many have just been written to."""
        return page(ctx, "telemedicine/consultations.html", **await announce_view(ctx, told=told))

    @get("/consultations/list", permission=Telemedicine.CONSULTATION_READ, live=True)
    async def consultations_list(self, ctx: Context) -> Response[str]:
        return fragment(ctx, "telemedicine/parts/day.html", rows=await service.day_list(ctx), now=ctx.now)

    @get("/waiting", permission=Telemedicine.CONSULTATION_READ, live=True)
    async def waiting(self, ctx: Context, practitioner: UUID | None = None) -> Response[str]:
        """The waiting room as other pages show it, refreshed by a live notice."""
        rows = await service.waiting_list(ctx, practitioner)
        late = await written.overdue(ctx, practitioner)
        return fragment(
            ctx, "telemedicine/parts/waiting.html", rows=rows, now=ctx.now, practitioner_id=practitioner, overdue=late
        )

    @get("/patients/{patient_id:uuid}/chips", permission=Telemedicine.CONSULTATION_READ, live=True)
    async def chips(self, ctx: Context, patient_id: UUID) -> Response[str]:
        """The chips of the chart's banner, refreshed by a live notice."""
        return fragment(ctx, "telemedicine/parts/banner.html", **await chips_view(ctx, patient_id))

    @get("/consultations/{consultation_id:uuid}", permission=Telemedicine.CONSULTATION_READ)
    async def consultation(self, ctx: Context, consultation_id: UUID) -> Response[str]:
        """One consultation: what happened, and while it is open, the call itself."""
        row = await service.call_of(ctx, consultation_id)
        if row.patient_id is None:
            return redirect(ctx, f"/telemedicine/groups/{row.id}")
        if row.mode == WRITTEN and ctx.can(Telemedicine.CONVERSATION_READ):
            return redirect(ctx, _place(ctx, row))
        ctx.audit(
            "telemedicine.consultation.read", patient_id=row.patient_id, entity=service.reference(row)
        )  # fmt: skip
        return page(ctx, "telemedicine/consultation.html", media=True, **await whole_view(ctx, row))

    @get("/appointments/{appointment_id:uuid}", permission=Telemedicine.CONSULTATION_READ)
    async def appointment(self, ctx: Context, appointment_id: UUID) -> Response[str]:
        """Where a video appointment leads: to the chart with the call docked, or to the consultation's own page."""
        row = await service.for_appointment(ctx, appointment_id)
        if row is None:
            raise NotFound("consultation")
        if row.patient_id is None:
            return redirect(ctx, f"/telemedicine/groups/{row.id}")
        await must_be_open(ctx, row.whose)
        return redirect(ctx, _place(ctx, row))

    @get("/consultations/{consultation_id:uuid}/open", permission=Telemedicine.CONSULTATION_READ)
    async def opened(self, ctx: Context, consultation_id: UUID) -> Response[str]:
        """Where a visit is held: the chart with the call docked, for who may; else its own page."""
        row = await service.consultation(ctx, consultation_id)
        return redirect(ctx, _place(ctx, row))

    @post("/patients/{patient_id:uuid}/begin", permission=Telemedicine.CONSULTATION_HOLD)
    async def begin(self, ctx: Context, patient_id: UUID, form: Form) -> Response[str]:
        """A visit without an appointment, from the chart; the patient's link is in the dock then."""
        row = await service.begin_now(ctx, patient_id, mode=VOICE if form.text("mode") == VOICE else VIDEO)
        await ctx.db.flush()
        return redirect(ctx, _place(ctx, row))

    @get("/consultations/{consultation_id:uuid}/lobby", permission=Telemedicine.CONSULTATION_READ, live=True)
    async def lobby(self, ctx: Context, consultation_id: UUID) -> Response[str]:
        """The part of the docked call that changes with its state."""
        return fragment(ctx, _LOBBY, **await call_view(ctx, await service.consultation(ctx, consultation_id)))

    @post("/consultations/{consultation_id:uuid}/identity", permission=Telemedicine.CONSULTATION_HOLD)
    async def identity(self, ctx: Context, consultation_id: UUID, form: Form) -> Response[str]:
        row = await service.consultation(ctx, consultation_id, lock=True)
        checked = [name for name in form.all("identifier") if name]
        how = {name: form.text(f"how-{name}") or next(iter(service.IDENTIFIERS.get(name, ("",)))) for name in checked}
        filled = service.IdentityForm(how=how, matches=form.text("outcome") != "mismatch", note=form.text("note"))
        try:
            await service.check_identity(ctx, row, filled)
        except Invalid as error:
            kept = {"identifier": checked, "note": filled.note, **{f"how-{name}": way for name, way in how.items()}}
            view = await call_view(ctx, row, values=kept, errors=error.fields)
            return fragment(ctx, _LOBBY, status=422, **view)
        return await self._after(ctx, consultation_id)

    @post("/consultations/{consultation_id:uuid}/place", permission=Telemedicine.CONSULTATION_HOLD)
    async def place(self, ctx: Context, consultation_id: UUID, form: Form) -> Response[str]:
        """Where the patient says they are, written down by who asked."""
        row = await service.consultation(ctx, consultation_id, lock=True)
        kept = {"place": form.text("place"), "country": form.text("country")}
        try:
            await service.confirm_place(ctx, row, kept["place"], kept["country"])
        except Invalid as error:
            view = {**place_view(ctx, row), "place_values": kept, "place_errors": error.fields}
            return fragment(ctx, "telemedicine/parts/place.html", status=422, **view)
        await ctx.db.flush()
        if ctx.web is not None and not ctx.web.fragment:
            return redirect(ctx, f"/telemedicine/consultations/{row.id}")
        return fragment(ctx, "telemedicine/parts/place.html", **place_view(ctx, row))

    @post("/consultations/{consultation_id:uuid}/encryption", permission=Telemedicine.CONSULTATION_HOLD)
    async def encryption(self, ctx: Context, consultation_id: UUID, form: Form) -> Response[str]:
        """Whether the call will be encrypted end to end, before it begins."""
        row = await service.consultation(ctx, consultation_id, lock=True)
        try:
            await service.choose_encryption(ctx, row, form.text("on") == "1")
        except Conflict:
            return fragment(ctx, _LOBBY, status=409, **await call_view(ctx, row))
        return await self._after(ctx, consultation_id)

    @post("/consultations/{consultation_id:uuid}/admit", permission=Telemedicine.CONSULTATION_HOLD)
    async def admit(self, ctx: Context, consultation_id: UUID) -> Response[str]:
        row = await service.consultation(ctx, consultation_id, lock=True)
        try:
            await service.admit(ctx, row)
        except Conflict as error:
            refused = {"admit": service.REFUSALS.get(error.message, error.message)}
            return fragment(ctx, _LOBBY, status=409, **await call_view(ctx, row, errors=refused))
        return await self._after(ctx, consultation_id)

    @post("/consultations/{consultation_id:uuid}/end", permission=Telemedicine.CONSULTATION_HOLD)
    async def end(self, open_context: OpenContext, consultation_id: UUID) -> Response[str]:
        """End for everybody. The recording stops before the visit is closed, the room closes after it."""
        async with open_context() as ctx:
            row = await service.consultation(ctx, consultation_id, lock=True)
            running, group_id, patient_id = row.state == IN_PROGRESS, row.group_id, row.patient_id
            await service.end(ctx, row)
            await ctx.db.flush()
            try:
                await settle_in(ctx, media_of(ctx.runtime), row)
            except (MediaError, Unavailable):
                await service.recording_lost(ctx, row)
            room, runtime = row.room, ctx.runtime
        if group_id is not None:
            # The others go on.
            await out_of_the_media(open_context, group_id, f"Patient/{patient_id}")
            return redirect(None, f"/telemedicine/groups/{group_id}")
        if running:
            try:
                await media_of(runtime).client.close_room(room)
            except (MediaError, Unavailable) as error:
                log.warning("room_not_closed", code=error.code)
        return redirect(None, f"/telemedicine/consultations/{consultation_id}")

    @post("/consultations/{consultation_id:uuid}/invitation", permission=Telemedicine.CONSULTATION_INVITE)
    async def invitation(self, ctx: Context, consultation_id: UUID) -> Response[str]:
        """A new link for the patient; the old one keeps working until it is used or expires."""
        row = await service.consultation(ctx, consultation_id, lock=True)
        link = await service.renew_invitation(ctx, row)
        return fragment(ctx, "telemedicine/parts/link.html", consultation=row, link=link, may_invite=True)

    @websocket("/consultations/{consultation_id:uuid}/socket", permission=Telemedicine.CONSULTATION_HOLD, live=True)
    async def socket(self, socket: WebSocket[Any, Any, Any], open_context: OpenContext, consultation_id: UUID) -> None:
        await Line(socket, open_context, consultation_id).run()

    @staticmethod
    async def _after(ctx: Context, consultation_id: UUID) -> Response[str]:
        await ctx.db.flush()
        row = await service.consultation(ctx, consultation_id)
        if ctx.web is not None and not ctx.web.fragment:
            return redirect(ctx, f"/telemedicine/consultations/{consultation_id}")
        return fragment(ctx, _LOBBY, **await call_view(ctx, row))
