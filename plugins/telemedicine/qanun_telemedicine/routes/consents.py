"""A consent taken back for somebody who asked the clinic to: guests have no page of their own, and not everybody has a phone."""

from __future__ import annotations

from uuid import UUID

from litestar import Controller, Response
from sqlalchemy import select

from qanun.api import Context, NotFound, post, redirect
from qanun_telemedicine import service
from qanun_telemedicine.models import Participant
from qanun_telemedicine.permissions import Telemedicine


class ConsentsController(Controller):
    path = "/telemedicine/consultations/{consultation_id:uuid}/consents"

    @post("/{participant_id:uuid}/withdraw", permission=Telemedicine.CONSULTATION_HOLD)
    async def withdraw(self, ctx: Context, consultation_id: UUID, participant_id: UUID) -> Response[str]:
        row = await service.consultation(ctx, consultation_id, lock=True)
        theirs = select(Participant).where(Participant.id == participant_id, Participant.consultation_id == row.id)
        person = (await ctx.db.execute(theirs)).scalar_one_or_none()
        if person is None:
            raise NotFound("participant")
        await service.withdraw_afterwards(ctx, row, person)
        return redirect(ctx, f"/telemedicine/consultations/{consultation_id}")
