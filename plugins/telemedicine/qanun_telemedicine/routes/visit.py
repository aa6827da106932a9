"""The patient's side of a visit: one page that leads from the device check through the waiting room into the call."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from litestar import Controller, Response, WebSocket

from qanun.api import Context, NotFound, OpenContext, get, page, redirect, websocket
from qanun_telemedicine import service
from qanun_telemedicine.permissions import Telemedicine
from qanun_telemedicine.sockets import Line
from qanun_telemedicine.views import visit_view


class VisitController(Controller):
    path = "/portal/{clinic:str}/visits"

    @get("/{consultation_id:uuid}", permission=Telemedicine.VISIT_ATTEND, audience="portal")
    async def visit(self, ctx: Context, clinic: str, consultation_id: UUID, relay: str = "") -> Response[str]:
        row = await service.consultation(ctx, consultation_id)
        ctx.audit("telemedicine.visit.open", patient_id=row.patient_id, entity=service.reference(row))
        view = await visit_view(ctx, row)
        return page(ctx, "telemedicine/visit.html", media=True, relay=relay == "1", **view)

    @get("/for/{appointment_id:uuid}", permission=Telemedicine.VISIT_ATTEND, audience="portal")
    async def for_appointment(self, ctx: Context, clinic: str, appointment_id: UUID) -> Response[str]:
        row = await service.for_appointment(ctx, appointment_id)
        if row is None:
            raise NotFound("consultation")
        return redirect(ctx, f"/portal/{clinic}/visits/{row.id}")

    @websocket(
        "/{consultation_id:uuid}/socket", permission=Telemedicine.VISIT_ATTEND, audience="portal", live=True
    )  # fmt: skip
    async def socket(
        self, socket: WebSocket[Any, Any, Any], open_context: OpenContext, clinic: str, consultation_id: UUID
    ) -> None:
        await Line(socket, open_context, consultation_id).run()
