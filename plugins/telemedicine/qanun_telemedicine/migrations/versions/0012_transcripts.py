"""What is said in a visit, kept as a document of the record on request"""

import sqlalchemy as sa
from alembic import op

from qanun.api.migrations import isolate

revision = "0012"
down_revision = "0011"
created = "2026-11-28"


def upgrade() -> None:
    visit, person = "telemedicine_consultation", "telemedicine_participant"
    op.add_column(visit, sa.Column("transcript_asked_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column(visit, sa.Column("transcript_asked_by", sa.UUID(), nullable=True))
    op.add_column(person, sa.Column("transcript_at", sa.DateTime(timezone=True), nullable=True))
    for table, name in ((visit, "transcript_asked_by_name"), (person, "transcript"), (person, "transcript_language")):
        op.add_column(table, sa.Column(name, sa.Text(), server_default="", nullable=False))
        op.alter_column(table, name, server_default=None)
    op.create_table(
        "telemedicine_transcript_line",
        *_row(),
        sa.Column("consultation_id", sa.UUID(), nullable=False),
        sa.Column("participant_id", sa.UUID(), nullable=False),
        sa.Column("caption", sa.Text(), nullable=False),
        sa.Column("said_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        _key("telemedicine_transcript_line", "consultation_id", visit),
        _key("telemedicine_transcript_line", "participant_id", person),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_telemedicine_transcript_line")),
        sa.UniqueConstraint(
            "tenant_id",
            "consultation_id",
            "caption",
            name=op.f("uq_telemedicine_transcript_line_tenant_id_consultation_id_caption"),
        ),
    )
    op.create_index(
        "ix_telemedicine_transcript_line_consultation",
        "telemedicine_transcript_line",
        ["tenant_id", "consultation_id", "said_at"],
    )
    op.create_table(
        "telemedicine_transcript",
        *_row(),
        sa.Column("consultation_id", sa.UUID(), nullable=False),
        sa.Column("patient_id", sa.UUID(), nullable=False),
        sa.Column("encounter_id", sa.UUID(), nullable=True),
        sa.Column("asked_by", sa.UUID(), nullable=False),
        sa.Column("asked_by_name", sa.Text(), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lines", sa.Integer(), nullable=False),
        sa.Column("blob_id", sa.UUID(), nullable=True),
        sa.Column("taken_back_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("voided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("voided_by", sa.UUID(), nullable=True),
        sa.Column("voided_by_name", sa.Text(), nullable=False),
        sa.Column("void_reason", sa.Text(), nullable=False),
        sa.Column("destroyed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "blob_id is not null or destroyed_at is not null", name=op.f("ck_telemedicine_transcript_kept")
        ),
        sa.CheckConstraint("(voided_at is null) = (voided_by is null)", name=op.f("ck_telemedicine_transcript_voided")),
        _key("telemedicine_transcript", "consultation_id", visit),
        _key("telemedicine_transcript", "patient_id", "core_patient"),
        _key("telemedicine_transcript", "blob_id", "core_blob"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_telemedicine_transcript")),
    )
    op.create_index(
        "ix_telemedicine_transcript_patient", "telemedicine_transcript", ["tenant_id", "patient_id", "finished_at"]
    )
    op.create_index(
        "ix_telemedicine_transcript_consultation", "telemedicine_transcript", ["tenant_id", "consultation_id"]
    )
    isolate("telemedicine_transcript_line")
    isolate("telemedicine_transcript")


def _row() -> tuple[sa.Column, ...]:  # type: ignore[type-arg]
    now = {"server_default": sa.text("now()"), "nullable": False}
    return (
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), **now),  # type: ignore[arg-type]
        sa.Column("updated_at", sa.DateTime(timezone=True), **now),  # type: ignore[arg-type]
    )


def _key(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["tenant_id", column],
        [f"{target}.tenant_id", f"{target}.id"],
        name=op.f(f"fk_{table}_tenant_id_{column}"),
        initially="DEFERRED",
        deferrable=True,
    )
