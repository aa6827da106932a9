"""The record: visits, notes, allergies, observations, problems and medications.

Names and states are FHIR R4's. Nothing is deleted: a wrong entry is voided with who, when and why.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, Numeric, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from qanun.api import TenantModel, patient_key, practitioner_key, ref


class Voidable:
    """Entered in error: who took it back, when and why."""

    voided_at: Mapped[datetime | None]
    voided_by: Mapped[UUID | None]
    void_reason: Mapped[str] = mapped_column(default="")


class Encounter(TenantModel):
    """FHIR Encounter. `class_code` is HL7 ActCode AMB (in the clinic) or VR (virtual); `appointment` a FHIR reference."""

    __tablename__ = "emr_encounter"
    __table_args__ = (
        CheckConstraint("status in ('planned','arrived','in-progress','finished','cancelled')", name="status"),
        CheckConstraint("class_code in ('AMB', 'VR')", name="class_code"),
        Index("ix_emr_encounter_patient", "tenant_id", "patient_id", "start"),
        Index(
            "uq_emr_encounter_appointment", "tenant_id", "appointment", unique=True,
            postgresql_where="appointment <> ''",
        ),
    )  # fmt: skip

    patient_id: Mapped[UUID] = patient_key()
    practitioner_id: Mapped[UUID | None] = practitioner_key(nullable=True)
    status: Mapped[str] = mapped_column(default="in-progress")
    class_code: Mapped[str] = mapped_column(default="AMB")
    start: Mapped[datetime]
    end: Mapped[datetime | None]
    appointment: Mapped[str] = mapped_column(default="")
    reason: Mapped[str] = mapped_column(default="")
    signed_at: Mapped[datetime | None]
    signed_by: Mapped[UUID | None]
    signed_name: Mapped[str] = mapped_column(default="")


class EncounterParticipant(TenantModel):
    """Who took part, from when to when: FHIR Encounter.participant. Rejoining makes a second row."""

    __tablename__ = "emr_encounter_participant"

    encounter_id: Mapped[UUID] = ref("emr_encounter", index=True)
    reference: Mapped[str] = mapped_column(default="")
    display: Mapped[str] = mapped_column(default="")
    type: Mapped[str] = mapped_column(default="")
    start: Mapped[datetime | None]
    end: Mapped[datetime | None]


class Note(TenantModel):
    """The SOAP note of a visit. `version` counts saved drafts; a signed note never changes, addenda are added to it."""

    __tablename__ = "emr_note"
    __table_args__ = (UniqueConstraint("tenant_id", "encounter_id"),)

    encounter_id: Mapped[UUID] = ref("emr_encounter")
    patient_id: Mapped[UUID] = patient_key(index=True)
    subjective: Mapped[str] = mapped_column(default="")
    objective: Mapped[str] = mapped_column(default="")
    assessment: Mapped[str] = mapped_column(default="")
    plan: Mapped[str] = mapped_column(default="")
    version: Mapped[int] = mapped_column(default=0)
    saved_at: Mapped[datetime | None]
    saved_by: Mapped[UUID | None]
    saved_name: Mapped[str] = mapped_column(default="")
    signed_at: Mapped[datetime | None]
    # Who is writing right now, and until when that claim stands without a further keystroke.
    lease_by: Mapped[UUID | None]
    lease_name: Mapped[str] = mapped_column(default="")
    lease_until: Mapped[datetime | None]


class NoteAddendum(TenantModel):
    """What was added to a signed note, by whom and when."""

    __tablename__ = "emr_note_addendum"

    note_id: Mapped[UUID] = ref("emr_note", index=True)
    text: Mapped[str]
    author_id: Mapped[UUID]
    author_name: Mapped[str]
    at: Mapped[datetime]


class AllergyIntolerance(TenantModel, Voidable):
    """FHIR AllergyIntolerance: substance, how dangerous (`criticality`), what it did (`reaction`, `severity`)."""

    __tablename__ = "emr_allergy"
    __table_args__ = (
        CheckConstraint("criticality in ('low', 'high', 'unable-to-assess')", name="criticality"),
        CheckConstraint("severity in ('', 'mild', 'moderate', 'severe')", name="severity"),
    )

    patient_id: Mapped[UUID] = patient_key(index=True)
    substance: Mapped[str]
    criticality: Mapped[str] = mapped_column(default="unable-to-assess")
    severity: Mapped[str] = mapped_column(default="")
    reaction: Mapped[str] = mapped_column(default="")
    recorded_by: Mapped[UUID]
    encounter_id: Mapped[UUID | None]


class Observation(TenantModel, Voidable):
    """FHIR Observation of a vital sign: LOINC `code`, UCUM `unit`. Blood pressure (85354-9) keeps its two components:
    `value` systolic (8480-6), `value2` diastolic (8462-4)."""

    __tablename__ = "emr_observation"
    __table_args__ = (Index("ix_emr_observation_latest", "tenant_id", "patient_id", "code", "effective"),)

    patient_id: Mapped[UUID] = patient_key()
    encounter_id: Mapped[UUID | None]
    code: Mapped[str]
    value: Mapped[Decimal] = mapped_column(Numeric(12, 4))
    value2: Mapped[Decimal | None] = mapped_column(Numeric(12, 4))
    unit: Mapped[str]
    effective: Mapped[datetime]
    recorded_by: Mapped[UUID]


class Condition(TenantModel, Voidable):
    """FHIR Condition on the problem list. `onset` as far as it is known: a year, a month or a day."""

    __tablename__ = "emr_condition"
    __table_args__ = (CheckConstraint("clinical_status in ('active', 'resolved')", name="clinical_status"),)

    patient_id: Mapped[UUID] = patient_key(index=True)
    text: Mapped[str]
    clinical_status: Mapped[str] = mapped_column(default="active")
    onset: Mapped[str] = mapped_column(default="")
    recorded_by: Mapped[UUID]


class MedicationStatement(TenantModel, Voidable):
    """FHIR MedicationStatement: what the patient takes. Prescribing is another plugin's."""

    __tablename__ = "emr_medication_statement"
    __table_args__ = (CheckConstraint("status in ('active', 'stopped')", name="status"),)

    patient_id: Mapped[UUID] = patient_key(index=True)
    text: Mapped[str]
    strength: Mapped[str] = mapped_column(default="")
    dosage: Mapped[str] = mapped_column(default="")
    status: Mapped[str] = mapped_column(default="active")
    recorded_by: Mapped[UUID]
