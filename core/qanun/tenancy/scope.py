"""Ring two and the switch of ring three: sessions that belong to one clinic from birth to close.

`tenant_session` sets `app.tenant_id` for the transaction (row-level security reads it), narrows every ORM statement to
the clinic, stamps new rows and refuses foreign ones. There is no cross-tenant mode: a job for all clinics enters each
scope in turn. `global_session` reaches the tables without a clinic; under row-level security it sees no clinic's row.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from sqlalchemy import bindparam, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import ORMExecuteState, Session, SessionTransaction, with_loader_criteria
from sqlalchemy.orm.context import FromStatement
from sqlalchemy.util import await_only

from qanun.db import Database, ScopeState, TenantModel, UnscopedStatement
from qanun.db.engine import OPTION, SCOPED, is_trusted
from qanun.errors import TenancyViolation

_SET_TENANT = "select set_config('app.tenant_id', %s, true)"


class _ScopedSession(Session):
    """A session with a tenant (`None` for the global one) that it can neither lose nor change."""

    def __init__(self, *args: Any, tenant_id: uuid.UUID | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tenant_id = tenant_id
        self.scope_state = ScopeState()


@lru_cache(maxsize=256)
def _criteria(tenant_id: uuid.UUID) -> Any:
    return with_loader_criteria(TenantModel, lambda model: model.tenant_id == tenant_id, include_aliases=True)


#: The clinic as one named parameter however many tables a question touches: SQLAlchemy compares and PostgreSQL is sent one
#: value instead of one a table. It is given by `_before_execute` alone; without it the statement does not run.
_ASKING = "qanun_asking_tenant_id"
_ASKED = with_loader_criteria(
    TenantModel, lambda model: model.tenant_id == bindparam("qanun_asking_tenant_id"), include_aliases=True
)

#: Statements that live on (made once, in a module) are narrowed once: SQLAlchemy then finds their compiled form without
#: walking through them again, which is a third of what a statement costs.
_narrowed: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def _narrow(state: ORMExecuteState, tenant_id: uuid.UUID) -> None:
    statement: Any = state.statement
    if not state.is_select:
        # In an UPDATE a named parameter would be taken for a column to set.
        state.statement = statement.options(_criteria(tenant_id))
        return
    narrowed = _narrowed.get(statement)
    if narrowed is None:
        narrowed = _narrowed[statement] = statement.options(_ASKED)
    state.statement = narrowed
    given: Any = state.parameters
    state.parameters = {**(given or {}), _ASKING: tenant_id}


def _before_execute(state: ORMExecuteState) -> None:
    session = state.session
    if not isinstance(session, _ScopedSession):
        raise UnscopedStatement("this session was not opened by a tenant scope")
    if is_trusted(state.statement):
        return
    if not state.is_orm_statement or isinstance(state.statement, FromStatement):
        raise UnscopedStatement(
            "only ORM statements run in a tenant scope: select(Model), update(Model), delete(Model)"
        )
    if state.is_insert:
        raise UnscopedStatement("bulk inserts skip the tenant stamp: add the objects to the session instead")
    if session.tenant_id is None:
        if any(issubclass(mapper.class_, TenantModel) for mapper in state.all_mappers):
            raise TenancyViolation("a clinic's table was asked for outside a tenant scope")
    else:
        _narrow(state, session.tenant_id)
    state.update_execution_options(**{OPTION: SCOPED})


def _before_flush(session: Session, context: Any, instances: Any) -> None:
    if not isinstance(session, _ScopedSession):
        raise TenancyViolation("this session was not opened by a tenant scope")
    for instance in session.new:
        if isinstance(instance, TenantModel):
            if session.tenant_id is None:
                raise TenancyViolation(f"{type(instance).__name__} belongs to a clinic; no tenant scope is open")
            if instance.tenant_id is None:
                instance.tenant_id = session.tenant_id
    for instance in (*session.new, *session.dirty, *session.deleted):
        if isinstance(instance, TenantModel) and instance.tenant_id != session.tenant_id:
            raise TenancyViolation(f"{type(instance).__name__} belongs to another clinic")
    session.scope_state.flushing = True


def _after_flush(session: Session, context: Any) -> None:
    if isinstance(session, _ScopedSession):
        session.scope_state.flushing = False


async def _begin_in(driver: Any, tenant_id: uuid.UUID) -> None:
    """BEGIN and the clinic in one round trip: waking the database up costs more than what it then does.

    Local to the transaction: a session-level setting would travel through the pool to the next clinic.
    """
    async with driver.pipeline():
        await driver.execute(_SET_TENANT, (str(tenant_id),), prepare=True)


def _after_begin(session: Session, transaction: SessionTransaction, connection: Any) -> None:
    if not isinstance(session, _ScopedSession):
        return
    connection.info["qanun_scope"] = session.scope_state
    if session.tenant_id is not None and not transaction.nested:
        try:
            await_only(_begin_in(connection.connection.driver_connection, session.tenant_id))
        except psycopg.Error as error:
            connection.invalidate(error)
            raise OperationalError("begin", None, error, connection_invalidated=True) from error
        except BaseException:
            connection.invalidate()
            raise


def _after_rollback(session: Session) -> None:
    if isinstance(session, _ScopedSession):
        session.scope_state.flushing = False


event.listen(_ScopedSession, "do_orm_execute", _before_execute)
event.listen(_ScopedSession, "before_flush", _before_flush)
event.listen(_ScopedSession, "after_flush", _after_flush)
event.listen(_ScopedSession, "after_begin", _after_begin)
event.listen(_ScopedSession, "after_rollback", _after_rollback)


@asynccontextmanager
async def _session(
    database: Database, tenant_id: uuid.UUID | None, *, autocommit: bool = False
) -> AsyncIterator[AsyncSession]:
    """A page that is left, a closed stream: their tasks are cancelled, perhaps between a question and its answer. Such a
    connection is thrown away. In the pool it would give the next request, of whatever clinic, an answer that is not its own.
    """
    engine = database.autocommit if autocommit else database.engine
    async with AsyncSession(
        engine, sync_session_class=_ScopedSession, tenant_id=tenant_id, expire_on_commit=False, autoflush=True
    ) as session:
        try:
            yield session
        except Exception:
            raise
        except BaseException:
            await session.invalidate()
            raise


@asynccontextmanager
async def tenant_session(database: Database, tenant_id: uuid.UUID) -> AsyncIterator[AsyncSession]:
    """A session of one clinic. The caller commits; leaving without a commit rolls back.

    Raises TenancyViolation when no tenant is given: no tenant is an error, never all rows.
    """
    if not isinstance(tenant_id, uuid.UUID):
        raise TenancyViolation("a tenant scope needs a tenant")
    async with _session(database, tenant_id) as session:
        yield session


@asynccontextmanager
async def global_session(database: Database) -> AsyncIterator[AsyncSession]:
    """A session for tables without a clinic (tenants, users, sessions)."""
    async with _session(database, None) as session:
        yield session


@asynccontextmanager
async def lookup_session(database: Database) -> AsyncIterator[AsyncSession]:
    """Like `global_session` for single statements: each commits by itself, which saves two round trips."""
    async with _session(database, None, autocommit=True) as session:
        yield session
