"""What one participant's page needs to know of a consultation, in one message: nothing that is not theirs to see."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from qanun.api import Context, Practitioner, initials, patient_href, specialty_name
from qanun_telemedicine.captions.line import captions_line
from qanun_telemedicine.models import (
    ADMITTED,
    IN_PROGRESS,
    OPEN,
    SCHEDULED,
    WAITING,
    Consultation,
    Guest,
    Participant,
)
from qanun_telemedicine.service import apart, captions, encryption, together, transcripts
from qanun_telemedicine.service.devices import devices_of
from qanun_telemedicine.service.guests import guests_seen
from qanun_telemedicine.service.listing import called, position
from qanun_telemedicine.service.notices import notices_of
from qanun_telemedicine.service.pictures import pictures_asked
from qanun_telemedicine.service.place import emergency_number
from qanun_telemedicine.service.presence import acting_guest, attend, connected, present
from qanun_telemedicine.service.recording import decisions, plan, wording_version


async def snapshot(ctx: Context, row: Consultation, me: Participant) -> dict[str, Any]:
    """State, who is in the call, where the recording stands. Names only of those who are in the call."""
    call, inside = row, True
    if row.group_id is not None:
        # Whose visit is in a group is in its call under the name that they chose, once they were let in.
        call, inside = await together.call_for(ctx, row), row.state == IN_PROGRESS
        me = await attend(ctx, call)
    here = await present(ctx, call.id) if inside else []
    if ctx.actor.kind == "guest":
        me_as_guest = await acting_guest(ctx, row.id)
        if me_as_guest.state != ADMITTED:
            return _outside(row, me_as_guest)
    wanted = await plan(ctx, call)
    known = await decisions(ctx, call)
    mine = known.get(me.id)
    staff = ctx.actor.kind == "user"
    shown = await together.names(ctx, call, (person for person, _ in here))
    asked = await pictures_asked(ctx, call, me)
    return {
        "type": "state",
        "state": row.state,
        "admitted_at": row.admitted_at.isoformat() if row.admitted_at else None,
        "position": await position(ctx, row) if row.state == WAITING else None,
        "concern": row.concern if ctx.actor.kind != "guest" else "",
        "patient_here": any(person.kind == "patient" and connected(ctx, stay) for person, stay in here),
        "people": [
            {
                "id": str(person.id),
                "name": shown[person.id],
                "kind": person.kind,
                "role": person.role,
                "connected": connected(ctx, stay),
                "me": person.id == me.id,
                "hand": person.hand_at.isoformat() if person.hand_at else None,
                "muted": person.muted,
                "key": person.public_key,
                "chart": (
                    patient_href(ctx, person.patient_id)
                    if staff and call.patient_id is None and person.patient_id
                    else None
                ),
                # To put a guest out is the clinic's, by their invitation.
                "guest": person.subject.removeprefix("Guest/") if staff and person.kind == "guest" else None,
            }
            for person, stay in here
            if stay.place == "call"
        ],
        "devices": [
            {"id": str(one.id), "name": one.name, "connected": one.connected} for one in await devices_of(ctx, call.id)
        ],
        "guests": await _guests(ctx, call) if staff else [],
        "with": await _holder(ctx, row),
        "locked": call.locked_at is not None,
        "group": await _group(ctx, row, call) if call.patient_id is None else None,
        "place": _place(row) if ctx.actor.kind != "guest" else None,
        "mute_asked": me.mute_asked_at.isoformat() if me.mute_asked_at else None,
        "notices": await _notices(ctx, row) if ctx.actor.kind != "guest" and row.state in (SCHEDULED, WAITING) else [],
        "picture": asked.question,
        "pictures": asked.mine,
        "encryption": {"on": row.encrypted, "keys": await encryption.lent_to(ctx, call, me)},
        "captions": {
            "offered": captions_line(ctx.runtime) is not None and not row.encrypted,
            "asked": inside and call.captions_asked_at is not None,
            "mine": me.captions,
            "wording": captions.WORDING,
            "kept": await _kept(ctx, call, me),
        },
        "recording": {
            "offered": not row.encrypted and call.patient_id is not None,
            "asked": call.recording_asked_at is not None,
            "state": wanted.running.state if wanted.running else "none",
            "needed": len(wanted.needed),
            "given": len(wanted.given),
            "declined": bool(wanted.against),
            "held": wanted.held,
            "mine": mine.decision if mine else "open",
            "wording": wording_version(me.kind),
        },
    }


async def _group(ctx: Context, row: Consultation, call: Consultation) -> dict[str, Any]:
    """What the group is called; for its leader also whose visits it holds, for a patient their own answer and name."""
    told: dict[str, Any] = {"title": call.title, "wording": together.WORDING}
    if ctx.actor.kind == "user":
        return {**told, "visits": await together.visits(ctx, call)}
    barred = row.state == IN_PROGRESS and await apart.withheld(ctx, call, row.whose)
    return {**told, "answer": row.group_answer, "name": row.shown_as, "apart": barred}


async def _kept(ctx: Context, call: Consultation, me: Participant) -> dict[str, Any]:
    """Whether what is said goes into the record, and who has agreed to that."""
    asked = call.transcript_asked_at
    stands = await transcripts.standing(ctx, call) if asked else None
    mine = me.transcript if asked and me.transcript_at and me.transcript_at >= asked else ""
    return {
        "offered": captions_line(ctx.runtime) is not None and not call.encrypted and call.patient_id is not None,
        "asked": asked is not None,
        "mine": mine,
        "writes": stands is not None and stands.since is not None,
        "needed": len(stands.needed) if stands else 0,
        "given": len(stands.given) if stands else 0,
        "wording": transcripts.WORDING,
    }


async def _holder(ctx: Context, row: Consultation) -> dict[str, str]:
    """Whom the patient meets; it can become somebody else while they wait."""
    found = select(Practitioner).where(Practitioner.id == row.practitioner_id)
    holder = (await ctx.db.execute(found)).scalar_one()
    name = called(ctx, holder)
    return {
        "id": str(holder.id), "name": name, "letters": initials(name),
        "specialty": specialty_name(holder.specialty, ctx.locale), "licence": holder.licence,
    }  # fmt: skip


def _place(row: Consultation) -> dict[str, str] | None:
    """Where the patient is, once somebody said so, and whom to call there."""
    if row.place_at is None:
        return None
    return {
        "text": row.place, "country": row.place_country, "number": emergency_number(row.place_country),
        "at": row.place_at.isoformat(),
    }  # fmt: skip


async def _notices(ctx: Context, row: Consultation) -> list[dict[str, Any]]:
    """The clinic's messages while somebody waits, newest first, in their language."""
    return [
        {"id": str(one.id), "text": text, "at": one.sent_at.isoformat()} for one, text in await notices_of(ctx, row.id)
    ]


async def _guests(ctx: Context, row: Consultation) -> list[dict[str, Any]]:
    """For the clinic's page: it asks for its list anew when one of these changes."""
    seen = await guests_seen(ctx, row, links=False)
    return [{"id": str(one.guest.id), "state": one.guest.state, "here": one.here} for one in seen]


def _outside(row: Consultation, guest: Guest) -> dict[str, Any]:
    """What a guest knows who was not let in: that they wait, or that it is over. Nobody's name, no time, nothing said."""
    over = row.state not in OPEN
    return {
        "type": "state",
        "state": row.state if over else ("waiting" if guest.state == WAITING else "scheduled"),
        "admitted_at": None,
        "position": None,
        "concern": "",
        "patient_here": False,
        "people": [],
        "devices": [],
        "guests": [],
        "with": None,
        "locked": False,
        "group": None,
        "place": None,
        "mute_asked": None,
        "notices": [],
        "encryption": {"on": row.encrypted, "keys": []},
        "captions": {
            "offered": False, "asked": False, "mine": "", "wording": captions.WORDING,
            "kept": {"offered": False, "asked": False, "mine": "", "writes": False, "wording": transcripts.WORDING},
        },
        "recording": {
            "offered": False, "asked": False, "state": "none", "needed": 0, "given": 0, "declined": False, "mine": "open",
            "wording": wording_version("guest"),
        },
    }  # fmt: skip
