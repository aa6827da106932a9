"""A machine's first clinic is made once, with somebody who can sign in to it."""

import pytest
from sqlalchemy import select

from qanun.app.founding import NewClinic, found_clinic
from qanun.audit import AuditEvent
from qanun.errors import Conflict, Invalid
from qanun.identity.signin import clinics_of, sign_in_staff
from qanun.tenancy import Tenant, global_session, tenant_session

CLINIC = NewClinic(slug="first", name="First", locale="ar", timezone="Asia/Amman", currency="JOD", country="JO")


@pytest.fixture
def alone():
    """A machine of its own: one where no test has made a clinic yet."""
    from qanun.app.build import gather
    from qanun.db.migrations import upgrade
    from qanun.testing import ScratchPostgres

    scratch = ScratchPostgres().start()
    upgrade(scratch.owner_url, gather()[1].lineages())
    yield scratch
    scratch.stop()


async def test_the_first_administrator_can_sign_in_and_a_second_founding_is_refused(alone, configuration):
    import dataclasses

    from qanun.app import assemble

    assembly = assemble(dataclasses.replace(configuration, database_url=alone.application_url))
    database = assembly.runtime.database
    try:
        with pytest.raises(Invalid):
            await found_clinic(assembly, CLINIC, administrator="Hala", email="hala@first.example", password="short")
        password = "a first sentence to change"
        info = await found_clinic(
            assembly, CLINIC, administrator="Hala", email=" Hala@First.example ", password=password
        )
        _, user = await sign_in_staff(database, "hala@first.example", password)
        [(clinic, roles)] = await clinics_of(database, user.id)
        assert (clinic, roles) == (info, frozenset({"administrator"}))
        async with tenant_session(database, info.id) as session:
            events = (await session.execute(select(AuditEvent.type))).scalars().all()
        assert events == ["core.clinic.found"]
        with pytest.raises(Conflict):
            await found_clinic(assembly, CLINIC, administrator="Eve", email="eve@first.example", password=password)
        async with global_session(database) as session:
            assert len((await session.execute(select(Tenant.id))).all()) == 1
    finally:
        await database.close()
