"""A call that everybody left and nobody ended: it ends by itself, as of when the last one left, and what was agreed to is kept."""

import uuid
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from plugins.telemedicine.tests.test_together import agree, gather  # noqa: F401 - a fixture
from plugins.telemedicine.tests.test_transcripts import answer, ask, in_call, kept, lines_of, says
from qanun_emr.models import Encounter
from qanun_scheduling.models import Appointment
from qanun_telemedicine import service
from qanun_telemedicine.jobs import look_for_abandoned
from qanun_telemedicine.media import SERVICE
from qanun_telemedicine.models import Consultation, Presence
from qanun_telemedicine.service.abandoned import ALONE, abandoned, end_abandoned

LONG = ALONE + timedelta(minutes=1)


async def leave(visit, who: str) -> None:
    async with visit.acting(who) as (ctx, row, person):
        await service.depart(ctx, row, person)


async def time_passes(clinic, much: timedelta = LONG) -> None:
    """Everything of this clinic's calls was so long ago."""
    async with clinic.context("system") as ctx:
        for table, columns in (
            (Encounter, ("start",)), (Presence, ("joined_at", "seen_at", "left_at")), (Consultation, ("admitted_at", "waiting_since", "starts_at", "ends_at")),
        ):  # fmt: skip
            await ctx.db.execute(update(table).values({name: getattr(table, name) - much for name in columns}))


async def night(clinic) -> None:
    async with clinic.context("system") as ctx:
        await look_for_abandoned(ctx)
    await clinic.run_jobs()


async def test_what_everybody_agreed_to_is_in_the_record_though_nobody_ended_the_visit(clinic, other_clinic, book):
    visit, theirs = await book(clinic), await book(other_clinic)
    for one in (visit, theirs):
        await in_call(one)
    await ask(visit)
    await answer(visit)
    assert await says(visit, "patient", "my head aches")
    for who in ("doctor", "patient"):
        await leave(visit, who)
    await time_passes(clinic)
    await time_passes(other_clinic)
    async with clinic.context() as ctx:
        left_at = max((await ctx.db.execute(select(Presence.left_at))).scalars())
    await night(clinic)
    row = await visit.row()
    assert row.state == "ended" and row.ended_at == left_at, (
        "it was over when the last one left, not when that was noticed"
    )
    made = await kept(visit)
    assert made is not None and made.lines == 1 and await lines_of(clinic) == 0
    async with clinic.context() as ctx:
        encounter = await ctx.records.read("Encounter", row.encounter_id)
    assert encounter["status"] == "finished" and encounter["period"]["end"] == left_at.isoformat()
    (noted,) = await visit.noted("telemedicine.consultation.end")
    assert noted["by_itself"]
    page = (await (await clinic.client("doctor")).get(visit.href)).text
    assert "ended by itself" in page and f"{visit.href}/transcripts/{made.id}" in page
    assert (await theirs.row()).state == "in-progress", "another clinic's work is its own"
    await night(clinic)
    assert len(await visit.noted("telemedicine.consultation.end")) == 1


async def test_words_that_somebody_took_back_do_not_come_into_the_record_by_the_end(clinic, book):
    visit = await book(clinic)
    await in_call(visit)
    await ask(visit)
    await answer(visit)
    assert await says(visit, "patient", "something I regret")
    await answer(visit, "refused")
    for who in ("doctor", "patient"):
        await leave(visit, who)
    await time_passes(clinic)
    await night(clinic)
    assert (await visit.row()).state == "ended" and await kept(visit) is None


async def test_a_visit_in_which_somebody_is_or_was_a_little_while_ago_goes_on(clinic, book):
    here, stepped_out, waiting, planned = [await book(clinic) for _ in range(4)]
    for one in (here, stepped_out):
        await in_call(one)
        await leave(one, "patient")
    await leave(stepped_out, "doctor")
    await waiting.wait()
    await time_passes(clinic, ALONE - timedelta(minutes=5))
    async with here.acting() as (ctx, _, person):
        await service.seen(ctx, person.id, "one")
    async with clinic.context("system") as ctx:
        assert await abandoned(ctx) == []
    await time_passes(clinic, timedelta(minutes=6))
    async with clinic.context("system") as ctx:
        assert await abandoned(ctx) == [stepped_out.id]
    # Who comes back between the look and the end keeps the visit.
    await stepped_out.come("doctor", "again")
    async with clinic.context("system") as ctx:
        assert not await end_abandoned(ctx, stepped_out.id)
        assert not await end_abandoned(ctx, planned.id)
    assert [(await one.row()).state for one in (here, stepped_out, waiting, planned)] == [
        "in-progress", "in-progress", "waiting", "scheduled"
    ]  # fmt: skip


async def test_somebody_who_was_let_in_and_never_came_is_not_in_a_call_for_ever(clinic, book):
    visit = await book(clinic)
    await visit.admit()
    await time_passes(clinic)
    await night(clinic)
    row = await visit.row()
    assert row.state == "ended" and row.ended_at == row.admitted_at


async def test_a_group_that_nobody_ended_ends_for_each_in_it(clinic, gather):  # noqa: F811
    group = await gather(clinic, "Amina Idrissi", "Youssef Tazi")
    amina, youssef = group.visits
    await group.begin()
    await group.let_in(amina, "Sunflower")
    await agree(youssef, "Y.")
    for actor in (clinic.patient_actor(amina.patient), clinic.actor("doctor")):
        async with clinic.context(actor=actor) as ctx:
            call = await service.call_of(ctx, group.id, lock=True)
            person = await service.attend(ctx, call)
            await service.arrive(ctx, call, person, "call", uuid.uuid4().hex)
            await service.depart(ctx, call, person)
    await time_passes(clinic)
    await night(clinic)
    assert (await group.call()).state == "ended"
    assert [(await one.row()).state for one in group.visits] == ["ended", "cancelled"]
    async with clinic.context("system") as ctx:
        (kept_time,) = (await ctx.db.execute(select(Appointment))).scalars()
    assert kept_time.status != "booked", "its slot is free"


@pytest.mark.parametrize("served", [True, False], ids=["beside the web", "in a process of its own"])
async def test_a_device_that_sends_on_alone_is_out_of_a_call_that_ended_by_itself(
    clinic, other_clinic, book, worker, monkeypatch, served
):
    left, theirs = await book(clinic), await book(other_clinic)
    for one in (left, theirs):
        await in_call(one)
        await leave(one, "doctor")
        await leave(one, "patient")
    rooms = [(await one.row()).room for one in (left, theirs)]
    client, runtime = worker.clients[0], clinic.assembly.runtime
    for room in rooms:
        await client.open_room(room)
    if not served:
        monkeypatch.delitem(runtime.services, SERVICE)
        monkeypatch.setattr(runtime, "config", replace(runtime.config, media_socket=worker.specs[0].socket))
    await time_passes(clinic)
    await night(clinic)
    assert (await left.row()).state == "ended"
    assert set(await client.stats()) == {rooms[1]}, "the other clinic's room stays"
    await client.close_room(rooms[1])
    monkeypatch.undo()
