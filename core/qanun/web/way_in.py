"""What every way in shares: the page of an entrance, the clinic of a path, and where somebody goes afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from litestar import MediaType, Request, Response
from sqlalchemy import select

from qanun.context import Context
from qanun.errors import NotFound
from qanun.i18n import locales
from qanun.identity.passkeys import place
from qanun.tenancy import Tenant, TenantInfo, lookup_session
from qanun.web import templating
from qanun.web.authorise import Connection, page_locale, public_context, runtime_of


def local_path(path: str, default: str) -> str:
    """A path of our own to go to after signing in; anything else becomes `default` (no open redirects)."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) and "\n" not in path else default


def passkey_origin(request: Request[Any, Any, Any]) -> str:
    """The one address that passkeys are made for here; empty where they do not work."""
    where = place(runtime_of(request).config.base_url)
    return where.origin if where else ""


def entrance(request: Request[Any, Any, Any], template: str, status: int = 200, **values: Any) -> Response[str]:
    """A page of somebody who is not signed in."""
    locale = page_locale(request, None, values.get("tenant"))
    values = {
        "tenant": None, "actor": None, "nav": [], "path": request.url.path, "origin": passkey_origin(request), **values,
    }  # fmt: skip
    values["languages"] = locales()
    return Response(templating.render(template, locale, **values), status_code=status, media_type=MediaType.HTML)


async def clinic_by_slug(request: Connection, slug: str) -> TenantInfo:
    """Raises NotFound for an unknown or closed clinic."""
    async with lookup_session(runtime_of(request).database) as session:
        found = await session.execute(select(Tenant).where(Tenant.slug == slug, Tenant.active))
        tenant = found.scalar_one_or_none()
    if tenant is None:
        raise NotFound("clinic")
    return TenantInfo.of(tenant)


@asynccontextmanager
async def clinic_context(request: Connection, slug: str) -> AsyncIterator[Context]:
    """One transaction in the clinic of a path, as the system: for public routes that know their caller by a token of theirs.
    They must compare it before they do anything. Raises NotFound for an unknown or closed clinic."""
    async with public_context(request, await clinic_by_slug(request, slug)) as ctx:
        yield ctx
