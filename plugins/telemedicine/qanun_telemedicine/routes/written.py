"""Consultations in writing: the patient's questions and the clinic's answers, as plain pages and forms."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from litestar import Controller, Response

from qanun.api import Context, Form, Invalid, NotFound, get, page, patient, patient_href, post, redirect
from qanun_telemedicine import service
from qanun_telemedicine.models import WRITTEN, Consultation
from qanun_telemedicine.permissions import Telemedicine
from qanun_telemedicine.service import written
from qanun_telemedicine.service.attachments import MOST_OCTETS
from qanun_telemedicine.views import announce_view, ask_view, written_view


class WrittenController(Controller):
    """The clinic's side."""

    path = "/telemedicine/written/{consultation_id:uuid}"

    @get("/", permission=Telemedicine.CONVERSATION_READ)
    async def thread(self, ctx: Context, consultation_id: UUID) -> Response[str]:
        row = await _row(ctx, consultation_id)
        ctx.audit("telemedicine.consultation.read", patient_id=row.patient_id, entity=service.reference(row))
        return page(ctx, "telemedicine/written.html", **await written_view(ctx, row))

    @post("/take-up", permission=Telemedicine.CONSULTATION_HOLD)
    async def take_up(self, ctx: Context, consultation_id: UUID, form: Form) -> Response[str]:
        row = await _row(ctx, consultation_id, lock=True)
        try:
            await written.take_up(ctx, row, known=form.flag("known"))
        except Invalid as error:
            return page(
                ctx, "telemedicine/written.html", status=422, **await written_view(ctx, row, errors=error.fields)
            )
        return redirect(ctx, f"/telemedicine/written/{row.id}")

    @post("/lines", permission=Telemedicine.CONSULTATION_HOLD)
    async def write(self, ctx: Context, consultation_id: UUID, form: Form) -> Response[str]:
        return await _write(ctx, consultation_id, form, "telemedicine/written.html", "/telemedicine/written")

    @post("/end", permission=Telemedicine.CONSULTATION_HOLD)
    async def end(self, ctx: Context, consultation_id: UUID) -> Response[str]:
        row = await _row(ctx, consultation_id, lock=True)
        await service.end(ctx, row)
        return redirect(ctx, f"/telemedicine/written/{row.id}")


class BeginController(Controller):
    """What the clinic begins, and what it promises."""

    path = "/telemedicine"

    @get("/patients/{patient_id:uuid}/write", permission=Telemedicine.CONSULTATION_HOLD)
    async def compose(self, ctx: Context, patient_id: UUID) -> Response[str]:
        """An empty sheet to a patient."""
        return page(ctx, "telemedicine/write.html", **await _sheet(ctx, patient_id))

    @post("/patients/{patient_id:uuid}/write", permission=Telemedicine.CONSULTATION_HOLD)
    async def begin(self, ctx: Context, patient_id: UUID, form: Form) -> Response[str]:
        text = form.text("text")
        try:
            row = await written.begin(ctx, patient_id, text, await _files(form))
        except Invalid as error:
            view = await _sheet(ctx, patient_id, values={"text": text}, errors=error.fields)
            return page(ctx, "telemedicine/write.html", status=422, **view)
        return redirect(ctx, f"/telemedicine/written/{row.id}")

    @post("/written-terms", permission=Telemedicine.TERMS_MANAGE)
    async def promise(self, ctx: Context, form: Form) -> Response[str]:
        """Within how many hours questions are answered from now on."""
        try:
            await written.set_hours(ctx, form.text("hours"))
        except Invalid as error:
            view = await announce_view(ctx, terms={"hours": form.text("hours")}, terms_errors=error.fields)
            return page(ctx, "telemedicine/consultations.html", status=422, **view)
        return redirect(ctx, "/telemedicine/consultations")


async def _sheet(ctx: Context, patient_id: UUID, **kept: Any) -> dict[str, Any]:
    person = await patient(ctx, patient_id)
    return {
        "patient": person, "chart": patient_href(ctx, person.id), "values": kept.get("values", {}),
        "errors": kept.get("errors", {}),
    }  # fmt: skip


class AskController(Controller):
    """The patient's side."""

    path = "/portal/{clinic:str}/written"

    @get("/", permission=Telemedicine.VISIT_ATTEND, audience="portal")
    async def questions(self, ctx: Context, clinic: str) -> Response[str]:
        """Their questions so far, and a new one."""
        return page(ctx, "telemedicine/ask.html", **await ask_view(ctx))

    @post("/", permission=Telemedicine.VISIT_ATTEND, audience="portal")
    async def ask(self, ctx: Context, clinic: str, form: Form) -> Response[str]:
        kept = {"practitioner": form.text("practitioner"), "text": form.text("text")}
        try:
            files = await _files(form)
            row = await written.ask(ctx, form.uuid("practitioner"), kept["text"], files)
        except Invalid as error:
            return page(
                ctx, "telemedicine/ask.html", status=422, **await ask_view(ctx, values=kept, errors=error.fields)
            )
        return redirect(ctx, f"/portal/{clinic}/written/{row.id}")

    @get("/{consultation_id:uuid}", permission=Telemedicine.VISIT_ATTEND, audience="portal")
    async def thread(self, ctx: Context, clinic: str, consultation_id: UUID) -> Response[str]:
        row = await _row(ctx, consultation_id)
        ctx.audit("telemedicine.visit.open", patient_id=row.patient_id, entity=service.reference(row))
        return page(ctx, "telemedicine/question.html", **await written_view(ctx, row))

    @post("/{consultation_id:uuid}/lines", permission=Telemedicine.VISIT_ATTEND, audience="portal")
    async def write(self, ctx: Context, clinic: str, consultation_id: UUID, form: Form) -> Response[str]:
        return await _write(ctx, consultation_id, form, "telemedicine/question.html", f"/portal/{clinic}/written")


async def _row(ctx: Context, consultation_id: UUID, *, lock: bool = False) -> Consultation:
    row = await service.consultation(ctx, consultation_id, lock=lock)
    if row.mode != WRITTEN:
        raise NotFound("consultation")
    return row


async def _write(ctx: Context, consultation_id: UUID, form: Form, template: str, back: str) -> Response[Any]:
    row = await _row(ctx, consultation_id, lock=True)
    text = form.text("text")
    try:
        await written.write(ctx, row, text, await _files(form))
    except Invalid as error:
        view = await written_view(ctx, row, values={"text": text}, errors=error.fields)
        return page(ctx, template, status=422, **view)
    return redirect(ctx, f"{back}/{row.id}")


async def _files(form: Form) -> list[tuple[str, bytes]]:
    """What was chosen; a field that was left empty is none. Raises Invalid before anything is kept."""
    upload = form.file("file")
    if upload is None or not upload.filename:
        return []
    content = await upload.read(MOST_OCTETS + 1)
    service.recognised(content)
    return [(upload.filename, content)]
