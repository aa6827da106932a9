"""Within what time questions in writing are answered, and when a patient was told that something waits"""

import sqlalchemy as sa
from alembic import op

from qanun.api.migrations import isolate

revision = "0008"
down_revision = "0007"
created = "2026-11-28"


def upgrade() -> None:
    op.add_column("telemedicine_consultation", sa.Column("told_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "telemedicine_written_terms",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("hours", sa.Integer(), nullable=False),
        sa.Column("set_by", sa.UUID(), nullable=False),
        sa.Column("set_by_name", sa.Text(), nullable=False),
        sa.Column("set_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("hours between 1 and 336", name=op.f("ck_telemedicine_written_terms_hours")),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_telemedicine_written_terms")),
    )
    isolate("telemedicine_written_terms")
    # What was answered before this is not awaited any more.
    op.execute(
        "update telemedicine_consultation set answer_by = null where mode = 'written' and exists ("
        "select 1 from telemedicine_chat_message m join telemedicine_participant p on p.tenant_id = m.tenant_id"
        " and p.id = m.participant_id where m.tenant_id = telemedicine_consultation.tenant_id"
        " and m.consultation_id = telemedicine_consultation.id and p.kind in ('practitioner', 'staff'))"
    )
