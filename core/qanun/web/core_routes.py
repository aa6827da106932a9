"""Core's own pages: the way in, the choice of clinic and language, the palette, live notices, static files."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from litestar import MediaType, Request, Response
from litestar.datastructures import Cookie
from litestar.response import ServerSentEvent, ServerSentEventMessage
from sqlalchemy import text

from qanun.access import Core, Role
from qanun.context import Context
from qanun.db import trusted
from qanun.errors import Invalid, NotFound, TooMany
from qanun.i18n import N_, locales
from qanun.identity import guests, signin
from qanun.tenancy import TenantInfo, lookup_session
from qanun.web import templating
from qanun.web.authorise import (
    OpenContext,
    page_locale,
    public_context,
    runtime_of,
    signed_in,
    staff_actor,
)
from qanun.web.forms import Form
from qanun.web.furniture import NavItem, SearchProvider, visible_nav
from qanun.web.pages import json_response, page, redirect
from qanun.web.routing import get, post
from qanun.web.security import COOKIES, LANGUAGE_COOKIES, door_of, session_cookie
from qanun.web.way_in import clinic_by_slug, entrance, local_path

Req = Request[Any, Any, Any]
_PING_SECONDS = 20
#: The year 2200: later than any page was made.
_LATEST_MS = 7_258_118_400_000


def _gone(kind: str) -> Cookie:
    return Cookie(key=COOKIES[kind], value="", path="/", max_age=0, httponly=True, samesite="lax")


# --- staff: sign in, choose a clinic, leave ----------------------------------------------------------------------


@get("/sign-in", public="the way in for staff")
async def sign_in_page(request: Req, next: str = "") -> Response[str]:
    return entrance(request, "core/sign_in.html", values={"email": "", "next": local_path(next, "")}, errors={})


@post("/sign-in", public="the way in for staff")
async def sign_in(request: Req, form: Form) -> Response[str]:
    runtime = runtime_of(request)
    email, target = form.text("email"), local_path(form.text("next"), "")
    kept = {"email": email, "next": target}
    try:
        token, user = await signin.sign_in_staff(runtime.database, email, form.get("password", ""))
    except Invalid as error:
        return entrance(request, "core/sign_in.html", 422, values=kept, errors=error.fields)
    except TooMany as error:
        resting = {"password": N_("Too many attempts. Wait a few minutes and try again.")}
        answer = entrance(request, "core/sign_in.html", 429, values=kept, errors=resting)
        answer.headers["Retry-After"] = str(error.retry_after)
        return answer
    for tenant, roles in await signin.clinics_of(runtime.database, user.id):
        async with public_context(request, tenant) as ctx:
            ctx.audit("core.staff.sign-in", detail={"user": user.id, "roles": roles})
    cookie = session_cookie("staff", token, secure=runtime.config.secure_cookies)
    return redirect(None, target or "/", cookies=[cookie])


@get("/", permission=Core.SESSION_USE)
async def home(request: Req) -> Response[str]:
    """To the first entry of the person's own rail: the doctor's day, the desk; to the choice of clinic when open."""
    session = await signed_in(request, "staff")
    if session is None or session.tenant is None:
        return redirect(None, "/clinics")
    runtime = runtime_of(request)
    actor = staff_actor(runtime, session)
    for item in runtime.registry.all(NavItem, enabled=runtime.slugs - session.disabled_plugins):
        if item.permission in actor.permissions and (not item.roles or item.roles & actor.roles):
            return redirect(None, item.href)
    return redirect(None, "/account")


@get("/clinics", permission=Core.SESSION_USE)
async def clinics_page(request: Req) -> Response[str]:
    session = await signed_in(request, "staff")
    assert session is not None and session.user_id is not None
    found = await signin.clinics_of(runtime_of(request).database, session.user_id)
    roles = {role.name: role.label for role in _roles(request)}
    clinics = [
        {"slug": t.slug, "name": t.name, "name_alt": t.name_alt, "roles": [roles.get(r, r) for r in sorted(held)]}
        for t, held in found
    ]
    current = session.tenant.slug if session.tenant else ""
    return entrance(request, "core/clinics.html", clinics=clinics, current=current, name=session.name)


def _roles(request: Req) -> list[Any]:
    return runtime_of(request).registry.all(Role)


@post("/clinics", permission=Core.SESSION_USE)
async def choose_clinic(request: Req, form: Form) -> Response[str]:
    session = await signed_in(request, "staff")
    assert session is not None and session.user_id is not None
    await signin.choose_clinic(runtime_of(request).database, session.session_id, session.user_id, form.text("clinic"))
    return redirect(None, "/")


@post("/sign-out", permission=Core.SESSION_USE)
async def sign_out(request: Req) -> Response[str]:
    session = await signed_in(request, "staff")
    assert session is not None
    await signin.sign_out(runtime_of(request).database, session.session_id)
    return redirect(None, "/sign-in", cookies=[_gone("staff")])


@post("/language", public="the language of the page, before and after signing in")
async def choose_language(request: Req, form: Form) -> Response[str]:
    code = form.text("language")
    if code not in {locale.code for locale in locales()}:
        raise Invalid({"language": N_("Choose one of the listed values.")})
    back = local_path(form.text("back"), "/")
    kind = door_of(back)
    session = await signed_in(request, kind)
    if session is not None:
        await signin.set_locale(runtime_of(request).database, session, code)
        if session.account_id is not None and session.tenant is not None:
            async with public_context(request, session.tenant) as ctx:
                await signin.keep_language(ctx, session.account_id, code)
    cookie = Cookie(key=LANGUAGE_COOKIES[kind], value=code, path="/", max_age=31_536_000, httponly=True, samesite="lax")
    return redirect(None, back, cookies=[cookie])


@get("/account", permission=Core.SESSION_USE)
async def account(ctx: Context) -> Response[str]:
    """The person's own page: name, clinic, language. Also where somebody without any other page lands."""
    return page(ctx, "core/account.html", languages=locales())


# --- portal: sign in, invitation, leave ---------------------------------------------------------------------------


@get("/portal", public="names no clinic; says how to get in")
async def portal_start(request: Req) -> Response[str]:
    return entrance(request, "core/portal_start.html")


@get("/portal/{clinic:str}/sign-in", public="the way in for patients")
async def portal_sign_in_page(request: Req, clinic: str, next: str = "") -> Response[str]:
    tenant = await clinic_by_slug(request, clinic)
    kept = {"login": "", "next": local_path(next, "")}
    return entrance(request, "core/portal_sign_in.html", tenant=tenant, values=kept, errors={})


@post("/portal/{clinic:str}/sign-in", public="the way in for patients")
async def portal_sign_in(request: Req, clinic: str, form: Form) -> Response[str]:
    tenant = await clinic_by_slug(request, clinic)
    kept = {"login": form.text("login"), "next": local_path(form.text("next"), "")}
    try:
        async with public_context(request, tenant) as ctx:
            token = await signin.sign_in_patient(ctx, form.text("login"), form.get("password", ""))
    except TooMany:
        errors = {"password": N_("Too many attempts. Wait a few minutes and try again.")}
        return entrance(request, "core/portal_sign_in.html", 429, tenant=tenant, values=kept, errors=errors)
    if token is None:
        errors = {"password": signin.WRONG}
        return entrance(request, "core/portal_sign_in.html", 422, tenant=tenant, values=kept, errors=errors)
    cookie = session_cookie("portal", token, secure=runtime_of(request).config.secure_cookies)
    return redirect(None, kept["next"] or f"/portal/{clinic}", cookies=[cookie])


@post("/portal/{clinic:str}/sign-out", permission=Core.PORTAL_USE, audience="portal")
async def portal_sign_out(request: Req, ctx: Context, clinic: str) -> Response[str]:
    assert ctx.actor.session_id is not None
    ctx.audit("core.portal.sign-out", patient_id=ctx.actor.patient_id)
    await signin.sign_out(runtime_of(request).database, ctx.actor.session_id)
    return redirect(None, f"/portal/{clinic}/sign-in", cookies=[_gone("portal")])


@get("/portal/{clinic:str}/i/{token:str}", public="a one-time invitation; shows nothing of whom it is for")
async def invitation_page(request: Req, clinic: str, token: str) -> Response[str]:
    tenant = await clinic_by_slug(request, clinic)
    async with public_context(request, tenant) as ctx:
        invited = await signin.invitation(ctx, token)
        target, known = invited.invitation.target, not invited.asks
        patient_id = invited.invitation.patient_id
    session = await signed_in(request, "portal")
    if session is not None and session.tenant == tenant and session.patient_id == patient_id:
        return redirect(None, target)
    if known:
        return redirect(None, f"/portal/{clinic}/sign-in?next={quote(target)}")
    return entrance(request, "core/portal_activate.html", tenant=tenant, values={"birth_date": ""}, errors={})


@post("/portal/{clinic:str}/i/{token:str}", public="a one-time invitation, proven by the date of birth")
async def accept_invitation(request: Req, clinic: str, token: str, form: Form) -> Response[str]:
    tenant = await clinic_by_slug(request, clinic)
    kept = {"birth_date": form.text("birth_date")}
    try:
        async with public_context(request, tenant) as ctx:
            invited = await signin.invitation(ctx, token)
            target = invited.invitation.target
            session = await signin.activate(ctx, invited, form.text("birth_date"), form.get("password", ""))
    except Invalid as error:
        return entrance(request, "core/portal_activate.html", 422, tenant=tenant, values=kept, errors=error.fields)
    if session is None:
        errors = {"birth_date": N_("This does not match what the clinic has. Check the date, or call the clinic.")}
        return entrance(request, "core/portal_activate.html", 422, tenant=tenant, values=kept, errors=errors)
    cookie = session_cookie("portal", session, secure=runtime_of(request).config.secure_cookies)
    return redirect(None, target, cookies=[cookie])


# --- guests: people without an account, invited to one thing ---------------------------------------------------------


def _no_way_in(request: Req, tenant: TenantInfo) -> Response[str]:
    """Used, expired, revoked and unknown look the same."""
    return entrance(request, "core/guest_closed.html", 404, tenant=tenant)


@get("/guest/{clinic:str}", public="says that a guest's link is needed; no data")
async def guest_start(request: Req, clinic: str) -> Response[str]:
    return entrance(request, "core/guest_closed.html", tenant=await clinic_by_slug(request, clinic))


@get("/guest/{clinic:str}/i/{token:str}", public="a guest's one-time link; names nobody")
async def guest_page(request: Req, clinic: str, token: str) -> Response[str]:
    """Looking does not use the link up: messengers look before people do."""
    tenant = await clinic_by_slug(request, clinic)
    try:
        async with public_context(request, tenant) as ctx:
            found = await guests.guest_pass(ctx, token)
            guest_id, target, used = found.id, found.target, found.used_at is not None
    except NotFound:
        return _no_way_in(request, tenant)
    session = await signed_in(request, "guest")
    if session is not None and session.guest_id == guest_id:
        return redirect(None, target)
    if used:
        return _no_way_in(request, tenant)
    return entrance(request, "core/guest_enter.html", tenant=tenant)


@post("/guest/{clinic:str}/i/{token:str}", public="a guest's one-time link, used up by this")
async def guest_enter(request: Req, clinic: str, token: str) -> Response[str]:
    tenant = await clinic_by_slug(request, clinic)
    try:
        async with public_context(request, tenant) as ctx:
            session, found = await guests.admit_guest(ctx, token, page_locale(request, None, tenant).code)
            target = found.target
    except NotFound:
        return _no_way_in(request, tenant)
    cookie = session_cookie("guest", session, secure=runtime_of(request).config.secure_cookies)
    return redirect(None, target, cookies=[cookie])


# --- palette, live line, health, files ----------------------------------------------------------------------------


@get("/search", permission=Core.SESSION_USE, live=True)
async def search(ctx: Context, q: str = "") -> Response[bytes]:
    """The palette's answer: where to go, patients, what plugins find. Only what this person may open."""
    query = q.strip()[:80]
    groups: list[dict[str, Any]] = []
    resolve = ctx.locale.resolve
    pages = [
        {"title": resolve(item.label), "href": item.href, "icon": item.icon, "text": ""}
        for item in visible_nav(ctx)
        if query.lower() in resolve(item.label).lower()
    ]
    if ctx.can(Core.PATIENT_READ) and len(query) >= 2:
        for entry in ctx.registry.entries(SearchProvider, enabled=ctx.enabled):
            if ctx.can(entry.item.permission):
                hits = await ctx.registry.call_soft(entry, entry.item.search, ctx, query, 8)
                if isinstance(hits, list | tuple) and hits:
                    groups.append({
                        "label": resolve(entry.item.label),
                        "hits": [{"title": h.title, "href": h.href, "text": h.text, "icon": h.icon} for h in hits],
                    })  # fmt: skip
    if pages:
        groups.append({"label": ctx.locale.gettext("Go to"), "hits": pages[:8]})
    return json_response({"groups": groups})


async def _notices(
    open_context: OpenContext, request: Req, since: int | None
) -> AsyncIterator[ServerSentEventMessage]:  # fmt: skip
    """Topics as SSE events with their ids as data; ends when the session does. `since`: when the page was made (milliseconds); a
    stream that comes back has its page look at everything anew instead."""
    runtime = runtime_of(request)
    async with open_context() as ctx:
        tenant_id, kind = ctx.tenant.id, "staff" if ctx.actor.kind == "user" else "portal"  # guests have no such line
        patient = str(ctx.actor.patient_id) if ctx.actor.patient_id else None
    token = request.cookies.get(COOKIES[kind], "")
    fresh = since is not None and 0 < since < _LATEST_MS and "last-event-id" not in request.headers
    made = datetime.fromtimestamp(since / 1000, UTC) if since is not None and fresh else None
    async with runtime.live.listen(tenant_id, since=made) as queue:
        yield ServerSentEventMessage(event="ready", data="{}", id="1")
        while True:
            try:
                async with asyncio.timeout(_PING_SECONDS):
                    notice = await queue.get()
            except TimeoutError:
                async with lookup_session(runtime.database) as session:
                    if await signin.look_up(session, token, kind) is None:
                        yield ServerSentEventMessage(event="signed-out", data="{}")
                        return
                yield ServerSentEventMessage(event="ping", data="{}")
                continue
            # A patient's page hears only of that patient.
            if patient is None or notice.ids.get("patient") == patient or notice.topic == "core.reconnected":
                yield ServerSentEventMessage(event=notice.topic, data=json.dumps(notice.ids))


@get("/live", permission=Core.SESSION_USE, live=True)
async def live(open_context: OpenContext, request: Req, since: int | None = None) -> ServerSentEvent:
    return ServerSentEvent(_notices(open_context, request, since))


@get("/portal/{clinic:str}/live", permission=Core.PORTAL_USE, audience="portal", live=True)
async def portal_live(
    open_context: OpenContext, request: Req, clinic: str, since: int | None = None
) -> ServerSentEvent:  # fmt: skip
    return ServerSentEvent(_notices(open_context, request, since))


@get("/health", public="says whether this machine works; no data")
async def health(request: Req) -> Response[dict[str, str]]:
    async with lookup_session(runtime_of(request).database) as session:
        await session.execute(trusted(text("select 1")))
    return Response({"status": "ok"}, media_type=MediaType.JSON)


@get("/static/{slug:str}/{digest:str}/{file:path}", public="styles, scripts and fonts, the same for everybody")
async def static_file(request: Req, slug: str, digest: str, file: str) -> Response[bytes]:
    found = templating.static_file(slug, digest, str(file).lstrip("/"), request.headers.get("accept-encoding", ""))
    if found is None:
        raise NotFound("file")
    return Response(found.content, media_type=found.content_type, headers=dict(found.headers))


@get("/gallery", permission=Core.GALLERY_READ)
async def gallery(ctx: Context) -> Response[str]:
    """Every interface part in the reader's language and direction: for plugin authors and for tests."""
    return page(ctx, "core/gallery.html")


CORE_ROUTES = (
    sign_in_page, sign_in, home, clinics_page, choose_clinic, sign_out, choose_language, account, portal_start,
    portal_sign_in_page, portal_sign_in, portal_sign_out, invitation_page, accept_invitation, guest_start, guest_page,
    guest_enter, search, live, portal_live,
    health, static_file, gallery,
)  # fmt: skip
