"""Sessions: time of a practitioner that belongs to no single patient"""

from alembic import op

revision = "0004"
down_revision = "0003"
created = "2026-11-28"


def upgrade() -> None:
    op.alter_column("scheduling_appointment", "patient_id", nullable=True)
    op.create_check_constraint(
        op.f("ck_scheduling_appointment_session"), "scheduling_appointment", "patient_id is not null or reason <> ''"
    )
