"""How many records of a clinic are closed now, where every request reads it anyway"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
created = "2026-11-28"


def upgrade() -> None:
    op.add_column("core_tenant", sa.Column("closed_records", sa.Integer(), nullable=False, server_default=sa.text("0")))
    op.execute(
        "update core_tenant t set closed_records = "
        "(select count(*) from core_closed_record c where c.tenant_id = t.id and c.opened_at is null)"
    )
