"""Three rings keep two clinics apart. Each is asked alone: the other two are taken away, and it must still hold."""

import uuid

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.exc import IntegrityError, ProgrammingError

from qanun.db import Database, TenantModel, UnscopedStatement
from qanun.db.migrations import owner_connection
from qanun.errors import TenancyViolation
from qanun.identity import Patient, PatientIdentifier, User
from qanun.tenancy import global_session, tenant_session

# --- ring one: the schema ----------------------------------------------------------------------------------------------


async def test_a_row_cannot_point_at_another_clinics_row_even_for_a_superuser(clinic, other_clinic, postgres):
    theirs = await other_clinic.patient()
    with (
        psycopg.connect(postgres.superuser_url, dbname="qanun", autocommit=True) as superuser,
        pytest.raises(psycopg.errors.ForeignKeyViolation),
    ):
        superuser.execute(
            "insert into core_patient_identifier (tenant_id, id, patient_id, system, value) values (%s,%s,%s,'x','1')",
            (clinic.tenant.id, uuid.uuid4(), theirs.id),
        )


def test_every_tenant_table_has_the_composite_key_and_every_reference_carries_the_clinic(postgres):
    tables = [mapper.local_table for mapper in TenantModel.registry.mappers if issubclass(mapper.class_, TenantModel)]
    assert len(tables) >= 10
    for table in tables:
        assert [column.name for column in table.primary_key.columns][:2] == ["tenant_id", "id"], table.name
        for constraint in table.constraints:
            if isinstance(constraint, sa.UniqueConstraint):
                assert "tenant_id" in constraint.columns, f"{table.name}: {constraint.name}"
            if isinstance(constraint, sa.ForeignKeyConstraint):
                target = constraint.referred_table
                if "tenant_id" in target.primary_key.columns:
                    assert "tenant_id" in constraint.columns, f"{table.name}: {constraint.name}"


# --- ring two: the session, asked with row-level security out of the way ----------------------------------------------


@pytest.fixture
async def unguarded_by_policies(postgres):
    """A database connection that row-level security does not bind: what is refused here, the session refused."""
    database = Database(postgres.url("postgres"), pool_size=2)
    yield database
    await database.close()


async def test_the_session_alone_narrows_reads_writes_and_deletes_to_its_clinic(
    clinic, other_clinic, unguarded_by_policies
):
    ours, theirs = await clinic.patient(given="Ours"), await other_clinic.patient(given="Theirs")
    async with tenant_session(unguarded_by_policies, clinic.tenant.id) as session:
        assert (await session.execute(select(Patient.given))).scalars().all() == ["Ours"]
        assert (await session.get(Patient, (other_clinic.tenant.id, theirs.id))) is None
        await session.execute(update(Patient).values(given="Changed"))
        await session.execute(delete(PatientIdentifier))
        await session.commit()
    async with tenant_session(unguarded_by_policies, other_clinic.tenant.id) as session:
        names = select(Patient.given).where(Patient.id.in_([ours.id, theirs.id]))
        assert (await session.execute(names)).scalars().all() == ["Theirs"]


async def test_a_statement_that_lives_on_serves_each_clinic_its_own_whatever_parameters_it_is_given(
    clinic, other_clinic, unguarded_by_policies
):
    await clinic.patient(given="Ours"), await other_clinic.patient(given="Theirs")
    asked = select(Patient.given).where(Patient.given.in_(["Ours", "Theirs"]))
    foreign = {"qanun_asking_tenant_id": other_clinic.tenant.id}
    for asking, expected in ((clinic, "Ours"), (other_clinic, "Theirs"), (clinic, "Ours")):
        async with tenant_session(unguarded_by_policies, asking.tenant.id) as session:
            assert set((await session.execute(asked)).scalars()) == {expected}
            assert set((await session.execute(asked, foreign)).scalars()) == {expected}


async def test_a_part_of_a_transaction_can_be_taken_back_alone(clinic):
    async with tenant_session(clinic.assembly.runtime.database, clinic.tenant.id) as session:
        kept = await clinic.patient(given="Kept")
        async with session.begin_nested():  # nothing to write before or after: the savepoint's own words pass the guard
            pass
        with pytest.raises(RuntimeError):
            async with session.begin_nested():
                await session.execute(update(Patient).where(Patient.id == kept.id).values(given="Changed"))
                raise RuntimeError
        assert (await session.execute(select(Patient.given).where(Patient.id == kept.id))).scalar_one() == "Kept"


@pytest.mark.parametrize(
    "statement",
    [
        text("select * from core_patient"),
        select(Patient.__table__),
        insert(Patient.__table__).values(id=uuid.uuid4()),
        insert(Patient).values(id=uuid.uuid4()),
        select(Patient).from_statement(text("select * from core_patient")),
    ],
    ids=["text", "core-select", "core-insert", "bulk-insert", "from-statement"],
)
async def test_the_session_refuses_every_statement_that_is_not_the_orms(clinic, statement):
    async with tenant_session(clinic.assembly.runtime.database, clinic.tenant.id) as session:
        with pytest.raises(UnscopedStatement):
            await session.execute(statement)


async def test_the_engine_refuses_a_statement_that_no_scope_opened(clinic):
    database = clinic.assembly.runtime.database
    async with database.engine.connect() as connection:
        with pytest.raises(UnscopedStatement):
            await connection.execute(text("select 1"))
    async with tenant_session(database, clinic.tenant.id) as session:
        connection = await session.connection()
        with pytest.raises(UnscopedStatement):
            await connection.execute(text("select * from core_patient"))


async def test_a_row_of_another_clinic_is_refused_before_it_is_written(clinic, other_clinic):
    database = clinic.assembly.runtime.database
    async with tenant_session(database, clinic.tenant.id) as session:
        session.add(PatientIdentifier(tenant_id=other_clinic.tenant.id, patient_id=uuid.uuid4(), system="x", value="1"))
        with pytest.raises(TenancyViolation):
            await session.flush()


async def test_without_a_clinic_there_are_no_rows_only_errors(clinic):
    database = clinic.assembly.runtime.database
    with pytest.raises(TenancyViolation):
        async with tenant_session(database, None):  # type: ignore[arg-type]
            pass
    async with global_session(database) as session:
        with pytest.raises(TenancyViolation):
            await session.execute(select(Patient))
        with pytest.raises(TenancyViolation):
            await session.execute(select(User.id, Patient.id))
        session.add(Patient(given="x", family="y"))
        with pytest.raises(TenancyViolation):
            await session.flush()


# --- ring three: the database, asked with plain SQL ---------------------------------------------------------------------


def _ask(url: str, tenant: uuid.UUID | None, statement: str, *values: object) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        if tenant is not None:
            connection.execute("select set_config('app.tenant_id', %s, true)", (str(tenant),))
        cursor = connection.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


async def test_the_database_shows_the_application_role_one_clinic_and_without_one_nothing(
    clinic, other_clinic, postgres
):
    await clinic.patient(given="Ours")
    await other_clinic.patient(given="Theirs")
    for url in (postgres.application_url, postgres.owner_url):  # forced: the owner is bound as well
        assert _ask(url, clinic.tenant.id, "select given from core_patient") == [("Ours",)]
        assert _ask(url, other_clinic.tenant.id, "select given from core_patient") == [("Theirs",)]
        assert _ask(url, None, "select given from core_patient") == []


async def test_the_database_refuses_to_write_into_another_clinic(clinic, other_clinic, postgres):
    await other_clinic.patient()
    row = (other_clinic.tenant.id, uuid.uuid4())
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        _ask(
            postgres.application_url, clinic.tenant.id,
            "insert into core_counter (tenant_id, id, name, value) values (%s, %s, 'stolen', 1)", *row,
        )  # fmt: skip
    with psycopg.connect(postgres.application_url) as connection:
        connection.execute("select set_config('app.tenant_id', %s, true)", (str(clinic.tenant.id),))
        assert connection.execute("update core_counter set value = 0 where tenant_id = %s", row[:1]).rowcount == 0


def test_every_tenant_table_in_the_database_is_under_a_forced_policy_and_the_application_owns_nothing(postgres):
    with owner_connection(postgres.owner_url) as connection:
        rows = connection.execute(
            text(
                "select c.relname, c.relrowsecurity, c.relforcerowsecurity, pg_get_userbyid(c.relowner), "
                "exists (select 1 from pg_policy p where p.polrelid = c.oid) "
                "from pg_class c join pg_index i on i.indrelid = c.oid and i.indisprimary "
                "join pg_attribute a on a.attrelid = c.oid and a.attnum = any(i.indkey) and a.attname = 'tenant_id' "
                "where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace"
            )
        ).all()
        roles = connection.execute(
            text("select rolsuper, rolbypassrls from pg_roles where rolname in ('qanun_app', 'qanun_owner')")
        ).all()
    assert len(rows) >= 10
    for name, enabled, forced, owner, policy in rows:
        assert (enabled, forced, policy) == (True, True, True), name
        assert owner == "qanun_owner"
    assert roles == [(False, False), (False, False)]


async def test_the_clinic_of_one_transaction_does_not_travel_with_the_pooled_connection(clinic, postgres):
    await clinic.patient()
    database = Database(postgres.application_url, pool_size=1)
    async with tenant_session(database, clinic.tenant.id) as session:
        await session.execute(select(Patient.id))
        await session.commit()
    raw = await database.engine.raw_connection()
    try:
        cursor = raw.driver_connection.cursor()
        await cursor.execute("select coalesce(current_setting('app.tenant_id', true), '')")
        assert await cursor.fetchone() == ("",)
    finally:
        raw.close()
        await database.close()


async def test_the_same_identifier_may_live_in_both_clinics_but_not_twice_in_one(clinic, other_clinic):
    identifiers = [("national-id", "AB1234")]
    await clinic.patient(identifiers=identifiers)
    await other_clinic.patient(identifiers=identifiers)
    again = await clinic.patient()
    with pytest.raises((IntegrityError, ProgrammingError)):
        async with clinic.context() as ctx:
            ctx.db.add(PatientIdentifier(patient_id=again.id, system="national-id", value="AB1234"))
