"""Voice and written consultations, where a patient is, and what is sent in the chat"""

import sqlalchemy as sa
from alembic import op

from qanun.api.migrations import isolate

revision = "0005"
down_revision = "0004"
created = "2026-11-25"


def _ref(column: str, table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["tenant_id", column],
        [f"{table}.tenant_id", f"{table}.id"],
        name=op.f(f"fk_telemedicine_attachment_tenant_id_{column}"),
        initially="DEFERRED",
        deferrable=True,
    )


def upgrade() -> None:
    op.add_column("telemedicine_consultation", sa.Column("mode", sa.Text(), nullable=False, server_default="video"))
    for name in ("place", "place_country", "place_by"):
        op.add_column("telemedicine_consultation", sa.Column(name, sa.Text(), nullable=False, server_default=""))
    for name in ("mode", "place", "place_country", "place_by"):
        op.alter_column("telemedicine_consultation", name, server_default=None)
    for name in ("place_at", "answer_by"):
        op.add_column("telemedicine_consultation", sa.Column(name, sa.DateTime(timezone=True), nullable=True))
    op.create_check_constraint(
        op.f("ck_telemedicine_consultation_mode"), "telemedicine_consultation", "mode in ('video', 'voice', 'written')"
    )
    op.create_table(
        "telemedicine_attachment",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("consultation_id", sa.UUID(), nullable=False),
        sa.Column("message_id", sa.UUID(), nullable=False),
        sa.Column("patient_id", sa.UUID(), nullable=False),
        sa.Column("blob_id", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        _ref("consultation_id", "telemedicine_consultation"),
        _ref("message_id", "telemedicine_chat_message"),
        _ref("patient_id", "core_patient"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_telemedicine_attachment")),
    )
    op.create_index("ix_telemedicine_attachment_message", "telemedicine_attachment", ["tenant_id", "message_id"])
    op.create_index(op.f("ix_telemedicine_attachment_patient_id"), "telemedicine_attachment", ["patient_id"])
    isolate("telemedicine_attachment")
