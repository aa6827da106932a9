"""“Confirm it is you”: the page and the dialog that stand before a grave act, and let through what was being sent.

A route says `fresh=True`. Whoever signed in longer than five minutes ago gets the page with their form inside; after the
password (or a passkey) the browser sends that form on by itself (307), so nothing typed is lost and no copy of it is kept.
With scripts it is a dialog over the page, before the form leaves it (`data-fresh` on the form): files survive too.
"""

from __future__ import annotations

from typing import Any

from litestar import MediaType, Request, Response

from qanun.access import Core
from qanun.context import Context
from qanun.errors import TooMany
from qanun.i18n import N_
from qanun.identity.confirm import confirm_by_password
from qanun.identity.signin import WRONG_PASSWORD
from qanun.web.authorise import page_locale
from qanun.web.forms import OWN, Form, kept_forms
from qanun.web.pages import fragment, json_response
from qanun.web.routing import get, post
from qanun.web.templating import render
from qanun.web.way_in import local_path, passkey_origin

Req = Request[Any, Any, Any]
HEADER = "X-Qanun-Confirm"
_RESTS = N_("Too many attempts. Wait a few minutes and try again.")


def confirm_path(path: str, audience: str) -> str:
    """Where whoever asks for `path` confirms who they are."""
    parts = path.strip("/").split("/")
    return f"/portal/{parts[1]}/confirm" if audience == "portal" and len(parts) > 1 else "/confirm"


def ask(request: Req) -> Response[Any]:
    """The answer to a request that needs a confirmation first."""
    audience = request.scope["route_handler"].opt.get("audience", "staff")
    where = confirm_path(request.url.path, audience)
    if request.headers.get("hx-request") == "true" or _wants_json(request):
        body = {"error": "confirm", "confirm": where}
        return Response(body, status_code=403, media_type=MediaType.JSON, headers={HEADER: where})
    to = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    sent, _ = kept_forms(request)
    return _page(request, where, to, request.method.lower(), sent, {}, status=403)


def _wants_json(request: Req) -> bool:
    return "application/json" in request.headers.get("accept", "") or request.headers.get("x-qanun-json") == "1"


def _page(
    request: Req, where: str, to: str, method: str, sent: Form, errors: dict[str, object], *, status: int
) -> Response[str]:
    audience = request.scope["route_handler"].opt.get("audience", "staff")
    session: Any = request.scope.get("qanun_sessions", {}).get(audience)  # type: ignore[attr-defined]
    locale = page_locale(request, session, session.tenant if session else None)
    html = render(
        "core/confirm.html", locale, where=where, to=to, method=method, kept=sent.items_all(),
        files=sent.has_files, origin=passkey_origin(request), errors=errors, own=OWN, tenant=None, actor=None, nav=[], path=request.url.path,
    )  # fmt: skip
    return Response(html, status_code=status, media_type=MediaType.HTML)


async def _dialog(request: Req, ctx: Context, where: str) -> Response[Any]:
    if ctx.actor.is_fresh(ctx.now):
        return Response(None, status_code=204)
    return fragment(ctx, "core/parts/confirm.html", where=where, own=OWN, origin=passkey_origin(request))


async def _confirm(request: Req, ctx: Context, where: str) -> Response[Any]:
    sent, own = kept_forms(request)
    to, method = local_path(own.text("to"), "/"), own.text("method")
    errors: dict[str, object] = {}
    try:
        right = await confirm_by_password(ctx, own.get("password", ""))
    except TooMany as error:
        errors, right = {f"{OWN}password": _RESTS}, False
        retry = {"Retry-After": str(error.retry_after)}
    else:
        retry = {}
        if not right:
            errors = {f"{OWN}password": WRONG_PASSWORD}
    status = 429 if retry else 422
    if _wants_json(request):
        if right:
            return Response(None, status_code=204)
        told = {name: ctx.locale.resolve(text) for name, text in errors.items()}
        answer: Response[Any] = json_response({"fields": told}, status=status)
    elif right:
        # 307: the browser sends the same form, as it stands here, on to where it was going.
        return Response("", status_code=307 if method == "post" else 303, headers={"Location": to})
    else:
        answer = _page(request, where, to, method, sent, errors, status=status)
    answer.headers.update(retry)
    return answer


@get("/confirm", permission=Core.SESSION_USE)
async def confirm_dialog(request: Req, ctx: Context) -> Response[Any]:
    """The dialog, or 204 when no confirmation is needed now."""
    return await _dialog(request, ctx, "/confirm")


@post("/confirm", permission=Core.SESSION_USE)
async def confirm(request: Req, ctx: Context, form: Form) -> Response[Any]:
    return await _confirm(request, ctx, "/confirm")


@get("/portal/{clinic:str}/confirm", permission=Core.PORTAL_USE, audience="portal")
async def portal_confirm_dialog(request: Req, ctx: Context, clinic: str) -> Response[Any]:
    return await _dialog(request, ctx, f"/portal/{clinic}/confirm")


@post("/portal/{clinic:str}/confirm", permission=Core.PORTAL_USE, audience="portal")
async def portal_confirm(request: Req, ctx: Context, clinic: str, form: Form) -> Response[Any]:
    return await _confirm(request, ctx, f"/portal/{clinic}/confirm")


CONFIRM_ROUTES = (confirm_dialog, confirm, portal_confirm_dialog, portal_confirm)
