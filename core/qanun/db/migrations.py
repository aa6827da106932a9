"""Migrations: one Alembic lineage and one version table per distribution.

A removed plugin leaves its tables and its version row behind and nobody else's upgrade notices. Migration files use the
helpers here, so that a tenant table is never created without its row-level security. Runs as the owner role, synchronously.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from alembic import op
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.config import Config as AlembicConfig
from alembic.operations.ops import CreateTableOp, UpgradeOps
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from qanun.db.base import Base
from qanun.db.lineage import Lineage

State = Literal["up to date", "behind", "ahead", "empty"]

APPLICATION_ROLE = "qanun_app"
OWNER_ROLE = "qanun_owner"

# Two upgrades at once would race on CREATE TABLE; the number is arbitrary, only its uniqueness matters.
_LOCK = 0x51414E554E


@dataclass(frozen=True, slots=True)
class Status:
    slug: str
    state: State
    current: str | None
    head: str | None


@contextmanager
def owner_connection(url: str) -> Iterator[Connection]:
    """A plain connection as the owner role; the caller commits."""
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1), poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def upgrade(url: str, lineages: Sequence[Lineage]) -> list[Status]:
    """Bring each lineage to its head, in the order given (core first, then by what a plugin requires).

    A lineage that a later release brought further stays where it is: whoever goes back to an earlier release keeps the
    data, and every release's schema works for the one before (expand, then contract).
    """
    with owner_connection(url) as connection:
        connection.execute(sa.text("select pg_advisory_lock(:key)"), {"key": _LOCK})
        connection.commit()
        try:
            for lineage in lineages:
                _upgrade(connection, lineage)
        finally:
            connection.rollback()
            connection.execute(sa.text("select pg_advisory_unlock(:key)"), {"key": _LOCK})
            connection.commit()
        return [_status(connection, lineage) for lineage in lineages]


def status(url: str, lineages: Sequence[Lineage]) -> list[Status]:
    with owner_connection(url) as connection:
        return [_status(connection, lineage) for lineage in lineages]


def _script(lineage: Lineage) -> ScriptDirectory:
    config = AlembicConfig()
    config.set_main_option("script_location", str(lineage.directory))
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)


def _upgrade(connection: Connection, lineage: Lineage) -> None:
    script = _script(lineage)
    if _status(connection, lineage).state == "ahead":
        return

    def steps(revision: Any, context: MigrationContext) -> Any:
        return script._upgrade_revs("head", revision)

    with EnvironmentContext(AlembicConfig(), script, fn=steps, destination_rev="head") as environment:
        environment.configure(connection=connection, version_table=lineage.version_table, target_metadata=Base.metadata)
        with environment.begin_transaction():
            environment.run_migrations()
    connection.commit()


def _status(connection: Connection, lineage: Lineage) -> Status:
    script = _script(lineage)
    head = script.get_current_head()
    current = MigrationContext.configure(
        connection, opts={"version_table": lineage.version_table}
    ).get_current_revision()
    connection.rollback()
    known = {revision.revision for revision in script.walk_revisions()}
    state: State
    if current == head:
        state = "up to date"
    elif current is None:
        state = "empty"
    else:
        state = "behind" if current in known else "ahead"
    return Status(lineage.slug, state, current, head)


# --- what migration files call -------------------------------------------------------------------------------------


def isolate(table: str) -> None:
    """Put `table` under its tenant policy: enabled and forced, for reading and writing. Call it right after create_table."""
    op.execute(f'ALTER TABLE "{table}" ENABLE ROW LEVEL SECURITY')
    op.execute(f'ALTER TABLE "{table}" FORCE ROW LEVEL SECURITY')
    op.execute(
        f'CREATE POLICY tenant_isolation ON "{table}" '
        "USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid) "
        "WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)"
    )


def append_only(table: str) -> None:
    """Take the application's right to change or delete rows, and refuse it to the owner as well (audit)."""
    op.execute(f'REVOKE UPDATE, DELETE, TRUNCATE ON "{table}" FROM {APPLICATION_ROLE}')


# --- writing new migrations (development) --------------------------------------------------------------------------


def pending(url: str, lineage: Lineage) -> UpgradeOps:
    """What the models have and the database lacks, for this lineage's tables only. Empty when they agree."""
    with owner_connection(url) as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "version_table": lineage.version_table,
                "compare_type": True,
                "include_name": lambda name, kind, parents: kind != "table" or lineage.owns(name or ""),
                "include_object": lambda obj, name, kind, reflected, other: (
                    lineage.owns(obj.name) if kind == "table" else True
                ),
                "target_metadata": Base.metadata,
            },
        )
        upgrade_ops = produce_migrations(context, Base.metadata).upgrade_ops
        assert upgrade_ops is not None
        return upgrade_ops


def write_revision(url: str, lineage: Lineage, message: str) -> Path | None:
    """Write the next migration file from the models; None when there is nothing to write."""
    upgrade_ops = pending(url, lineage)
    if upgrade_ops.is_empty():
        return None
    script = _script(lineage)
    head = script.get_current_head()
    number = f"{int(head or 0) + 1:04d}"
    body = re.sub(r"(?<![\w.])Text\(\)", "sa.Text()", render_python_code(upgrade_ops))
    isolated = [
        operation.table_name
        for operation in upgrade_ops.ops
        if isinstance(operation, CreateTableOp)
        and "tenant_id" in Base.metadata.tables[operation.table_name].primary_key.columns
    ]
    calls = "".join(f'    isolate("{table}")\n' for table in isolated)
    slug = "_".join(message.lower().split())[:40]
    path = lineage.directory / "versions" / f"{number}_{slug}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    source = "qanun.db.migrations" if lineage.slug == "core" else "qanun.api.migrations"
    path.write_text(
        f'"""{message}"""\n\nimport sqlalchemy as sa\nfrom alembic import op\nfrom sqlalchemy.dialects import postgresql\n\n'
        f'from {source} import isolate\n\nrevision = "{number}"\ndown_revision = {head!r}\n'
        f'created = "{datetime.now(UTC):%Y-%m-%d}"\n\n\ndef upgrade() -> None:\n    {body}\n{calls}',
        encoding="utf-8",
    )
    return path
