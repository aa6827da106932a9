"""the record"""

import sqlalchemy as sa
from alembic import op

from qanun.api.migrations import isolate

revision = "0001"
down_revision = None
created = "2026-11-23"


def upgrade() -> None:
    op.create_table(
        "emr_allergy",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("patient_id", sa.UUID(), nullable=False),
        sa.Column("substance", sa.Text(), nullable=False),
        sa.Column("criticality", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("reaction", sa.Text(), nullable=False),
        sa.Column("recorded_by", sa.UUID(), nullable=False),
        sa.Column("encounter_id", sa.UUID(), nullable=True),
        sa.Column("voided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("voided_by", sa.UUID(), nullable=True),
        sa.Column("void_reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "criticality in ('low', 'high', 'unable-to-assess')", name=op.f("ck_emr_allergy_criticality")
        ),
        sa.CheckConstraint("severity in ('', 'mild', 'moderate', 'severe')", name=op.f("ck_emr_allergy_severity")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "patient_id"],
            ["core_patient.tenant_id", "core_patient.id"],
            name=op.f("fk_emr_allergy_tenant_id_patient_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_emr_allergy")),
    )
    op.create_index(op.f("ix_emr_allergy_patient_id"), "emr_allergy", ["patient_id"], unique=False)
    op.create_table(
        "emr_condition",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("patient_id", sa.UUID(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("clinical_status", sa.Text(), nullable=False),
        sa.Column("onset", sa.Text(), nullable=False),
        sa.Column("recorded_by", sa.UUID(), nullable=False),
        sa.Column("voided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("voided_by", sa.UUID(), nullable=True),
        sa.Column("void_reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("clinical_status in ('active', 'resolved')", name=op.f("ck_emr_condition_clinical_status")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "patient_id"],
            ["core_patient.tenant_id", "core_patient.id"],
            name=op.f("fk_emr_condition_tenant_id_patient_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_emr_condition")),
    )
    op.create_index(op.f("ix_emr_condition_patient_id"), "emr_condition", ["patient_id"], unique=False)
    op.create_table(
        "emr_medication_statement",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("patient_id", sa.UUID(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("strength", sa.Text(), nullable=False),
        sa.Column("dosage", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("recorded_by", sa.UUID(), nullable=False),
        sa.Column("voided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("voided_by", sa.UUID(), nullable=True),
        sa.Column("void_reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("status in ('active', 'stopped')", name=op.f("ck_emr_medication_statement_status")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "patient_id"],
            ["core_patient.tenant_id", "core_patient.id"],
            name=op.f("fk_emr_medication_statement_tenant_id_patient_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_emr_medication_statement")),
    )
    op.create_index(
        op.f("ix_emr_medication_statement_patient_id"), "emr_medication_statement", ["patient_id"], unique=False
    )
    op.create_table(
        "emr_observation",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("patient_id", sa.UUID(), nullable=False),
        sa.Column("encounter_id", sa.UUID(), nullable=True),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("value", sa.Numeric(precision=12, scale=4), nullable=False),
        sa.Column("value2", sa.Numeric(precision=12, scale=4), nullable=True),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("effective", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_by", sa.UUID(), nullable=False),
        sa.Column("voided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("voided_by", sa.UUID(), nullable=True),
        sa.Column("void_reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "patient_id"],
            ["core_patient.tenant_id", "core_patient.id"],
            name=op.f("fk_emr_observation_tenant_id_patient_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_emr_observation")),
    )
    op.create_index(
        "ix_emr_observation_latest", "emr_observation", ["tenant_id", "patient_id", "code", "effective"], unique=False
    )
    op.create_table(
        "emr_encounter",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("patient_id", sa.UUID(), nullable=False),
        sa.Column("practitioner_id", sa.UUID(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("class_code", sa.Text(), nullable=False),
        sa.Column("start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("end", sa.DateTime(timezone=True), nullable=True),
        sa.Column("appointment", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("signed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("signed_by", sa.UUID(), nullable=True),
        sa.Column("signed_name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("class_code in ('AMB', 'VR')", name=op.f("ck_emr_encounter_class_code")),
        sa.CheckConstraint(
            "status in ('planned','arrived','in-progress','finished','cancelled')", name=op.f("ck_emr_encounter_status")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "patient_id"],
            ["core_patient.tenant_id", "core_patient.id"],
            name=op.f("fk_emr_encounter_tenant_id_patient_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "practitioner_id"],
            ["core_practitioner.tenant_id", "core_practitioner.id"],
            name=op.f("fk_emr_encounter_tenant_id_practitioner_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_emr_encounter")),
    )
    op.create_index("ix_emr_encounter_patient", "emr_encounter", ["tenant_id", "patient_id", "start"], unique=False)
    op.create_index(
        "uq_emr_encounter_appointment",
        "emr_encounter",
        ["tenant_id", "appointment"],
        unique=True,
        postgresql_where="appointment <> ''",
    )
    op.create_table(
        "emr_encounter_participant",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("encounter_id", sa.UUID(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("display", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("start", sa.DateTime(timezone=True), nullable=True),
        sa.Column("end", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "encounter_id"],
            ["emr_encounter.tenant_id", "emr_encounter.id"],
            name=op.f("fk_emr_encounter_participant_tenant_id_encounter_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_emr_encounter_participant")),
    )
    op.create_index(
        op.f("ix_emr_encounter_participant_encounter_id"), "emr_encounter_participant", ["encounter_id"], unique=False
    )
    op.create_table(
        "emr_note",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("encounter_id", sa.UUID(), nullable=False),
        sa.Column("patient_id", sa.UUID(), nullable=False),
        sa.Column("subjective", sa.Text(), nullable=False),
        sa.Column("objective", sa.Text(), nullable=False),
        sa.Column("assessment", sa.Text(), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("saved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("saved_by", sa.UUID(), nullable=True),
        sa.Column("saved_name", sa.Text(), nullable=False),
        sa.Column("signed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_by", sa.UUID(), nullable=True),
        sa.Column("lease_name", sa.Text(), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "encounter_id"],
            ["emr_encounter.tenant_id", "emr_encounter.id"],
            name=op.f("fk_emr_note_tenant_id_encounter_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "patient_id"],
            ["core_patient.tenant_id", "core_patient.id"],
            name=op.f("fk_emr_note_tenant_id_patient_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_emr_note")),
        sa.UniqueConstraint("tenant_id", "encounter_id", name=op.f("uq_emr_note_tenant_id_encounter_id")),
    )
    op.create_index(op.f("ix_emr_note_patient_id"), "emr_note", ["patient_id"], unique=False)
    op.create_table(
        "emr_note_addendum",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("note_id", sa.UUID(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("author_id", sa.UUID(), nullable=False),
        sa.Column("author_name", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "note_id"],
            ["emr_note.tenant_id", "emr_note.id"],
            name=op.f("fk_emr_note_addendum_tenant_id_note_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_emr_note_addendum")),
    )
    op.create_index(op.f("ix_emr_note_addendum_note_id"), "emr_note_addendum", ["note_id"], unique=False)
    isolate("emr_allergy")
    isolate("emr_condition")
    isolate("emr_medication_statement")
    isolate("emr_observation")
    isolate("emr_encounter")
    isolate("emr_encounter_participant")
    isolate("emr_note")
    isolate("emr_note_addendum")
