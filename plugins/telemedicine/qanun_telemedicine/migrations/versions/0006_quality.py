"""What a connection was like, in full: both directions, the browser's own words, a score"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
created = "2026-11-25"


def upgrade() -> None:
    table = "telemedicine_quality_sample"
    op.add_column(table, sa.Column("loss_up", sa.Float(), nullable=True))
    for name in ("budget", "freezes", "width", "score"):
        op.add_column(table, sa.Column(name, sa.Integer(), nullable=True))
    op.add_column(table, sa.Column("relayed", sa.Boolean(), nullable=True))
    op.add_column(table, sa.Column("network", sa.Text(), nullable=False, server_default=""))
    op.alter_column(table, "network", server_default=None)
