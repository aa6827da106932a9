"""Everything that was recorded and photographed in a patient's video visits, on one page beside the chart."""

from __future__ import annotations

from uuid import UUID

from litestar import Controller, Response

from qanun.api import Context, get, page, patient, patient_href
from qanun_telemedicine.permissions import Telemedicine
from qanun_telemedicine.service.pictures import pictures_of_patient
from qanun_telemedicine.service.recording import recordings_of_patient
from qanun_telemedicine.service.transcripts import transcripts_of_patient

#: More than anybody has; the page says when it shows no more.
_MOST = 200


class KeptController(Controller):
    path = "/telemedicine/patients/{patient_id:uuid}/kept"

    @get("/", permission=Telemedicine.PICTURE_READ)
    async def all(self, ctx: Context, patient_id: UUID) -> Response[str]:
        them = await patient(ctx, patient_id)
        ctx.audit("telemedicine.kept.read", patient_id=them.id)
        return page(
            ctx, "telemedicine/kept.html", patient=them, chart=patient_href(ctx, them.id), limit=_MOST,
            recordings=await recordings_of_patient(ctx, them.id, limit=_MOST),
            pictures=await pictures_of_patient(ctx, them.id, limit=_MOST), may_play=ctx.can(Telemedicine.RECORDING_PLAY),
            transcripts=await transcripts_of_patient(ctx, them.id, limit=_MOST),
            may_read_said=ctx.can(Telemedicine.CONVERSATION_READ),
        )  # fmt: skip
