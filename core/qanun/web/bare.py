"""An application without clinic, database or sign-in, for what must be seen before there are any: same headers, same styles,
same error pages, same refusal of foreign forms. Who may see its pages is its own guards' business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from litestar import Litestar, MediaType, Request, Response
from litestar.connection import ASGIConnection
from litestar.datastructures import Cookie
from litestar.di import Provide
from litestar.handlers import BaseRouteHandler

from qanun.errors import NotFound
from qanun.i18n import Locale, locales
from qanun.web import templating
from qanun.web.authorise import page_locale
from qanun.web.errors import EXCEPTION_HANDLERS
from qanun.web.forms import Form, provide_form
from qanun.web.pages import redirect
from qanun.web.routing import get, post
from qanun.web.security import LANGUAGE_COOKIES, SecurityHeaders, refuse_foreign_origin

Req = Request[Any, Any, Any]
_BODY_LIMIT = 1024 * 1024


@get("/static/{slug:str}/{digest:str}/{file:path}", public="styles, scripts and fonts, the same for everybody")
async def _static_file(request: Req, slug: str, digest: str, file: str) -> Response[bytes]:
    found = templating.static_file(slug, digest, str(file).lstrip("/"), request.headers.get("accept-encoding", ""))
    if found is None:
        raise NotFound("file")
    return Response(found.content, media_type=found.content_type, headers=dict(found.headers))


@post("/language", public="the language of the page")
async def _choose_language(form: Form) -> Response[str]:
    code, back = form.text("language"), form.text("back")
    if code not in {locale.code for locale in locales()}:
        raise NotFound("language")
    cookie = Cookie(
        key=LANGUAGE_COOKIES["staff"], value=code, path="/", max_age=31_536_000, httponly=True, samesite="lax"
    )
    local = back.startswith("/") and not back.startswith(("//", "/\\")) and back.isprintable()
    return redirect(None, back if local else "/", cookies=[cookie])


async def _own_forms_only(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    refuse_foreign_origin(connection)


def reader_locale(request: Req) -> Locale:
    """The language chosen on this page before, else what the browser prefers."""
    return page_locale(request)


def bare_page(
    request: Req, template: str, *, status: int = 200, locale: Locale | None = None, headers: dict[str, str] | None = None,
    cookies: Sequence[Cookie] = (), **values: Any,
) -> Response[str]:  # fmt: skip
    """A page of a bare application; `locale` where the application knows better than the browser."""
    usual: dict[str, Any] = {"tenant": None, "actor": None, "nav": [], "path": request.url.path, "languages": locales()}
    html = templating.render(template, locale or reader_locale(request), **{**usual, **values})
    return Response(html, status_code=status, media_type=MediaType.HTML, headers=headers, cookies=list(cookies))


def bare_application(
    handlers: Sequence[Any], *, guards: Sequence[Any] = (), lifespan: Sequence[Callable[..., Any]] = ()
) -> Litestar:
    """Handlers are made with this room's `get` and `post`, each with its reason for being public."""
    return Litestar(
        route_handlers=[_static_file, _choose_language, *handlers], guards=[_own_forms_only, *guards],
        dependencies={"form": Provide(provide_form)}, middleware=[SecurityHeaders], exception_handlers=EXCEPTION_HANDLERS,
        lifespan=list(lifespan), openapi_config=None, request_max_body_size=_BODY_LIMIT, debug=False, logging_config=None,
    )  # fmt: skip
