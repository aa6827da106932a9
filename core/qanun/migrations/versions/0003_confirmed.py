"""When the owner of a session last proved who they are"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
created = "2026-11-28"


def upgrade() -> None:
    op.add_column("core_session", sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True))
