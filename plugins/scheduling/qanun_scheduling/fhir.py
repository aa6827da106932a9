"""Appointment as a FHIR R4 resource, for other plugins and for the patient it belongs to.

Another plugin takes a practitioner's time for a session by creating an Appointment in which no patient participates.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select

from qanun.api import N_, Context, Invalid, Practitioner, ResourceProvider, VisitMode
from qanun_scheduling import service, sessions
from qanun_scheduling.models import Appointment
from qanun_scheduling.permissions import Scheduling
from qanun_scheduling.slots import day_bounds

LIMIT = 200


def _resource(ctx: Context, row: Appointment, doctor: Practitioner | None) -> dict[str, Any]:
    mode = ctx.registry.get(VisitMode, row.visit_mode)
    name = doctor.name if doctor else ""
    if doctor and doctor.name_alt and ctx.locale.code != ctx.tenant.locale:
        name = doctor.name_alt
    return {
        "resourceType": "Appointment",
        "id": str(row.id),
        "status": row.status,
        "start": row.start.isoformat(),
        "end": row.end.isoformat(),
        "description": row.reason,
        "appointmentType": {"coding": [{"code": mode.code if mode else "AMB"}], "text": row.visit_mode},
        **({"subject": {"reference": f"Patient/{row.patient_id}"}} if row.patient_id else {}),
        "participant": [
            *([{"actor": {"reference": f"Patient/{row.patient_id}"}}] if row.patient_id else []),
            {
                "actor": {
                    "reference": f"Practitioner/{row.practitioner_id}",
                    "display": name,
                    "specialty": doctor.specialty if doctor else "",
                }
            },
        ],
        "patientHref": mode.patient_href(row.id) if row.patient_id and mode and mode.patient_href else "",
    }


async def _search(ctx: Context, criteria: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Criteria: patient, practitioner (ids), date (a local day), status (one or several), after (aware moment)."""
    statement = select(Appointment, Practitioner).outerjoin(
        Practitioner,
        (Practitioner.id == Appointment.practitioner_id) & (Practitioner.tenant_id == Appointment.tenant_id),
    )
    for name, column in (("patient", Appointment.patient_id), ("practitioner", Appointment.practitioner_id)):
        if criteria.get(name) is not None:
            statement = statement.where(column == criteria[name])
    if isinstance(criteria.get("date"), date):
        start, end = day_bounds(criteria["date"], ctx.tenant.zone)
        statement = statement.where(Appointment.start >= start, Appointment.start < end)
    if isinstance(criteria.get("after"), datetime):
        statement = statement.where(Appointment.end > criteria["after"])
    if criteria.get("status"):
        wanted = criteria["status"]
        statement = statement.where(Appointment.status.in_([wanted] if isinstance(wanted, str) else list(wanted)))
    if len(criteria) == 0:
        raise Invalid({"patient": "at least one criterion is needed"})
    found = await ctx.db.execute(statement.order_by(Appointment.start).limit(LIMIT))
    return [_resource(ctx, row, doctor) for row, doctor in found.all()]


async def _read(ctx: Context, appointment_id: UUID) -> dict[str, Any]:
    row = await service.appointment_of(ctx, appointment_id)
    doctor = select(Practitioner).where(Practitioner.id == row.practitioner_id)
    return _resource(ctx, row, (await ctx.db.execute(doctor)).scalar_one_or_none())


async def _create(ctx: Context, resource: Mapping[str, Any]) -> dict[str, Any]:
    """A session: one practitioner, no patient, a period, a title (`description`), how it is held (`appointmentType.text`)
    and an `identifier` that makes asking again harmless. Raises Invalid naming the element, Conflict when it is taken."""
    whom = [
        str((one.get("actor") or {}).get("reference", "")).partition("/") for one in resource.get("participant") or []
    ]
    faults: dict[str, object] = {}
    moments = []
    for name in ("start", "end"):
        try:
            moments.append(datetime.fromisoformat(str(resource.get(name, ""))))
        except ValueError:
            faults[name] = N_("Choose a slot.")
    try:
        (practitioner_id,) = (UUID(id) for kind, _, id in whom if kind == "Practitioner")
    except ValueError:
        faults["participant"] = N_("Choose one of the listed values.")
    if len(whom) != 1:
        # A patient's appointment is booked at the desk, which makes sure of the patient, the slot and the way of visit.
        faults["participant"] = N_("Choose one of the listed values.")
    if faults:
        raise Invalid(faults)
    keys = [str(one.get("value", "")) for one in resource.get("identifier") or []]
    made = await sessions.hold(
        ctx, practitioner_id=practitioner_id, start=moments[0], end=moments[1],
        visit_mode=str((resource.get("appointmentType") or {}).get("text", "")),
        title=str(resource.get("description", "")), request_key=keys[0] if keys else "",
    )  # fmt: skip
    return await _read(ctx, made.id)


async def _update(ctx: Context, appointment_id: UUID, changes: Mapping[str, Any]) -> dict[str, Any]:
    await service.set_status(
        ctx, appointment_id, str(changes.get("status", "")), reason=str(changes.get("cancelationReason", ""))
    )
    return await _read(ctx, appointment_id)


PROVIDERS = [
    ResourceProvider(
        id="scheduling.appointment",
        type="Appointment",
        read_permission=Scheduling.APPOINTMENT_READ,
        write_permission=Scheduling.APPOINTMENT_BOOK,
        patient_permission=Scheduling.OWN_READ,
        search=_search,
        read=_read,
        create=_create,
        update=_update,
    )
]
