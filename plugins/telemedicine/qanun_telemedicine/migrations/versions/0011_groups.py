"""Groups: one call for several patients, each with a visit of their own"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
created = "2026-11-28"


def upgrade() -> None:
    table = "telemedicine_consultation"
    op.alter_column(table, "patient_id", nullable=True)
    op.add_column(table, sa.Column("group_id", sa.UUID(), nullable=True))
    for name in ("title", "group_answer", "shown_as"):
        op.add_column(table, sa.Column(name, sa.Text(), server_default="", nullable=False))
        op.alter_column(table, name, server_default=None)
    op.create_foreign_key(
        op.f("fk_telemedicine_consultation_tenant_id_group_id"),
        table,
        table,
        ["tenant_id", "group_id"],
        ["tenant_id", "id"],
        initially="DEFERRED",
        deferrable=True,
    )
    op.create_check_constraint(
        op.f("ck_telemedicine_consultation_group"), table, "(patient_id is null) = (title <> '')"
    )
    op.create_check_constraint(
        op.f("ck_telemedicine_consultation_member"), table, "group_id is null or patient_id is not null"
    )
    op.create_check_constraint(
        op.f("ck_telemedicine_consultation_group_answer"), table, "group_answer in ('', 'given', 'refused')"
    )
    op.create_index(
        "uq_telemedicine_consultation_member",
        table,
        ["tenant_id", "group_id", "patient_id"],
        unique=True,
        postgresql_where=sa.text("group_id is not null and state <> 'cancelled'"),
    )
