"""The consultation's life: scheduled → waiting → in progress → ended, or cancelled. One per appointment."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

from sqlalchemy import select

from qanun.api import (
    N_,
    BookedAppointment,
    Conflict,
    Context,
    Invalid,
    NotFound,
    ResourceRef,
    invite,
    must_be_open,
    new_id,
    patient,
    random_token,
)
from qanun_telemedicine.events import ConsultationAdmitted, ConsultationEnded, PatientWaiting
from qanun_telemedicine.models import (
    CANCELLED,
    ENDED,
    IN_PROGRESS,
    OPEN,
    SCHEDULED,
    VIDEO,
    VOICE,
    WAITING,
    Consultation,
    Participant,
    Presence,
)
from qanun_telemedicine.service import encounters, encryption, guests, presence, transcripts
from qanun_telemedicine.service.identity import latest_check
from qanun_telemedicine.service.on_chart import open_for_patient

MOST_CONCERN = 2000
#: A visit without an appointment is planned this long; a planned one this near is the one that is meant.
AD_HOC_LENGTH = timedelta(minutes=20)
AD_HOC_NEAR = timedelta(hours=1)
TOPIC = "telemedicine.consultation"
_SEAL = "telemedicine.invitation"


NOT_CONFIRMED = "the patient's identity is not confirmed"
NOBODY_WAITS = "nobody waits for this consultation"
NOT_AGREED = "the patient did not agree to come to the group"
NO_GROUP = "the call of the group does not run"
NO_PRACTITIONER = "only who treats patients here begins a visit"
#: What a refused admission says on the screen.
REFUSALS: dict[str, object] = {
    NOT_CONFIRMED: N_("Confirm who the patient is first."),
    NOBODY_WAITS: N_("The patient is not in the waiting room."),
    NOT_AGREED: N_("The patient did not agree to come to the group."),
    NO_GROUP: N_("The call of the group does not run. Begin it first."),
    guests.LOCKED_GROUP: guests.LOCKED,
}


def reference(row: Consultation) -> ResourceRef:
    return ResourceRef("Consultation", row.id)


def changed(ctx: Context, row: Consultation) -> None:
    """Tell every open page and socket of it; they read what changed themselves."""
    ctx.notify(TOPIC, consultation=row.id, patient=row.patient_id)


async def consultation(ctx: Context, id: uuid.UUID, *, lock: bool = False) -> Consultation:
    """A patient's visit. Raises NotFound for an unknown one, another clinic's, the call of a group, and, for a patient or
    guest, one that is not theirs."""
    row = await _found(ctx, id, lock)
    if (
        row is None
        or row.patient_id is None
        or (ctx.actor.kind == "patient" and row.patient_id != ctx.actor.patient_id)
    ):
        raise NotFound("consultation")
    if ctx.actor.kind == "guest":
        await presence.acting_guest(ctx, row.id)
    return row


async def call_of(ctx: Context, id: uuid.UUID, *, lock: bool = False) -> Consultation:
    """Where people are in a call: a visit as `consultation` gives it, or a group's call. Raises NotFound, for a patient also
    for a group in which they are not at this moment."""
    row = await _found(ctx, id, lock)
    if row is None or row.patient_id is not None:
        return await consultation(ctx, id, lock=lock)
    if ctx.actor.kind == "guest":
        await presence.acting_guest(ctx, row.id)
    elif ctx.actor.kind == "patient":
        mine = select(Consultation.id).where(
            Consultation.group_id == row.id, Consultation.patient_id == ctx.actor.patient_id,
            Consultation.state == IN_PROGRESS, Consultation.group_answer == "given",
        )  # fmt: skip
        if (await ctx.db.execute(mine.limit(1))).first() is None:
            raise NotFound("consultation")
    return row


async def _found(ctx: Context, id: uuid.UUID, lock: bool) -> Consultation | None:
    statement = select(Consultation).where(Consultation.id == id)
    if lock:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    row = (await ctx.db.execute(statement)).scalar_one_or_none()
    if row is not None and row.patient_id is not None:
        await must_be_open(ctx, row.patient_id)
    return row


async def for_appointment(ctx: Context, appointment_id: uuid.UUID) -> Consultation | None:
    """None also for a patient who asks about somebody else's."""
    statement = select(Consultation).where(Consultation.appointment_id == appointment_id)
    row = (await ctx.db.execute(statement)).scalar_one_or_none()
    if row is not None and ctx.actor.kind == "patient" and row.patient_id != ctx.actor.patient_id:
        return None
    return row


async def prepare(
    ctx: Context, booked: BookedAppointment, *, mode: str = VIDEO, encrypted: bool = False
) -> None:  # fmt: skip
    """Make the consultation of a booked video appointment and the patient's one-time link, in the booking's transaction."""
    if await for_appointment(ctx, booked.id) is not None:
        raise Conflict("this appointment has a consultation already")
    row = Consultation(
        id=new_id(), appointment_id=booked.id, patient_id=booked.patient_id, practitioner_id=booked.practitioner_id,
        starts_at=booked.start, ends_at=booked.end, state=SCHEDULED, room=random_token(), concern="", mode=mode,
        encrypted=encrypted,
    )  # fmt: skip
    ctx.db.add(row)
    await invite_patient(ctx, row)
    ctx.audit(
        "telemedicine.consultation.schedule", patient_id=row.patient_id, entity=reference(row),
        detail={"encrypted": encrypted},
    )  # fmt: skip


async def prepare_voice(ctx: Context, booked: BookedAppointment) -> None:
    """The same for an appointment that is held by voice."""
    await prepare(ctx, booked, mode=VOICE)


async def prepare_encrypted(ctx: Context, booked: BookedAppointment) -> None:
    """The same for one that is encrypted end to end."""
    await prepare(ctx, booked, encrypted=True)


async def begin_now(ctx: Context, patient_id: uuid.UUID, *, mode: str = VIDEO) -> Consultation:
    """A visit without an appointment, with whoever acts, from now on; the one that is open already, when there is one.

    Raises Conflict for who treats nobody here, and NotFound for an unknown patient.
    """
    if ctx.actor.practitioner_id is None:
        raise Conflict(NO_PRACTITIONER)
    person = await patient(ctx, patient_id)
    known = await open_for_patient(ctx, person.id)
    if known is not None and (known.state != SCHEDULED or abs(known.starts_at - ctx.now) < AD_HOC_NEAR):
        return known
    row = Consultation(
        id=new_id(), appointment_id=None, patient_id=person.id, practitioner_id=ctx.actor.practitioner_id,
        starts_at=ctx.now, ends_at=ctx.now + AD_HOC_LENGTH, state=SCHEDULED, room=random_token(), concern="", mode=mode,
    )  # fmt: skip
    ctx.db.add(row)
    await invite_patient(ctx, row)
    ctx.audit("telemedicine.consultation.begin", patient_id=row.patient_id, entity=reference(row))
    changed(ctx, row)
    return row


async def invite_patient(ctx: Context, row: Consultation) -> str:
    """A link for the patient of this visit, kept sealed, so that it can be copied again."""
    path = f"/portal/{ctx.tenant.slug}/visits/{row.id}"
    token = await invite(ctx, row.whose, path)
    row.invitation = await ctx.keys.seal(ctx.db, ctx.tenant.id, token.encode(), _SEAL, str(row.id))
    return _link(ctx, token)


def _link(ctx: Context, token: str) -> str:
    return f"{ctx.runtime.config.base_url}/portal/{ctx.tenant.slug}/i/{token}"


async def invitation_link(ctx: Context, row: Consultation) -> str:
    """The patient's link as made last; empty when there is none."""
    if row.invitation is None or row.state not in OPEN:
        return ""
    token = await ctx.keys.open(ctx.db, ctx.tenant.id, row.invitation, _SEAL, str(row.id))
    return _link(ctx, token.decode())


async def renew_invitation(ctx: Context, row: Consultation) -> str:
    """A fresh link, for a patient who lost the first. Raises Conflict when the visit is over."""
    if row.state not in OPEN:
        raise Conflict("the consultation is over")
    link = await invite_patient(ctx, row)
    ctx.audit("telemedicine.invitation.renew", patient_id=row.patient_id, entity=reference(row))
    return link


async def enter_waiting_room(ctx: Context, row: Consultation, person: Participant, connection: str) -> None:
    """The patient is ready and waits. A second time, or after a cut, it changes nothing. Raises Conflict when over."""
    if row.state not in OPEN:
        raise Conflict("the consultation is over")
    if row.state == IN_PROGRESS:
        return
    if row.group_id is not None and row.group_answer != "given":
        raise Conflict("they did not agree to come to the group", code="group")
    await presence.arrive(ctx, row, person, "lobby", connection)
    if row.state == SCHEDULED:
        row.state, row.waiting_since = WAITING, ctx.now
        ctx.audit("telemedicine.patient.wait", patient_id=row.patient_id, entity=reference(row))
        ctx.emit(PatientWaiting(consultation_id=row.id, appointment_id=row.appointment_id, patient_id=row.whose))
        ctx.notify("telemedicine.waiting", consultation=row.id, practitioner=row.practitioner_id)
    changed(ctx, row)


async def write_concern(ctx: Context, row: Consultation, text: str) -> None:
    """Keep what the patient wants to talk about."""
    if len(text) > MOST_CONCERN:
        raise Invalid({"concern": N_("Please make it shorter: at most 2000 letters.")})
    if row.state not in OPEN:
        raise Conflict("the consultation is over")
    if text.strip() != row.concern:
        row.concern = text.strip()
        changed(ctx, row)


async def admit(ctx: Context, row: Consultation) -> None:
    """Let the patient in and tie the visit to the chart. Impossible before the identity is confirmed.

    Raises Conflict: not confirmed, found not to match, nobody waits, or over. A second press changes nothing.
    """
    if row.state == IN_PROGRESS:
        return
    if row.state != WAITING:
        raise Conflict(NOBODY_WAITS)
    check = await latest_check(ctx, row.id)
    if check is None or check.outcome != "confirmed":
        raise Conflict(NOT_CONFIRMED)
    if row.group_id is not None:
        await _into_the_group(ctx, row)
    row.state, row.admitted_at, row.admitted_by = IN_PROGRESS, ctx.now, ctx.actor.id
    row.encounter_id = await encounters.begin(ctx, row)
    ctx.audit(
        "telemedicine.consultation.admit", patient_id=row.patient_id, entity=reference(row),
        detail={"identity_check": str(check.id), "encounter": str(row.encounter_id or "")},
    )  # fmt: skip
    ctx.emit(
        ConsultationAdmitted(
            consultation_id=row.id, appointment_id=row.appointment_id, patient_id=row.whose,
            encounter_id=row.encounter_id,
        )
    )  # fmt: skip
    changed(ctx, row)


async def _into_the_group(ctx: Context, row: Consultation) -> None:
    """Raises Conflict for who did not agree to it, and while its call does not run or is locked."""
    if row.group_answer != "given":
        raise Conflict(NOT_AGREED)
    call = (await ctx.db.execute(select(Consultation).where(Consultation.id == row.group_id))).scalar_one()
    if call.state != IN_PROGRESS:
        raise Conflict(NO_GROUP)
    if call.locked_at is not None:
        raise Conflict(guests.LOCKED_GROUP)
    changed(ctx, call)


async def end(ctx: Context, row: Consultation, *, at: datetime | None = None) -> None:
    """Close the visit: everybody has left, the encounter learns who was there. `at`: since when nobody was there, of one that
    ends by itself. Raises Conflict when it never began."""
    if row.state == ENDED:
        return
    if row.state != IN_PROGRESS:
        raise Conflict("the consultation is not in progress")
    await transcripts.finish(ctx, row)
    await presence.close_all(ctx, row)
    if row.group_id is not None:
        call = (await ctx.db.execute(select(Consultation).where(Consultation.id == row.group_id))).scalar_one()
        await presence.close_member(ctx, call, row.whose)
        changed(ctx, call)
    await guests.close_all(ctx, row)
    await encryption.forget(ctx, row)
    moment = at or ctx.now
    row.state, row.ended_at, row.ended_by, row.invitation = ENDED, moment, ctx.actor.id, None
    row.recording_asked_at = row.recording_asked_by = row.recording_paused_at = row.captions_asked_at = None
    stays = await presence.stays(ctx, row)
    await encounters.finish(ctx, row, stays, moment)
    ctx.audit(
        "telemedicine.consultation.end", patient_id=row.patient_id, entity=reference(row),
        detail={
            "encounter": str(row.encounter_id or ""), "stays": _periods(stays), **({"by_itself": True} if at else {}),
        },
    )  # fmt: skip
    ctx.emit(
        ConsultationEnded(
            consultation_id=row.id, appointment_id=row.appointment_id, patient_id=row.whose,
            encounter_id=row.encounter_id,
        )
    )  # fmt: skip
    changed(ctx, row)


async def cancel(ctx: Context, row: Consultation) -> None:
    """Only before it began. Raises Conflict afterwards; twice changes nothing."""
    if row.state == CANCELLED:
        return
    if row.state not in (SCHEDULED, WAITING):
        raise Conflict("the consultation has begun")
    await presence.close_all(ctx, row)
    await guests.close_all(ctx, row)
    row.state, row.invitation = CANCELLED, None
    ctx.audit("telemedicine.consultation.cancel", patient_id=row.patient_id, entity=reference(row))
    changed(ctx, row)


def _periods(stays: list[tuple[Participant, Presence]]) -> list[dict[str, str]]:
    return [
        {
            "participant": str(person.id),
            "kind": person.kind,
            "from": stay.joined_at.isoformat(timespec="milliseconds"),
            "to": stay.left_at.isoformat(timespec="milliseconds") if stay.left_at else "",
        }
        for person, stay in stays
        if stay.place == "call"
    ]
