"""Headers on every answer, the session cookies, and the check that a changing request came from our own pages."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import Cookie, MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from qanun.errors import Forbidden

COOKIES = {"staff": "qanun_staff", "portal": "qanun_portal", "guest": "qanun_guest"}
#: A choice of language before signing in, by door: reception's own screen is not to follow a patient who signs in on it.
LANGUAGE_COOKIES = {"staff": "qanun_language", "portal": "qanun_portal_language", "guest": "qanun_guest_language"}

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; manifest-src 'self'"
)
CONTENT_POLICY = _POLICY
# Pages that hold a call or a recording; nothing else may show media or ask for the camera.
MEDIA_POLICY = _POLICY + "; media-src 'self' blob:"

_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
}
_SAFE = {"GET", "HEAD", "OPTIONS"}


class SecurityHeaders:
    """ASGI middleware: pages are never stored, policies are always sent. A handler may set its own policy first."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self.app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableScopeHeaders.from_message(message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("content-security-policy", CONTENT_POLICY)
                headers.setdefault("cache-control", "no-store")
                if "permissions-policy" not in headers:
                    headers["permissions-policy"] = "camera=(), microphone=(), geolocation=(), display-capture=()"
            await send(message)

        await self.app(scope, receive, sending)


def media_headers() -> dict[str, str]:
    """For the pages that hold a call: camera and microphone, and media from our own origin."""
    return {
        "content-security-policy": MEDIA_POLICY,
        "permissions-policy": "camera=(self), microphone=(self), display-capture=(self), geolocation=()",
    }


def refuse_foreign_origin(connection: ASGIConnection[Any, Any, Any, Any]) -> None:
    """Cross-site request forgery: a changing request, and every WebSocket, must come from our own origin.

    Browsers send `Origin` with both. Raises Forbidden when it is missing or another's.
    """
    is_socket = connection.scope["type"] == ScopeType.WEBSOCKET
    if not is_socket and isinstance(connection, Request) and connection.method in _SAFE:
        return
    if not is_socket and connection.scope.get("method") in _SAFE:
        return
    origin = connection.headers.get("origin", "")
    host = connection.headers.get("host", "")
    if not origin or not host or urlsplit(origin).netloc.lower() != host.lower():
        raise Forbidden("this request did not come from one of our pages", code="foreign-origin")


def session_cookie(kind: str, token: str, *, secure: bool) -> Cookie:
    """A browser-session cookie. `Lax`: the link in an invitation must find the patient signed in."""
    return Cookie(key=COOKIES[kind], value=token, path="/", httponly=True, secure=secure, samesite="lax")


def door_of(path: str) -> str:
    """Whose page a path is: `staff`, `portal` or `guest`."""
    first = path.strip("/").split("/", 1)[0]
    return first if first in {"portal", "guest"} else "staff"


def client_address(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    client = connection.client
    return client.host if client else ""
