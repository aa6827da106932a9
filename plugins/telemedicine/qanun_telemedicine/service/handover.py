"""Handing a visit over to a colleague: the patient stays where they are, both names stay in the audit."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import aliased

from qanun.api import N_, Conflict, Context, Forbidden, Invalid, Practitioner, ResourceRef, new_id
from qanun_telemedicine.events import ConsultationHandedOver
from qanun_telemedicine.models import IN_PROGRESS, OPEN, SCHEDULED, Consultation, Handover
from qanun_telemedicine.permissions import Telemedicine

MOST_REASON = 300


@dataclass(frozen=True, slots=True)
class HandedOver:
    """A handover with the names of both."""

    handover: Handover
    giver: Practitioner
    taker: Practitioner


async def colleagues(ctx: Context, row: Consultation) -> list[Practitioner]:
    """Who could take the visit: everybody who treats patients here, but who has it."""
    statement = (
        select(Practitioner)
        .where(Practitioner.active, Practitioner.id != row.practitioner_id)
        .order_by(Practitioner.name)
        .limit(200)
    )
    return list((await ctx.db.execute(statement)).scalars())


async def hand_over(ctx: Context, row: Consultation, to_id: uuid.UUID, reason: str = "") -> Handover:
    """The visit is the colleague's from now on; who waits keeps their place in line by how long they wait.

    Raises Invalid (nobody who could take it), Conflict (over), Forbidden (a call that runs is handed over by who may hold it).
    """
    if row.state not in OPEN:
        raise Conflict("the consultation is over")
    if row.group_id is not None:
        raise Conflict("a visit in a group is with who leads it")
    if row.state == IN_PROGRESS and not ctx.can(Telemedicine.CONSULTATION_HOLD):
        raise Forbidden("only who holds the visit hands it over")
    taker = next((one for one in await colleagues(ctx, row) if one.id == to_id), None)
    if taker is None:
        raise Invalid({"practitioner": N_("Choose who takes the visit.")})
    reason = reason.strip()
    if len(reason) > MOST_REASON:
        raise Invalid({"reason": N_("Please make it shorter: at most 300 letters.")})
    giver_id, row.practitioner_id = row.practitioner_id, taker.id
    kept = Handover(
        id=new_id(), consultation_id=row.id, from_id=giver_id, to_id=taker.id, state=row.state, reason=reason, at=ctx.now,
        by=ctx.actor.id, by_name=ctx.actor.name,
    )  # fmt: skip
    ctx.db.add(kept)
    ctx.audit(
        "telemedicine.consultation.hand-over", patient_id=row.patient_id, entity=ResourceRef("Consultation", row.id),
        detail={"from": str(giver_id), "to": str(taker.id), "state": row.state},
    )  # fmt: skip
    ctx.emit(
        ConsultationHandedOver(
            consultation_id=row.id, appointment_id=row.appointment_id, patient_id=row.whose,
            encounter_id=row.encounter_id, from_practitioner_id=giver_id, to_practitioner_id=taker.id,
        )
    )  # fmt: skip
    ctx.notify("telemedicine.consultation", consultation=row.id, patient=row.patient_id)
    if row.state != SCHEDULED:
        ctx.notify("telemedicine.waiting", consultation=row.id, practitioner=taker.id)
    return kept


async def handovers_of(ctx: Context, consultation_id: uuid.UUID) -> list[HandedOver]:
    """Every one, oldest first."""
    giver, taker = aliased(Practitioner), aliased(Practitioner)
    statement = (
        select(Handover, giver, taker)
        .join(giver, giver.id == Handover.from_id)
        .join(taker, taker.id == Handover.to_id)
        .where(Handover.consultation_id == consultation_id)
        .order_by(Handover.at)
        .limit(50)
    )
    return [HandedOver(*found) for found in (await ctx.db.execute(statement)).all()]
