"""The chain shows every change, and an act without its audit does not happen."""

import psycopg
import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from qanun.audit import AuditEvent, verify
from qanun.errors import ConfigurationError
from qanun.identity import Patient, PatientIdentifier
from qanun.tenancy import tenant_session


async def _verdict(clinic):
    async with tenant_session(clinic.assembly.runtime.database, clinic.tenant.id) as session:
        return await verify(session)


async def test_a_chain_of_real_acts_verifies_and_each_clinic_has_its_own(clinic, other_clinic):
    for _ in range(3):
        await clinic.patient()
    await other_clinic.patient()
    ours, theirs = await _verdict(clinic), await _verdict(other_clinic)
    assert (ours.events, ours.fault) == (3, "")
    assert (theirs.events, theirs.fault) == (1, "")
    assert ours.head != theirs.head


async def test_an_act_whose_audit_cannot_be_written_leaves_nothing_behind(clinic):
    with pytest.raises(ConfigurationError):
        async with clinic.context() as ctx:
            ctx.db.add(Patient(mrn="X1", given="A", family="B", birth_date=ctx.now.date()))
            ctx.audit("core.never.declared")
    with pytest.raises(TypeError):
        async with clinic.context() as ctx:
            ctx.db.add(Patient(mrn="X2", given="A", family="B", birth_date=ctx.now.date()))
            ctx.audit("core.audit.read", detail={"amount": 1.5})
    async with clinic.context() as ctx:
        assert (await ctx.db.execute(select(Patient))).scalars().all() == []
    assert (await _verdict(clinic)).events == 0


async def test_a_refused_act_leaves_no_audit_of_having_happened(clinic):
    with pytest.raises(RuntimeError):
        async with clinic.context() as ctx:
            ctx.audit("core.audit.read")
            raise RuntimeError
    assert (await _verdict(clinic)).events == 0


async def test_concurrent_acts_of_one_clinic_form_one_unbroken_chain(clinic):
    import asyncio

    async def act() -> None:
        async with clinic.context() as ctx:
            ctx.audit("core.audit.read")

    await asyncio.gather(*(act() for _ in range(25)))
    assert (await _verdict(clinic)).events == 25
    assert (await _verdict(clinic)).holds


@pytest.mark.parametrize(
    "tampering",
    [
        "update core_audit_event set body = replace(body, 'core.audit.read', 'core.audit.reed') where seq = 3",
        "update core_audit_event set type = 'core.staff.sign-in' where seq = 3",
        "update core_audit_event set at = at - interval '1 hour' where seq = 2",
        "update core_audit_event set patient_id = gen_random_uuid() where seq = 2",
        "delete from core_audit_event where seq = 3",
        "delete from core_audit_event where seq = 5",
        "update core_audit_event set seq = -seq where seq in (2, 3); "
        "update core_audit_event set seq = 5 + seq where seq in (-2, -3)",
        "delete from core_audit_event where seq > 3; update core_audit_head set seq = 3",
        "delete from core_audit_head",
    ],
)
async def test_an_edit_a_deletion_a_swap_and_a_truncation_are_found(clinic, other_clinic, postgres, tampering):
    for _ in range(5):
        async with clinic.context() as ctx:
            ctx.audit("core.audit.read")
    async with other_clinic.context() as ctx:
        ctx.audit("core.audit.read")
    assert (await _verdict(clinic)).holds
    with psycopg.connect(postgres.superuser_url, dbname="qanun") as superuser:
        superuser.execute("alter table core_audit_event disable trigger core_audit_event_immutable")
        for statement in tampering.split("; "):
            joint = " and " if " where " in statement else " where "
            superuser.execute(f"{statement}{joint}tenant_id = '{clinic.tenant.id}'")
        superuser.execute("alter table core_audit_event enable trigger core_audit_event_immutable")
    verdict = await _verdict(clinic)
    assert not verdict.holds and verdict.fault
    assert (await _verdict(other_clinic)).holds


async def test_neither_the_application_nor_the_owner_can_change_an_event(clinic, postgres):
    async with clinic.context() as ctx:
        ctx.audit("core.audit.read")
    for url in (postgres.application_url, postgres.owner_url):
        for statement in ("update core_audit_event set type = 'x'", "delete from core_audit_event"):
            with psycopg.connect(url) as connection:
                connection.execute("select set_config('app.tenant_id', %s, true)", (str(clinic.tenant.id),))
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement)
    async with clinic.context() as ctx:
        assert len((await ctx.db.execute(select(AuditEvent))).scalars().all()) == 1


async def test_a_constraint_that_waits_for_the_commit_takes_act_and_audit_back_together(clinic, other_clinic):
    stranger, kept = await other_clinic.patient(), await clinic.patient()
    before = (await _verdict(clinic)).events
    with pytest.raises(IntegrityError):
        async with clinic.context() as ctx:
            ctx.audit("core.audit.read", patient_id=kept.id)
            # The reference is checked at the commit: by then the audit entry stands in the same transaction.
            ctx.db.add(PatientIdentifier(patient_id=stranger.id, system="x", value="1"))
    verdict = await _verdict(clinic)
    assert verdict.holds and verdict.events == before
    async with clinic.context() as ctx:  # the connection is as good as new
        ctx.audit("core.audit.read", patient_id=kept.id)
    assert (await _verdict(clinic)).events == before + 1
