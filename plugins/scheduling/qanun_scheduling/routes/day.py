"""The doctor's day and its refresh."""

from __future__ import annotations

from litestar import Controller, Response

from qanun.api import Context, fragment, get, page
from qanun_scheduling.agenda import day_values, parse_day
from qanun_scheduling.permissions import Scheduling


class DayController(Controller):
    path = "/scheduling/day"

    @get(permission=Scheduling.DAY_READ)
    async def day(self, ctx: Context, date: str = "", practitioner: str = "") -> Response[str]:
        """A practitioner's own appointments; for others everybody's, or those of the one they pick."""
        values = await day_values(ctx, parse_day(ctx, date), practitioner)
        return page(ctx, "scheduling/day.html", **values)

    @get("/list", permission=Scheduling.DAY_READ, live=True)
    async def day_list(self, ctx: Context, date: str = "", practitioner: str = "") -> Response[str]:
        """What of the day moves, after a live notice and once a minute."""
        values = await day_values(ctx, parse_day(ctx, date), practitioner)
        return fragment(ctx, "scheduling/parts/day.html", **values | {"refresh": True})
