"""Rendering: full pages with their furniture, fragments for htmx, redirects that htmx follows too.

Everything is rendered while the transaction is open, so that a template that fails leaves nothing half-done; templates
get values and never run queries.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from litestar import MediaType, Response
from litestar.datastructures import Cookie

from qanun.context import Context
from qanun.contracts import View
from qanun.registry import Contributed, Failure
from qanun.web.furniture import PageScript, SlotContent, visible_nav
from qanun.web.security import media_headers
from qanun.web.templating import render, static

_FAILED = "core/parts/failed_contribution.html"


def page(
    ctx: Context, template: str, *, status: int = 200, media: bool = False, headers: Mapping[str, str] | None = None,
    **values: Any,
) -> Response[str]:  # fmt: skip
    """A full page. `media=True` for a page that holds a call or a recording: camera and media are allowed there alone."""
    html = render(template, ctx.locale, **furniture(ctx), **values)
    extra = {**(media_headers() if media else {}), **(headers or {})}
    return Response(html, status_code=status, media_type=MediaType.HTML, headers=extra)


def fragment(
    ctx: Context, template: str, *, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any
) -> Response[str]:
    """A part of a page for htmx: the same values, without the page's furniture queries."""
    html = render(template, ctx.locale, ctx=ctx, actor=ctx.actor, tenant=ctx.tenant, can=ctx.can, **values)
    return Response(html, status_code=status, media_type=MediaType.HTML, headers=dict(headers or {}))


def furniture(ctx: Context) -> dict[str, Any]:
    """What every page's shell needs: navigation, who and where."""
    path = ctx.web.path if ctx.web else ""
    nav = [
        {
            "label": item.label,
            "icon": item.icon,
            "href": item.href,
            "key": item.key,
            "current": _is_current(item.href, path),
        }
        for item in visible_nav(ctx)
    ]
    everywhere = ctx.registry.all(PageScript, enabled=ctx.enabled)
    scripts = [static(item.src) for item in everywhere if ctx.can(item.permission)]
    return {
        "ctx": ctx, "actor": ctx.actor, "tenant": ctx.tenant, "can": ctx.can, "nav": nav, "path": path,
        "page_scripts": scripts,
    }  # fmt: skip


def _is_current(href: str, path: str) -> bool:
    return path == href or path.startswith(href.rstrip("/") + "/")


def redirect(ctx: Context | None, to: str, *, cookies: list[Cookie] | None = None) -> Response[str]:
    """After a form: see the other page (303). htmx gets the header it needs to do the same."""
    if ctx is not None and ctx.web is not None and ctx.web.fragment:
        return Response("", status_code=200, media_type=MediaType.HTML, headers={"HX-Redirect": to}, cookies=cookies)
    return Response("", status_code=303, media_type=MediaType.HTML, headers={"Location": to}, cookies=cookies)


def json_response(value: Any, *, status: int = 200) -> Response[bytes]:
    return Response(msgspec.json.encode(value), status_code=status, media_type=MediaType.JSON)


async def render_slot(ctx: Context, slot: str, **params: Any) -> list[str]:
    """The HTML of every content of `slot` that this person may see, in order; a failed one becomes an error card.

    Contents run one after another: they share the context's one transaction.
    """
    parts = []
    for entry in ctx.registry.entries(SlotContent, enabled=ctx.enabled):
        if entry.item.slot == slot and ctx.can(entry.item.permission):
            html = await render_contribution(ctx, entry, entry.item.render, ctx, **params)
            if html:
                parts.append(html)
    return parts


async def render_contribution(ctx: Context, entry: Contributed, function: Any, *args: Any, **params: Any) -> str:
    """Call one contribution softly; a stranger's runs in a savepoint, so that its failed query spoils nothing else.

    Bundled plugins do without: their queries are tested with the image, and two round trips for each would be a third of
    what opening a chart costs.
    """

    async def isolated() -> str:
        if entry.plugin in ctx.registry.bundled:
            return shown(await function(*args, **params))
        async with ctx.db.begin_nested():
            return shown(await function(*args, **params))

    def shown(view: View | None) -> str:
        # Within the soft call: a template that fails costs its own place and not the page.
        if view is None:
            return ""
        return render(
            view.template, ctx.locale, ctx=ctx, actor=ctx.actor, tenant=ctx.tenant, can=ctx.can, **dict(view.values)
        )

    result = await ctx.registry.call_soft(entry, isolated)
    return render(_FAILED, ctx.locale, failure=result) if isinstance(result, Failure) else result
