"""The visit's chat: kept, in order, both ways; sending a line again does nothing."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import select

from qanun.api import N_, Conflict, Context, Invalid, ResourceRef, closed_to, new_id
from qanun_telemedicine.models import IN_PROGRESS, WAITING, ChatMessage, Consultation, Participant

MOST_LETTERS = 2000
MOST_LINES = 500


async def say(ctx: Context, row: Consultation, person: Participant, client_id: uuid.UUID, text: str) -> ChatMessage:
    """Keep one line. Raises Invalid (empty, too long) or Conflict (the visit does not run)."""
    sent = select(ChatMessage).where(ChatMessage.participant_id == person.id, ChatMessage.client_id == client_id)
    found = (await ctx.db.execute(sent)).scalar_one_or_none()
    if found is not None:
        return found
    text = text.strip()
    if not text:
        raise Invalid({"text": N_("Write something first.")})
    if len(text) > MOST_LETTERS:
        raise Invalid({"text": N_("Please make it shorter: at most 2000 letters.")})
    if row.state not in (WAITING, IN_PROGRESS):
        raise Conflict("the consultation does not run")
    line = ChatMessage(
        id=new_id(), consultation_id=row.id, participant_id=person.id, client_id=client_id, text=text, sent_at=ctx.now
    )
    ctx.db.add(line)
    await ctx.db.flush()
    ctx.audit(
        "telemedicine.chat.send", patient_id=row.patient_id or person.patient_id, entity=ResourceRef("Consultation", row.id),
        detail={"message": str(line.id)},
    )  # fmt: skip
    ctx.notify("telemedicine.consultation", consultation=row.id, patient=row.patient_id)
    return line


async def said(
    ctx: Context, consultation_id: uuid.UUID, *, after: uuid.UUID | None = None, since: datetime | None = None
) -> list[tuple[ChatMessage, Participant]]:
    """The newest lines, oldest first; with `after`, only what came after that line, with `since` from then on. What a patient of
    a group wrote is read by no staff to whom their record is closed."""
    statement = (
        select(ChatMessage, Participant)
        .join(Participant, Participant.id == ChatMessage.participant_id)
        .where(ChatMessage.consultation_id == consultation_id)
        .order_by(ChatMessage.sent_at.desc(), ChatMessage.id.desc())
        .limit(MOST_LINES)
    )
    if since is not None:
        statement = statement.where(ChatMessage.sent_at >= since)
    if after is not None:
        # By time and not by id: two processes' ids of one millisecond have no order.
        written = select(ChatMessage.sent_at).where(ChatMessage.id == after).scalar_subquery()
        statement = statement.where(ChatMessage.sent_at >= written, ChatMessage.id != after)
    found = [(line, person) for line, person in reversed((await ctx.db.execute(statement)).all())]
    if ctx.actor.kind != "user":
        return found
    shut = await closed_to(ctx, [person.patient_id for _, person in found if person.patient_id])
    return [(line, person) for line, person in found if person.patient_id not in shut]
