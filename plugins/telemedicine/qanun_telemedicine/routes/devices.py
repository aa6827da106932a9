"""The clinician's side of devices in a call: make a place for one, see whether it is there, take it out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from litestar import Controller, Response

from qanun.api import Conflict, Context, Form, Invalid, fragment, get, page, post
from qanun_telemedicine import service
from qanun_telemedicine.models import Consultation
from qanun_telemedicine.permissions import Telemedicine
from qanun_telemedicine.routes.whip import out_of_the_media
from qanun_telemedicine.service import devices
from qanun_telemedicine.views import NewDevice, call_view, devices_view

_LIST = "telemedicine/parts/equipment.html"


class DevicesController(Controller):
    path = "/telemedicine/consultations/{consultation_id:uuid}/devices"

    @get("/", permission=Telemedicine.CONSULTATION_HOLD, live=True)
    async def devices(self, ctx: Context, consultation_id: UUID) -> Response[str]:
        return await _shown(ctx, await service.consultation(ctx, consultation_id))

    @post("/", permission=Telemedicine.CONSULTATION_HOLD)
    async def make(self, ctx: Context, consultation_id: UUID, form: Form) -> Response[str]:
        """The address and the token are shown this once."""
        row = await service.consultation(ctx, consultation_id, lock=True)
        kept = {"device": form.text("device")}
        try:
            made, token = await devices.make(ctx, row, kept["device"])
        except Invalid as error:
            return await _shown(ctx, row, status=422, values=kept, errors=error.fields)
        except Conflict:
            return await _shown(ctx, row, status=409, values=kept)
        return await _shown(ctx, row, new=NewDevice.of(ctx, made, token))

    @post("/{device_id:uuid}/remove", permission=Telemedicine.CONSULTATION_HOLD)
    async def remove(self, ctx: Context, consultation_id: UUID, device_id: UUID) -> Response[str]:
        row = await service.consultation(ctx, consultation_id, lock=True)
        found = await devices.device(ctx, row, device_id)
        await out_of_the_media(ctx, row, found)
        devices.take_out(ctx, row, found)
        await ctx.db.flush()
        return await _shown(ctx, row)


async def _shown(
    ctx: Context, row: Consultation, *, status: int = 200, values: Mapping[str, Any] | None = None,
    errors: Mapping[str, Any] | None = None, new: NewDevice | None = None,
) -> Response[str]:  # fmt: skip
    """The list for htmx; for a plain form the visit's page around it, because a token is shown only now."""
    view = await devices_view(ctx, row, values=values, errors=errors, new=new)
    if ctx.web is not None and ctx.web.fragment:
        return fragment(ctx, _LIST, status=status, **view)
    shown = await call_view(ctx, row, standalone=True)
    return page(ctx, "telemedicine/equipment.html", status=status, **{**shown, **view})
