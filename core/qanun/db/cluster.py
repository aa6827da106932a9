"""Preparing an empty PostgreSQL for Qanun: roles, the database, extensions. Runs once, as the superuser.

The application role is neither owner nor superuser, so forced row-level security binds it. It does not start or stop
PostgreSQL: that is the appliance's work.
"""

from __future__ import annotations

import psycopg
from psycopg import sql

from qanun.db.migrations import APPLICATION_ROLE, OWNER_ROLE

# A policy is checked before any condition that is not leak-proof, which would keep the trigram index from ever being
# used for a patient search. These functions compare two texts and report nothing but the verdict.
_LEAKPROOF = (
    "similarity_op(text, text)",
    "word_similarity_op(text, text)",
    "word_similarity_commutator_op(text, text)",
    "word_similarity(text, text)",
    "textlike(text, text)",
    "texticlike(text, text)",
)


def prepare_cluster(superuser_url: str, database: str = "qanun", *, password: str | None = None) -> None:
    """Create what is missing; safe to run again. `password` is for both roles when they connect over the network."""
    with psycopg.connect(superuser_url, autocommit=True, connect_timeout=5) as connection:
        for role in (OWNER_ROLE, APPLICATION_ROLE):
            known = connection.execute("select 1 from pg_roles where rolname = %s", (role,)).fetchone()
            if not known:
                connection.execute(
                    sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE").format(
                        sql.Identifier(role)
                    )
                )
            if password:
                connection.execute(
                    sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(password))
                )
        if not connection.execute("select 1 from pg_database where datname = %s", (database,)).fetchone():
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {} ENCODING 'UTF8' TEMPLATE template0").format(
                    sql.Identifier(database), sql.Identifier(OWNER_ROLE)
                )
            )
    with psycopg.connect(superuser_url, dbname=database, autocommit=True, connect_timeout=5) as connection:
        for extension in ("pg_trgm", "btree_gist"):
            connection.execute(sql.SQL("CREATE EXTENSION IF NOT EXISTS {}").format(sql.Identifier(extension)))
        for function in _LEAKPROOF:
            connection.execute(sql.SQL("ALTER FUNCTION {} LEAKPROOF").format(sql.SQL(function)))
        connection.execute(
            sql.SQL("REVOKE CREATE ON SCHEMA public FROM PUBLIC; GRANT ALL ON SCHEMA public TO {0};"
                    "GRANT USAGE ON SCHEMA public TO {1}; GRANT CONNECT ON DATABASE {2} TO {1};"
                    "REVOKE CONNECT, TEMPORARY ON DATABASE {2} FROM PUBLIC; GRANT CONNECT, TEMPORARY ON DATABASE {2} TO {0};"
                    "ALTER DEFAULT PRIVILEGES FOR ROLE {0} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {1};"
                    "ALTER DEFAULT PRIVILEGES FOR ROLE {0} GRANT USAGE, SELECT ON SEQUENCES TO {1}").format(
                sql.Identifier(OWNER_ROLE), sql.Identifier(APPLICATION_ROLE), sql.Identifier(database)
            )
        )  # fmt: skip
