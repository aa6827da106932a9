"""The waiting room as staff run it: messages to who waits, handing over, and telling a clinician that somebody waits."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from litestar import Controller, Response

from qanun.api import Conflict, Context, Form, Invalid, fragment, get, page, post, redirect
from qanun_telemedicine import service
from qanun_telemedicine.models import IN_PROGRESS, WAITING, Consultation
from qanun_telemedicine.permissions import Telemedicine
from qanun_telemedicine.service.notices import NOT_WAITING
from qanun_telemedicine.views import announce_view, people, room_view

#: A call that was handed over is announced to the colleague for so long.
_FRESH = timedelta(minutes=10)


class WaitingRoomController(Controller):
    path = "/telemedicine"

    @post("/consultations/{consultation_id:uuid}/notices", permission=Telemedicine.CONSULTATION_INVITE)
    async def write(self, ctx: Context, consultation_id: UUID, form: Form) -> Response[str]:
        """A message to one patient who waits."""
        row = await service.consultation(ctx, consultation_id, lock=True)
        kept = {name: form.text(name) for name in ("phrase", "minutes", "text")}
        try:
            await service.send(ctx, row, **kept)
        except Invalid as error:
            return await _room(ctx, row, status=422, values=kept, errors=error.fields)
        except Conflict:
            return await _room(ctx, row, status=409, values=kept, errors={"phrase": NOT_WAITING})
        return await _room(ctx, row)

    @post("/waiting/notices", permission=Telemedicine.CONSULTATION_INVITE)
    async def write_to_all(self, ctx: Context, form: Form) -> Response[str]:
        """A message to everybody who waits, or who waits for one practitioner."""
        kept = {name: form.text(name) for name in ("phrase", "minutes", "text")}
        chosen = form.text("practitioner")
        try:
            practitioner = form.uuid("practitioner") if chosen else None
            sent = await service.send_to_all(ctx, practitioner, **kept)
        except Invalid as error:
            view = await announce_view(ctx, values={**kept, "practitioner": chosen}, errors=error.fields)
            return page(ctx, "telemedicine/consultations.html", status=422, **view)
        return redirect(ctx, f"/telemedicine/consultations?told={sent}")

    @post("/consultations/{consultation_id:uuid}/hand-over", permission=Telemedicine.CONSULTATION_INVITE)
    async def hand_over(self, ctx: Context, consultation_id: UUID, form: Form) -> Response[str]:
        row = await service.consultation(ctx, consultation_id, lock=True)
        kept = {"practitioner": form.text("practitioner"), "reason": form.text("reason")}
        try:
            await service.hand_over(ctx, row, form.uuid("practitioner"), kept["reason"])
        except Invalid as error:
            return await _room(ctx, row, status=422, values=kept, errors=error.fields)
        return await _room(ctx, row)

    @get("/consultations/{consultation_id:uuid}/summons", permission=Telemedicine.CONSULTATION_HOLD, live=True)
    async def summons(self, ctx: Context, consultation_id: UUID) -> Response[str]:
        """What the clinician who is meant is told wherever they are; for everybody else nothing (204)."""
        row = await service.consultation(ctx, consultation_id)
        mine = ctx.actor.practitioner_id is not None and row.practitioner_id == ctx.actor.practitioner_id
        if not mine or row.state not in (WAITING, IN_PROGRESS):
            return Response("", status_code=204)
        given = [one for one in await service.handovers_of(ctx, row.id) if one.handover.to_id == row.practitioner_id]
        fresh = given[-1] if given and ctx.now - given[-1].handover.at < _FRESH else None
        if row.state == IN_PROGRESS and fresh is None:
            return Response("", status_code=204)
        patient, _ = await people(ctx, row)
        return fragment(
            ctx, "telemedicine/parts/summons.html", consultation=row, patient=patient, given=fresh,
            may_read_said=ctx.can(Telemedicine.CONVERSATION_READ),
        )  # fmt: skip


async def _room(
    ctx: Context, row: Consultation, *, status: int = 200, values: Mapping[str, Any] | None = None,
    errors: Mapping[str, Any] | None = None,
) -> Response[str]:  # fmt: skip
    await ctx.db.flush()
    if status == 200 and ctx.web is not None and not ctx.web.fragment:
        return redirect(ctx, f"/telemedicine/consultations/{row.id}")
    view = await room_view(ctx, row, values=values, errors=errors)
    return fragment(ctx, "telemedicine/parts/room.html", status=status, **view)
