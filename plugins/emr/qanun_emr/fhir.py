"""The record as FHIR R4 resources for other plugins: Encounter, AllergyIntolerance, Observation, Condition."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select

from qanun.api import Context, Invalid, NotFound, ResourceProvider, format_number
from qanun_emr import chart, service
from qanun_emr.models import AllergyIntolerance, Condition, Encounter, Observation
from qanun_emr.permissions import Emr
from qanun_emr.vitals import BY_CODE

LIMIT = 200
_CLASS = "http://terminology.hl7.org/CodeSystem/v3-ActCode"


def _patient_id(criteria: Mapping[str, Any]) -> UUID:
    found = criteria.get("patient")
    if not isinstance(found, UUID):
        raise Invalid({"patient": "is needed"})
    return found


def _reference_id(reference: object, kind: str) -> UUID | None:
    text = str((reference or {}).get("reference", "") if isinstance(reference, Mapping) else reference or "")
    found, _, identity = text.partition("/")
    try:
        return UUID(identity) if found == kind else None
    except ValueError:
        return None


def _when(value: object) -> datetime | None:
    return value if isinstance(value, datetime) else datetime.fromisoformat(str(value)) if value else None


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


# --- Encounter ------------------------------------------------------------------------------------------------------------


def _encounter(row: Encounter, *, display: str = "") -> dict[str, Any]:
    return {
        "resourceType": "Encounter",
        "id": str(row.id),
        "status": row.status,
        "class": {"system": _CLASS, "code": row.class_code},
        "subject": {"reference": f"Patient/{row.patient_id}"},
        "participant": [
            {"individual": {"reference": f"Practitioner/{row.practitioner_id}", "display": display}}
        ] if row.practitioner_id else [],
        "period": {"start": _iso(row.start), "end": _iso(row.end)},
        "appointment": [{"reference": row.appointment}] if row.appointment else [],
        "reasonCode": [{"text": row.reason}] if row.reason else [],
        "signed": _iso(row.signed_at),
    }  # fmt: skip


async def _search_encounters(ctx: Context, criteria: Mapping[str, Any]) -> list[dict[str, Any]]:
    statement = select(Encounter).order_by(Encounter.start.desc()).limit(min(int(criteria.get("limit", 50)), LIMIT))
    if "appointment" in criteria:
        statement = statement.where(Encounter.appointment == str(criteria["appointment"]))
    else:
        statement = statement.where(Encounter.patient_id == _patient_id(criteria))
    if ctx.actor.kind == "patient":
        statement = statement.where(Encounter.patient_id == ctx.actor.patient_id)
    return [_encounter(row) for row in (await ctx.db.execute(statement)).scalars()]


async def _read_encounter(ctx: Context, encounter_id: UUID) -> dict[str, Any]:
    row = await service.encounter_of(ctx, encounter_id)
    resource = _encounter(row)
    resource["participant"] += [
        {
            "individual": {"reference": entry.reference, "display": entry.display},
            "type": [{"text": entry.type}],
            "period": {"start": _iso(entry.start), "end": _iso(entry.end)},
        }
        for entry in await chart.participants(ctx, encounter_id)
    ]
    return resource


async def _create_encounter(ctx: Context, resource: Mapping[str, Any]) -> dict[str, Any]:
    patient_id = _reference_id(resource.get("subject"), "Patient")
    if patient_id is None:
        raise Invalid({"subject": "must refer to a Patient"})
    appointments = resource.get("appointment") or []
    practitioner = next(
        (
            found
            for entry in resource.get("participant") or []
            if (found := _reference_id(entry.get("individual"), "Practitioner"))
        ),
        None,
    )
    reasons = resource.get("reasonCode") or []
    row = await service.start_encounter(
        ctx,
        patient_id,
        class_code=str((resource.get("class") or {}).get("code", "AMB")),
        practitioner_id=practitioner,
        appointment=str(appointments[0]["reference"]) if appointments else "",
        reason=str(reasons[0].get("text", "")) if reasons else "",
    )
    return _encounter(row)


async def _update_encounter(ctx: Context, encounter_id: UUID, changes: Mapping[str, Any]) -> dict[str, Any]:
    if changes.get("status") not in {None, "finished"}:
        raise Invalid({"status": "only finishing is another plugin's to say"})
    people: list[Mapping[str, Any]] | None = None
    if "participant" in changes:
        people = [
            {
                "reference": str((entry.get("individual") or {}).get("reference", "")),
                "display": str((entry.get("individual") or {}).get("display", ""))[:200],
                "type": str(((entry.get("type") or [{}])[0] or {}).get("text", ""))
                if isinstance(entry.get("type"), list)
                else str(entry.get("type") or ""),
                "start": _when((entry.get("period") or {}).get("start")),
                "end": _when((entry.get("period") or {}).get("end")),
            }
            for entry in changes["participant"]
        ]
    finish = changes.get("status") == "finished"
    over = _when((changes.get("period") or {}).get("end"))
    if over is not None and over.tzinfo is None:
        raise Invalid({"period": "a time without its zone"})
    return _encounter(await service.finish_encounter(ctx, encounter_id, participants=people, finish=finish, at=over))


# --- the others: read only ------------------------------------------------------------------------------------------------


def _allergy(row: AllergyIntolerance) -> dict[str, Any]:
    reaction = {"manifestation": [{"text": row.reaction}]} | ({"severity": row.severity} if row.severity else {})
    return {
        "resourceType": "AllergyIntolerance",
        "id": str(row.id),
        "patient": {"reference": f"Patient/{row.patient_id}"},
        "code": {"text": row.substance},
        "criticality": row.criticality,
        "clinicalStatus": {"coding": [{"code": "active"}]},
        "reaction": [reaction] if row.reaction or row.severity else [],
    }


def _observation(row: Observation) -> dict[str, Any]:
    def quantity(value: Any) -> dict[str, Any]:
        return {
            "value": format_number(value),
            "unit": row.unit,
            "system": "http://unitsofmeasure.org",
            "code": row.unit,
        }

    resource: dict[str, Any] = {
        "resourceType": "Observation",
        "id": str(row.id),
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": row.code}]},
        "subject": {"reference": f"Patient/{row.patient_id}"},
        "effectiveDateTime": _iso(row.effective),
    }
    if row.value2 is not None and row.code in BY_CODE:
        parts = (("8480-6", row.value), ("8462-4", row.value2))
        resource["component"] = [
            {"code": {"coding": [{"system": "http://loinc.org", "code": code}]}, "valueQuantity": quantity(value)}
            for code, value in parts
        ]
    else:
        resource["valueQuantity"] = quantity(row.value)
    return resource


def _condition(row: Condition) -> dict[str, Any]:
    return {
        "resourceType": "Condition",
        "id": str(row.id),
        "subject": {"reference": f"Patient/{row.patient_id}"},
        "code": {"text": row.text},
        "clinicalStatus": {"coding": [{"code": row.clinical_status}]},
        "onsetString": row.onset,
    }


def _reading(type: str, model: Any, shape: Any, order: Any, *, patient: str | None) -> ResourceProvider:
    async def search(ctx: Context, criteria: Mapping[str, Any]) -> list[dict[str, Any]]:
        statement = select(model).where(model.patient_id == _patient_id(criteria), model.voided_at.is_(None))
        if "code" in criteria and model is Observation:
            statement = statement.where(Observation.code == str(criteria["code"]))
        rows = await ctx.db.execute(statement.order_by(order).limit(LIMIT))
        return [shape(row) for row in rows.scalars()]

    async def read(ctx: Context, identity: UUID) -> dict[str, Any]:
        statement = select(model).where(model.id == identity, model.voided_at.is_(None))
        row = (await ctx.db.execute(statement)).scalar_one_or_none()
        if row is None:
            raise NotFound(type)
        found: dict[str, Any] = shape(row)
        return found

    return ResourceProvider(
        id=f"emr.{type.lower()}", type=type, read_permission=Emr.CHART_READ, patient_permission=patient, search=search,
        read=read,
    )  # fmt: skip


PROVIDERS = [
    ResourceProvider(
        id="emr.encounter", type="Encounter", read_permission=Emr.CHART_READ, write_permission=Emr.ENCOUNTER_WRITE,
        patient_permission=Emr.OWN_READ, search=_search_encounters, read=_read_encounter, create=_create_encounter,
        update=_update_encounter,
    ),
    _reading("AllergyIntolerance", AllergyIntolerance, _allergy, AllergyIntolerance.substance, patient=Emr.OWN_READ),
    _reading("Observation", Observation, _observation, Observation.effective.desc(), patient=None),
    _reading("Condition", Condition, _condition, Condition.created_at.desc(), patient=None),
]  # fmt: skip
