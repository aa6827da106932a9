"""Route decorators that cannot be written without a permission, and the start-up check that none slipped past them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import litestar
from litestar.handlers import BaseRouteHandler

from qanun.errors import ConfigurationError

Audience = Literal["staff", "portal", "guest"]


def _options(
    permission: str | None, audience: Audience, public: str | None, live: bool, fresh: bool, bearer: bool
) -> dict[str, Any]:  # fmt: skip
    if (permission is None) == (public is None):
        raise ConfigurationError("a route needs either a permission or a reason for being public")
    if fresh and (permission is None or audience == "guest"):
        raise ConfigurationError("only staff and patients can confirm who they are")
    if bearer and public is None:
        raise ConfigurationError("a bearer's token stands in place of a session, not beside one")
    return {"permission": None if permission is None else str(permission), "audience": audience, "public": public,
            "live": live, "fresh": fresh, "bearer": bearer}  # fmt: skip


def _decorator(make: Callable[..., Any]) -> Callable[..., Any]:
    def decorate(
        path: str = "/", *, permission: str | None = None, audience: Audience = "staff", public: str | None = None,
        live: bool = False, fresh: bool = False, bearer: bool = False, **kwargs: Any,
    ) -> Any:  # fmt: skip
        """`permission` is needed by whoever calls; `audience` says which sign-in counts; `public` gives the reason why
        none is needed; `live` marks polling and streams, which never extend an idle session; `fresh` is for grave acts:
        who signed in longer than five minutes ago is asked to confirm who they are, and then what they sent goes on;
        `bearer` is for public routes of things that show a token and have no cookie: what no cookie opens, another site's
        page cannot forge, so it may come from anywhere."""
        if make is litestar.post:
            kwargs.setdefault("status_code", 200)
        return make(path, opt=_options(permission, audience, public, live, fresh, bearer), **kwargs)

    return decorate


get = _decorator(litestar.get)
post = _decorator(litestar.post)
put = _decorator(litestar.put)
patch = _decorator(litestar.patch)
delete = _decorator(litestar.delete)
websocket = _decorator(litestar.websocket)


def check_routes(handlers: Iterable[tuple[str, BaseRouteHandler]]) -> None:
    """Raises ConfigurationError for the first handler without a declared permission: such an application does not start."""
    for path, handler in handlers:
        if "permission" not in handler.opt or (handler.opt["permission"] is None and not handler.opt.get("public")):
            raise ConfigurationError(f"route {path} ({handler}) declares no permission")
