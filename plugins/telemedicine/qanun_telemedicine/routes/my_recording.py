"""What a patient sees and decides of the recording of their visit: what they agreed to, what is kept, taking it back."""

from __future__ import annotations

from uuid import UUID

from litestar import Controller, Response

from qanun.api import Context, get, page, post, redirect
from qanun_telemedicine import service
from qanun_telemedicine.permissions import Telemedicine
from qanun_telemedicine.service import together, transcripts
from qanun_telemedicine.service.listing import called
from qanun_telemedicine.views import people


class MyRecordingController(Controller):
    path = "/portal/{clinic:str}/visits/{consultation_id:uuid}/recording"

    @get("/", permission=Telemedicine.VISIT_ATTEND, audience="portal")
    async def shown(self, ctx: Context, clinic: str, consultation_id: UUID) -> Response[str]:
        row = await service.consultation(ctx, consultation_id)
        _, practitioner = await people(ctx, row)
        me = await service.attend(ctx, await together.call_for(ctx, row))
        ctx.audit("telemedicine.visit.open", patient_id=row.patient_id, entity=service.reference(row))
        return page(
            ctx, "telemedicine/my_recording.html", consultation=row, with_whom=called(ctx, practitioner),
            recordings=await service.recordings_of(ctx, row.id),
            answers=[one for one, person in await service.consents_of(ctx, row.id) if person.id == me.id],
            pictures=[one for one in await service.pictures_of(ctx, row.id) if one.participant_id == me.id],
            transcripts=await transcripts.transcripts_of(ctx, row.id), agreed=me.transcript == transcripts.GIVEN,
            may_withdraw=bool(await service.withdrawable(ctx, row, me)) and row.recording_asked_at is None,
        )  # fmt: skip

    @post("/withdraw", permission=Telemedicine.VISIT_ATTEND, audience="portal")
    async def withdraw(self, ctx: Context, clinic: str, consultation_id: UUID) -> Response[str]:
        row = await service.consultation(ctx, consultation_id, lock=True)
        await service.withdraw_afterwards(ctx, row, await service.attend(ctx, row))
        return redirect(ctx, f"/portal/{clinic}/visits/{row.id}/recording")
