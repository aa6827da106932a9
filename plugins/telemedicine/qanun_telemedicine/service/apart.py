"""A group and closed records: nobody of staff is in a call with a patient whose record is closed to them.

Whoever leads a group stays, for the sake of the others: the patient whose record is closed to them has no seat in its call until it
is open to them again. Anybody else of staff leaves it, and the patient stays.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy import select

from qanun.api import Context, Forbidden, closed_to
from qanun_telemedicine.models import Consultation, Participant
from qanun_telemedicine.service import consultations, presence

STAFF = ("practitioner", "staff")


async def withheld(ctx: Context, call: Consultation, patient_id: uuid.UUID) -> bool:
    """Whether this patient has no seat in a group, because their record is closed to who leads it."""
    leader = select(Participant.subject).where(
        Participant.consultation_id == call.id, Participant.practitioner_id == call.practitioner_id,
        Participant.kind == "practitioner",
    )  # fmt: skip
    for subject in (await ctx.db.execute(leader)).scalars():
        if await closed_to(ctx, [patient_id], user_id=_user(subject)):
            return True
    return False


async def may_sit(ctx: Context, call: Consultation, person: Participant) -> None:
    """Before somebody comes into a group's call. Raises Forbidden: `apart` for a patient whose record is closed to who leads it,
    `closed-record` for staff who would meet one whose record is closed to them."""
    if call.patient_id is not None:
        return
    if person.kind == "patient" and person.patient_id and await withheld(ctx, call, person.patient_id):
        raise Forbidden("their record is closed to who leads the group", code="apart")
    if await meets_closed(ctx, call, person):
        raise Forbidden("the record of somebody in the call is closed to them", code="closed-record")


async def meets_closed(ctx: Context, call: Consultation, person: Participant) -> bool:
    """Whether this is staff who does not lead the group, and the record of a patient in its call is closed to them."""
    if call.patient_id is not None or person.kind not in STAFF or _leads(call, person):
        return False
    there = [one.patient_id for one in await _in_call(ctx, call) if one.patient_id]
    return bool(await closed_to(ctx, there, user_id=_user(person.subject)))


async def to_part(ctx: Context, call: Consultation) -> list[Participant]:
    """Who has to leave a group's call now: patients whose record is closed to who leads it, and others of staff to whom the
    record of somebody there is closed."""
    here = await _in_call(ctx, call)
    patients = {one.patient_id: one for one in here if one.kind == "patient" and one.patient_id}
    parting: dict[uuid.UUID, Participant] = {}
    for person in here if call.patient_id is None and patients else ():
        if person.kind not in STAFF:
            continue
        shut = await closed_to(ctx, list(patients), user_id=_user(person.subject))
        if _leads(call, person):
            parting |= {patients[one].id: patients[one] for one in shut}
        elif shut:
            parting[person.id] = person
    return list(parting.values())


async def part(ctx: Context, call: Consultation, people: Sequence[Participant]) -> None:
    """They have no seat in the call any more."""
    for person in people:
        await presence.depart(ctx, call, person)
        ctx.audit(
            "telemedicine.group.apart", patient_id=person.patient_id, entity=consultations.reference(call),
            detail={"participant": str(person.id)},
        )  # fmt: skip
    consultations.changed(ctx, call)


def _leads(call: Consultation, person: Participant) -> bool:
    return person.practitioner_id is not None and person.practitioner_id == call.practitioner_id


def _user(subject: str) -> uuid.UUID:
    return uuid.UUID(subject.removeprefix("User/"))


async def _in_call(ctx: Context, call: Consultation) -> list[Participant]:
    return [one for one, stay in await presence.present(ctx, call.id) if stay.place == "call"]
