"""Guests of a consultation: relatives, interpreters, colleagues from elsewhere"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from qanun.api.migrations import isolate

revision = "0003"
down_revision = "0002"
created = "2026-11-25"


def upgrade() -> None:
    op.create_table(
        "telemedicine_guest",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("consultation_id", sa.UUID(), nullable=False),
        sa.Column("pass_id", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("invitation", sa.LargeBinary(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("invited_by", sa.UUID(), nullable=False),
        sa.Column("waiting_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("identity", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("admitted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("admitted_by", sa.UUID(), nullable=True),
        sa.Column("admitted_by_name", sa.Text(), nullable=False),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("removed_by", sa.UUID(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("role in ('relative', 'interpreter', 'colleague')", name=op.f("ck_telemedicine_guest_role")),
        sa.CheckConstraint(
            "state <> 'admitted' or admitted_at is not null", name=op.f("ck_telemedicine_guest_admitted")
        ),
        sa.CheckConstraint(
            "state in ('invited', 'waiting', 'admitted', 'removed')", name=op.f("ck_telemedicine_guest_state")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "consultation_id"],
            ["telemedicine_consultation.tenant_id", "telemedicine_consultation.id"],
            name=op.f("fk_telemedicine_guest_tenant_id_consultation_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_telemedicine_guest")),
        sa.UniqueConstraint("tenant_id", "pass_id", name=op.f("uq_telemedicine_guest_tenant_id_pass_id")),
    )
    op.create_index("ix_telemedicine_guest_consultation", "telemedicine_guest", ["tenant_id", "consultation_id"])
    isolate("telemedicine_guest")
    op.add_column("telemedicine_participant", sa.Column("role", sa.Text(), nullable=False, server_default=""))
    op.alter_column("telemedicine_participant", "role", server_default=None)
    op.drop_constraint(op.f("ck_telemedicine_participant_kind"), "telemedicine_participant", type_="check")
    op.create_check_constraint(
        op.f("ck_telemedicine_participant_kind"),
        "telemedicine_participant",
        "kind in ('practitioner', 'patient', 'staff', 'guest')",
    )
