"""What templates need of a consultation, gathered once: values, never queries in a template."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import segno
from sqlalchemy import select

from qanun.api import N_, Context, Patient, PatientIdentifier, Practitioner, find_patients, patient_href
from qanun_telemedicine import service
from qanun_telemedicine.models import (
    ADMITTED,
    IN_PROGRESS,
    OPEN,
    SCHEDULED,
    WAITING,
    Consultation,
    Device,
    Guest,
    Participant,
)
from qanun_telemedicine.permissions import Telemedicine
from qanun_telemedicine.service import abandoned, captions, quality, together, transcripts, written
from qanun_telemedicine.service.devices import devices_of
from qanun_telemedicine.service.listing import called, minutes_waiting
from qanun_telemedicine.service.presence import connected


async def people(ctx: Context, row: Consultation) -> tuple[Patient, Practitioner]:
    patient = (await ctx.db.execute(select(Patient).where(Patient.id == row.patient_id))).scalar_one()
    return patient, await holder(ctx, row)


async def holder(ctx: Context, row: Consultation) -> Practitioner:
    """Whose call it is."""
    found = select(Practitioner).where(Practitioner.id == row.practitioner_id)
    return (await ctx.db.execute(found)).scalar_one()


async def call_view(
    ctx: Context, row: Consultation, *, values: Mapping[str, Any] | None = None, errors: Mapping[str, Any] | None = None,
    standalone: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Everything that the docked call and its lobby show."""
    patient, practitioner = await people(ctx, row)
    call = await together.call_for(ctx, row)
    here = await service.present(ctx, row.id)
    if call.id != row.id:
        here += [(one, stay) for one, stay in await service.present(ctx, call.id) if one.patient_id == patient.id]
    check = await service.latest_check(ctx, row.id)
    identifiers = select(PatientIdentifier).where(PatientIdentifier.patient_id == patient.id).limit(20)
    may_hold = ctx.can(Telemedicine.CONSULTATION_HOLD)
    return {
        "consultation": row,
        "patient": patient,
        "may_read_said": ctx.can(Telemedicine.CONVERSATION_READ),
        "practitioner": practitioner,
        "with_whom": called(ctx, practitioner),
        "check": check,
        "identity": IDENTITY_LABELS,
        "identifiers": (await ctx.db.execute(identifiers)).scalars().all() if may_hold else [],
        "waited": minutes_waiting(row, ctx.now),
        "patient_here": any(one.kind == "patient" and connected(ctx, stay) for one, stay in here),
        "link": await service.invitation_link(ctx, row) if row.state in (SCHEDULED, WAITING) else "",
        **await _dock(ctx, call),
        "group": call if call.id != row.id else None,
        "chart": patient_href(ctx, patient.id),
        "values": dict(values or {}),
        "errors": dict(errors or {}),
        "standalone": standalone,
        "open": row.state in OPEN,
        **await guests_view(ctx, row),
        **await devices_view(ctx, row),
        **await room_view(ctx, row),
        **place_view(ctx, row),
    }


async def _dock(ctx: Context, call: Consultation) -> dict[str, Any]:
    """What the docked call itself needs, of one patient or of a group."""
    person = f"User/{ctx.actor.id}"
    question, sentences = service.wording(ctx.locale, "staff")
    here = await service.present(ctx, call.id)
    return {
        "call": call,
        "mine": any(one.subject == person and stay.place == "call" for one, stay in here),
        "question": question,
        "sentences": sentences,
        "wording_version": service.wording_version("staff"),
        "picture_words": service.picture_wording(ctx.locale),
        "captions_words": captions.wording(ctx.locale),
        "transcript_words": transcripts.wording(ctx.locale),
    }


async def group_view(
    ctx: Context, call: Consultation, *, query: str = "", values: Mapping[str, Any] | None = None,
    errors: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """A group's page: who comes, where they are, and the call."""
    may_invite = ctx.can(Telemedicine.CONSULTATION_INVITE)
    lines = await service.said(ctx, call.id) if ctx.can(Telemedicine.CONVERSATION_READ) else []
    names = await together.names(ctx, call, [author for _, author in lines])
    found = await find_patients(ctx, query) if may_invite and len(query.strip()) >= 2 else []
    return {
        **await _dock(ctx, call),
        **await members_view(ctx, call),
        **await guests_view(ctx, call),
        "consultation": call,
        "patient": None,
        "practitioner": await holder(ctx, call),
        "with_whom": called(ctx, await holder(ctx, call)),
        "open": call.state in OPEN,
        "by_itself": abandoned.by_itself(call),
        "may_read_said": ctx.can(Telemedicine.CONVERSATION_READ),
        "lines": [(line, names[author.id]) for line, author in lines],
        "query": query,
        "found": found,
        "most": together.MOST_PATIENTS,
        "values": dict(values or {}),
        "errors": dict(errors or {}),
    }


async def members_view(ctx: Context, call: Consultation) -> dict[str, Any]:
    """Who comes to a group."""
    may_invite = ctx.can(Telemedicine.CONSULTATION_INVITE)
    return {
        "group": call,
        "members": await together.members_seen(ctx, call, links=may_invite),
        "may_invite": may_invite,
        "may_hold": ctx.can(Telemedicine.CONSULTATION_HOLD),
    }


async def new_group_view(
    ctx: Context, *, values: Mapping[str, Any] | None = None, errors: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A group that is to be planned."""
    soon = ctx.local(ctx.now)
    usual = {
        "practitioner": str(ctx.actor.practitioner_id or ""), "date": soon.date().isoformat(),
        "time": f"{(soon.hour + 1) % 24:02}:00", "minutes": "60",
    }  # fmt: skip
    return {
        "practitioners": [(str(one.id), called(ctx, one)) for one in await written.answerers(ctx)],
        "lengths": [
            (str(one), ctx.locale.ngettext("%(count)s minute", "%(count)s minutes", one, domain="qanun_telemedicine") % {"count": one})
            for one in together.LENGTHS
        ],
        "values": {**usual, **dict(values or {})},
        "errors": dict(errors or {}),
    }  # fmt: skip


def place_view(ctx: Context, row: Consultation) -> dict[str, Any]:
    """Where the patient is, and the number for help there."""
    country = row.place_country or ctx.tenant.country
    return {
        "consultation": row,
        "countries": service.countries(ctx),
        "place_country": service.country_name(ctx, row.place_country) if row.place_country else "",
        "emergency": service.emergency_number(country),
        "may_hold": ctx.can(Telemedicine.CONSULTATION_HOLD),
        "place_values": {"place": row.place, "country": country},
        "place_errors": {},
    }


async def guests_view(
    ctx: Context, row: Consultation, *, values: Mapping[str, Any] | None = None, errors: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Who is invited, waits and was let in, and what may be done about it."""
    may_invite = ctx.can(Telemedicine.CONSULTATION_INVITE)
    return {
        "consultation": row,
        "guests": await service.guests_seen(ctx, row, links=may_invite),
        "guest_roles": service.ROLE_LABELS,
        "guest_ways": service.WAYS,
        "may_hold": ctx.can(Telemedicine.CONSULTATION_HOLD),
        "may_invite": may_invite,
        "guest_values": dict(values or {}),
        "guest_errors": dict(errors or {}),
    }


@dataclass(frozen=True, slots=True)
class NewDevice:
    """What is typed into a device, or scanned: shown once."""

    id: uuid.UUID
    url: str
    token: str
    #: Address and token, a line each, as a picture to scan.
    code: str

    @classmethod
    def of(cls, ctx: Context, made: Device, token: str) -> NewDevice:
        url = f"{ctx.runtime.config.base_url}/telemedicine/whip/{ctx.tenant.slug}/{made.id}"
        # Dark on light whatever the page's colours are: cameras want it so.
        drawn = segno.make(f"{url}\n{token}", error="m", micro=False)
        return cls(made.id, url, token, drawn.svg_data_uri(scale=4, border=3, dark="#000", light="#fff"))


async def devices_view(
    ctx: Context, row: Consultation, *, values: Mapping[str, Any] | None = None, errors: Mapping[str, Any] | None = None,
    new: NewDevice | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Devices that show their picture, and what may be done about it."""
    return {
        "consultation": row,
        "devices": await devices_of(ctx, row.id),
        "new_device": new,
        "now": ctx.now,
        "open": row.state in OPEN,
        "may_hold": ctx.can(Telemedicine.CONSULTATION_HOLD),
        "device_values": dict(values or {}),
        "device_errors": dict(errors or {}),
    }


async def room_view(
    ctx: Context, row: Consultation, *, values: Mapping[str, Any] | None = None, errors: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What the clinic can do for who waits: write to them, hand them over; and what it did."""
    may = ctx.can(Telemedicine.CONSULTATION_HOLD) or (
        ctx.can(Telemedicine.CONSULTATION_INVITE) and row.state != IN_PROGRESS
    )
    open_ = row.state in OPEN and row.group_id is None
    return {
        "consultation": row,
        "notices": await service.notices_of(ctx, row.id),
        "phrases": service.CHOICES,
        "may_write": ctx.can(Telemedicine.CONSULTATION_INVITE) and row.state == WAITING,
        "may_hand_over": may and open_,
        "colleagues": [(one.id, called(ctx, one)) for one in await service.colleagues(ctx, row)] if may and open_ else [],
        "handovers": [
            (one.handover, called(ctx, one.giver), called(ctx, one.taker)) for one in await service.handovers_of(ctx, row.id)
        ],
        "room_values": dict(values or {}),
        "room_errors": dict(errors or {}),
    }  # fmt: skip


async def announce_view(
    ctx: Context, *, told: int | None = None, values: Mapping[str, Any] | None = None,
    errors: Mapping[str, Any] | None = None, terms: Mapping[str, Any] | None = None,
    terms_errors: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Today's calls, a message to all who wait, and what is promised to who asks in writing."""
    rows = await service.day_list(ctx)
    waiting = [row for row in rows if row.consultation.state == WAITING]
    return {
        "rows": rows,
        "now": ctx.now,
        "asked": [(one, called(ctx, one.practitioner)) for one in await written.asked(ctx)],
        "groups": [(call, called(ctx, leader), many) for call, leader, many in await together.groups_of_the_day(ctx)],
        "hours": await written.hours(ctx),
        "may_promise": ctx.can(Telemedicine.TERMS_MANAGE),
        "terms_values": {"hours": str(await written.hours(ctx)), **dict(terms or {})},
        "terms_errors": dict(terms_errors or {}),
        "may_write": ctx.can(Telemedicine.CONSULTATION_INVITE),
        "waiting": len(waiting),
        "waited_for": sorted({(str(row.practitioner.id), row.with_whom) for row in waiting}, key=lambda one: one[1]),
        "phrases": service.CHOICES,
        "told": told,
        "room_values": dict(values or {}),
        "room_errors": dict(errors or {}),
    }


async def written_view(
    ctx: Context, row: Consultation, *, values: Mapping[str, Any] | None = None, errors: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A thread of question and answer, for either side."""
    patient, practitioner = await people(ctx, row)
    lines = await service.said(ctx, row.id)
    return {
        "consultation": row,
        "patient": patient,
        "practitioner": practitioner,
        "with_whom": called(ctx, practitioner),
        "lines": lines,
        "files": await service.attachments_of(ctx, [line.id for line, _ in lines]),
        "check": await service.latest_check(ctx, row.id),
        "late": written.late(ctx, row),
        "may_hold": ctx.can(Telemedicine.CONSULTATION_HOLD),
        "open": row.state in OPEN,
        "chart": patient_href(ctx, patient.id) if ctx.actor.kind == "user" else "",
        "address": f"/portal/{ctx.tenant.slug}/written",
        "values": dict(values or {}),
        "errors": dict(errors or {}),
    }


async def ask_view(
    ctx: Context, *, values: Mapping[str, Any] | None = None, errors: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A patient's questions, and what a new one needs."""
    assert ctx.actor.patient_id is not None
    asked = await written.asked(ctx, patient_id=ctx.actor.patient_id)
    return {
        "asked": [(one, called(ctx, one.practitioner)) for one in asked],
        "practitioners": [(str(one.id), called(ctx, one)) for one in await written.answerers(ctx)],
        "promised": ctx.now + await written.promise(ctx),
        "address": f"/portal/{ctx.tenant.slug}/written",
        "values": dict(values or {}),
        "errors": dict(errors or {}),
    }


async def visit_view(ctx: Context, row: Consultation, *, guest: Guest | None = None) -> dict[str, Any]:
    """The patient's page of a visit, or a guest's: the same steps; a guest's names nobody but whom they will meet."""
    practitioner = await holder(ctx, row)
    kind = "guest" if guest else "patient"
    question, sentences = service.wording(ctx.locale, kind)
    me = f"Guest/{guest.id}" if guest else f"Patient/{row.patient_id}"
    mine = [stay for person, stay in await service.stays(ctx, row) if person.subject == me and stay.place == "call"]
    let_in = row.state == IN_PROGRESS and (guest is None or guest.state == ADMITTED)
    waits = row.state == WAITING if guest is None else guest.state == WAITING and row.state in OPEN
    own = f"/guest/{ctx.tenant.slug}" if guest else f"/portal/{ctx.tenant.slug}"
    address = f"{own}/visits/{row.id}"
    return {
        "consultation": row,
        "practitioner": practitioner,
        "with_whom": called(ctx, practitioner),
        "question": question,
        "sentences": sentences,
        "wording_version": service.wording_version(kind),
        "picture_words": service.picture_wording(ctx.locale),
        "captions_words": captions.wording(ctx.locale),
        "transcript_words": transcripts.wording(ctx.locale),
        "guest": guest,
        "group": await together.call_for(ctx, row) if row.group_id else None,
        "group_words": together.wording(ctx.locale),
        "group_wording": together.WORDING,
        "concern": "" if guest else row.concern,
        "address": address,
        **place_view(ctx, row),
        "home": address if guest else own,
        "let_in": let_in,
        "start": (
            "after" if row.state not in OPEN
            else "call" if let_in and any(stay.left_at is None for stay in mine)
            else "waiting" if waits else "check"
        ),
    }  # fmt: skip


async def on_page(ctx: Context, patient_id: uuid.UUID) -> service.Concerning:
    """`service.about_patient`, asked once for all parts of one page."""
    key = ("telemedicine.concerning", patient_id)
    if key not in ctx.memory:
        ctx.memory[key] = await service.about_patient(ctx, patient_id)
    found: service.Concerning = ctx.memory[key]
    return found


async def open_on_page(ctx: Context, patient_id: uuid.UUID) -> Consultation | None:
    return service.nearest(ctx, (await on_page(ctx, patient_id)).consultations)


async def chips_view(ctx: Context, patient_id: uuid.UUID) -> dict[str, Any]:
    """What the chart's banner says of a visit that waits or runs; no consultation when none does."""
    row = await open_on_page(ctx, patient_id)
    if row is None or row.state not in (WAITING, IN_PROGRESS):
        return {"patient_id": patient_id, "consultation": None, "check": None}
    return {"patient_id": patient_id, "consultation": row, "check": await service.latest_check(ctx, row.id)}


async def whole_view(ctx: Context, row: Consultation) -> dict[str, Any]:
    """What happened in a consultation: stays, identity, consents, recordings; the chat for who may read what was said."""
    call = await call_view(ctx, row, standalone=True)
    consents = await service.consents_of(ctx, row.id)
    lines = await service.said(ctx, row.id) if call["may_read_said"] else []
    return {
        **call,
        "connections": await quality.of_consultation(ctx, row.id) if ctx.can(Telemedicine.QUALITY_READ) else [],
        "fair": quality.FAIR,
        "poor": quality.POOR,
        "by_itself": abandoned.by_itself(row),
        "stays": await service.stays(ctx, row),
        "recordings": await service.recordings_of(ctx, row.id),
        "pictures": await service.pictures_of(ctx, row.id),
        "transcripts": await transcripts.transcripts_of(ctx, row.id) if call["may_read_said"] else [],
        "may_see": ctx.can(Telemedicine.PICTURE_READ),
        "consents": consents,
        "may_take_back": await _takeable(ctx, row, {person.id: person for _, person in consents}),
        "lines": lines,
        "files": await service.attachments_of(ctx, [line.id for line, _ in lines]),
        "may_play": ctx.can(Telemedicine.RECORDING_PLAY),
    }


async def _takeable(ctx: Context, row: Consultation, people: Mapping[uuid.UUID, Participant]) -> set[uuid.UUID]:
    """Whose consent to a finished recording stands and can be taken back here, for who holds visits."""
    if row.recording_asked_at is not None or not ctx.can(Telemedicine.CONSULTATION_HOLD):
        return set()
    return {id for id, person in people.items() if await service.withdrawable(ctx, row, person)}


#: Identifier → (label, {way: label}); the same keys as `service.IDENTIFIERS`.
IDENTITY_LABELS: dict[str, tuple[object, dict[str, object]]] = {
    "name": (N_("Full name"), {"said": N_("said by the patient"), "shown": N_("seen on a document")}),
    "birth-date": (N_("Date of birth"), {"said": N_("said by the patient"), "shown": N_("seen on a document")}),
    "document": (N_("Identity document"), {"shown": N_("held to the camera"), "read-out": N_("number read out")}),
    "phone": (N_("Phone"), {"called-back": N_("called back on the number we have")}),
    "photo": (N_("Photo"), {"compared": N_("face compared with the photo")}),
}
