"""Closed records"""

import sqlalchemy as sa
from alembic import op

from qanun.db.migrations import isolate

revision = "0006"
down_revision = "0005"
created = "2026-11-28"


def upgrade() -> None:
    op.create_table(
        "core_closed_record",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("patient_id", sa.UUID(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("closed_by", sa.UUID(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "patient_id"],
            ["core_patient.tenant_id", "core_patient.id"],
            name=op.f("fk_core_closed_record_tenant_id_patient_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_core_closed_record")),
    )
    op.create_index(
        "uq_core_closed_record_now",
        "core_closed_record",
        ["tenant_id", "patient_id"],
        unique=True,
        postgresql_where="opened_at is null",
    )
    op.create_table(
        "core_record_access",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("patient_id", sa.UUID(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("reviewed_by", sa.UUID(), nullable=True),
        sa.Column("reviewed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("(kind = 'glass') = (ends_at is not null)", name=op.f("ck_core_record_access_glass_ends")),
        sa.CheckConstraint("kind in ('named', 'glass')", name=op.f("ck_core_record_access_kind")),
        sa.CheckConstraint("verdict in ('', 'justified', 'unjustified')", name=op.f("ck_core_record_access_verdict")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "patient_id"],
            ["core_patient.tenant_id", "core_patient.id"],
            name=op.f("fk_core_record_access_tenant_id_patient_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.ForeignKeyConstraint(["user_id"], ["core_user.id"], name=op.f("fk_core_record_access_user_id")),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_core_record_access")),
    )
    op.create_index(
        "ix_core_record_access_who", "core_record_access", ["tenant_id", "patient_id", "user_id"], unique=False
    )
    isolate("core_closed_record")
    isolate("core_record_access")
