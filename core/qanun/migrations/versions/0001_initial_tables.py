"""Core's first tables: clinics, people, sessions, keys, blobs, events, jobs, and the audit with its chain.

The chain's function is here because it must be one round trip and must hold the head only until the commit.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from qanun.db.migrations import append_only, isolate
from qanun.jobs import tables_sql

revision = "0001"
down_revision = None
created = "2026-11-23"


def upgrade() -> None:
    op.create_table(
        "core_audit_event",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("actor_kind", sa.Text(), nullable=False),
        sa.Column("actor_id", sa.UUID(), nullable=False),
        sa.Column("patient_id", sa.UUID(), nullable=True),
        sa.Column("entity", sa.Text(), nullable=True),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_core_audit_event")),
        sa.UniqueConstraint("tenant_id", "seq", name=op.f("uq_core_audit_event_tenant_id_seq")),
    )
    op.create_index("ix_core_audit_event_patient", "core_audit_event", ["tenant_id", "patient_id", "seq"], unique=False)
    op.create_table(
        "core_audit_head",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_core_audit_head")),
        sa.UniqueConstraint("tenant_id", name=op.f("uq_core_audit_head_tenant_id")),
    )
    op.create_table(
        "core_counter",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_core_counter")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_core_counter_tenant_id_name")),
    )
    op.create_table(
        "core_event",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_core_event")),
    )
    op.create_index("ix_core_event_type", "core_event", ["tenant_id", "type"], unique=False)
    op.create_table(
        "core_event_handled",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("event_id", sa.UUID(), nullable=False),
        sa.Column("handler", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_core_event_handled")),
        sa.UniqueConstraint(
            "tenant_id", "event_id", "handler", name=op.f("uq_core_event_handled_tenant_id_event_id_handler")
        ),
    )
    op.create_table(
        "core_patient",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("mrn", sa.Text(), nullable=False),
        sa.Column("given", sa.Text(), nullable=False),
        sa.Column("family", sa.Text(), nullable=False),
        sa.Column("given_alt", sa.Text(), nullable=False),
        sa.Column("family_alt", sa.Text(), nullable=False),
        sa.Column("sex", sa.Text(), nullable=False),
        sa.Column("birth_date", sa.Date(), nullable=False),
        sa.Column("phone", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("search", sa.Text(), nullable=False),
        sa.Column("merged_into", sa.UUID(), nullable=True),
        sa.Column("voided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("sex in ('male', 'female', 'other', 'unknown')", name=op.f("ck_core_patient_sex")),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_core_patient")),
        sa.UniqueConstraint("tenant_id", "mrn", name=op.f("uq_core_patient_tenant_id_mrn")),
    )
    op.create_index("ix_core_patient_birth_date", "core_patient", ["tenant_id", "birth_date"], unique=False)
    op.create_index(
        "ix_core_patient_search",
        "core_patient",
        ["search"],
        unique=False,
        postgresql_using="gin",
        postgresql_ops={"search": "gin_trgm_ops"},
    )
    op.create_table(
        "core_tenant",
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_alt", sa.Text(), nullable=False),
        sa.Column("locale", sa.Text(), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("country", sa.Text(), nullable=False),
        sa.Column("phone", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_core_tenant")),
        sa.UniqueConstraint("slug", name=op.f("uq_core_tenant_slug")),
    )
    op.create_table(
        "core_tenant_key",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_core_tenant_key")),
    )
    op.create_table(
        "core_user",
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_alt", sa.Text(), nullable=False),
        sa.Column("password", sa.Text(), nullable=False),
        sa.Column("locale", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("locked_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_core_user")),
        sa.UniqueConstraint("email", name=op.f("uq_core_user_email")),
    )
    op.create_table(
        "core_blob",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("patient_id", sa.UUID(), nullable=True),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "patient_id"],
            ["core_patient.tenant_id", "core_patient.id"],
            name=op.f("fk_core_blob_tenant_id_patient_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_core_blob")),
    )
    op.create_index(op.f("ix_core_blob_patient_id"), "core_blob", ["patient_id"], unique=False)
    op.create_table(
        "core_membership",
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("roles", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("practitioner_id", sa.UUID(), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["core_tenant.id"], name=op.f("fk_core_membership_tenant_id")),
        sa.ForeignKeyConstraint(["user_id"], ["core_user.id"], name=op.f("fk_core_membership_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_core_membership")),
        sa.UniqueConstraint("user_id", "tenant_id", name=op.f("uq_core_membership_user_id_tenant_id")),
    )
    op.create_table(
        "core_patient_account",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("patient_id", sa.UUID(), nullable=False),
        sa.Column("login", sa.Text(), nullable=False),
        sa.Column("password", sa.Text(), nullable=False),
        sa.Column("locale", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("locked_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "patient_id"],
            ["core_patient.tenant_id", "core_patient.id"],
            name=op.f("fk_core_patient_account_tenant_id_patient_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_core_patient_account")),
        sa.UniqueConstraint("tenant_id", "login", name=op.f("uq_core_patient_account_tenant_id_login")),
        sa.UniqueConstraint("tenant_id", "patient_id", name=op.f("uq_core_patient_account_tenant_id_patient_id")),
    )
    op.create_table(
        "core_patient_identifier",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("patient_id", sa.UUID(), nullable=False),
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "patient_id"],
            ["core_patient.tenant_id", "core_patient.id"],
            name=op.f("fk_core_patient_identifier_tenant_id_patient_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_core_patient_identifier")),
        sa.UniqueConstraint(
            "tenant_id", "system", "value", name=op.f("uq_core_patient_identifier_tenant_id_system_value")
        ),
    )
    op.create_index(
        op.f("ix_core_patient_identifier_patient_id"), "core_patient_identifier", ["patient_id"], unique=False
    )
    op.create_table(
        "core_plugin_state",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["core_tenant.id"], name=op.f("fk_core_plugin_state_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_core_plugin_state")),
        sa.UniqueConstraint("tenant_id", "slug", name=op.f("uq_core_plugin_state_tenant_id_slug")),
    )
    op.create_table(
        "core_portal_invitation",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("patient_id", sa.UUID(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "patient_id"],
            ["core_patient.tenant_id", "core_patient.id"],
            name=op.f("fk_core_portal_invitation_tenant_id_patient_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_core_portal_invitation")),
        sa.UniqueConstraint("tenant_id", "token_hash", name=op.f("uq_core_portal_invitation_tenant_id_token_hash")),
    )
    op.create_index(
        op.f("ix_core_portal_invitation_patient_id"), "core_portal_invitation", ["patient_id"], unique=False
    )
    op.create_table(
        "core_practitioner",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_alt", sa.Text(), nullable=False),
        sa.Column("specialty", sa.Text(), nullable=False),
        sa.Column("licence", sa.Text(), nullable=False),
        sa.Column("room", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["core_user.id"], name=op.f("fk_core_practitioner_user_id")),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_core_practitioner")),
    )
    op.create_table(
        "core_session",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=True),
        sa.Column("account_id", sa.UUID(), nullable=True),
        sa.Column("patient_id", sa.UUID(), nullable=True),
        sa.Column("tenant_id", sa.UUID(), nullable=True),
        sa.Column("locale", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "(kind = 'portal') = (account_id is not null)", name=op.f("ck_core_session_portal_has_account")
        ),
        sa.CheckConstraint("(kind = 'staff') = (user_id is not null)", name=op.f("ck_core_session_staff_has_user")),
        sa.CheckConstraint("kind in ('staff', 'portal')", name=op.f("ck_core_session_kind")),
        sa.ForeignKeyConstraint(["tenant_id"], ["core_tenant.id"], name=op.f("fk_core_session_tenant_id")),
        sa.ForeignKeyConstraint(["user_id"], ["core_user.id"], name=op.f("fk_core_session_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_core_session")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_core_session_token_hash")),
    )
    isolate("core_audit_event")
    isolate("core_audit_head")
    isolate("core_counter")
    isolate("core_event")
    isolate("core_event_handled")
    isolate("core_patient")
    isolate("core_tenant_key")
    isolate("core_blob")
    isolate("core_patient_account")
    isolate("core_patient_identifier")
    isolate("core_portal_invitation")
    isolate("core_practitioner")
    op.execute(_APPEND)
    op.execute(_IMMUTABLE)
    append_only("core_audit_event")
    op.get_bind().exec_driver_sql(tables_sql().replace("%", "%%"))


_APPEND = """
CREATE FUNCTION core_audit_append(p_tenant uuid, p_bodies text[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_seq bigint;
    v_hash bytea;
    v_body text;
    v_data jsonb;
BEGIN
    INSERT INTO core_audit_head (tenant_id, id, seq, hash)
        VALUES (p_tenant, p_tenant, 0, decode(repeat('00', 32), 'hex')) ON CONFLICT DO NOTHING;
    SELECT seq, hash INTO STRICT v_seq, v_hash FROM core_audit_head WHERE tenant_id = p_tenant FOR UPDATE;
    FOREACH v_body IN ARRAY p_bodies LOOP
        v_seq := v_seq + 1;
        v_hash := sha256(v_hash || sha256(convert_to(v_body, 'UTF8')));
        v_data := v_body::jsonb;
        INSERT INTO core_audit_event
            (tenant_id, id, seq, at, type, actor_kind, actor_id, patient_id, entity, body, hash)
        VALUES (
            p_tenant, (v_data->>'id')::uuid, v_seq, (v_data->>'at')::timestamptz, v_data->>'type',
            v_data->'actor'->>'kind', (v_data->'actor'->>'id')::uuid, (v_data->>'patient')::uuid, v_data->>'entity',
            v_body, v_hash
        );
    END LOOP;
    UPDATE core_audit_head SET seq = v_seq, hash = v_hash, updated_at = now() WHERE tenant_id = p_tenant;
    RETURN v_seq;
END $$
"""

# The application has no right to change an event; this stops the owner's slips as well.
_IMMUTABLE = """
CREATE FUNCTION core_audit_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit is append-only' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER core_audit_event_immutable BEFORE UPDATE OR DELETE ON core_audit_event
    FOR EACH ROW EXECUTE FUNCTION core_audit_refuse_change();
"""
