"""Pages of closed records: the closed door with the glass beside it, and what the privacy officer closes and reviews."""

from __future__ import annotations

import uuid
from typing import Any

from litestar import MediaType, Request, Response

from qanun.access import Core, closed, people
from qanun.context import Context
from qanun.errors import Conflict, Forbidden, Invalid, RecordClosed
from qanun.i18n import N_
from qanun.web.authorise import page_locale, runtime_of, staff_actor
from qanun.web.forms import Form
from qanun.web.furniture import NavItem, PageScript
from qanun.web.pages import page, redirect
from qanun.web.routing import get, post
from qanun.web.templating import render
from qanun.web.way_in import local_path

Req = Request[Any, Any, Any]
# A patient is called `record` in these addresses: `patient_id` in one means a page of the record itself, which is closed.

#: In the officer's rail, and on every page of theirs: a broken glass is told at once, wherever they are.
PRIVACY = (
    NavItem(id="core.privacy", label=N_("Privacy"), icon="shield-lock", href="/privacy", permission=Core.RECORD_GUARD,
            key="y", order=86),
    PageScript(id="core.glass", src="core/glass.js", permission=Core.RECORD_GUARD),
)  # fmt: skip


def closed_page(request: Req, error: RecordClosed) -> Response[str]:
    """Instead of a page of a closed record. Says nothing of whose it is; who may break the glass finds it here."""
    session: Any = request.scope.get("qanun_sessions", {}).get("staff")  # type: ignore[attr-defined]
    back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    may = session is not None and Core.GLASS_BREAK in staff_actor(runtime_of(request), session).permissions
    return _door(
        request, session, error.details.get("patient_id"), back if request.method == "GET" else "/", may, {}, {}, 403
    )


def _door(
    request: Req, session: Any, patient_id: object, back: str, may: bool, values: dict[str, str], errors: dict[str, object],
    status: int,
) -> Response[str]:  # fmt: skip
    html = render(
        "core/closed_record.html", page_locale(request, session, session.tenant if session else None),
        patient_id=patient_id, back=back, may=may, values=values, errors=errors, tenant=None, actor=None, nav=[],
        path=request.url.path, minutes=int(closed.GLASS_LIFE.total_seconds() // 60),
    )  # fmt: skip
    return Response(html, status_code=status, media_type=MediaType.HTML)


@post("/privacy/glass/{record:uuid}", permission=Core.GLASS_BREAK, fresh=True)
async def break_glass(request: Req, ctx: Context, record: uuid.UUID, form: Form) -> Response[str]:
    back = local_path(form.text("back"), "/")
    try:
        await closed.break_glass(ctx, record, form.text("reason"))
    except Invalid as error:
        session: Any = request.scope.get("qanun_sessions", {}).get("staff")  # type: ignore[attr-defined]
        values = {"reason": form.text("reason")}
        return _door(request, session, record, back, True, values, error.fields, 422)
    except Conflict:
        pass  # open meanwhile: that is what they wanted
    return redirect(ctx, back)


async def _privacy(
    ctx: Context, *, status: int = 200, values: Any = None, errors: Any = None, chosen: Any = ()
) -> Response[str]:
    return page(
        ctx, "core/privacy.html", status=status, broken=await closed.broken_glasses(ctx), records=await closed.closed_records(ctx),
        people=await people.people(ctx), values=values or {}, errors=errors or {}, chosen=chosen, now=ctx.now, limit=closed.LIMIT,
    )  # fmt: skip


@get("/privacy", permission=Core.RECORD_GUARD)
async def privacy(ctx: Context) -> Response[str]:
    ctx.audit("core.audit.read")
    return await _privacy(ctx)


@post("/privacy/closed", permission=Core.RECORD_GUARD, fresh=True)
async def close(ctx: Context, form: Form) -> Response[str]:
    values = {"mrn": form.text("mrn"), "reason": form.text("reason")}
    chosen = form.all("people")
    try:
        await closed.close_record(ctx, values["mrn"], values["reason"], [uuid.UUID(one) for one in chosen])
    except ValueError:
        errors: dict[str, object] = {"people": N_("Choose one of the listed values.")}
        return await _privacy(ctx, status=422, values=values, errors=errors)
    except Invalid as error:
        return await _privacy(ctx, status=422, values=values, errors=error.fields, chosen=chosen)
    except Conflict:
        errors = {"mrn": N_("This record is closed already.")}
        return await _privacy(ctx, status=409, values=values, errors=errors, chosen=chosen)
    return redirect(ctx, "/privacy")


@post("/privacy/closed/{record:uuid}/open", permission=Core.RECORD_GUARD, fresh=True)
async def open_again(ctx: Context, record: uuid.UUID) -> Response[str]:
    await closed.open_record(ctx, record)
    return redirect(ctx, "/privacy")


@post("/privacy/glasses/{access_id:uuid}", permission=Core.RECORD_GUARD)
async def review(ctx: Context, access_id: uuid.UUID, form: Form) -> Response[str]:
    field = f"note-{access_id}"
    typed = {field: form.text("note"), f"verdict-{access_id}": form.text("verdict")}
    try:
        await closed.review(ctx, access_id, form.text("verdict"), form.text("note"))
    except Invalid as error:
        errors = dict.fromkeys([field], next(iter(error.fields.values())))
        return await _privacy(ctx, status=422, values=typed, errors=errors)
    except Forbidden:
        errors = {field: N_("Somebody else has to review what you opened yourself.")}
        return await _privacy(ctx, status=403, values=typed, errors=errors)
    return redirect(ctx, "/privacy")


CLOSED_ROUTES = (break_glass, privacy, close, open_again, review)
