"""Passkeys on pages: sign in with a touch, confirm with one, and the list of one's own.

The browser's part is `passkeys.js`; what goes between is WebAuthn's own JSON. Staff and patients have the same acts at
doors of their own.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec
from litestar import MediaType, Request, Response

from qanun.access import Core
from qanun.context import Context
from qanun.errors import Conflict, Invalid, NotFound, TooMany
from qanun.i18n import N_
from qanun.identity import passkeys, signin
from qanun.identity.passkeys import Place
from qanun.tenancy import TenantInfo
from qanun.web.authorise import page_locale, public_context, runtime_of
from qanun.web.forms import Form
from qanun.web.pages import json_response, page, redirect
from qanun.web.routing import get, post
from qanun.web.security import session_cookie
from qanun.web.way_in import clinic_by_slug, local_path

Req = Request[Any, Any, Any]
#: An answer with an attestation is a few kilobytes.
LIMIT = 64 * 1024
_RESTS = N_("Too many attempts. Wait a few minutes and try again.")


def _place(request: Req) -> Place:
    """Raises NotFound on a server that is reached by its number: no browser makes passkeys for one."""
    found = passkeys.place(runtime_of(request).config.base_url)
    if found is None:
        raise NotFound("passkeys")
    return found


async def _json(request: Req) -> Any:
    """The body's JSON object. Raises Invalid for anything else."""
    try:
        found = msgspec.json.decode(await request.body())
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = None
    if not isinstance(found, dict):
        raise Invalid({"passkey": passkeys.REFUSED})
    return found


def _options(options: dict[str, Any]) -> Response[bytes]:
    return json_response({"publicKey": options})


def _refused(request: Req, words: object = passkeys.REFUSED, status: int = 422) -> Response[Any]:
    from qanun.i18n import resolve

    told = {"fields": {"passkey": resolve(words, page_locale(request))}}
    return Response(told, status_code=status, media_type=MediaType.JSON)


# --- signing in ---------------------------------------------------------------------------------------------------------


@post("/sign-in/passkey/options", public="a question for a passkey; names nobody", request_max_body_size=LIMIT)
async def sign_in_options(request: Req) -> Response[bytes]:
    return _options(passkeys.sign_in_options(runtime_of(request).keys, _place(request), datetime.now(UTC), None))


@post("/sign-in/passkey", public="the way in for staff", request_max_body_size=LIMIT)
async def sign_in(request: Req) -> Response[Any]:
    runtime, sent = runtime_of(request), await _json(request)
    try:
        token, user = await passkeys.sign_in_staff_by_passkey(
            runtime.database, runtime.keys, _place(request), sent.get("answer")
        )
    except Invalid as error:
        return _refused(request, error.fields.get("passkey", passkeys.REFUSED))
    except TooMany:
        return _refused(request, _RESTS, 429)
    for tenant, roles in await signin.clinics_of(runtime.database, user.id):
        async with public_context(request, tenant) as ctx:
            ctx.audit("core.staff.sign-in", detail={"user": user.id, "roles": roles, "method": "passkey"})
    cookie = session_cookie("staff", token, secure=runtime.config.secure_cookies)
    return Response({"to": local_path(str(sent.get("next") or ""), "/")}, media_type=MediaType.JSON, cookies=[cookie])


@post("/portal/{clinic:str}/sign-in/passkey/options", public="a question for a passkey; names nobody",
      request_max_body_size=LIMIT)  # fmt: skip
async def portal_sign_in_options(request: Req, clinic: str) -> Response[bytes]:
    tenant = await clinic_by_slug(request, clinic)
    return _options(passkeys.sign_in_options(runtime_of(request).keys, _place(request), datetime.now(UTC), tenant))


@post("/portal/{clinic:str}/sign-in/passkey", public="the way in for patients", request_max_body_size=LIMIT)
async def portal_sign_in(request: Req, clinic: str) -> Response[Any]:
    tenant: TenantInfo = await clinic_by_slug(request, clinic)
    runtime, sent = runtime_of(request), await _json(request)
    try:
        async with public_context(request, tenant) as ctx:
            token = await passkeys.sign_in_patient_by_passkey(ctx, runtime.keys, _place(request), sent.get("answer"))
    except Invalid:
        token = None
    except TooMany:
        return _refused(request, _RESTS, 429)
    if token is None:
        return _refused(request)
    cookie = session_cookie("portal", token, secure=runtime.config.secure_cookies)
    to = local_path(str(sent.get("next") or ""), f"/portal/{clinic}")
    return Response({"to": to}, media_type=MediaType.JSON, cookies=[cookie])


# --- confirming ---------------------------------------------------------------------------------------------------------


async def _confirm(request: Req, ctx: Context) -> Response[Any]:
    answer = (await _json(request)).get("answer")
    try:
        right = await passkeys.confirm_by_passkey(ctx, runtime_of(request).keys, _place(request), answer)
    except TooMany:
        return _refused(request, _RESTS, 429)
    return Response(None, status_code=204) if right else _refused(request)


@post("/confirm/passkey/options", permission=Core.SESSION_USE, request_max_body_size=LIMIT)
async def confirm_options(request: Req, ctx: Context) -> Response[bytes]:
    return _options(await passkeys.confirm_options(ctx, runtime_of(request).keys, _place(request)))


@post("/confirm/passkey", permission=Core.SESSION_USE, request_max_body_size=LIMIT)
async def confirm(request: Req, ctx: Context) -> Response[Any]:
    return await _confirm(request, ctx)


@post("/portal/{clinic:str}/confirm/passkey/options", permission=Core.PORTAL_USE, audience="portal",
      request_max_body_size=LIMIT)  # fmt: skip
async def portal_confirm_options(request: Req, ctx: Context, clinic: str) -> Response[bytes]:
    return _options(await passkeys.confirm_options(ctx, runtime_of(request).keys, _place(request)))


@post("/portal/{clinic:str}/confirm/passkey", permission=Core.PORTAL_USE, audience="portal",
      request_max_body_size=LIMIT)  # fmt: skip
async def portal_confirm(request: Req, ctx: Context, clinic: str) -> Response[Any]:
    return await _confirm(request, ctx)


# --- one's own list -----------------------------------------------------------------------------------------------------


async def _list(
    request: Req, ctx: Context, *, errors: dict[str, object] | None = None, values: dict[str, str] | None = None,
    status: int = 200,
) -> Response[str]:  # fmt: skip
    staff = ctx.actor.kind == "user"
    where = passkeys.place(runtime_of(request).config.base_url)
    return page(
        ctx, "core/passkeys.html" if staff else "core/portal_passkeys.html", status=status,
        base="/account/passkeys" if staff else f"/portal/{ctx.tenant.slug}/passkeys",
        passkeys=await passkeys.passkeys_of(ctx), limit=passkeys.LIMIT, rp_id=where.rp_id if where else "",
        origin=where.origin if where else "", errors=errors or {}, values=values or {}, now=ctx.now,
    )  # fmt: skip


async def _register(request: Req, ctx: Context) -> Response[Any]:
    sent = await _json(request)
    try:
        name = str(sent.get("name") or "")
        await passkeys.register(ctx, runtime_of(request).keys, _place(request), name, sent.get("answer"))
    except Invalid as error:
        told = {name: ctx.locale.resolve(text) for name, text in error.fields.items()}
        return Response({"fields": told}, status_code=422, media_type=MediaType.JSON)
    return Response(None, status_code=204)


async def _register_options(request: Req, ctx: Context) -> Response[Any]:
    try:
        return _options(await passkeys.registration_options(ctx, runtime_of(request).keys, _place(request)))
    except Conflict:
        return _refused(request, N_("There are twenty already. Remove one that you do not use."), 409)


async def _rename(request: Req, ctx: Context, passkey_id: uuid.UUID, form: Form) -> Response[str]:
    try:
        await passkeys.rename(ctx, passkey_id, form.text("name"))
    except Invalid as error:
        typed = {f"name-{passkey_id}": form.text("name")}
        errors = {f"name-{passkey_id}": text for text in error.fields.values()}
        return await _list(request, ctx, errors=errors, values=typed, status=422)
    return redirect(ctx, request.url.path.split(f"/{passkey_id}")[0])


async def _remove(request: Req, ctx: Context, passkey_id: uuid.UUID) -> Response[str]:
    await passkeys.remove(ctx, passkey_id)
    return redirect(ctx, request.url.path.split(f"/{passkey_id}")[0])


@get("/account/passkeys", permission=Core.SESSION_USE)
async def list_(request: Req, ctx: Context) -> Response[str]:
    return await _list(request, ctx)


@post("/account/passkeys/options", permission=Core.SESSION_USE, fresh=True, request_max_body_size=LIMIT)
async def register_options(request: Req, ctx: Context) -> Response[Any]:
    return await _register_options(request, ctx)


@post("/account/passkeys", permission=Core.SESSION_USE, fresh=True, request_max_body_size=LIMIT)
async def register(request: Req, ctx: Context) -> Response[Any]:
    return await _register(request, ctx)


@post("/account/passkeys/{passkey_id:uuid}/rename", permission=Core.SESSION_USE)
async def rename(request: Req, ctx: Context, passkey_id: uuid.UUID, form: Form) -> Response[str]:
    return await _rename(request, ctx, passkey_id, form)


@post("/account/passkeys/{passkey_id:uuid}/remove", permission=Core.SESSION_USE, fresh=True)
async def remove(request: Req, ctx: Context, passkey_id: uuid.UUID) -> Response[str]:
    return await _remove(request, ctx, passkey_id)


@get("/portal/{clinic:str}/passkeys", permission=Core.PORTAL_USE, audience="portal")
async def portal_list(request: Req, ctx: Context, clinic: str) -> Response[str]:
    return await _list(request, ctx)


@post("/portal/{clinic:str}/passkeys/options", permission=Core.PORTAL_USE, audience="portal", fresh=True,
      request_max_body_size=LIMIT)  # fmt: skip
async def portal_register_options(request: Req, ctx: Context, clinic: str) -> Response[Any]:
    return await _register_options(request, ctx)


@post("/portal/{clinic:str}/passkeys", permission=Core.PORTAL_USE, audience="portal", fresh=True,
      request_max_body_size=LIMIT)  # fmt: skip
async def portal_register(request: Req, ctx: Context, clinic: str) -> Response[Any]:
    return await _register(request, ctx)


@post("/portal/{clinic:str}/passkeys/{passkey_id:uuid}/rename", permission=Core.PORTAL_USE, audience="portal")
async def portal_rename(request: Req, ctx: Context, clinic: str, passkey_id: uuid.UUID, form: Form) -> Response[str]:
    return await _rename(request, ctx, passkey_id, form)


@post("/portal/{clinic:str}/passkeys/{passkey_id:uuid}/remove", permission=Core.PORTAL_USE, audience="portal",
      fresh=True)  # fmt: skip
async def portal_remove(request: Req, ctx: Context, clinic: str, passkey_id: uuid.UUID) -> Response[str]:
    return await _remove(request, ctx, passkey_id)


PASSKEY_ROUTES = (
    sign_in_options, sign_in, portal_sign_in_options, portal_sign_in, confirm_options, confirm, portal_confirm_options,
    portal_confirm, list_, register_options, register, rename, remove, portal_list, portal_register_options,
    portal_register, portal_rename, portal_remove,
)  # fmt: skip
