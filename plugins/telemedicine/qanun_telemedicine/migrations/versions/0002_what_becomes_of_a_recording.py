"""What becomes of a recording"""

import sqlalchemy as sa
from alembic import op

from qanun.api.migrations import append_only, isolate

revision = "0002"
down_revision = "0001"
created = "2026-11-25"


def upgrade() -> None:
    op.create_table(
        "telemedicine_retention_policy",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("jurisdiction", sa.Text(), nullable=False),
        sa.Column("adult_years", sa.Integer(), nullable=False),
        sa.Column("minor_age", sa.Integer(), nullable=False),
        sa.Column("minor_years", sa.Integer(), nullable=False),
        sa.Column("counted_from", sa.Text(), nullable=False),
        sa.Column("review", sa.Boolean(), nullable=False),
        sa.Column("basis", sa.Text(), nullable=False),
        sa.Column("set_by", sa.UUID(), nullable=False),
        sa.Column("set_by_name", sa.Text(), nullable=False),
        sa.Column("set_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "counted_from in ('recording', 'last-visit')", name=op.f("ck_telemedicine_retention_policy_counted_from")
        ),
        sa.CheckConstraint("adult_years between 0 and 100", name=op.f("ck_telemedicine_retention_policy_adult_years")),
        sa.CheckConstraint("minor_age between 0 and 40", name=op.f("ck_telemedicine_retention_policy_minor_age")),
        sa.CheckConstraint("minor_years between 0 and 100", name=op.f("ck_telemedicine_retention_policy_minor_years")),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_telemedicine_retention_policy")),
    )
    op.create_index(
        "ix_telemedicine_retention_policy_set", "telemedicine_retention_policy", ["tenant_id", "set_at"], unique=False
    )
    op.create_table(
        "telemedicine_signing_identity",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_telemedicine_signing_identity")),
    )
    op.create_table(
        "telemedicine_deletion_certificate",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("recording_id", sa.UUID(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "recording_id"],
            ["telemedicine_recording.tenant_id", "telemedicine_recording.id"],
            name=op.f("fk_telemedicine_deletion_certificate_tenant_id_recording_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_telemedicine_deletion_certificate")),
        sa.UniqueConstraint(
            "tenant_id", "recording_id", name=op.f("uq_telemedicine_deletion_certificate_tenant_id_recording_id")
        ),
    )
    op.create_table(
        "telemedicine_legal_hold",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("patient_id", sa.UUID(), nullable=False),
        sa.Column("recording_id", sa.UUID(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("placed_by", sa.UUID(), nullable=False),
        sa.Column("placed_by_name", sa.Text(), nullable=False),
        sa.Column("placed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("released_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("released_by", sa.UUID(), nullable=True),
        sa.Column("released_by_name", sa.Text(), nullable=False),
        sa.Column("release_reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "(released_at is null) = (released_by is null)", name=op.f("ck_telemedicine_legal_hold_released")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "patient_id"],
            ["core_patient.tenant_id", "core_patient.id"],
            name=op.f("fk_telemedicine_legal_hold_tenant_id_patient_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "recording_id"],
            ["telemedicine_recording.tenant_id", "telemedicine_recording.id"],
            name=op.f("fk_telemedicine_legal_hold_tenant_id_recording_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_telemedicine_legal_hold")),
    )
    op.create_index(
        "ix_telemedicine_legal_hold_standing",
        "telemedicine_legal_hold",
        ["tenant_id", "patient_id", "released_at"],
        unique=False,
    )
    op.create_table(
        "telemedicine_recording_export",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("recording_id", sa.UUID(), nullable=False),
        sa.Column("patient_id", sa.UUID(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("asked_by", sa.UUID(), nullable=False),
        sa.Column("asked_by_name", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("fetched_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("octets", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "purpose in ('patient', 'court', 'care', 'teaching', 'other')",
            name=op.f("ck_telemedicine_recording_export_purpose"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "patient_id"],
            ["core_patient.tenant_id", "core_patient.id"],
            name=op.f("fk_telemedicine_recording_export_tenant_id_patient_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "recording_id"],
            ["telemedicine_recording.tenant_id", "telemedicine_recording.id"],
            name=op.f("fk_telemedicine_recording_export_tenant_id_recording_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_telemedicine_recording_export")),
    )
    op.create_index(
        "ix_telemedicine_recording_export_recording",
        "telemedicine_recording_export",
        ["tenant_id", "recording_id", "asked_at"],
        unique=False,
    )
    op.create_table(
        "telemedicine_recording_review",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("recording_id", sa.UUID(), nullable=False),
        sa.Column("patient_id", sa.UUID(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("listed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decision", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decided_by", sa.UUID(), nullable=True),
        sa.Column("decided_by_name", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("again_on", sa.Date(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "decision is null or decision in ('keep', 'delete', 'moot')",
            name=op.f("ck_telemedicine_recording_review_decision"),
        ),
        sa.CheckConstraint("reason in ('due', 'withdrawn')", name=op.f("ck_telemedicine_recording_review_reason")),
        sa.CheckConstraint(
            "(decision is null) = (decided_at is null)", name=op.f("ck_telemedicine_recording_review_decided")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "patient_id"],
            ["core_patient.tenant_id", "core_patient.id"],
            name=op.f("fk_telemedicine_recording_review_tenant_id_patient_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "recording_id"],
            ["telemedicine_recording.tenant_id", "telemedicine_recording.id"],
            name=op.f("fk_telemedicine_recording_review_tenant_id_recording_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_telemedicine_recording_review")),
    )
    op.create_index(
        "ix_telemedicine_recording_review_open",
        "telemedicine_recording_review",
        ["tenant_id", "decision", "listed_at"],
        unique=False,
    )
    op.create_index(
        "uq_telemedicine_recording_review_open",
        "telemedicine_recording_review",
        ["tenant_id", "recording_id"],
        unique=True,
        postgresql_where="decision is null",
    )
    op.create_table(
        "telemedicine_snapshot",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("consultation_id", sa.UUID(), nullable=False),
        sa.Column("patient_id", sa.UUID(), nullable=False),
        sa.Column("encounter_id", sa.UUID(), nullable=True),
        sa.Column("participant_id", sa.UUID(), nullable=False),
        sa.Column("asked_by", sa.UUID(), nullable=False),
        sa.Column("asked_by_name", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("wording_version", sa.Text(), nullable=False),
        sa.Column("wording", sa.Text(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("blob_id", sa.UUID(), nullable=True),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("voided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("voided_by", sa.UUID(), nullable=True),
        sa.Column("voided_by_name", sa.Text(), nullable=False),
        sa.Column("void_reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "decision in ('open', 'given', 'refused', 'taken-back')", name=op.f("ck_telemedicine_snapshot_decision")
        ),
        sa.CheckConstraint(
            "taken_at is null or decision in ('given', 'taken-back')", name=op.f("ck_telemedicine_snapshot_consented")
        ),
        sa.CheckConstraint("blob_id is null or taken_at is not null", name=op.f("ck_telemedicine_snapshot_taken")),
        sa.CheckConstraint("(voided_at is null) = (voided_by is null)", name=op.f("ck_telemedicine_snapshot_voided")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "blob_id"],
            ["core_blob.tenant_id", "core_blob.id"],
            name=op.f("fk_telemedicine_snapshot_tenant_id_blob_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "consultation_id"],
            ["telemedicine_consultation.tenant_id", "telemedicine_consultation.id"],
            name=op.f("fk_telemedicine_snapshot_tenant_id_consultation_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "participant_id"],
            ["telemedicine_participant.tenant_id", "telemedicine_participant.id"],
            name=op.f("fk_telemedicine_snapshot_tenant_id_participant_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "patient_id"],
            ["core_patient.tenant_id", "core_patient.id"],
            name=op.f("fk_telemedicine_snapshot_tenant_id_patient_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_telemedicine_snapshot")),
    )
    op.create_index(
        "ix_telemedicine_snapshot_consultation",
        "telemedicine_snapshot",
        ["tenant_id", "consultation_id", "asked_at"],
        unique=False,
    )
    op.create_index(
        "ix_telemedicine_snapshot_patient",
        "telemedicine_snapshot",
        ["tenant_id", "patient_id", "taken_at"],
        unique=False,
    )
    op.add_column(
        "telemedicine_consultation", sa.Column("recording_paused_at", sa.DateTime(timezone=True), nullable=True)
    )
    op.add_column("telemedicine_recording", sa.Column("ended_because", sa.Text(), nullable=False, server_default=""))
    op.add_column("telemedicine_recording", sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("telemedicine_recording", sa.Column("keep_until", sa.Date(), nullable=True))
    op.add_column("telemedicine_recording", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_telemedicine_recording_keep_until", "telemedicine_recording", ["tenant_id", "keep_until"], unique=False
    )
    op.alter_column("telemedicine_recording", "ended_because", server_default=None)
    op.drop_constraint("ck_telemedicine_recording_state", "telemedicine_recording")
    op.create_check_constraint(
        op.f("ck_telemedicine_recording_state"),
        "telemedicine_recording",
        "state in ('recording', 'paused', 'stopped', 'failed', 'deleted')",
    )
    op.create_check_constraint(
        op.f("ck_telemedicine_recording_shredded"),
        "telemedicine_recording",
        "state <> 'deleted' or (deleted_at is not null and length(key) = 0)",
    )
    op.create_check_constraint(
        op.f("ck_telemedicine_recording_ended_because"),
        "telemedicine_recording",
        "ended_because in ('', 'clinic', 'refused', 'withdrawn', 'end', 'fault')",
    )
    isolate("telemedicine_retention_policy")
    isolate("telemedicine_signing_identity")
    isolate("telemedicine_deletion_certificate")
    isolate("telemedicine_legal_hold")
    isolate("telemedicine_recording_export")
    isolate("telemedicine_recording_review")
    isolate("telemedicine_snapshot")
    append_only("telemedicine_retention_policy")
    append_only("telemedicine_deletion_certificate")
