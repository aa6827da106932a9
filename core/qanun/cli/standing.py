"""Whether the database stands where this release would bring it, told without loading the product: most starts of a machine
find it so, and loading takes longer than anything else of an upgrade.

Whoever only asks (the doctor, every few minutes; a release that is to be put beside what runs) is told the same way.

An upgrade that ended well writes a mark into the database: what it was made from (its files, to the byte) and where every
lineage stood. It counts only while both are still true; without one, or with another, the upgrade does its work as ever.
It brings no table anywhere itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Collection, Mapping
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg import sql

_CORE = Path(__file__).parent.parent
#: What an upgrade runs besides the migrations themselves.
_WORKS = ("db/cluster.py", "db/lineage.py", "db/migrations.py")


def folders() -> dict[str, Path]:
    """Lineage → its migrations, of core and of every installed plugin that has any. Imports none of them."""
    found = {"core": _CORE / "migrations"}
    for entry in entry_points(group="qanun.plugins"):
        spec = find_spec(entry.module.split(".", 1)[0])
        for place in (spec.submodule_search_locations or ()) if spec else ():
            if (Path(place) / "migrations").is_dir():
                found[entry.name] = Path(place) / "migrations"
    return found


def fingerprint(lineages: Mapping[str, Path]) -> str:
    """Another one as soon as a byte of what an upgrade does is another."""
    digest = hashlib.sha256()
    files = [("", _CORE / name) for name in _WORKS]
    files += [(slug, path) for slug, folder in sorted(lineages.items()) for path in sorted(folder.rglob("*.py"))]
    for slug, path in files:
        content = path.read_bytes()
        digest.update(f"{slug}/{path.name}/{len(content)}/".encode())
        digest.update(content)
    return digest.hexdigest()


def standing(url: str, lineages: Mapping[str, Path]) -> dict[str, str] | None:
    """Lineage → its revision, when an upgrade by this release would change nothing; None when one has to look."""
    with (
        contextlib.suppress(psycopg.Error, OSError, ValueError, KeyError, TypeError),
        psycopg.connect(url, autocommit=True, connect_timeout=5) as connection,
    ):
        row = connection.execute(
            "select shobj_description(oid, 'pg_database') from pg_database where datname = current_database()"
        ).fetchone()
        mark = json.loads(row[0]) if row and row[0] else {}
        if mark["upgraded"] != fingerprint(lineages):
            return None
        heads: dict[str, str] = mark["heads"]
        for slug, head in heads.items():
            table = sql.Identifier(f"alembic_version_{slug}")
            if connection.execute(sql.SQL("select version_num from {}").format(table)).fetchall() != [(head,)]:
                return None
        return heads
    return None


def remember(url: str, lineages: Mapping[str, Path], heads: Mapping[str, str]) -> None:
    """An upgrade brought every lineage to its head. Not of use where one is missing: it may be there at the next start."""
    if set(heads) != set(lineages):
        return
    mark = json.dumps({"upgraded": fingerprint(lineages), "heads": dict(heads)}, sort_keys=True)
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
        name = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(name, sql.Literal(mark)))


def orphans(url: str, slugs: Collection[str]) -> list[str]:
    """Lineages whose tables are in the database although no installed distribution owns them any more. Raises psycopg.Error."""
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
        rows = connection.execute(
            "select tablename from pg_tables where tablename like 'alembic\\_version\\_%'"
        ).fetchall()
    return sorted({str(name).removeprefix("alembic_version_") for (name,) in rows} - set(slugs))
