"""What the schedule announces. Ids, codes and times only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar
from uuid import UUID

from qanun.api import Event, EventType


@dataclass(frozen=True, kw_only=True)
class AppointmentBooked(Event):
    """A slot was taken."""

    type: ClassVar[str] = "scheduling.appointment.booked"
    appointment_id: UUID
    patient_id: UUID
    practitioner_id: UUID
    visit_mode: str
    start: datetime


@dataclass(frozen=True, kw_only=True)
class AppointmentCancelled(Event):
    """A slot became free again."""

    type: ClassVar[str] = "scheduling.appointment.cancelled"
    appointment_id: UUID
    #: None for a session, which belongs to no single patient.
    patient_id: UUID | None
    visit_mode: str


_APPOINTMENT = "0197a3c2-0000-7000-8000-000000000001"
_PATIENT = "0197a3c2-0000-7000-8000-000000000002"

EVENT_TYPES = [
    EventType(
        id="scheduling.appointment.booked",
        event=AppointmentBooked,
        example={
            "appointment_id": _APPOINTMENT,
            "patient_id": _PATIENT,
            "practitioner_id": "0197a3c2-0000-7000-8000-000000000003",
            "visit_mode": "scheduling.in-person",
            "start": "2026-05-12T10:50:00+00:00",
        },
    ),
    EventType(
        id="scheduling.appointment.cancelled",
        event=AppointmentCancelled,
        example={"appointment_id": _APPOINTMENT, "patient_id": _PATIENT, "visit_mode": "scheduling.in-person"},
    ),
]
