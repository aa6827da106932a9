"""A demonstration that is opened days later has a day to show, and keeps what was done in it."""

import random
from datetime import timedelta

from sqlalchemy import select

from qanun.api import DemoClinic
from qanun_scheduling import demo
from qanun_scheduling.models import Appointment


async def _appointments(clinic):
    async with clinic.context("system") as ctx:
        rows = await ctx.db.execute(select(Appointment).order_by(Appointment.start).limit(1000))
        return {row.id: (row.start, row.status) for row in rows.scalars()}


async def _demo(clinic, patients, what, *, days_later=0, hour=10):
    async with clinic.context("system") as ctx:
        ctx.now = ctx.local(ctx.now).replace(hour=hour, minute=5) + timedelta(days=days_later)
        await what(ctx, DemoClinic(random=random.Random(3), patients=patients, practitioners=[clinic.practitioner]))
        return ctx.local(ctx.now).date()


async def test_a_demonstration_opened_a_week_later_has_todays_patients_and_keeps_last_weeks(clinic, other_clinic):
    patients = [await clinic.patient() for _ in range(30)]
    await _demo(clinic, patients, demo.seed)
    before = await _appointments(clinic)
    today = await _demo(clinic, patients, demo.renew, days_later=7, hour=21)
    after = await _appointments(clinic)
    assert before.items() <= after.items()
    new = [start.astimezone(clinic.tenant.zone) for start, _ in after.values()]
    days = {moment.date() for moment in new}
    assert {today + timedelta(days=n) for n in range(4)} <= days
    assert any(moment.date() == today and moment.hour >= 21 for moment in new)  # somebody is due, however late it is
    assert not await _appointments(other_clinic)


async def test_a_demonstration_opened_again_the_same_day_is_left_as_it_is(clinic):
    patients = [await clinic.patient() for _ in range(30)]
    await _demo(clinic, patients, demo.seed)
    before = await _appointments(clinic)
    await _demo(clinic, patients, demo.renew)
    assert await _appointments(clinic) == before
