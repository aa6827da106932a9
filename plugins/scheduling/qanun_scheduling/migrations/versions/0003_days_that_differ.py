"""Days that differ"""

import sqlalchemy as sa
from alembic import op

from qanun.api.migrations import isolate

revision = "0003"
down_revision = "0002"
created = "2026-11-28"


def upgrade() -> None:
    op.create_table(
        "scheduling_exception",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("practitioner_id", sa.UUID(), nullable=True),
        sa.Column("first", sa.Date(), nullable=False),
        sa.Column("last", sa.Date(), nullable=False),
        sa.Column("start", sa.Integer(), nullable=True),
        sa.Column("end", sa.Integer(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint('(start is null) = ("end" is null)', name=op.f("ck_scheduling_exception_both")),
        sa.CheckConstraint("first <= last", name=op.f("ck_scheduling_exception_days")),
        sa.CheckConstraint(
            'start is null or (start >= 0 and start < "end" and "end" <= 1440)',
            name=op.f("ck_scheduling_exception_hours"),
        ),
        sa.CheckConstraint(
            "start is null or practitioner_id is not null", name=op.f("ck_scheduling_exception_clinic_is_shut")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "practitioner_id"],
            ["core_practitioner.tenant_id", "core_practitioner.id"],
            name=op.f("fk_scheduling_exception_tenant_id_practitioner_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_scheduling_exception")),
    )
    op.create_index("ix_scheduling_exception_days", "scheduling_exception", ["tenant_id", "last"], unique=False)
    isolate("scheduling_exception")
