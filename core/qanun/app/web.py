"""Building the Litestar application out of core's and the plugins' routes. Default deny is checked here, before it starts."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import structlog
from litestar import Litestar, Router
from litestar.config.response_cache import ResponseCacheConfig
from litestar.datastructures import State
from litestar.di import Provide
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException, LitestarDeprecationWarning, WebSocketException
from litestar.handlers import BaseRouteHandler
from litestar.types import Scope

from qanun.app.build import Assembly
from qanun.app.lifespan import Lifespan
from qanun.errors import QanunError
from qanun.web.authorise import authorise, provide_ctx, provide_open_context
from qanun.web.closed_records import CLOSED_ROUTES
from qanun.web.confirm import CONFIRM_ROUTES
from qanun.web.core_routes import CORE_ROUTES
from qanun.web.errors import EXCEPTION_HANDLERS
from qanun.web.forms import provide_form
from qanun.web.passkeys import PASSKEY_ROUTES
from qanun.web.people import PEOPLE_ROUTES
from qanun.web.routing import check_routes
from qanun.web.security import SecurityHeaders

BODY_LIMIT = 20 * 1024 * 1024

log = structlog.get_logger("qanun.app")


# Handlers name their dependencies and parameters by plain argument names, Litestar 2's documented way; the notice that
# version 3 will want markers would fill every start with hundreds of lines.
warnings.filterwarnings("ignore", category=LitestarDeprecationWarning)


def web_application(assembly: Assembly) -> Litestar:
    """The ASGI application. Raises ConfigurationError when a route declares no permission."""
    routers: list[Any] = [
        Router(
            "/",
            route_handlers=[*CORE_ROUTES, *CONFIRM_ROUTES, *PASSKEY_ROUTES, *PEOPLE_ROUTES, *CLOSED_ROUTES],
            opt={"plugin": "core"},
        )
    ]
    for slug, handler in assembly.plugins.routes:
        routers.append(Router("/", route_handlers=[handler], opt={"plugin": slug}))
    application = Litestar(
        route_handlers=routers,
        guards=[authorise],
        dependencies={
            "ctx": Provide(provide_ctx),
            "open_context": Provide(provide_open_context, sync_to_thread=False),
            "form": Provide(provide_form),
        },
        middleware=[SecurityHeaders],
        exception_handlers=EXCEPTION_HANDLERS,
        after_exception=[_note_failed_socket],
        state=State({"runtime": assembly.runtime, "plugins": assembly.plugins}),
        lifespan=[_lifespan(assembly)],
        openapi_config=None,
        request_max_body_size=BODY_LIMIT,
        response_cache_config=ResponseCacheConfig(default_expiration=None),
        debug=False,
        logging_config=None,
    )
    check_routes(all_routes(application))
    return application


async def _note_failed_socket(error: Exception, scope: Scope) -> None:
    """A socket's failure reaches no error page: what nobody expected is written down here."""
    if scope["type"] == ScopeType.WEBSOCKET and not isinstance(error, QanunError | HTTPException | WebSocketException):
        log.error("socket_failed", path_template=scope.get("path_template", ""), exc_info=error)


def all_routes(application: Litestar) -> list[tuple[str, BaseRouteHandler]]:
    """Every route of the application with its handler, once each."""
    found: dict[tuple[str, int], BaseRouteHandler] = {}
    for route in application.routes:
        handlers: Any = getattr(route, "route_handlers", None) or [getattr(route, "route_handler", None)]
        for handler in handlers:
            if getattr(handler, "http_methods", None) == {"OPTIONS"}:
                continue
            found[(route.path, id(handler))] = handler
    return [(path, handler) for (path, _), handler in found.items()]


def _lifespan(assembly: Assembly) -> Any:
    @asynccontextmanager
    async def lifespan(application: Litestar) -> AsyncIterator[None]:
        runtime = assembly.runtime
        async with AsyncExitStack() as stack:
            runtime.live.start()
            stack.push_async_callback(runtime.database.close)
            stack.push_async_callback(runtime.live.close)
            for item in assembly.registry.all(Lifespan):
                runtime.services[item.id] = await stack.enter_async_context(item.open(runtime))
            log.info("started", plugins=sorted(assembly.plugins.slugs))
            yield

    return lifespan
