"""initial tables"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from qanun.api.migrations import isolate

revision = "0001"
down_revision = None
created = "2026-11-23"


def upgrade() -> None:

    op.create_table(
        "telemedicine_consultation",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("appointment_id", sa.UUID(), nullable=True),
        sa.Column("patient_id", sa.UUID(), nullable=False),
        sa.Column("practitioner_id", sa.UUID(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("room", sa.Text(), nullable=False),
        sa.Column("concern", sa.Text(), nullable=False),
        sa.Column("invitation", sa.LargeBinary(), nullable=True),
        sa.Column("waiting_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("admitted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("admitted_by", sa.UUID(), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_by", sa.UUID(), nullable=True),
        sa.Column("encounter_id", sa.UUID(), nullable=True),
        sa.Column("recording_asked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("recording_asked_by", sa.UUID(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("state <> 'ended' or ended_at is not null", name=op.f("ck_telemedicine_consultation_ended")),
        sa.CheckConstraint(
            "state <> 'in-progress' or admitted_at is not null", name=op.f("ck_telemedicine_consultation_admitted")
        ),
        sa.CheckConstraint(
            "state in ('scheduled', 'waiting', 'in-progress', 'ended', 'cancelled')",
            name=op.f("ck_telemedicine_consultation_state"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "patient_id"],
            ["core_patient.tenant_id", "core_patient.id"],
            name=op.f("fk_telemedicine_consultation_tenant_id_patient_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "practitioner_id"],
            ["core_practitioner.tenant_id", "core_practitioner.id"],
            name=op.f("fk_telemedicine_consultation_tenant_id_practitioner_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_telemedicine_consultation")),
        sa.UniqueConstraint(
            "tenant_id", "appointment_id", name=op.f("uq_telemedicine_consultation_tenant_id_appointment_id")
        ),
        sa.UniqueConstraint("tenant_id", "room", name=op.f("uq_telemedicine_consultation_tenant_id_room")),
    )
    op.create_index(
        "ix_telemedicine_consultation_day",
        "telemedicine_consultation",
        ["tenant_id", "state", "starts_at"],
        unique=False,
    )
    op.create_index(
        "ix_telemedicine_consultation_patient",
        "telemedicine_consultation",
        ["tenant_id", "patient_id", "starts_at"],
        unique=False,
    )
    op.create_table(
        "telemedicine_identity_check",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("consultation_id", sa.UUID(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("identifiers", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("checked_by", sa.UUID(), nullable=False),
        sa.Column("checked_by_name", sa.Text(), nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("outcome in ('confirmed', 'mismatch')", name=op.f("ck_telemedicine_identity_check_outcome")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "consultation_id"],
            ["telemedicine_consultation.tenant_id", "telemedicine_consultation.id"],
            name=op.f("fk_telemedicine_identity_check_tenant_id_consultation_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_telemedicine_identity_check")),
    )
    op.create_index(
        "ix_telemedicine_identity_check_consultation",
        "telemedicine_identity_check",
        ["tenant_id", "consultation_id", "checked_at"],
        unique=False,
    )
    op.create_table(
        "telemedicine_participant",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("consultation_id", sa.UUID(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("patient_id", sa.UUID(), nullable=True),
        sa.Column("practitioner_id", sa.UUID(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "kind in ('practitioner', 'patient', 'staff')", name=op.f("ck_telemedicine_participant_kind")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "consultation_id"],
            ["telemedicine_consultation.tenant_id", "telemedicine_consultation.id"],
            name=op.f("fk_telemedicine_participant_tenant_id_consultation_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "patient_id"],
            ["core_patient.tenant_id", "core_patient.id"],
            name=op.f("fk_telemedicine_participant_tenant_id_patient_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "practitioner_id"],
            ["core_practitioner.tenant_id", "core_practitioner.id"],
            name=op.f("fk_telemedicine_participant_tenant_id_practitioner_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_telemedicine_participant")),
        sa.UniqueConstraint(
            "tenant_id",
            "consultation_id",
            "subject",
            name=op.f("uq_telemedicine_participant_tenant_id_consultation_id_subject"),
        ),
    )
    op.create_table(
        "telemedicine_recording",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("consultation_id", sa.UUID(), nullable=False),
        sa.Column("patient_id", sa.UUID(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("directory", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_by", sa.UUID(), nullable=False),
        sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.Column("octets", sa.BigInteger(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "state in ('recording', 'paused', 'stopped', 'failed')", name=op.f("ck_telemedicine_recording_state")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "consultation_id"],
            ["telemedicine_consultation.tenant_id", "telemedicine_consultation.id"],
            name=op.f("fk_telemedicine_recording_tenant_id_consultation_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "patient_id"],
            ["core_patient.tenant_id", "core_patient.id"],
            name=op.f("fk_telemedicine_recording_tenant_id_patient_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_telemedicine_recording")),
    )
    op.create_index(
        op.f("ix_telemedicine_recording_patient_id"), "telemedicine_recording", ["patient_id"], unique=False
    )
    op.create_index(
        "uq_telemedicine_recording_running",
        "telemedicine_recording",
        ["tenant_id", "consultation_id"],
        unique=True,
        postgresql_where="state in ('recording', 'paused')",
    )
    op.create_table(
        "telemedicine_chat_message",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("consultation_id", sa.UUID(), nullable=False),
        sa.Column("participant_id", sa.UUID(), nullable=False),
        sa.Column("client_id", sa.UUID(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "consultation_id"],
            ["telemedicine_consultation.tenant_id", "telemedicine_consultation.id"],
            name=op.f("fk_telemedicine_chat_message_tenant_id_consultation_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "participant_id"],
            ["telemedicine_participant.tenant_id", "telemedicine_participant.id"],
            name=op.f("fk_telemedicine_chat_message_tenant_id_participant_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_telemedicine_chat_message")),
        sa.UniqueConstraint(
            "tenant_id",
            "participant_id",
            "client_id",
            name=op.f("uq_telemedicine_chat_message_tenant_id_participant_id_client_id"),
        ),
    )
    op.create_index(
        "ix_telemedicine_chat_message_consultation",
        "telemedicine_chat_message",
        ["tenant_id", "consultation_id", "id"],
        unique=False,
    )
    op.create_table(
        "telemedicine_presence",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("consultation_id", sa.UUID(), nullable=False),
        sa.Column("participant_id", sa.UUID(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("connection", sa.Text(), nullable=False),
        sa.Column("joined_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("left_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("place in ('lobby', 'call')", name=op.f("ck_telemedicine_presence_place")),
        sa.CheckConstraint("left_at is null or left_at >= joined_at", name=op.f("ck_telemedicine_presence_forwards")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "consultation_id"],
            ["telemedicine_consultation.tenant_id", "telemedicine_consultation.id"],
            name=op.f("fk_telemedicine_presence_tenant_id_consultation_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "participant_id"],
            ["telemedicine_participant.tenant_id", "telemedicine_participant.id"],
            name=op.f("fk_telemedicine_presence_tenant_id_participant_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_telemedicine_presence")),
    )
    op.create_index(
        "ix_telemedicine_presence_consultation",
        "telemedicine_presence",
        ["tenant_id", "consultation_id", "left_at"],
        unique=False,
    )
    op.create_index(
        "ix_telemedicine_presence_participant",
        "telemedicine_presence",
        ["tenant_id", "participant_id", "left_at"],
        unique=False,
    )
    op.create_table(
        "telemedicine_quality_sample",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("consultation_id", sa.UUID(), nullable=False),
        sa.Column("participant_id", sa.UUID(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("rtt_ms", sa.Integer(), nullable=True),
        sa.Column("loss", sa.Double(), nullable=True),
        sa.Column("jitter_ms", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "consultation_id"],
            ["telemedicine_consultation.tenant_id", "telemedicine_consultation.id"],
            name=op.f("fk_telemedicine_quality_sample_tenant_id_consultation_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "participant_id"],
            ["telemedicine_participant.tenant_id", "telemedicine_participant.id"],
            name=op.f("fk_telemedicine_quality_sample_tenant_id_participant_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_telemedicine_quality_sample")),
    )
    op.create_index(
        "ix_telemedicine_quality_sample_consultation",
        "telemedicine_quality_sample",
        ["tenant_id", "consultation_id", "at"],
        unique=False,
    )
    op.create_table(
        "telemedicine_recording_consent",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("consultation_id", sa.UUID(), nullable=False),
        sa.Column("participant_id", sa.UUID(), nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("wording_version", sa.Text(), nullable=False),
        sa.Column("wording", sa.Text(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "decision in ('given', 'refused', 'withdrawn')", name=op.f("ck_telemedicine_recording_consent_decision")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "consultation_id"],
            ["telemedicine_consultation.tenant_id", "telemedicine_consultation.id"],
            name=op.f("fk_telemedicine_recording_consent_tenant_id_consultation_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "participant_id"],
            ["telemedicine_participant.tenant_id", "telemedicine_participant.id"],
            name=op.f("fk_telemedicine_recording_consent_tenant_id_participant_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_telemedicine_recording_consent")),
    )
    op.create_index(
        "ix_telemedicine_recording_consent_consultation",
        "telemedicine_recording_consent",
        ["tenant_id", "consultation_id", "decided_at"],
        unique=False,
    )

    isolate("telemedicine_consultation")
    isolate("telemedicine_identity_check")
    isolate("telemedicine_participant")
    isolate("telemedicine_recording")
    isolate("telemedicine_chat_message")
    isolate("telemedicine_presence")
    isolate("telemedicine_quality_sample")
    isolate("telemedicine_recording_consent")
