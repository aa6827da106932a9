"""From cookie to context: session → actor → clinic → language → permission → transaction.

`authorise` is the application's one guard and runs before a body is read; `provide_ctx` opens the unit of work of a
request; `provide_open_context` is for streams and sockets, which open short ones as they go.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.handlers import BaseRouteHandler

from qanun.access import Core, Runtime, effective_permissions, must_be_open, open_context
from qanun.context import SYSTEM, Actor, ActorKind, Context
from qanun.errors import ConfirmationNeeded, Forbidden, Invalid, NotFound, QanunError, RecordClosed, Unauthenticated
from qanun.i18n import Locale, get_locale, locales, negotiate
from qanun.identity.signin import SignedIn, look_up, touch
from qanun.tenancy import TenantInfo, lookup_session
from qanun.web.forms import provide_form
from qanun.web.security import COOKIES, LANGUAGE_COOKIES, client_address, door_of, refuse_foreign_origin

Connection = ASGIConnection[Any, Any, Any, State]
OpenContext = Callable[[], AbstractAsyncContextManager[Context]]


class ChooseClinic(QanunError):
    """Signed in, but no clinic chosen yet."""

    status = 303
    code = "choose-clinic"


@dataclass(frozen=True, slots=True)
class WebInfo:
    """What a page may know of its request. `fragment`: htmx asks for a part of the page."""

    path: str
    query: str
    fragment: bool
    audience: str


def runtime_of(connection: Connection) -> Runtime:
    runtime: Runtime = connection.app.state.runtime
    return runtime


async def signed_in(connection: Connection, kind: str, *, live: bool = False) -> SignedIn | None:
    """The session behind the request's cookie of that kind, looked up once per request."""
    cache: dict[str, SignedIn | None] = connection.scope.setdefault("qanun_sessions", {})  # type: ignore[typeddict-item]
    if kind not in cache:
        token = connection.cookies.get(COOKIES[kind], "")
        found = None
        if 20 <= len(token) <= 100:
            async with lookup_session(runtime_of(connection).database) as session:
                found = await look_up(session, token, kind)
                if found is not None and not live:
                    found = await touch(session, found)
        cache[kind] = found
    return cache[kind]


_ACTORS: dict[str, ActorKind] = {"staff": "user", "portal": "patient", "guest": "guest"}


def staff_actor(runtime: Runtime, session: SignedIn) -> Actor:
    """The actor behind a session of any kind, with what its roles allow."""
    return Actor(
        kind=_ACTORS[session.kind],
        id=session.user_id or session.account_id or session.guest_id or uuid.UUID(int=0),
        name=session.name,
        roles=session.roles,
        permissions=effective_permissions(
            runtime.registry, session.roles, session.disabled_plugins, session.role_changes
        ),
        session_id=session.session_id,
        patient_id=session.patient_id,
        practitioner_id=session.practitioner_id,
        confirmed_at=session.confirmed_at,
    )


def page_locale(connection: Connection, session: SignedIn | None = None, tenant: TenantInfo | None = None) -> Locale:
    """The person's own choice; signed in, else the clinic's language; before that, else what the browser prefers."""
    offered = [locale.code for locale in locales()]
    cookie = LANGUAGE_COOKIES[door_of(connection.url.path)]
    for code in (session.locale if session else "", connection.cookies.get(cookie, "")):
        if code in offered:
            return get_locale(code)
    usual = tenant.locale if tenant and tenant.locale in offered else "en"
    if session is not None:
        return get_locale(usual)
    return negotiate(connection.headers.get("accept-language", ""), offered, usual)


async def authorise(connection: Connection, handler: BaseRouteHandler) -> None:
    """Default deny. Raises Unauthenticated, ChooseClinic, Forbidden, or NotFound for a plugin that is switched off here."""
    if not handler.opt.get("bearer"):
        refuse_foreign_origin(connection)
    if handler.opt.get("public"):
        return
    permission = handler.opt.get("permission")
    if not permission:
        raise Forbidden("this route declares no permission")
    kind = handler.opt.get("audience", "staff")
    session = await signed_in(connection, kind, live=bool(handler.opt.get("live")))
    if session is None:
        raise Unauthenticated(kind)
    if session.tenant is None:
        if permission == Core.SESSION_USE:
            return
        raise ChooseClinic()
    if connection.path_params.get("clinic", session.tenant.slug) != session.tenant.slug:
        raise Unauthenticated(kind)  # signed in to another clinic's portal: this one asks for itself
    if handler.opt.get("plugin", "core") in session.disabled_plugins:
        raise NotFound("plugin")
    runtime = runtime_of(connection)
    actor = staff_actor(runtime, session)
    if permission not in actor.permissions:
        await _record_refusal(connection, runtime, session.tenant, actor, permission)
        raise Forbidden(f"{permission} is needed", permission=permission)
    if handler.opt.get("fresh") and not actor.is_fresh(datetime.now(UTC)):
        await _keep_form(connection)
        raise ConfirmationNeeded("confirm who you are")


async def _keep_form(connection: Connection) -> None:
    """What was being sent is kept for the page that asks; a form that cannot be read is refused when it comes again."""
    if isinstance(connection, Request) and connection.method not in {"GET", "HEAD"}:
        with suppress(Invalid):
            await provide_form(connection)


async def _record_refusal(
    connection: Connection, runtime: Runtime, tenant: TenantInfo, actor: Actor, permission: str
) -> None:
    async with open_context(runtime, tenant, actor, None, address=client_address(connection)) as ctx:
        ctx.audit("core.access.refused", detail={"permission": permission})


def _opener(connection: Connection, *, lasting: bool = False) -> OpenContext:
    handler: BaseRouteHandler = connection.scope["route_handler"]
    kind = handler.opt.get("audience", "staff")
    session: SignedIn | None = connection.scope.get("qanun_sessions", {}).get(kind)  # type: ignore[attr-defined]
    if session is None or session.tenant is None:
        raise Unauthenticated(kind)
    runtime = runtime_of(connection)
    actor = staff_actor(runtime, session)
    locale = page_locale(connection, session, session.tenant)
    tenant = replace(session.tenant, closed_records=None) if lasting else session.tenant

    # The patient is in every address: whoever opens a page of a closed record is stopped here, whatever the page.
    named = connection.path_params.get("patient_id") if kind == "staff" else None

    @asynccontextmanager
    async def opener() -> AsyncIterator[Context]:
        async with open_context(
            runtime, tenant, actor, locale, address=client_address(connection), disabled=session.disabled_plugins
        ) as ctx:
            if isinstance(named, uuid.UUID):
                await must_be_open(ctx, named)
            yield ctx

    return opener


async def still_allowed(
    connection: Connection, *, active: bool = False, patient_id: uuid.UUID | None = None
) -> bool:  # fmt: skip
    """For sockets and streams, which outlive the guard: does the session live, in the same clinic, with the permission, and
    is the record of `patient_id` open to them?

    `active` says that a person is using it (a call), which keeps an idle session alive as a page of theirs would.
    """
    handler: BaseRouteHandler = connection.scope["route_handler"]
    kind = handler.opt.get("audience", "staff")
    began: SignedIn | None = connection.scope.get("qanun_sessions", {}).get(kind)  # type: ignore[attr-defined]
    runtime = runtime_of(connection)
    async with lookup_session(runtime.database) as session:
        found = await look_up(session, connection.cookies.get(COOKIES[kind], ""), kind)
        if found is not None and active:
            found = await touch(session, found)
    if found is None or began is None or found.tenant is None or found.tenant != began.tenant:
        return False
    if handler.opt.get("plugin", "core") in found.disabled_plugins:
        return False
    if handler.opt.get("permission") not in staff_actor(runtime, found).permissions:
        return False
    if patient_id is None or kind != "staff" or found.tenant.closed_records == 0:
        return True
    async with open_context(runtime, found.tenant, staff_actor(runtime, found), None) as ctx:
        try:
            await must_be_open(ctx, patient_id)
        except RecordClosed:
            return False
    return True


def provide_open_context(request: Connection) -> OpenContext:
    """Dependency `open_context` for streams, sockets and long work: each `async with` is its own transaction."""
    return _opener(request, lasting=True)


async def provide_ctx(request: Connection) -> AsyncIterator[Context]:
    """Dependency `ctx`: the request's unit of work. It commits after the handler returned, before the answer is sent."""
    handler: BaseRouteHandler = request.scope["route_handler"]
    async with _opener(request)() as ctx:
        ctx.web = WebInfo(
            path=request.url.path,
            query=request.url.query,
            fragment=request.headers.get("hx-request") == "true",
            audience=handler.opt.get("audience", "staff"),
        )
        yield ctx


def public_context(connection: Connection, tenant: TenantInfo) -> AbstractAsyncContextManager[Context]:
    """The system's context in one clinic, for the few public acts (portal sign-in, invitations)."""
    return open_context(
        runtime_of(connection),
        tenant,
        SYSTEM,
        page_locale(connection, None, tenant),
        address=client_address(connection),
    )
