"""What the record announces. Ids and codes only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from qanun.api import Event, EventType


@dataclass(frozen=True, kw_only=True)
class EncounterSigned(Event):
    """A visit was signed: its note and facts no longer change."""

    type: ClassVar[str] = "emr.encounter.signed"
    encounter_id: UUID
    patient_id: UUID
    appointment: str


EVENT_TYPES = [
    EventType(
        id="emr.encounter.signed",
        event=EncounterSigned,
        example={
            "encounter_id": "0197a3c2-0000-7000-8000-000000000001",
            "patient_id": "0197a3c2-0000-7000-8000-000000000002",
            "appointment": "Appointment/0197a3c2-0000-7000-8000-000000000003",
        },
    )
]
