"""Calls that are encrypted end to end: the choice, the pages' public keys, and sender keys that only others' pages open"""

import sqlalchemy as sa
from alembic import op

from qanun.api.migrations import isolate

revision = "0007"
down_revision = "0006"
created = "2026-11-28"


def _ref(column: str, table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["tenant_id", column],
        [f"{table}.tenant_id", f"{table}.id"],
        name=op.f(f"fk_telemedicine_sealed_key_tenant_id_{column}"),
        initially="DEFERRED",
        deferrable=True,
    )


def upgrade() -> None:
    op.add_column(
        "telemedicine_consultation", sa.Column("encrypted", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.alter_column("telemedicine_consultation", "encrypted", server_default=None)
    op.add_column("telemedicine_participant", sa.Column("public_key", sa.Text(), nullable=False, server_default=""))
    op.alter_column("telemedicine_participant", "public_key", server_default=None)
    op.create_table(
        "telemedicine_sealed_key",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("consultation_id", sa.UUID(), nullable=False),
        sa.Column("sender_id", sa.UUID(), nullable=False),
        sa.Column("receiver_id", sa.UUID(), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        _ref("consultation_id", "telemedicine_consultation"),
        _ref("sender_id", "telemedicine_participant"),
        _ref("receiver_id", "telemedicine_participant"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_telemedicine_sealed_key")),
        sa.UniqueConstraint(
            "tenant_id",
            "sender_id",
            "receiver_id",
            name=op.f("uq_telemedicine_sealed_key_tenant_id_sender_id_receiver_id"),
        ),
    )
    isolate("telemedicine_sealed_key")
