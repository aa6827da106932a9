"""The engine, and the guard that stands at its door.

Ring two of tenancy lives half here: every statement on the application engine must have come through a tenant scope's
ORM path, or carry the mark that only `trusted` can give. A Core select, a `text()` or a bulk insert of a plugin is
refused before it reaches PostgreSQL. It does not know which tenant is right; `qanun.tenancy` does.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Executable, event
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.sql.elements import ReleaseSavepointClause, RollbackToSavepointClause, SavepointClause

from qanun.errors import TenancyViolation


class UnscopedStatement(TenancyViolation):
    """A statement that did not come through the ORM path of a tenant scope."""

    code = "unscoped-statement"


#: What `begin_nested` says. They touch no row, and SQLAlchemy quotes their names.
_SAVEPOINTS = (SavepointClause, ReleaseSavepointClause, RollbackToSavepointClause)


class _Mark:
    """Identity is the secret: an execution option can only be this object if it came from this module."""


_TRUSTED = _Mark()
SCOPED = _Mark()
OPTION = "qanun_guard"


class ScopeState:
    """What the guard may know of the session that owns a connection: whether it is writing its own unit of work."""

    __slots__ = ("flushing",)

    def __init__(self) -> None:
        self.flushing = False


def trusted(statement: Any) -> Any:
    """Mark a statement written by core itself. Row-level security still holds; only the ORM rule is waived.

    Not re-exported by `qanun.api`: plugins have no way around the ORM path.
    """
    return statement.execution_options(**{OPTION: _TRUSTED})


def is_trusted(statement: Executable) -> bool:
    return statement.get_execution_options().get(OPTION) is _TRUSTED


def _refuse_unscoped(
    connection: Connection, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
) -> None:
    mark = context.execution_options.get(OPTION) if context is not None else None
    if mark is _TRUSTED or mark is SCOPED:
        return
    if isinstance(getattr(getattr(context, "compiled", None), "statement", None), _SAVEPOINTS):
        return  # names no row: `begin_nested` of a session
    state = connection.info.get("qanun_scope")
    if isinstance(state, ScopeState) and state.flushing:
        return
    raise UnscopedStatement("a statement outside a tenant scope's ORM path was refused")


class Database:
    """The application's connection pool. `guarded=False` only for migrations, which run as the owner."""

    def __init__(self, url: str, *, pool_size: int = 8, guarded: bool = True) -> None:
        driver_url = url.replace("postgresql://", "postgresql+psycopg://", 1)
        self.url = url
        self.engine: AsyncEngine = create_async_engine(
            driver_url,
            pool_size=pool_size,
            max_overflow=4,
            pool_timeout=1.5,
            pool_pre_ping=False,
            pool_use_lifo=True,
            connect_args={
                "connect_timeout": 2,
                "application_name": "qanun",
                "options": "-c statement_timeout=20000 -c idle_in_transaction_session_timeout=60000",
                "prepare_threshold": 2,
            },
        )
        if guarded:
            event.listen(self.engine.sync_engine, "before_cursor_execute", _refuse_unscoped)

        self.autocommit = self.engine.execution_options(isolation_level="AUTOCOMMIT")

    async def close(self) -> None:
        await self.engine.dispose()
