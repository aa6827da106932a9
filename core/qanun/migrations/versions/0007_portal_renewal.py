"""Invitations for patients who cannot get in any more"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
created = "2026-11-28"


def upgrade() -> None:
    op.add_column(
        "core_portal_invitation", sa.Column("renews", sa.Boolean(), nullable=False, server_default=sa.text("false"))
    )
