"""What was said in a visit, as a document: read, marked as kept in error, taken back by who had agreed."""

from __future__ import annotations

from uuid import UUID

from litestar import Controller, Response

from qanun.api import Context, Form, Invalid, get, page, post, redirect
from qanun_telemedicine import service
from qanun_telemedicine.permissions import Telemedicine
from qanun_telemedicine.service import transcripts
from qanun_telemedicine.views import people


class TranscriptsController(Controller):
    path = "/telemedicine/consultations/{consultation_id:uuid}/transcripts/{transcript_id:uuid}"

    @get("/", permission=Telemedicine.CONVERSATION_READ)
    async def shown(self, ctx: Context, consultation_id: UUID, transcript_id: UUID) -> Response[str]:
        return await _shown(ctx, consultation_id, transcript_id)

    @post("/void", permission=Telemedicine.CONSULTATION_HOLD)
    async def void(self, ctx: Context, consultation_id: UUID, transcript_id: UUID, form: Form) -> Response[str]:
        row = await service.consultation(ctx, consultation_id)
        try:
            await transcripts.void(ctx, row, transcript_id, form.text("reason"))
        except Invalid as error:
            return await _shown(ctx, consultation_id, transcript_id, errors=error.fields, reason=form.text("reason"))
        return redirect(ctx, f"/telemedicine/consultations/{consultation_id}")


async def _shown(
    ctx: Context, consultation_id: UUID, transcript_id: UUID, *, errors: object = None, reason: str = ""
) -> Response[str]:
    row = await service.consultation(ctx, consultation_id)
    patient, _ = await people(ctx, row)
    found, document = await transcripts.read(ctx, row, transcript_id)
    return page(
        ctx, "telemedicine/transcript.html", status=422 if errors else 200, consultation=row, patient=patient,
        transcript=found, document=document, may_hold=ctx.can(Telemedicine.CONSULTATION_HOLD),
        values={"reason": reason}, errors=errors or {},
    )  # fmt: skip


class MyTranscriptsController(Controller):
    path = "/portal/{clinic:str}/visits/{consultation_id:uuid}/transcripts/{transcript_id:uuid}"

    @get("/", permission=Telemedicine.VISIT_ATTEND, audience="portal")
    async def shown(self, ctx: Context, clinic: str, consultation_id: UUID, transcript_id: UUID) -> Response[str]:
        row = await service.consultation(ctx, consultation_id)
        found, document = await transcripts.read(ctx, row, transcript_id)
        return page(
            ctx, "telemedicine/my_transcript.html", consultation=row, transcript=found, document=document
        )  # fmt: skip

    @post("/take-back", permission=Telemedicine.VISIT_ATTEND, audience="portal")
    async def take_back(self, ctx: Context, clinic: str, consultation_id: UUID, transcript_id: UUID) -> Response[str]:
        row = await service.consultation(ctx, consultation_id)
        await transcripts.take_back(ctx, row, await service.attend(ctx, row), transcript_id)
        return redirect(ctx, f"/portal/{clinic}/visits/{consultation_id}/recording")
