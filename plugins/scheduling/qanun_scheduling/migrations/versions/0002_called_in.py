"""When the patient was called in: the end of the wait"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
created = "2026-11-24"


def upgrade() -> None:
    op.add_column("scheduling_appointment", sa.Column("called_at", sa.DateTime(timezone=True), nullable=True))
