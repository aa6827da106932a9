"""Groups: planned, filled with patients, begun and ended; the page from which a group's call is led."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import structlog
from litestar import Controller, Response

from qanun.api import (
    N_,
    Conflict,
    Context,
    Form,
    Invalid,
    NotFound,
    OpenContext,
    Unavailable,
    fragment,
    get,
    page,
    post,
    redirect,
    to_ascii_digits,
)
from qanun_telemedicine import service
from qanun_telemedicine.media import media_of
from qanun_telemedicine.models import SCHEDULED, WAITING, Consultation
from qanun_telemedicine.permissions import Telemedicine
from qanun_telemedicine.service import together
from qanun_telemedicine.sfu.client import MediaError
from qanun_telemedicine.views import group_view, members_view, new_group_view

log = structlog.get_logger("qanun.telemedicine")

_FIELDS = ("title", "practitioner", "date", "time", "minutes")


async def _group(ctx: Context, group_id: UUID, *, lock: bool = False) -> Consultation:
    call = await service.call_of(ctx, group_id, lock=lock)
    if call.patient_id is not None:
        raise NotFound("group")
    return call


def _moment(ctx: Context, date: str, time: str) -> datetime | None:
    """In the clinic's zone; None for what is no day and time."""
    try:
        return datetime.fromisoformat(f"{to_ascii_digits(date)}T{to_ascii_digits(time)}").replace(
            tzinfo=ctx.tenant.zone
        )
    except ValueError:
        return None


class GroupsController(Controller):
    path = "/telemedicine/groups"

    @get("/new", permission=Telemedicine.CONSULTATION_INVITE)
    async def new(self, ctx: Context) -> Response[str]:
        return page(ctx, "telemedicine/new_group.html", **await new_group_view(ctx))

    @post("/", permission=Telemedicine.CONSULTATION_INVITE)
    async def arrange(self, ctx: Context, form: Form) -> Response[str]:
        kept = {name: form.text(name) for name in _FIELDS}
        minutes = to_ascii_digits(kept["minutes"])
        try:
            leader = form.uuid("practitioner") if kept["practitioner"] else None
            call = await together.arrange(
                ctx, kept["title"], leader, _moment(ctx, kept["date"], kept["time"]),
                int(minutes) if minutes.isdigit() and len(minutes) < 4 else 0,
            )  # fmt: skip
        except Invalid as error:
            view = await new_group_view(ctx, values=kept, errors=error.fields)
            return page(ctx, "telemedicine/new_group.html", status=422, **view)
        return redirect(ctx, f"/telemedicine/groups/{call.id}")

    @get("/{group_id:uuid}", permission=Telemedicine.CONSULTATION_READ)
    async def shown(self, ctx: Context, group_id: UUID, q: str = "") -> Response[str]:
        call = await _group(ctx, group_id)
        ctx.audit("telemedicine.group.read", entity=service.reference(call))
        return page(ctx, "telemedicine/group.html", media=True, **await group_view(ctx, call, query=q[:80]))

    @get("/{group_id:uuid}/members", permission=Telemedicine.CONSULTATION_READ, live=True)
    async def members(self, ctx: Context, group_id: UUID) -> Response[str]:
        """The list of who comes, refreshed by a live notice."""
        return fragment(
            ctx, "telemedicine/parts/members.html", **await members_view(ctx, await _group(ctx, group_id))
        )  # fmt: skip

    @get("/{group_id:uuid}/lobby", permission=Telemedicine.CONSULTATION_READ, live=True)
    async def lobby(self, ctx: Context, group_id: UUID) -> Response[str]:
        """The part of the docked call that changes with its state."""
        return fragment(
            ctx, "telemedicine/parts/group_lobby.html", **await members_view(ctx, await _group(ctx, group_id))
        )  # fmt: skip

    @post("/{group_id:uuid}/patients", permission=Telemedicine.CONSULTATION_INVITE)
    async def add(self, ctx: Context, group_id: UUID, form: Form) -> Response[str]:
        call = await _group(ctx, group_id, lock=True)
        try:
            await together.add(ctx, call, form.uuid("patient"))
        except Invalid as error:
            view = await group_view(ctx, call, query=form.text("q"), errors=error.fields)
            return page(ctx, "telemedicine/group.html", media=True, status=422, **view)
        return redirect(ctx, f"/telemedicine/groups/{call.id}")

    @post("/{group_id:uuid}/patients/{consultation_id:uuid}/remove", permission=Telemedicine.CONSULTATION_INVITE)
    async def remove(self, ctx: Context, group_id: UUID, consultation_id: UUID) -> Response[str]:
        """Who has not been let in does not come after all."""
        row = await service.consultation(ctx, consultation_id, lock=True)
        if row.group_id != group_id:
            raise NotFound("consultation")
        if row.state in (SCHEDULED, WAITING):
            await service.cancel(ctx, row)
        return redirect(ctx, f"/telemedicine/groups/{group_id}")

    @post("/{group_id:uuid}/begin", permission=Telemedicine.CONSULTATION_HOLD)
    async def begin(self, ctx: Context, group_id: UUID) -> Response[str]:
        call = await _group(ctx, group_id, lock=True)
        try:
            await together.begin(ctx, call)
        except Conflict:
            view = await group_view(ctx, call, errors={"patient": N_("This group is over.")})
            return page(ctx, "telemedicine/group.html", media=True, status=409, **view)
        return redirect(ctx, f"/telemedicine/groups/{group_id}")

    @post("/{group_id:uuid}/cancel", permission=Telemedicine.CONSULTATION_INVITE)
    async def cancel(self, ctx: Context, group_id: UUID) -> Response[str]:
        """It does not take place; once it runs, only whoever leads it ends it."""
        await together.members_of(ctx, await _group(ctx, group_id), lock=True)
        call = await _group(ctx, group_id, lock=True)
        try:
            await together.call_off(ctx, call)
        except Conflict:
            view = await group_view(ctx, call, errors={"patient": N_("This group has begun.")})
            return page(ctx, "telemedicine/group.html", media=True, status=409, **view)
        return redirect(ctx, f"/telemedicine/groups/{group_id}")

    @post("/{group_id:uuid}/end", permission=Telemedicine.CONSULTATION_HOLD)
    async def end(self, open_context: OpenContext, group_id: UUID) -> Response[str]:
        """End for everybody: each visit ends in its own record, then the room closes."""
        async with open_context() as ctx:
            await together.members_of(ctx, await _group(ctx, group_id), lock=True)
            call = await _group(ctx, group_id, lock=True)
            await together.end(ctx, call)
            room, runtime = call.room, ctx.runtime
        try:
            await media_of(runtime).client.close_room(room)
        except (MediaError, Unavailable) as error:
            log.warning("room_not_closed", code=error.code)
        return redirect(None, f"/telemedicine/groups/{group_id}")
