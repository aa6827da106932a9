"""What is said in a call, written along: the clinic's offer and everybody's answer"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
created = "2026-11-28"


def upgrade() -> None:
    op.add_column(
        "telemedicine_consultation", sa.Column("captions_asked_at", sa.DateTime(timezone=True), nullable=True)
    )
    for table, name in (("telemedicine_consultation", "captions_tap"), ("telemedicine_participant", "captions")):
        op.add_column(table, sa.Column(name, sa.Text(), nullable=False, server_default=""))
        op.alter_column(table, name, server_default=None)
