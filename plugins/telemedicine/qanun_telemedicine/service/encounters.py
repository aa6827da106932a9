"""The encounter that a consultation belongs to: which one it is, and who was there while it ran.

The clinic's records keep it; an appliance without records has none.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from qanun.api import Context
from qanun_telemedicine.models import Consultation, Participant, Presence

#: FHIR's class of an encounter that is held at a distance.
_VIRTUAL = "VR"
#: How long ago a visit that still runs may have begun to be the same one.
_SAME_VISIT = timedelta(hours=12)


async def begin(ctx: Context, row: Consultation) -> uuid.UUID | None:
    """The encounter of this appointment, else the one that runs with the same clinician, else a new one; None on an
    appliance without records."""
    if not ctx.records.provides("Encounter"):
        return None
    mine = f"Appointment/{row.appointment_id}"
    known = await ctx.records.search("Encounter", patient=row.patient_id)
    for found in known if row.appointment_id else []:
        links = {link.get("reference") for link in found.get("appointment") or []}
        if mine in links and found.get("status") != "cancelled":
            return uuid.UUID(str(found["id"]))
    # A visit at the clinic that runs already with this clinician: the call is a part of it, not a second one.
    for found in known:
        who = {str((one.get("individual") or {}).get("reference")) for one in found.get("participant") or []}
        began = (found.get("period") or {}).get("start")
        here = found.get("status") == "in-progress" and (found.get("class") or {}).get("code") != _VIRTUAL
        runs = here and began and ctx.now - datetime.fromisoformat(began) < _SAME_VISIT
        if runs and f"Practitioner/{row.practitioner_id}" in who:
            return uuid.UUID(str(found["id"]))
    made = await ctx.records.create(
        "Encounter",
        {
            "resourceType": "Encounter",
            "status": "in-progress",
            "class": {"code": _VIRTUAL},
            "subject": {"reference": f"Patient/{row.patient_id}"},
            "participant": [{"individual": {"reference": f"Practitioner/{row.practitioner_id}"}}],
            "period": {"start": ctx.now.isoformat()},
            "appointment": [{"reference": mine}] if row.appointment_id else [],
        },
    )
    return uuid.UUID(str(made["id"]))


async def finish(ctx: Context, row: Consultation, stays: list[tuple[Participant, Presence]], now: datetime) -> None:
    """It learns who was in the call, and is over if it was nothing but this call."""
    if row.encounter_id is not None:
        known = await ctx.records.read("Encounter", row.encounter_id)
        await ctx.records.update("Encounter", row.encounter_id, _closing(row, stays, now, known))


def _closing(
    row: Consultation, stays: list[tuple[Participant, Presence]], now: datetime, known: Mapping[str, Any]
) -> dict[str, Any]:  # fmt: skip
    """Who was in the call, beside who was in it before; a visit at the clinic that the call was a part of is not ended."""
    participants = [one for one in known.get("participant") or [] if one.get("period")]
    for person, stay in stays:
        if stay.place != "call":
            continue
        if person.patient_id:
            target = f"Patient/{person.patient_id}"
        elif person.practitioner_id:
            target = f"Practitioner/{person.practitioner_id}"
        else:
            target = ""
        individual = {"display": person.name, **({"reference": target} if target else {})}
        # In a group who leads it was there before this patient came.
        start = max(stay.joined_at, row.admitted_at or stay.joined_at)
        participants.append({
            "individual": individual,
            "type": [{"text": person.role or person.kind}],
            "period": {"start": start.isoformat(), "end": (stay.left_at or now).isoformat()},
        })  # fmt: skip
    changes: dict[str, Any] = {"participant": participants}
    if (known.get("class") or {}).get("code") == _VIRTUAL:
        assert row.admitted_at is not None
        end = now
        if row.group_id is not None:
            # The group may go on long after this patient left it.
            left = [
                stay.left_at for person, stay in stays if stay.place == "call" and person.patient_id and stay.left_at
            ]
            end = max(left, default=now)
        changes |= {"status": "finished", "period": {"start": row.admitted_at.isoformat(), "end": end.isoformat()}}
    return changes
