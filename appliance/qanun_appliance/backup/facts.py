"""What a database holds, in numbers that can be compared: rows and a hash per table, the head of every audit chain.

Taken twice, at the backup and after a restore, they must be equal to the last row. They contain nothing of what the rows
say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, LiteralString

import psycopg
from psycopg import sql

_HEADS = "select tenant_id::text, seq, encode(hash, 'hex') from core_audit_head order by tenant_id"
#: What the text of a row depends on, beside the row.
_SAME_SPELLING: tuple[LiteralString, ...] = (
    "set local timezone to 'UTC'", "set local datestyle to 'ISO, YMD'", "set local intervalstyle to 'postgres'",
    "set local extra_float_digits to 1", "set local bytea_output to 'hex'", "set local row_security to off",
    "set local statement_timeout to 0",
)  # fmt: skip


def tables(connection: psycopg.Connection[Any]) -> list[str]:
    found = connection.execute(
        "select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname = 'public' and c.relkind in ('r', 'p') and not c.relispartition order by 1"
    )
    return [str(row[0]) for row in found.fetchall()]


def take_facts(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    """`{"tables": {name: {"rows": n, "hash": "…"}}, "audit": {clinic: [seq, hash]}}` in the connection's transaction."""
    for setting in _SAME_SPELLING:
        connection.execute(setting)
    counted: dict[str, Any] = {}
    names = tables(connection)
    for name in names:
        # A sum does not depend on the order in which rows lie on the disk, which a restore may change.
        row = connection.execute(
            sql.SQL("select count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text from {} t").format(
                sql.Identifier(name)
            )
        ).fetchone()
        assert row is not None
        counted[name] = {"rows": int(row[0]), "hash": str(row[1])}
    heads = connection.execute(_HEADS).fetchall() if "core_audit_head" in names else []
    return {"tables": counted, "audit": {str(tenant): [int(seq), str(digest)] for tenant, seq, digest in heads}}


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """One sentence for each table or chain that is not the same; empty when all is equal."""
    found = []
    for name in sorted({*before["tables"], *after["tables"]}):
        old, new = before["tables"].get(name), after["tables"].get(name)
        if old is None or new is None:
            found.append(f"table {name} is {'missing' if new is None else 'new'}")
        elif old["rows"] != new["rows"]:
            found.append(f"table {name} has {new['rows']} rows, not {old['rows']}")
        elif old["hash"] != new["hash"]:
            found.append(f"table {name} has {new['rows']} rows of which some differ")
    clinics = sorted({*before["audit"], *after["audit"]})
    changed = [tenant for tenant in clinics if before["audit"].get(tenant) != after["audit"].get(tenant)]
    return found + [f"the audit of clinic {tenant} ends elsewhere" for tenant in changed]


def rows(facts: Mapping[str, Any]) -> int:
    return sum(int(table["rows"]) for table in facts["tables"].values())
