"""Guests of a visit: staff invite them, let them in and put them out; the guest's own page and socket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from litestar import Controller, Request, Response, WebSocket

from qanun.api import (
    Conflict,
    Context,
    Forbidden,
    Form,
    Invalid,
    OpenContext,
    fragment,
    get,
    page,
    post,
    redirect,
    websocket,
)
from qanun_telemedicine import service
from qanun_telemedicine.models import ADMITTED, Consultation, Guest
from qanun_telemedicine.permissions import Telemedicine
from qanun_telemedicine.service.guests import LOCKED
from qanun_telemedicine.settle import out_of_the_media
from qanun_telemedicine.sockets import Line
from qanun_telemedicine.views import guests_view, visit_view

Request_ = Request[Any, Any, Any]

_LIST = "telemedicine/parts/guests.html"


class GuestsController(Controller):
    """The clinic's side."""

    path = "/telemedicine/consultations/{consultation_id:uuid}/guests"

    @get("/", permission=Telemedicine.CONSULTATION_READ, live=True)
    async def guests(self, ctx: Context, consultation_id: UUID) -> Response[str]:
        row = await service.call_of(ctx, consultation_id)
        return fragment(ctx, _LIST, **await guests_view(ctx, row))

    @post("/", permission=Telemedicine.CONSULTATION_INVITE)
    async def invite(self, ctx: Context, consultation_id: UUID, form: Form) -> Response[str]:
        row = await service.call_of(ctx, consultation_id, lock=True)
        try:
            await service.invite_to(ctx, row, form.text("name"), form.text("role"))
        except Invalid as error:
            kept = {"name": form.text("name"), "role": form.text("role")}
            return await _shown(ctx, row, status=422, values=kept, errors=error.fields)
        return await _shown(ctx, row)

    @post("/{guest_id:uuid}/link", permission=Telemedicine.CONSULTATION_INVITE)
    async def link(
        self, request: Request_, open_context: OpenContext, consultation_id: UUID, guest_id: UUID
    ) -> Response[str]:
        """A new link; the old one, and whoever came by it, is out."""
        async with open_context() as ctx:
            row = await service.call_of(ctx, consultation_id, lock=True)
            guest = await service.guest(ctx, row, guest_id)
            _may_put_out(ctx, guest)
            await service.renew(ctx, row, guest)
        await out_of_the_media(open_context, consultation_id, f"Guest/{guest_id}")
        return await _after(request, open_context, consultation_id)

    @post("/{guest_id:uuid}/admit", permission=Telemedicine.CONSULTATION_HOLD)
    async def admit(self, ctx: Context, consultation_id: UUID, guest_id: UUID, form: Form) -> Response[str]:
        row = await service.call_of(ctx, consultation_id, lock=True)
        guest = await service.guest(ctx, row, guest_id)
        try:
            await service.admit_guest(ctx, row, guest, form.all("way"))
        except Invalid as error:
            return await _shown(ctx, row, status=422, errors={str(guest_id): error.fields["ways"]})
        except Conflict as error:
            refused = LOCKED if error.details.get("code") == "locked" else service.NOT_WAITING
            return await _shown(ctx, row, status=409, errors={str(guest_id): refused})
        return await _shown(ctx, row)

    @post("/{guest_id:uuid}/remove", permission=Telemedicine.CONSULTATION_INVITE)
    async def remove(
        self, request: Request_, open_context: OpenContext, consultation_id: UUID, guest_id: UUID
    ) -> Response[str]:
        """Out of the call at once, whatever their page does; who is in the call is put out only by who holds it."""
        async with open_context() as ctx:
            row = await service.call_of(ctx, consultation_id, lock=True)
            guest = await service.guest(ctx, row, guest_id)
            _may_put_out(ctx, guest)
            await service.remove(ctx, row, guest)
        await out_of_the_media(open_context, consultation_id, f"Guest/{guest_id}")
        return await _after(request, open_context, consultation_id)


def _may_put_out(ctx: Context, guest: Guest) -> None:
    if guest.state == ADMITTED and not ctx.can(Telemedicine.CONSULTATION_HOLD):
        raise Forbidden("only who holds the visit puts people out of it")


async def _after(request: Request_, open_context: OpenContext, consultation_id: UUID) -> Response[str]:
    if request.headers.get("hx-request") != "true":
        return redirect(None, f"/telemedicine/consultations/{consultation_id}")
    async with open_context() as ctx:
        return await _shown(ctx, await service.call_of(ctx, consultation_id))


async def _shown(
    ctx: Context, row: Consultation, *, status: int = 200, values: Mapping[str, Any] | None = None,
    errors: Mapping[str, Any] | None = None,
) -> Response[str]:  # fmt: skip
    """The list for htmx; for a plain form, back to the visit's page."""
    await ctx.db.flush()
    if status == 200 and ctx.web is not None and not ctx.web.fragment:
        return redirect(ctx, f"/telemedicine/consultations/{row.id}")
    return fragment(ctx, _LIST, status=status, **await guests_view(ctx, row, values=values, errors=errors))


class GuestVisitController(Controller):
    """The guest's side: the device check, waiting, the call. Nothing of the patient but what is said in it."""

    path = "/guest/{clinic:str}/visits"

    @get("/{consultation_id:uuid}", permission=Telemedicine.GUEST_ATTEND, audience="guest")
    async def visit(self, ctx: Context, clinic: str, consultation_id: UUID, relay: str = "") -> Response[str]:
        row = await service.call_of(ctx, consultation_id)
        guest = await service.acting_guest(ctx, row.id)
        ctx.audit(
            "telemedicine.visit.open", patient_id=row.patient_id, entity=service.reference(row),
            detail={"guest": str(guest.id)},
        )  # fmt: skip
        view = await visit_view(ctx, row, guest=guest)
        return page(ctx, "telemedicine/visit.html", media=True, relay=relay == "1", **view)

    @websocket(
        "/{consultation_id:uuid}/socket", permission=Telemedicine.GUEST_ATTEND, audience="guest", live=True
    )  # fmt: skip
    async def socket(
        self, socket: WebSocket[Any, Any, Any], open_context: OpenContext, clinic: str, consultation_id: UUID
    ) -> None:
        await Line(socket, open_context, consultation_id).run()
