"""Files of the chat, in and out: the clinic's, the patient's and a guest's doors to the same rules."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import quote
from uuid import UUID

from litestar import Controller, Response
from litestar.datastructures import UploadFile

from qanun.api import Context, CryptoError, Forbidden, Form, Invalid, Unavailable, get, json_response, post
from qanun_telemedicine import service
from qanun_telemedicine.models import ADMITTED
from qanun_telemedicine.permissions import Telemedicine
from qanun_telemedicine.service.attachments import MOST_OCTETS, PICTURES

#: Nothing in a file can run, load or be framed, whatever a browser takes it for.
_HEADERS = {"content-security-policy": "default-src 'none'; sandbox", "cache-control": "private, no-store"}


class StaffFilesController(Controller):
    path = "/telemedicine/consultations/{consultation_id:uuid}/files"

    @post("/", permission=Telemedicine.CONVERSATION_READ)
    async def send(self, ctx: Context, consultation_id: UUID, form: Form) -> Response[Any]:
        return await _send(ctx, consultation_id, form)

    @get("/{file_id:uuid}", permission=Telemedicine.CONVERSATION_READ)
    async def file(self, ctx: Context, consultation_id: UUID, file_id: UUID) -> Response[bytes]:
        return await _file(ctx, consultation_id, file_id)


class PatientFilesController(Controller):
    path = "/portal/{clinic:str}/visits/{consultation_id:uuid}/files"

    @post("/", permission=Telemedicine.VISIT_ATTEND, audience="portal")
    async def send(self, ctx: Context, clinic: str, consultation_id: UUID, form: Form) -> Response[Any]:
        return await _send(ctx, consultation_id, form)

    @get("/{file_id:uuid}", permission=Telemedicine.VISIT_ATTEND, audience="portal")
    async def file(self, ctx: Context, clinic: str, consultation_id: UUID, file_id: UUID) -> Response[bytes]:
        return await _file(ctx, consultation_id, file_id)


class GuestFilesController(Controller):
    path = "/guest/{clinic:str}/visits/{consultation_id:uuid}/files"

    @post("/", permission=Telemedicine.GUEST_ATTEND, audience="guest")
    async def send(self, ctx: Context, clinic: str, consultation_id: UUID, form: Form) -> Response[Any]:
        return await _send(ctx, consultation_id, form)

    @get("/{file_id:uuid}", permission=Telemedicine.GUEST_ATTEND, audience="guest")
    async def file(self, ctx: Context, clinic: str, consultation_id: UUID, file_id: UUID) -> Response[bytes]:
        return await _file(ctx, consultation_id, file_id)


async def _send(ctx: Context, consultation_id: UUID, form: Form) -> Response[Any]:
    """JSON for the page's script: the id, or the sentence that says what is wrong."""
    row = await service.consultation(ctx, consultation_id)
    if ctx.actor.kind == "guest" and (await service.acting_guest(ctx, row.id)).state != ADMITTED:
        raise Forbidden("not admitted")
    upload = form.file("file")
    try:
        client_id = uuid.UUID(form.text("id")) if form.text("id") else uuid.uuid4()
        name, content = (upload.filename, await _read(upload)) if upload is not None else ("", b"")
        person = await service.attend(ctx, row)
        kept = await service.attach(ctx, row, person, client_id, name, content, form.text("text"))
    except ValueError:
        raise Invalid(message="the id is none") from None
    except Invalid as error:
        fields = {field: ctx.locale.resolve(text) for field, text in error.fields.items()}
        return json_response({"error": error.code, "fields": fields}, status=422)
    return json_response({"id": str(kept.id)})


async def _read(upload: UploadFile) -> bytes:
    return await upload.read(MOST_OCTETS + 1)


async def _file(ctx: Context, consultation_id: UUID, file_id: UUID) -> Response[bytes]:
    row = await service.consultation(ctx, consultation_id)
    since = None
    if ctx.actor.kind == "guest":
        me = await service.acting_guest(ctx, row.id)
        if me.state != ADMITTED:
            raise Forbidden("not admitted")
        since = me.admitted_at
    try:
        found, content = await service.attachment(ctx, row, file_id, since=since)
    except CryptoError:
        raise Unavailable("the file is damaged") from None
    way = "inline" if found.content_type in PICTURES else "attachment"
    headers = {**_HEADERS, "content-disposition": f"{way}; filename*=UTF-8''{quote(found.name)}"}
    return Response(content, media_type=found.content_type, headers=headers)
