"""Devices that show their picture in a call, each by a token of its own"""

import sqlalchemy as sa
from alembic import op

from qanun.api.migrations import isolate

revision = "0010"
down_revision = "0009"
created = "2026-11-28"


def upgrade() -> None:
    op.create_table(
        "telemedicine_device",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("consultation_id", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("made_by", sa.UUID(), nullable=False),
        sa.Column("session", sa.UUID(), nullable=True),
        sa.Column("etag", sa.Text(), nullable=False),
        sa.Column("offer", sa.Text(), nullable=False),
        sa.Column("connected", sa.Boolean(), nullable=False),
        sa.Column("joined_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "consultation_id"],
            ["telemedicine_consultation.tenant_id", "telemedicine_consultation.id"],
            name=op.f("fk_telemedicine_device_tenant_id_consultation_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_telemedicine_device")),
        sa.UniqueConstraint("tenant_id", "token_hash", name=op.f("uq_telemedicine_device_tenant_id_token_hash")),
    )
    op.create_index("ix_telemedicine_device_consultation", "telemedicine_device", ["tenant_id", "consultation_id"])
    isolate("telemedicine_device")
