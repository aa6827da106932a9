"""How the clinic's calls go: live, for who helps when one does not, and as a report."""

from __future__ import annotations

from litestar import Controller, Response

from qanun.api import Context, fragment, get, page
from qanun_telemedicine.permissions import Telemedicine
from qanun_telemedicine.service import quality
from qanun_telemedicine.service.servers import servers

DAYS = (7, 30, 90)


class QualityController(Controller):
    path = "/telemedicine/quality"

    @get("/", permission=Telemedicine.QUALITY_READ)
    async def report(self, ctx: Context, days: int = 30) -> Response[str]:
        chosen = days if days in DAYS else 30
        return page(
            ctx, "telemedicine/quality.html", legs=await quality.live_legs(ctx), now=ctx.now, days=chosen, choices=DAYS,
            networks=await quality.by_network(ctx, chosen), fair=quality.FAIR, poor=quality.POOR,
            servers=await servers(ctx),
        )  # fmt: skip

    @get("/servers", permission=Telemedicine.QUALITY_READ, live=True)
    async def servers(self, ctx: Context) -> Response[str]:
        return fragment(ctx, "telemedicine/parts/servers.html", servers=await servers(ctx))

    @get("/live", permission=Telemedicine.QUALITY_READ, live=True)
    async def live(self, ctx: Context) -> Response[str]:
        return fragment(
            ctx, "telemedicine/parts/legs.html", legs=await quality.live_legs(ctx), now=ctx.now, fair=quality.FAIR,
            poor=quality.POOR,
        )  # fmt: skip
