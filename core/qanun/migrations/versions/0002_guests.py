"""Guests: people without an account, who reach one thing through a pass"""

import sqlalchemy as sa
from alembic import op

from qanun.api.migrations import isolate

revision = "0002"
down_revision = "0001"
created = "2026-11-25"


def upgrade() -> None:
    op.create_table(
        "core_guest_pass",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_core_guest_pass")),
        sa.UniqueConstraint("tenant_id", "token_hash", name=op.f("uq_core_guest_pass_tenant_id_token_hash")),
    )
    isolate("core_guest_pass")
    op.add_column("core_session", sa.Column("guest_id", sa.UUID(), nullable=True))
    op.add_column("core_session", sa.Column("guest_name", sa.Text(), nullable=False, server_default=""))
    op.alter_column("core_session", "guest_name", server_default=None)
    op.drop_constraint(op.f("ck_core_session_kind"), "core_session", type_="check")
    op.create_check_constraint(op.f("ck_core_session_kind"), "core_session", "kind in ('staff', 'portal', 'guest')")
    op.create_check_constraint(
        op.f("ck_core_session_guest_has_pass"), "core_session", "(kind = 'guest') = (guest_id is not null)"
    )
    op.create_index(
        "ix_core_session_guest", "core_session", ["guest_id"], postgresql_where=sa.text("guest_id is not null")
    )
