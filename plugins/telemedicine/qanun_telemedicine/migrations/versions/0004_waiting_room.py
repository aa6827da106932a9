"""The waiting room's messages, handing over, and what a moderated call needs"""

import sqlalchemy as sa
from alembic import op

from qanun.api.migrations import isolate

revision = "0004"
down_revision = "0003"
created = "2026-11-25"


def _consultation(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["tenant_id", "consultation_id"],
        ["telemedicine_consultation.tenant_id", "telemedicine_consultation.id"],
        name=op.f(f"fk_{table}_tenant_id_consultation_id"),
        initially="DEFERRED",
        deferrable=True,
    )


def _practitioner(table: str, column: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["tenant_id", column],
        ["core_practitioner.tenant_id", "core_practitioner.id"],
        name=op.f(f"fk_{table}_tenant_id_{column}"),
        initially="DEFERRED",
        deferrable=True,
    )


def _stamps() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
    )


def upgrade() -> None:
    op.create_table(
        "telemedicine_notice",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("consultation_id", sa.UUID(), nullable=False),
        sa.Column("phrase", sa.Text(), nullable=False),
        sa.Column("minutes", sa.Integer(), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sent_by", sa.UUID(), nullable=False),
        sa.Column("sent_by_name", sa.Text(), nullable=False),
        *_stamps(),
        _consultation("telemedicine_notice"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_telemedicine_notice")),
    )
    op.create_index(
        "ix_telemedicine_notice_consultation", "telemedicine_notice", ["tenant_id", "consultation_id", "sent_at"]
    )
    op.create_table(
        "telemedicine_handover",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("consultation_id", sa.UUID(), nullable=False),
        sa.Column("from_id", sa.UUID(), nullable=False),
        sa.Column("to_id", sa.UUID(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("by", sa.UUID(), nullable=False),
        sa.Column("by_name", sa.Text(), nullable=False),
        *_stamps(),
        _consultation("telemedicine_handover"),
        _practitioner("telemedicine_handover", "from_id"),
        _practitioner("telemedicine_handover", "to_id"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_telemedicine_handover")),
    )
    op.create_index(
        "ix_telemedicine_handover_consultation", "telemedicine_handover", ["tenant_id", "consultation_id", "at"]
    )
    isolate("telemedicine_notice")
    isolate("telemedicine_handover")
    op.add_column("telemedicine_consultation", sa.Column("locked_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("telemedicine_participant", sa.Column("hand_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("telemedicine_participant", sa.Column("mute_asked_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "telemedicine_participant", sa.Column("muted", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.alter_column("telemedicine_participant", "muted", server_default=None)
