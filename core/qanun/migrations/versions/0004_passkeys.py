"""Passkeys of staff and patients"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from qanun.db.migrations import isolate

revision = "0004"
down_revision = "0003"
created = "2026-11-28"


def upgrade() -> None:
    op.create_table(
        "core_spent_challenge",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_core_spent_challenge")),
        sa.UniqueConstraint("digest", name=op.f("uq_core_spent_challenge_digest")),
    )
    op.create_index(op.f("ix_core_spent_challenge_expires_at"), "core_spent_challenge", ["expires_at"], unique=False)
    op.create_table(
        "core_user_passkey",
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("rp_id", sa.Text(), nullable=False),
        sa.Column("credential_id", sa.LargeBinary(), nullable=False),
        sa.Column("attested", sa.LargeBinary(), nullable=False),
        sa.Column("transports", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("backup_eligible", sa.Boolean(), nullable=False),
        sa.Column("backed_up", sa.Boolean(), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("locked_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cloned_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sign_count", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["core_user.id"], name=op.f("fk_core_user_passkey_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_core_user_passkey")),
        sa.UniqueConstraint("credential_id", name=op.f("uq_core_user_passkey_credential_id")),
    )
    op.create_index(op.f("ix_core_user_passkey_user_id"), "core_user_passkey", ["user_id"], unique=False)
    op.create_table(
        "core_patient_passkey",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("account_id", sa.UUID(), nullable=False),
        sa.Column("patient_id", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("rp_id", sa.Text(), nullable=False),
        sa.Column("credential_id", sa.LargeBinary(), nullable=False),
        sa.Column("attested", sa.LargeBinary(), nullable=False),
        sa.Column("transports", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("backup_eligible", sa.Boolean(), nullable=False),
        sa.Column("backed_up", sa.Boolean(), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("locked_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cloned_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sign_count", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "account_id"],
            ["core_patient_account.tenant_id", "core_patient_account.id"],
            name=op.f("fk_core_patient_passkey_tenant_id_account_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "patient_id"],
            ["core_patient.tenant_id", "core_patient.id"],
            name=op.f("fk_core_patient_passkey_tenant_id_patient_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_core_patient_passkey")),
        sa.UniqueConstraint("tenant_id", "credential_id", name=op.f("uq_core_patient_passkey_tenant_id_credential_id")),
    )
    op.create_index(op.f("ix_core_patient_passkey_account_id"), "core_patient_passkey", ["account_id"], unique=False)
    op.create_index(op.f("ix_core_patient_passkey_patient_id"), "core_patient_passkey", ["patient_id"], unique=False)
    isolate("core_patient_passkey")
