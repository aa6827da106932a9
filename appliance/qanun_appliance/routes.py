"""The administrator's pages: how the machine is, its backups, its releases. They show reports; root does what is asked."""

from __future__ import annotations

from typing import Any

from litestar import Controller, Response

from qanun.api import N_, AuditEventType, Context, Form, Invalid, get, page, post, redirect
from qanun_appliance import views
from qanun_appliance.permissions import Appliance

AUDIT_EVENTS = (
    AuditEventType(id="appliance.wish.make", label=N_("Asked the machine for a check or a backup"), action="execute"),
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
    async def updates(self, ctx: Context) -> Response[str]:
        """What runs, what is staged, and why a release was left."""
        return page(ctx, "appliance/updates.html", updates=views.updates(ctx), now=ctx.now)

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
