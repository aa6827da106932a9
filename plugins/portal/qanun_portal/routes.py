"""The patient's own pages: home, visits, who opened the record, and the person's own settings."""

from __future__ import annotations

from uuid import UUID

from litestar import Controller, Response

from qanun.api import Context, get, locales, page, render_slot
from qanun_portal.permissions import Portal
from qanun_portal.views import (
    HOME,
    MORE,
    coming_visits,
    greeting_name,
    one_visit,
    own_patient,
    past_visits,
    stays,
    who_opened,
    without_own_card,
)


class PortalController(Controller):
    path = "/portal/{clinic:str}"

    @get("/", permission=Portal.HOME_READ, audience="portal")
    async def home(self, ctx: Context, clinic: str) -> Response[str]:
        """What comes next, what was, and who looked."""
        patient = await own_patient(ctx)
        cards = await render_slot(ctx, HOME, patient_id=patient.id)
        more = await render_slot(ctx, MORE, patient_id=patient.id)
        coming = without_own_card(ctx, await coming_visits(ctx), cards)
        opened = await who_opened(ctx, 60)
        return page(
            ctx, "portal/home.html", name=greeting_name(patient, ctx.locale.code), cards=cards, more=more,
            coming=coming, past=(await past_visits(ctx))[:3], opened=opened[:1], now=ctx.now,
            current="home",
        )  # fmt: skip

    @get("/visits", permission=Portal.HOME_READ, audience="portal")
    async def visits(self, ctx: Context, clinic: str) -> Response[str]:
        coming, past = await coming_visits(ctx), await past_visits(ctx)
        return page(ctx, "portal/visits.html", coming=coming, past=past, current="visits")

    @get("/encounters/{encounter_id:uuid}", permission=Portal.HOME_READ, audience="portal")
    async def encounter(self, ctx: Context, clinic: str, encounter_id: UUID) -> Response[str]:
        visit, resource = await one_visit(ctx, encounter_id)
        return page(ctx, "portal/visit.html", visit=visit, stays=stays(resource), current="visits")

    @get("/record", permission=Portal.ACCESS_READ, audience="portal")
    async def record(self, ctx: Context, clinic: str) -> Response[str]:
        """Who opened my record."""
        return page(ctx, "portal/record.html", entries=await who_opened(ctx), current="record")

    @get("/me", permission=Portal.HOME_READ, audience="portal")
    async def me(self, ctx: Context, clinic: str) -> Response[str]:
        return page(ctx, "portal/me.html", patient=await own_patient(ctx), languages=locales(), current="me")
