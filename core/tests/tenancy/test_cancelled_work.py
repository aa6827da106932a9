"""A page that is left and a stream that is closed cancel their tasks at any step; whoever comes next must not notice."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import select

from qanun.identity.models import Patient
from qanun.identity.signin import STAFF_LIFE, begin, look_up
from qanun.tenancy import global_session, lookup_session, scope, tenant_session


@pytest.mark.parametrize("turns", [None, 0, 1, 4])
async def test_work_cancelled_while_it_begins_leaves_the_next_request_its_own_answer(
    clinic, other_clinic, monkeypatch, turns
):
    database = clinic.assembly.runtime.database
    own, theirs = await clinic.patient(), await other_clinic.patient()
    async with global_session(database) as session:
        owner = {"user_id": clinic.users["doctor"].id, "tenant_id": clinic.tenant.id, "locale": "en"}
        token = await begin(session, "staff", STAFF_LIFE, **owner)
        await session.commit()

    async def patients(tenant_id):
        async with tenant_session(database, tenant_id) as session:
            return list((await session.execute(select(Patient.id).limit(10))).scalars())

    async def who():
        async with lookup_session(database) as session:
            return await look_up(session, token, "staff")

    begin_in = scope._begin_in

    async def leave(task):
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()

    async def begin_and_leave(driver, tenant_id):
        task = asyncio.current_task()
        if turns is None:
            task.cancel()  # takes hold at the very first wait
        else:
            asyncio.create_task(leave(task))  # noqa: RUF006 - ends before the task does
        await begin_in(driver, tenant_id)

    for _ in range(4):
        with monkeypatch.context() as patched:
            patched.setattr(scope, "_begin_in", begin_and_leave)
            await asyncio.gather(asyncio.create_task(patients(clinic.tenant.id)), return_exceptions=True)
        # The pool gives the connection that came back last, which is the one of the task.
        assert (await who()) is not None, "signed out by somebody else's closed page"
        assert await patients(other_clinic.tenant.id) == [theirs.id]
        assert await patients(clinic.tenant.id) == [own.id]
