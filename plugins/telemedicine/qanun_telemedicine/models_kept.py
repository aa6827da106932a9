"""Tables of what becomes of a recording after the visit: how long it is kept, who decides, what was deleted, what left the
clinic; and single pictures taken from a call. The recording itself is in `models`.
"""

from __future__ import annotations

import uuid
from datetime import date, datetime

from sqlalchemy import BigInteger, CheckConstraint, Index, LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from qanun.api import TenantModel, patient_key, ref


class RetentionPolicy(TenantModel):
    """How long recordings are kept. Never changed: the newest row counts, the older ones say what counted before."""

    __tablename__ = "telemedicine_retention_policy"
    __table_args__ = (
        CheckConstraint("adult_years between 0 and 100", name="adult_years"),
        CheckConstraint("minor_age between 0 and 40", name="minor_age"),
        CheckConstraint("minor_years between 0 and 100", name="minor_years"),
        CheckConstraint("counted_from in ('recording', 'last-visit')", name="counted_from"),
        Index("ix_telemedicine_retention_policy_set", "tenant_id", "set_at"),
    )

    #: A preset's code, or `own`.
    jurisdiction: Mapped[str]
    adult_years: Mapped[int]
    #: Who was a minor when recorded: until this birthday, and so many years more; never shorter than an adult's.
    minor_age: Mapped[int]
    minor_years: Mapped[int]
    counted_from: Mapped[str]
    #: Nothing is deleted before a person agreed to that one deletion.
    review: Mapped[bool]
    #: Why the clinic keeps them so long, in its own words.
    basis: Mapped[str]
    set_by: Mapped[uuid.UUID]
    set_by_name: Mapped[str]
    set_at: Mapped[datetime]


class LegalHold(TenantModel):
    """Nothing of it is deleted while this stands: one recording, or (without one) all of a patient."""

    __tablename__ = "telemedicine_legal_hold"
    __table_args__ = (
        CheckConstraint("(released_at is null) = (released_by is null)", name="released"),
        Index("ix_telemedicine_legal_hold_standing", "tenant_id", "patient_id", "released_at"),
    )

    patient_id: Mapped[uuid.UUID] = patient_key()
    recording_id: Mapped[uuid.UUID | None] = ref("telemedicine_recording", nullable=True)
    reason: Mapped[str]
    placed_by: Mapped[uuid.UUID]
    placed_by_name: Mapped[str]
    placed_at: Mapped[datetime]
    released_at: Mapped[datetime | None]
    released_by: Mapped[uuid.UUID | None]
    released_by_name: Mapped[str] = mapped_column(default="")
    release_reason: Mapped[str] = mapped_column(default="")


class RecordingReview(TenantModel):
    """A question to a person: may this recording go? Open until somebody decides; at most one is open for a recording."""

    __tablename__ = "telemedicine_recording_review"
    __table_args__ = (
        CheckConstraint("reason in ('due', 'withdrawn')", name="reason"),
        CheckConstraint("decision is null or decision in ('keep', 'delete', 'moot')", name="decision"),
        CheckConstraint("(decision is null) = (decided_at is null)", name="decided"),
        Index(
            "uq_telemedicine_recording_review_open", "tenant_id", "recording_id", unique=True,
            postgresql_where="decision is null",
        ),
        Index("ix_telemedicine_recording_review_open", "tenant_id", "decision", "listed_at"),
    )  # fmt: skip

    recording_id: Mapped[uuid.UUID] = ref("telemedicine_recording")
    patient_id: Mapped[uuid.UUID] = patient_key()
    reason: Mapped[str]
    listed_at: Mapped[datetime]
    decision: Mapped[str | None]
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[uuid.UUID | None]
    decided_by_name: Mapped[str] = mapped_column(default="")
    note: Mapped[str] = mapped_column(default="")
    #: After a decision to keep: asked again from this day on.
    again_on: Mapped[date | None]


class DeletionCertificate(TenantModel):
    """The proof of a deletion: `body` is canonical JSON, signed with the clinic's own key. Rows are only ever added."""

    __tablename__ = "telemedicine_deletion_certificate"
    __table_args__ = (UniqueConstraint("tenant_id", "recording_id"),)

    recording_id: Mapped[uuid.UUID] = ref("telemedicine_recording")
    body: Mapped[str]
    signature: Mapped[bytes] = mapped_column(LargeBinary)
    public_key: Mapped[bytes] = mapped_column(LargeBinary)
    issued_at: Mapped[datetime]


class SigningIdentity(TenantModel):
    """The Ed25519 key with which a clinic signs certificates and exports; the private half sealed under the clinic's key."""

    __tablename__ = "telemedicine_signing_identity"

    public_key: Mapped[bytes] = mapped_column(LargeBinary)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)


class RecordingExport(TenantModel):
    """A copy that left the clinic: for whom, why, by whom, and what exactly it was."""

    __tablename__ = "telemedicine_recording_export"
    __table_args__ = (
        CheckConstraint("purpose in ('patient', 'court', 'care', 'teaching', 'other')", name="purpose"),
        Index("ix_telemedicine_recording_export_recording", "tenant_id", "recording_id", "asked_at"),
    )

    recording_id: Mapped[uuid.UUID] = ref("telemedicine_recording")
    patient_id: Mapped[uuid.UUID] = patient_key()
    purpose: Mapped[str]
    recipient: Mapped[str]
    reason: Mapped[str]
    asked_by: Mapped[uuid.UUID]
    asked_by_name: Mapped[str]
    asked_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    fetched_at: Mapped[datetime | None]
    #: Of the recording's file as it was handed out; none when the download was not finished.
    octets: Mapped[int | None] = mapped_column(BigInteger)
    sha256: Mapped[bytes | None] = mapped_column(LargeBinary)


class Snapshot(TenantModel):
    """A single picture from the call: asked for, agreed to by whom it shows, then taken and kept sealed."""

    __tablename__ = "telemedicine_snapshot"
    __table_args__ = (
        CheckConstraint("decision in ('open', 'given', 'refused', 'taken-back')", name="decision"),
        CheckConstraint("taken_at is null or decision in ('given', 'taken-back')", name="consented"),
        CheckConstraint("blob_id is null or taken_at is not null", name="taken"),
        CheckConstraint("(voided_at is null) = (voided_by is null)", name="voided"),
        Index("ix_telemedicine_snapshot_patient", "tenant_id", "patient_id", "taken_at"),
        Index("ix_telemedicine_snapshot_consultation", "tenant_id", "consultation_id", "asked_at"),
    )

    consultation_id: Mapped[uuid.UUID] = ref("telemedicine_consultation")
    patient_id: Mapped[uuid.UUID] = patient_key()
    #: Another plugin's row: a typed reference, no foreign key.
    encounter_id: Mapped[uuid.UUID | None]
    #: Whom it shows, and who therefore is asked.
    participant_id: Mapped[uuid.UUID] = ref("telemedicine_participant")
    asked_by: Mapped[uuid.UUID]
    asked_by_name: Mapped[str]
    asked_at: Mapped[datetime]
    decision: Mapped[str] = mapped_column(default="open")
    wording_version: Mapped[str] = mapped_column(default="")
    wording: Mapped[str] = mapped_column(default="")
    language: Mapped[str] = mapped_column(default="")
    decided_at: Mapped[datetime | None]
    blob_id: Mapped[uuid.UUID | None] = ref("core_blob", nullable=True)
    width: Mapped[int] = mapped_column(default=0)
    height: Mapped[int] = mapped_column(default=0)
    note: Mapped[str] = mapped_column(default="")
    taken_at: Mapped[datetime | None]
    voided_at: Mapped[datetime | None]
    voided_by: Mapped[uuid.UUID | None]
    voided_by_name: Mapped[str] = mapped_column(default="")
    void_reason: Mapped[str] = mapped_column(default="")


class TranscriptLine(TenantModel):
    """What somebody said while a transcript is being written, sealed; gone when it is finished, or thrown away."""

    __tablename__ = "telemedicine_transcript_line"
    __table_args__ = (
        UniqueConstraint("tenant_id", "consultation_id", "caption"),
        Index("ix_telemedicine_transcript_line_consultation", "tenant_id", "consultation_id", "said_at"),
    )

    consultation_id: Mapped[uuid.UUID] = ref("telemedicine_consultation")
    participant_id: Mapped[uuid.UUID] = ref("telemedicine_participant")
    #: The caption's own name: several pages hear it, one line is kept.
    caption: Mapped[str]
    said_at: Mapped[datetime]
    sealed: Mapped[bytes] = mapped_column(LargeBinary)


class Transcript(TenantModel):
    """What was said in a visit, as a document of the record: asked for, agreed to by everybody, kept sealed."""

    __tablename__ = "telemedicine_transcript"
    __table_args__ = (
        CheckConstraint("blob_id is not null or destroyed_at is not null", name="kept"),
        CheckConstraint("(voided_at is null) = (voided_by is null)", name="voided"),
        Index("ix_telemedicine_transcript_patient", "tenant_id", "patient_id", "finished_at"),
        Index("ix_telemedicine_transcript_consultation", "tenant_id", "consultation_id"),
    )

    consultation_id: Mapped[uuid.UUID] = ref("telemedicine_consultation")
    patient_id: Mapped[uuid.UUID] = patient_key()
    #: Another plugin's row: a typed reference, no foreign key.
    encounter_id: Mapped[uuid.UUID | None]
    asked_by: Mapped[uuid.UUID]
    asked_by_name: Mapped[str]
    began_at: Mapped[datetime]
    finished_at: Mapped[datetime]
    lines: Mapped[int]
    blob_id: Mapped[uuid.UUID | None] = ref("core_blob", nullable=True)
    #: Somebody who had agreed took it back: it is not shown any more, and a person decides about it.
    taken_back_at: Mapped[datetime | None]
    voided_at: Mapped[datetime | None]
    voided_by: Mapped[uuid.UUID | None]
    voided_by_name: Mapped[str] = mapped_column(default="")
    void_reason: Mapped[str] = mapped_column(default="")
    destroyed_at: Mapped[datetime | None]
