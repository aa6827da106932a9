"""What telemedicine announces. Ids only."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from qanun.api import Event, EventType


@dataclass(frozen=True, kw_only=True)
class _ConsultationEvent(Event):
    consultation_id: uuid.UUID
    appointment_id: uuid.UUID | None
    patient_id: uuid.UUID
    encounter_id: uuid.UUID | None = None


@dataclass(frozen=True, kw_only=True)
class PatientWaiting(_ConsultationEvent):
    """The patient came into the waiting room for the first time."""

    type: ClassVar[str] = "telemedicine.patient.waiting"


@dataclass(frozen=True, kw_only=True)
class ConsultationAdmitted(_ConsultationEvent):
    """The clinician confirmed who the patient is and let them in."""

    type: ClassVar[str] = "telemedicine.consultation.admitted"


@dataclass(frozen=True, kw_only=True)
class ConsultationEnded(_ConsultationEvent):
    """The consultation is over; the encounter says who was in it and for how long."""

    type: ClassVar[str] = "telemedicine.consultation.ended"


@dataclass(frozen=True, kw_only=True)
class ConsultationHandedOver(_ConsultationEvent):
    """Another practitioner has the consultation now; the patient stayed where they were."""

    type: ClassVar[str] = "telemedicine.consultation.handed_over"
    from_practitioner_id: uuid.UUID
    to_practitioner_id: uuid.UUID


@dataclass(frozen=True, kw_only=True)
class _GroupEvent(Event):
    consultation_id: uuid.UUID
    #: What keeps its time in the calendar; none on an appliance without one.
    appointment_id: uuid.UUID | None


@dataclass(frozen=True, kw_only=True)
class GroupBegun(_GroupEvent):
    """The call of a group runs."""

    type: ClassVar[str] = "telemedicine.group.begun"


@dataclass(frozen=True, kw_only=True)
class GroupEnded(_GroupEvent):
    """A group is over, or was called off before it began (`held` is false then)."""

    type: ClassVar[str] = "telemedicine.group.ended"
    held: bool
    at: datetime


_EXAMPLE = {
    "consultation_id": "01939c7e-0000-7000-8000-000000000001",
    "appointment_id": "01939c7e-0000-7000-8000-000000000002",
    "patient_id": "01939c7e-0000-7000-8000-000000000003",
    "encounter_id": "01939c7e-0000-7000-8000-000000000004",
}

_GROUP = {name: _EXAMPLE[name] for name in ("consultation_id", "appointment_id")}

_HANDED_OVER = {
    **_EXAMPLE,
    "from_practitioner_id": "01939c7e-0000-7000-8000-000000000005",
    "to_practitioner_id": "01939c7e-0000-7000-8000-000000000006",
}

EVENT_TYPES = (
    *(
        EventType(id=event.type, event=event, example=_EXAMPLE)
        for event in (PatientWaiting, ConsultationAdmitted, ConsultationEnded)
    ),
    EventType(id=ConsultationHandedOver.type, event=ConsultationHandedOver, example=_HANDED_OVER),
    EventType(id=GroupBegun.type, event=GroupBegun, example=_GROUP),
    EventType(
        id=GroupEnded.type, event=GroupEnded, example={**_GROUP, "held": True, "at": "2026-05-12T10:50:00+00:00"}
    ),
)
