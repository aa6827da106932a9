"""The administrator's pages: how the machine is, its backups, its releases. They show reports; root does what is asked."""

from __future__ import annotations

from typing import Any

from litestar import Controller, Request, Response

from qanun.api import (
    N_,
    AuditEventType,
    Conflict,
    Context,
    Form,
    Invalid,
    fragment,
    get,
    json_response,
    page,
    post,
    redirect,
)
from qanun_appliance import incoming, views
from qanun_appliance.permissions import Appliance

AUDIT_EVENTS = (
    AuditEventType(id="appliance.wish.make", label=N_("Asked the machine for a check or a backup"), action="execute"),
    AuditEventType(id="appliance.release.send", label=N_("Sent a release to the machine"), action="create"),
    AuditEventType(
        id="appliance.release.stage", label=N_("Had a release checked and put beside what runs"), action="execute"
    ),
    AuditEventType(
        id="appliance.release.plan", label=N_("Planned the start of a release, or took it back"), action="execute"
    ),
    AuditEventType(id="appliance.release.leave", label=N_("Went back to the release before"), action="execute"),
)


class ApplianceController(Controller):
    path = "/appliance"

    @get("/health", permission=Appliance.HEALTH_READ)
    async def health(self, ctx: Context) -> Response[str]:
        """What the doctor found, the mend beside each finding."""
        return page(ctx, "appliance/health.html", health=views.health(ctx), can_wish=views.can_wish(), now=ctx.now)

    @get("/backups", permission=Appliance.HEALTH_READ)
    async def backups(self, ctx: Context, asked: bool = False) -> Response[str]:
        """The state of the backups: last, proven, age, space."""
        return page(
            ctx,
            "appliance/backups.html",
            backups=views.backups(ctx),
            can_wish=views.can_wish(),
            now=ctx.now,
            asked=asked,
        )

    @get("/updates", permission=Appliance.HEALTH_READ)
    async def updates(self, ctx: Context, asked: str = "") -> Response[str]:
        """What runs, what is staged, and why a release was left."""
        return page(
            ctx,
            "appliance/updates.html",
            updates=views.updates(ctx),
            now=ctx.now,
            can_wish=views.can_wish(),
            asked=asked,
        )

    @get("/updates/state", permission=Appliance.HEALTH_READ, live=True)
    async def update_state(self, ctx: Context) -> Response[str]:
        """How far the staging is, for a page that stays open."""
        return fragment(ctx, "appliance/parts/staging.html", updates=views.updates(ctx))

    @post("/updates/pieces", permission=Appliance.RELEASE_MANAGE, request_max_body_size=incoming.PIECE + 1024)
    async def piece(self, ctx: Context, request: Request[Any, Any, Any], offset: int, size: int) -> Response[bytes]:
        """The next piece of a release's file; after a broken line the answer says where to go on."""
        state = ctx.runtime.config.state_dir
        try:
            whole = await incoming.take(state, offset, size, request.stream())
        except Conflict:
            return json_response({"received": incoming.received(state)}, status=409)
        if whole:
            ctx.audit("appliance.release.send", detail={"bytes": size})
        return json_response({"received": size if whole else incoming.received(state), "whole": whole})

    @post("/updates/stage", permission=Appliance.RELEASE_MANAGE, fresh=True)
    async def stage(self, ctx: Context) -> Response[str]:
        """Root proves the file that came in, takes a backup, and writes it into the spare slot. Nothing stops."""
        if not views.can_wish() or not incoming.is_whole(ctx.runtime.config.state_dir):
            raise Invalid({"file": N_("No release has been sent to this machine.")})
        views.make_wish("stage")
        ctx.audit("appliance.release.stage")
        return redirect(ctx, "/appliance/updates?asked=stage")

    @post("/updates/plan", permission=Appliance.RELEASE_MANAGE, fresh=True)
    async def plan(self, ctx: Context, form: Form) -> Response[str]:
        """The minute in which the machine starts into what is staged; empty is now, `never` takes a plan back."""
        if not views.can_wish():
            raise Invalid({"minute": N_("This machine does not offer that.")})
        moment = views.minute_of(ctx, form.text("minute"), stay=form.text("do") == "stay")
        views.make_wish("restart", moment)
        ctx.audit("appliance.release.plan", detail={"moment": moment})
        return redirect(ctx, "/appliance/updates?asked=plan")

    @post("/updates/back", permission=Appliance.RELEASE_MANAGE, fresh=True)
    async def back(self, ctx: Context) -> Response[str]:
        """To the release in the other slot; the clinic is away for about two minutes, data stays."""
        if not views.can_wish() or not views.updates(ctx)["other"]:
            raise Invalid({"file": N_("There is no release to go back to.")})
        views.make_wish("rollback")
        ctx.audit("appliance.release.leave")
        return redirect(ctx, "/appliance/updates?asked=back")

    @post("/wishes", permission=Appliance.WISH_MAKE)
    async def wish(self, ctx: Context, form: Form) -> Response[str]:
        """Ask for a check or a backup now; it begins within a second, and the page shows its outcome."""
        name = form.text("what")
        if name not in views.WISHES or not views.can_wish():
            raise Invalid({"what": N_("This machine does not offer that.")})
        views.make_wish(name)
        ctx.audit("appliance.wish.make", detail={"what": name})
        return redirect(ctx, "/appliance/health" if name == "doctor" else "/appliance/backups?asked=true")


ROUTES: tuple[Any, ...] = (ApplianceController,)
