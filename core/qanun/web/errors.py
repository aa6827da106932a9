"""Errors as answers: a page for people, a fragment for htmx, JSON for programs — never a stack, never a name.

What was typed is kept by the page that sent it: a 422 or 409 is rendered by the route itself with the form; what
arrives here had no form, or came from deeper down.
"""

from __future__ import annotations

import secrets
from typing import Any

import psycopg
import structlog
from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from qanun.errors import ConfirmationNeeded, Forbidden, QanunError, RecordClosed, TooMany, Unauthenticated, Unavailable
from qanun.i18n import resolve
from qanun.web.authorise import ChooseClinic, page_locale
from qanun.web.closed_records import closed_page
from qanun.web.confirm import ask
from qanun.web.templating import render

log = structlog.get_logger("qanun.web")

_TEMPLATES = {403: "403", 404: "404", 409: "409", 422: "422", 429: "429", 503: "503"}


def _wants_json(request: Request[Any, Any, Any]) -> bool:
    accept = request.headers.get("accept", "")
    return "application/json" in accept or request.headers.get("x-qanun-json") == "1"


def _answer(
    request: Request[Any, Any, Any], status: int, code: str, *, headers: dict[str, str] | None = None,
    fields: dict[str, object] | None = None, reference: str = "",
) -> Response[Any]:  # fmt: skip
    locale = page_locale(request)
    if _wants_json(request):
        body: dict[str, Any] = {"error": code}
        if fields:
            body["fields"] = {name: resolve(text, locale) for name, text in fields.items()}
        if reference:
            body["reference"] = reference
        return Response(body, status_code=status, media_type=MediaType.JSON, headers=headers or {})
    is_fragment = request.headers.get("hx-request") == "true"
    template = f"core/errors/{_TEMPLATES.get(status, '500')}.html"
    html = render(
        template, locale, code=code, status=status, reference=reference, fields=fields or {}, fragment=is_fragment,
        tenant=None, actor=None, nav=[], path=request.url.path,
    )  # fmt: skip
    return Response(html, status_code=status, media_type=MediaType.HTML, headers=headers or {})


def _sign_in(request: Request[Any, Any, Any], error: Unauthenticated) -> Response[Any]:
    """Lead to the right sign-in page; a page that only asks for a part is told, and keeps what was typed."""
    kind = str(error.message)
    path = request.url.path
    if kind == "portal":
        parts = path.strip("/").split("/")
        target = f"/portal/{parts[1]}/sign-in" if len(parts) > 1 and parts[0] == "portal" else "/portal"
    elif kind == "guest":
        parts = path.strip("/").split("/")
        target = f"/guest/{parts[1]}" if len(parts) > 1 else "/sign-in"
    else:
        target = "/sign-in"
    if request.method == "GET" and kind != "guest" and path not in {"/", "/sign-in"}:
        target += f"?next={path}"
    if request.headers.get("hx-request") == "true" or _wants_json(request):
        return Response(
            {"error": "unauthenticated", "sign_in": target}, status_code=401, media_type=MediaType.JSON,
            headers={"X-Qanun-Sign-In": target},
        )  # fmt: skip
    return Response("", status_code=303, headers={"Location": target}, media_type=MediaType.HTML)


def _expected(request: Request[Any, Any, Any], error: QanunError) -> Response[Any]:
    if isinstance(error, Unauthenticated):
        return _sign_in(request, error)
    if isinstance(error, ConfirmationNeeded):
        return ask(request)
    if isinstance(error, RecordClosed) and not _wants_json(request) and request.headers.get("hx-request") != "true":
        return closed_page(request, error)
    if isinstance(error, ChooseClinic):
        return Response("", status_code=303, headers={"Location": "/clinics"}, media_type=MediaType.HTML)
    headers = {"Retry-After": str(error.retry_after)} if isinstance(error, TooMany) else {}
    if error.status >= 500 and not isinstance(error, Unavailable):
        return _unexpected(request, error)
    if isinstance(error, Forbidden):
        log.info("refused", path=request.url.path, code=error.code)
    return _answer(request, error.status, error.code, headers=headers, fields=getattr(error, "fields", None))


def _http(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    status = error.status_code
    if status == 400:
        status = 422  # Litestar's word for a body or a parameter of the wrong shape
    if status in {404, 405}:
        return _answer(request, 404, "not-found")
    if status == 413:
        return _answer(request, 422, "too-large")
    if status >= 500:
        return _unexpected(request, error)
    return _answer(request, status, "invalid" if status == 422 else "refused")


def _database(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    if isinstance(error, DBAPIError) and not is_outage(error):
        if isinstance(error, IntegrityError):
            log.warning("constraint_refused", path=request.url.path)
            return _answer(request, 409, "conflict")
        return _unexpected(request, error)
    log.warning("records_unavailable", error=type(error).__name__)
    return _answer(request, 503, "records-unavailable", headers={"Retry-After": "5"})


def is_outage(error: BaseException) -> bool:
    """Whether the database itself is gone, refusing or too busy, rather than one statement being wrong."""
    if isinstance(error, PoolTimeout | ConnectionError | psycopg.errors.CannotConnectNow):
        return True
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return True
        original = error.orig
        state = getattr(original, "sqlstate", None)
        if state is None:
            return isinstance(error, OperationalError | InterfaceError)
        # Also 57014: a statement that ran into its time-out. The machine is too busy, and "try again in a moment" is true.
        return str(state)[:2] in {"08", "57", "53"}
    return isinstance(error, psycopg.OperationalError)


def _unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    if is_outage(error):
        return _database(request, error)
    reference = secrets.token_hex(4)
    log.error("unexpected", path_template=request.scope.get("path_template", ""), reference=reference, exc_info=error)
    return _answer(request, 500, "unexpected", reference=reference)


EXCEPTION_HANDLERS: dict[int | type[Exception], Any] = {
    QanunError: _expected,
    HTTPException: _http,
    DBAPIError: _database,
    PoolTimeout: _database,
    psycopg.Error: _database,
    Exception: _unexpected,
}
