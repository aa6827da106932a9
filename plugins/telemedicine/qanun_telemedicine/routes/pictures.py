"""Pictures from a call: taken in by the page that asked, shown to who may see them, voided, taken back by whom they show."""

from __future__ import annotations

from uuid import UUID

from litestar import Controller, Response

from qanun.api import Context, Form, Invalid, get, json_response, post, redirect
from qanun_telemedicine import service
from qanun_telemedicine.models import Consultation, Participant
from qanun_telemedicine.permissions import Telemedicine
from qanun_telemedicine.service import pictures, together
from qanun_telemedicine.service.jpeg import MOST_OCTETS


def _picture(data: bytes) -> Response[bytes]:
    # Only as an image: whatever else a browser might take it for runs and loads nothing.
    headers = {"content-security-policy": "default-src 'none'; sandbox", "content-disposition": "inline"}
    return Response(data, media_type="image/jpeg", headers=headers)


class PicturesController(Controller):
    path = "/telemedicine/consultations/{consultation_id:uuid}/pictures/{picture_id:uuid}"

    @post("/", permission=Telemedicine.CONSULTATION_HOLD)
    async def keep(self, ctx: Context, consultation_id: UUID, picture_id: UUID, form: Form) -> Response[bytes]:
        row = await service.consultation(ctx, consultation_id)
        sent = form.file("file")
        if sent is None:
            raise Invalid({"file": "missing"})
        kept = await pictures.keep_picture(ctx, row, picture_id, await sent.read(MOST_OCTETS + 1), form.text("note"))
        return json_response({"id": str(kept.id), "width": kept.width, "height": kept.height})

    @get("/", permission=Telemedicine.PICTURE_READ)
    async def shown(self, ctx: Context, consultation_id: UUID, picture_id: UUID) -> Response[bytes]:
        row = await service.consultation(ctx, consultation_id)
        return _picture(await pictures.picture_bytes(ctx, row, picture_id))

    @post("/void", permission=Telemedicine.CONSULTATION_HOLD)
    async def void(self, ctx: Context, consultation_id: UUID, picture_id: UUID, form: Form) -> Response[str]:
        row = await service.consultation(ctx, consultation_id)
        await pictures.void_picture(ctx, row, picture_id, form.text("reason"))
        return redirect(ctx, f"/telemedicine/consultations/{consultation_id}")


async def _me(ctx: Context, row: Consultation) -> Participant:
    """The patient as who was in the call, which may have been a group's."""
    return await service.attend(ctx, await together.call_for(ctx, row))


class MyPicturesController(Controller):
    path = "/portal/{clinic:str}/visits/{consultation_id:uuid}/pictures/{picture_id:uuid}"

    @get("/", permission=Telemedicine.VISIT_ATTEND, audience="portal")
    async def shown(self, ctx: Context, clinic: str, consultation_id: UUID, picture_id: UUID) -> Response[bytes]:
        row = await service.consultation(ctx, consultation_id)
        return _picture(await pictures.picture_bytes(ctx, row, picture_id, mine=await _me(ctx, row)))

    @post("/take-back", permission=Telemedicine.VISIT_ATTEND, audience="portal")
    async def take_back(self, ctx: Context, clinic: str, consultation_id: UUID, picture_id: UUID) -> Response[str]:
        row = await service.consultation(ctx, consultation_id)
        await pictures.take_picture_back(ctx, row, await _me(ctx, row), picture_id)
        return redirect(ctx, f"/portal/{clinic}/visits/{consultation_id}/recording")
