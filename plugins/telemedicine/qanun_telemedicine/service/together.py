"""A group: one moderated call for several patients of the clinic, each with a visit, an encounter and a record of their own.

The call is nobody's record. A patient reaches it only through their own visit, after they agreed to be seen and heard by the
others and chose what these call them; what they learn of the others is that name. It is not recorded and not encrypted end to
end, and files are sent in nobody's name: a recording would put everybody's face into everybody's record.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select

from qanun.api import (
    N_,
    Conflict,
    Context,
    Invalid,
    Locale,
    Patient,
    Practitioner,
    closed_to,
    new_id,
    patient,
    patient_href,
    random_token,
)
from qanun_telemedicine.events import GroupBegun, GroupEnded
from qanun_telemedicine.models import (
    CANCELLED,
    ENDED,
    IN_PROGRESS,
    OPEN,
    SCHEDULED,
    VIDEO,
    WAITING,
    Consultation,
    Participant,
    Presence,
)
from qanun_telemedicine.service import consultations, guests, presence
from qanun_telemedicine.service.group import MOST
from qanun_telemedicine.service.listing import called

#: With who leads it, twelve.
MOST_PATIENTS = MOST - 1
MOST_TITLE = 120
MOST_NAME = 40
LENGTHS = (30, 45, 60, 90, 120)
#: Change it whenever the words change: consent was given to particular words.
WORDING = "2026-1"
QUESTION = N_("Do you want to take part in this group?")
SENTENCES = (
    N_("Other patients of the clinic are in the same call. They see and hear you, and you see and hear them."),
    N_("They read the name that you choose here and nothing else about you; they never see your record."),
    N_("What the others say stays in the group: please tell nobody."),
    N_("The call is not recorded. Saying no changes nothing about your care."),
)
GIVEN, REFUSED = "given", "refused"
OVER = N_("This group is over.")
FULL = N_("At most eleven patients come to one group.")
THERE = N_("This patient comes already.")
NO_LEADER = N_("Choose who leads the group.")
TAKEN = N_("Whoever leads the group has something else at this time. Choose another time or somebody else.")
#: How the calendar names the time that a group takes.
GROUP_MODE = "telemedicine.group"
_FARTHEST = timedelta(days=730)


def wording(locale: Locale) -> tuple[str, list[str]]:
    """The question and its sentences in one language."""
    return locale.resolve(QUESTION), [locale.resolve(text) for text in SENTENCES]


@dataclass(frozen=True, slots=True)
class Member:
    """A patient of a group as the clinic sees them. `here`: their page is open, in the waiting room or in the call."""

    visit: Consultation
    patient: Patient
    here: bool
    #: From when to when they were in the call, and for how long in all, in seconds.
    first: datetime | None
    last: datetime | None
    seconds: int
    link: str
    chart: str
    #: Their record is closed to who asks.
    closed: bool


# --- the clinic's side --------------------------------------------------------------------------------------------------


async def arrange(
    ctx: Context, title: str, practitioner_id: uuid.UUID | None, starts_at: datetime | None, minutes: int
) -> Consultation:
    """Plan a group, and take its time in the calendar of who leads it, where there is a calendar.

    Raises Invalid naming `title`, `practitioner`, `starts_at` (also when something lies there) or `minutes`.
    """
    title = " ".join(title.split())
    faults: dict[str, object] = {}
    if not 2 <= len(title) <= MOST_TITLE:
        faults["title"] = N_("Write what the group is called.")
    leader = select(Practitioner.id).where(Practitioner.id == practitioner_id, Practitioner.active)
    if practitioner_id is None or (await ctx.db.execute(leader)).first() is None:
        faults["practitioner"] = NO_LEADER
    if starts_at is None or starts_at < ctx.now - timedelta(hours=12):
        faults["starts_at"] = N_("Choose a day and a time that is not over.")
    elif starts_at > ctx.now + _FARTHEST:
        faults["starts_at"] = N_("Choose a day between today and two years from now.")
    if minutes not in LENGTHS:
        faults["minutes"] = N_("Choose one of the listed values.")
    if faults or starts_at is None or practitioner_id is None:
        raise Invalid(faults)
    call = Consultation(
        id=new_id(), title=title, practitioner_id=practitioner_id, starts_at=starts_at,
        ends_at=starts_at + timedelta(minutes=minutes), state=SCHEDULED, room=random_token(), concern="", mode=VIDEO,
    )  # fmt: skip
    call.appointment_id = await _hold(ctx, call)
    ctx.db.add(call)
    await ctx.db.flush()
    ctx.audit("telemedicine.group.arrange", entity=consultations.reference(call), detail={"minutes": minutes})
    consultations.changed(ctx, call)
    return call


async def _hold(ctx: Context, call: Consultation) -> uuid.UUID | None:
    """The calendar's own id of the time that it keeps for this group; none on an appliance without a calendar."""
    if not ctx.records.provides("Appointment"):
        return None
    asked = {
        "resourceType": "Appointment", "status": "booked", "description": call.title,
        "identifier": [{"value": f"{GROUP_MODE}/{call.id}"}], "appointmentType": {"text": GROUP_MODE},
        "start": call.starts_at.isoformat(), "end": call.ends_at.isoformat(),
        "participant": [{"actor": {"reference": f"Practitioner/{call.practitioner_id}"}}],
    }  # fmt: skip
    try:
        made = await ctx.records.create("Appointment", asked)
    except Conflict:
        raise Invalid({"starts_at": TAKEN}) from None
    return uuid.UUID(str(made["id"]))


async def add(ctx: Context, call: Consultation, patient_id: uuid.UUID) -> Consultation:
    """A patient comes to this group: their visit in it, and their own link. Raises Invalid naming `patient`, and NotFound."""
    if call.state not in OPEN:
        raise Invalid({"patient": OVER})
    person = await patient(ctx, patient_id)
    known = await members_of(ctx, call)
    if any(one.patient_id == person.id for one in known):
        raise Invalid({"patient": THERE})
    if len(known) >= MOST_PATIENTS:
        raise Invalid({"patient": FULL})
    row = Consultation(
        id=new_id(), group_id=call.id, patient_id=person.id, practitioner_id=call.practitioner_id,
        starts_at=call.starts_at, ends_at=call.ends_at, state=SCHEDULED, room=random_token(), concern="", mode=VIDEO,
    )  # fmt: skip
    ctx.db.add(row)
    await ctx.db.flush()
    await consultations.invite_patient(ctx, row)
    ctx.audit(
        "telemedicine.consultation.schedule", patient_id=row.patient_id, entity=consultations.reference(row),
        detail={"group": str(call.id)},
    )  # fmt: skip
    consultations.changed(ctx, call)
    return row


async def begin(ctx: Context, call: Consultation) -> None:
    """The call runs: its leader can be in it, and patients are let in. Twice changes nothing; raises Conflict when over."""
    if call.state == IN_PROGRESS:
        return
    if call.state != SCHEDULED:
        raise Conflict("the group is over")
    call.state, call.admitted_at, call.admitted_by = IN_PROGRESS, ctx.now, ctx.actor.id
    ctx.audit("telemedicine.group.begin", entity=consultations.reference(call))
    ctx.emit(GroupBegun(consultation_id=call.id, appointment_id=call.appointment_id))
    consultations.changed(ctx, call)


async def end(ctx: Context, call: Consultation, *, at: datetime | None = None) -> None:
    """The call is over for everybody: every visit in it ends in its own record, who did not come is cancelled. `at`: since
    when nobody was there, of one that ends by itself."""
    if call.state not in OPEN:
        return
    await presence.close_all(ctx, call)
    await guests.close_all(ctx, call)
    began, moment = call.state == IN_PROGRESS, at or ctx.now
    for row in await members_of(ctx, call, lock=True):
        if row.state == IN_PROGRESS:
            await consultations.end(ctx, row, at=at)
        elif row.state in (SCHEDULED, WAITING):
            await consultations.cancel(ctx, row)
            # Tells them from who was taken off before: they still expect the group.
            row.ended_at, row.ended_by = moment, ctx.actor.id
    call.state, call.ended_at, call.ended_by = ENDED if began else CANCELLED, moment, ctx.actor.id
    call.captions_asked_at = call.locked_at = None
    ctx.audit(
        "telemedicine.group.end",
        entity=consultations.reference(call),
        detail={"held": began, **({"by_itself": True} if at else {})},
    )
    ctx.emit(GroupEnded(consultation_id=call.id, appointment_id=call.appointment_id, held=began, at=moment))
    consultations.changed(ctx, call)


async def call_off(ctx: Context, call: Consultation) -> None:
    """It does not take place: every visit in it is cancelled, its time is free. Raises Conflict once it began."""
    if call.state == IN_PROGRESS:
        raise Conflict("the group has begun")
    await end(ctx, call)


async def members_of(ctx: Context, call: Consultation, *, lock: bool = False) -> Sequence[Consultation]:
    """The visits of a group that were not cancelled, in the order in which they were planned. Of a group that was called off
    itself: of those who expected it until then."""
    comes = Consultation.ended_at.is_not(None) if call.state == CANCELLED else Consultation.state != CANCELLED
    statement = (
        select(Consultation)
        .where(Consultation.group_id == call.id, comes)
        .order_by(Consultation.created_at, Consultation.id)
        .limit(MOST_PATIENTS)
    )
    if lock:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    return (await ctx.db.execute(statement)).scalars().all()


async def members_seen(ctx: Context, call: Consultation, *, links: bool) -> list[Member]:
    """Every patient with where they are and how long they were there; with `links` for who may invite."""
    rows = await members_of(ctx, call)
    if not rows:
        return []
    found = select(Patient).where(Patient.id.in_([row.patient_id for row in rows]))
    people = {one.id: one for one in (await ctx.db.execute(found)).scalars()}
    shut = await closed_to(ctx, list(people))
    stays = (
        select(Participant.patient_id, Presence)
        .join(Presence, Presence.participant_id == Participant.id)
        .where(
            Participant.kind == "patient",
            Presence.consultation_id.in_([call.id, *(row.id for row in rows)]),
        )
        .order_by(Presence.joined_at)
        .limit(2000)
    )
    there: dict[uuid.UUID | None, list[Presence]] = {}
    for patient_id, stay in (await ctx.db.execute(stays)).all():
        there.setdefault(patient_id, []).append(stay)
    seen = []
    for row in rows:
        mine = there.get(row.patient_id, [])
        inside = [stay for stay in mine if stay.place == "call"]
        ends = [stay.left_at for stay in inside]
        seen.append(
            Member(
                row, people[row.whose],
                any(stay.left_at is None and presence.connected(ctx, stay) for stay in mine),
                inside[0].joined_at if inside else None,
                None if not inside or None in ends else max(end for end in ends if end is not None),
                int(sum(((stay.left_at or ctx.now) - stay.joined_at).total_seconds() for stay in inside)),
                await consultations.invitation_link(ctx, row) if links else "",
                "" if row.patient_id in shut else patient_href(ctx, row.whose), row.patient_id in shut,
            )
        )  # fmt: skip
    return seen


async def groups_of_the_day(ctx: Context) -> list[tuple[Consultation, Practitioner, int]]:
    """Today's groups in the clinic's zone and later ones that are planned, with how many patients come."""
    start = ctx.local(ctx.now).replace(hour=0, minute=0, second=0, microsecond=0)
    statement = (
        select(Consultation, Practitioner)
        .join(Practitioner, Practitioner.id == Consultation.practitioner_id)
        .where(
            Consultation.patient_id.is_(None), Consultation.state != CANCELLED,
            (Consultation.starts_at >= start) | (Consultation.state == IN_PROGRESS),
        )
        .order_by(Consultation.starts_at)
        .limit(100)
    )  # fmt: skip
    rows = (await ctx.db.execute(statement)).all()
    count = (
        select(Consultation.group_id, func.count())
        .where(Consultation.group_id.in_([row[0].id for row in rows]), Consultation.state != CANCELLED)
        .group_by(Consultation.group_id)
    )
    many: dict[uuid.UUID | None, int] = {}
    if rows:
        many = {row[0]: row[1] for row in (await ctx.db.execute(count)).all()}
    return [(row[0], row[1], many.get(row[0].id, 0)) for row in rows]


# --- the patient's side -------------------------------------------------------------------------------------------------


async def answer(ctx: Context, row: Consultation, decision: str, version: str, name: str) -> None:
    """The patient's answer to being in the group, and what the others call them. Who takes it back is out of the call.

    Raises Conflict (no group, over, somebody else's answer) and Invalid naming `decision`, `version` or `name`.
    """
    if row.group_id is None or row.state not in OPEN:
        raise Conflict("there is no group to come to")
    if ctx.actor.kind != "patient":
        raise Conflict("the patient's own answer")
    name = " ".join(name.split())
    faults: dict[str, object] = {}
    if decision not in (GIVEN, REFUSED):
        faults["decision"] = N_("Choose one of the listed values.")
    if version != WORDING:
        faults["version"] = N_("The wording has changed. Please read it again.")
    if decision == GIVEN and not 1 <= len(name) <= MOST_NAME:
        faults["name"] = N_("Write what the others shall call you, for example a first name.")
    call = await call_for(ctx, row)
    if not faults and decision == GIVEN and await _taken(ctx, call, row, name):
        faults["name"] = N_("Somebody in the group has this name already. Choose another one.")
    if faults:
        raise Invalid(faults)
    if decision == REFUSED:
        await presence.close_member(ctx, call, row.whose)
    row.group_answer, row.shown_as = decision, name if decision == GIVEN else ""
    person = await _participant(ctx, call, row)
    if person is not None:
        person.name = row.shown_as
    ctx.audit(
        f"telemedicine.group.{decision}", patient_id=row.patient_id, entity=consultations.reference(row),
        detail={"wording": version, "language": ctx.locale.code},
    )  # fmt: skip
    consultations.changed(ctx, row)
    consultations.changed(ctx, call)


async def _taken(ctx: Context, call: Consultation, row: Consultation, name: str) -> bool:
    """By another patient, or by who leads the group: nobody speaks to the others in the clinician's name."""
    leader = select(Practitioner.name, Practitioner.name_alt).where(Practitioner.id == call.practitioner_id)
    for row_names in (await ctx.db.execute(leader)).all():
        if any(one and one.casefold() in name.casefold() for one in row_names):
            return True
    others = select(Consultation.id).where(
        Consultation.group_id == call.id, Consultation.id != row.id, Consultation.state != CANCELLED,
        func.lower(Consultation.shown_as) == name.lower(),
    )  # fmt: skip
    return (await ctx.db.execute(others.limit(1))).first() is not None


async def _participant(ctx: Context, call: Consultation, row: Consultation) -> Participant | None:
    statement = select(Participant).where(
        Participant.consultation_id == call.id, Participant.subject == f"Patient/{row.patient_id}"
    )
    return (await ctx.db.execute(statement)).scalar_one_or_none()


# --- the call of a visit ------------------------------------------------------------------------------------------------


async def call_for(ctx: Context, row: Consultation, *, lock: bool = False) -> Consultation:
    """Where the visit is held: itself, or its group's call."""
    if row.group_id is None:
        return row
    statement = select(Consultation).where(Consultation.id == row.group_id)
    if lock:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    return (await ctx.db.execute(statement)).scalar_one()


async def names(ctx: Context, call: Consultation, people: Iterable[Participant]) -> Mapping[uuid.UUID, str]:
    """What the acting person reads of each: staff the patient's name beside the chosen one, patients and guests only what was
    chosen, and of a guest what they are here for."""
    people = list(people)
    practitioners = {one.practitioner_id for one in people if one.practitioner_id}
    found = select(Practitioner).where(Practitioner.id.in_(practitioners))
    known = {one.id: called(ctx, one) for one in (await ctx.db.execute(found)).scalars()} if practitioners else {}
    shown = {one.id: known.get(one.practitioner_id or one.id, one.name) for one in people}
    if call.patient_id is not None:
        return shown
    staff = ctx.actor.kind == "user"
    own: dict[uuid.UUID, str] = {}
    if staff:
        wanted = {one.patient_id for one in people if one.patient_id}
        patients = select(Patient).where(Patient.id.in_(wanted))
        own = {one.id: one.name for one in (await ctx.db.execute(patients)).scalars()} if wanted else {}
    for one in people:
        if one.kind == "guest" and not staff:
            shown[one.id] = ctx.locale.resolve(guests.ROLE_LABELS[one.role])
        elif one.kind == "patient":
            chosen = one.name or ctx.locale.resolve(N_("Somebody of the group"))
            real = own.get(one.patient_id) if one.patient_id else None
            shown[one.id] = f"{real} ({chosen})" if real and real != chosen else chosen
    return shown


async def visits(ctx: Context, call: Consultation) -> list[dict[str, Any]]:
    """For the page of who leads it: each patient's visit, whose parts it asks for anew when one of these changes."""
    return [
        {
            "id": str(one.visit.id), "state": one.visit.state, "here": one.here, "answer": one.visit.group_answer,
            "concern": "" if one.closed else one.visit.concern,
            "place": one.visit.place_at.isoformat() if one.visit.place_at else None, "chart": one.chart, "closed": one.closed,
        }
        for one in await members_seen(ctx, call, links=False)
    ]  # fmt: skip
