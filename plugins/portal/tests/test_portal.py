"""What a patient sees: their own visits, who opened their record and what the clinic knows — and nobody else's anything."""

import re
import uuid
from datetime import timedelta

import pytest

from qanun.contracts import VisitMode
from qanun.identity.models import PluginState, User
from qanun.identity.signin import invite
from qanun.tenancy import global_session
from qanun_portal.views import Visit, without_own_card
from qanun_scheduling.models import Appointment

PAGES = ("", "/visits", "/record", "/me")


def home(clinic):
    return f"/portal/{clinic.tenant.slug}"


async def visit(clinic, patient, *, reason="Blood pressure review", finished=True):
    """An encounter made and ended as another plugin would: through the broker."""
    async with clinic.context() as ctx:
        made = await ctx.records.create(
            "Encounter",
            {
                "class": {"code": "AMB"},
                "subject": {"reference": f"Patient/{patient.id}"},
                "participant": [{"individual": {"reference": f"Practitioner/{clinic.practitioner.id}"}}],
                "reasonCode": [{"text": reason}],
            },
        )
    id = uuid.UUID(made["id"])
    if finished:
        async with clinic.context() as ctx:
            people = [
                {
                    "individual": {"reference": "", "display": "Amina Toure"},
                    "period": {"start": (ctx.now - timedelta(minutes=20)).isoformat(), "end": ctx.now.isoformat()},
                }
            ]
            await ctx.records.update("Encounter", id, {"status": "finished", "participant": people})
    return id


async def book(clinic, patient, *, hours=24, **values):
    async with clinic.context() as ctx:
        start = ctx.now + timedelta(hours=hours)
        row = Appointment(
            patient_id=patient.id, practitioner_id=clinic.practitioner.id, start=start,
            end=start + timedelta(minutes=20), request_key=uuid.uuid4().hex, booked_by=ctx.actor.id, **values,
        )  # fmt: skip
        ctx.db.add(row)


def displayed(html):
    """The words of a page without its markup."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


async def test_home_greets_the_patient_and_shows_what_comes_what_was_and_who_looked(clinic, other_clinic):
    patient = await clinic.patient(language="en")
    await visit(clinic, patient)
    await book(clinic, patient)
    async with clinic.context() as ctx:
        ctx.audit("emr.chart.read", patient_id=patient.id)
    shown = (await (await clinic.portal(patient)).get(home(clinic))).text
    for expected in ("Hello, Layla", "Coming visits", "Past visits", "Blood pressure review", "Dr razi",
                     "Who opened my record", "doctor of razi"):  # fmt: skip
        assert expected in shown, expected
    assert "No visit is planned" not in shown


async def test_a_patient_without_visits_is_told_whom_to_call(clinic):
    patient = await clinic.patient(language="en")
    shown = (await (await clinic.portal(patient)).get(home(clinic))).text
    assert "No visit is planned" in shown and 'href="tel:+212522000000"' in shown
    assert "reception of razi" in shown, "who registered the patient"
    assert "Past visits" not in shown and "Coming visits" not in shown


async def test_visits_lists_own_ones_only_and_neither_cancelled_nor_open_ones(clinic, other_clinic):
    patient, neighbour = await clinic.patient(language="en"), await clinic.patient(given="Omar", language="en")
    foreign = await other_clinic.patient()
    await visit(clinic, patient, reason="My own reason")
    await visit(clinic, patient, reason="Still going on", finished=False)
    await visit(clinic, neighbour, reason="The neighbour's reason")
    await visit(other_clinic, foreign, reason="Another clinic's reason")
    await book(clinic, patient, hours=30)
    await book(clinic, patient, hours=60, status="cancelled")
    await book(clinic, patient, hours=-30, status="fulfilled")
    await book(clinic, neighbour, hours=90)
    shown = (await (await clinic.portal(patient)).get(f"{home(clinic)}/visits")).text
    assert "My own reason" in shown
    for other in ("Still going on", "neighbour", "Another clinic"):
        assert other not in shown
    coming = shown[shown.index('id="coming"') : shown.index('id="past"')]
    assert coming.count("<li") == 1


async def test_a_visit_shows_its_time_its_reason_and_who_was_there(clinic):
    patient = await clinic.patient(language="en")
    id = await visit(clinic, patient)
    answer = await (await clinic.portal(patient)).get(f"{home(clinic)}/encounters/{id}")
    assert answer.status_code == 200
    for expected in ("Blood pressure review", "Dr razi", "Who was there", "Amina Toure"):
        assert expected in answer.text


async def test_somebody_elses_visit_is_as_unknown_as_none(clinic, other_clinic):
    patient, neighbour = await clinic.patient(language="en"), await clinic.patient(given="Omar", family="Ziani")
    theirs = await visit(clinic, neighbour)
    foreign = await visit(other_clinic, await other_clinic.patient())
    browser = await clinic.portal(patient)
    nobody = uuid.uuid4()
    answers = [await browser.get(f"{home(clinic)}/encounters/{id}") for id in (nobody, theirs, foreign)]
    assert [answer.status_code for answer in answers] == [404, 404, 404]
    pages = {answer.text.replace(str(id), "") for answer, id in zip(answers, (nobody, theirs, foreign), strict=True)}
    assert len(pages) == 1 and "Ziani" not in pages.pop()


async def test_the_record_names_staff_role_and_day_counts_repetitions_and_never_names_a_patient(clinic, other_clinic):
    patient = await clinic.patient(language="en")
    neighbour = await clinic.patient(given="Omar", family="Ziani")
    for role, who in (("doctor", patient), ("doctor", patient), ("nurse", patient), ("nurse", neighbour)):
        async with clinic.context(role) as ctx:
            ctx.audit("emr.chart.read", patient_id=who.id)
    async with other_clinic.context() as ctx:
        ctx.audit("emr.chart.read", patient_id=(await other_clinic.patient()).id)
    browser = await clinic.portal(patient)
    await browser.get(home(clinic))
    shown = displayed((await browser.get(f"{home(clinic)}/record")).text)
    assert "doctor of razi Doctor" in shown and "nurse of razi Nurse" in shown and "reception of razi" in shown
    assert "Opened the record" in shown and "2×" in shown and "Registered the patient" in shown
    async with clinic.context() as ctx:
        today = ctx.local(ctx.now)
    assert f"{today.day} " in shown and f"{today:%B}" in shown
    for other in ("Omar", "Ziani", "of sina", "Layla", "Haddad"):
        assert other not in shown
    assert "Ask the clinic: +212 522 000 000" in shown


async def test_two_members_of_staff_of_one_name_are_two(clinic, other_clinic):
    patient = await clinic.patient()
    async with global_session(clinic.assembly.runtime.database) as session:
        for role in ("doctor", "nurse"):
            (await session.get(User, clinic.users[role].id)).name = "Fatima Alaoui"
        await session.commit()
    for role in ("doctor", "nurse", "doctor"):
        async with clinic.context(role) as ctx:
            ctx.audit("emr.chart.read", patient_id=patient.id)
    page = (await (await clinic.portal(patient)).get(f"{home(clinic)}/record")).text
    shown = displayed(page)
    assert page.count("Fatima Alaoui") == 2 and "Doctor" in shown and "Nurse" in shown
    assert str(clinic.users["doctor"].id) not in page, "who is who inside stays inside"


async def test_the_patients_own_looks_and_the_systems_acts_are_not_said_to_be_somebody(clinic):
    patient = await clinic.patient(language="en")
    id = await visit(clinic, patient)
    browser = await clinic.portal(patient)
    for path in (*PAGES, f"/encounters/{id}"):
        await browser.get(home(clinic) + path)
    async with clinic.context("system") as ctx:
        ctx.audit("emr.chart.read", patient_id=patient.id)
    shown = displayed((await browser.get(f"{home(clinic)}/record")).text)
    assert "Opened a record" not in shown and "Opened the record" not in shown and "Signed in" not in shown


async def test_me_shows_what_the_clinic_knows_in_both_scripts(clinic):
    patient = await clinic.patient(language="en", email="layla@patient.example")
    shown = (await (await clinic.portal(patient)).get(f"{home(clinic)}/me")).text
    for expected in ("Layla Haddad", "ليلى حداد", "1991-08-19", patient.mrn, patient.phone, "layla@patient.example"):
        assert expected in shown
    assert f'action="{home(clinic)}/sign-out"' in shown and "العربية" in shown


async def test_staff_do_not_open_the_portal_and_patients_nothing_of_the_staffs(clinic):
    patient = await clinic.patient()
    staff, mine = await clinic.client(), await clinic.portal(patient)
    for path in PAGES:
        answer = await staff.get(home(clinic) + path)
        assert answer.status_code == 303 and answer.headers["location"].startswith(f"{home(clinic)}/sign-in")
    for path in ("/emr/patients", f"/emr/patients/{patient.id}", "/clinics"):
        answer = await mine.get(path)
        assert answer.status_code == 303 and answer.headers["location"].startswith("/sign-in")


async def test_a_patient_of_one_clinic_is_a_stranger_at_the_other(clinic, other_clinic):
    mine = await clinic.portal(await clinic.patient())
    for path in PAGES:
        answer = await mine.get(home(other_clinic) + path)
        assert answer.status_code == 303 and answer.headers["location"].startswith(f"{home(other_clinic)}/sign-in")


async def test_switched_off_for_a_clinic_the_portal_is_gone_there_and_only_there(clinic, other_clinic, assembly):
    async with global_session(assembly.runtime.database) as session:
        session.add(PluginState(tenant_id=clinic.tenant.id, slug="portal", enabled=False))
        await session.commit()
    mine = await clinic.portal(await clinic.patient())
    theirs = await other_clinic.portal(await other_clinic.patient())
    for path in PAGES:
        assert (await mine.get(home(clinic) + path)).status_code == 404
        assert (await theirs.get(home(other_clinic) + path)).status_code == 200


@pytest.mark.parametrize("slug", ["emr", "scheduling", "telemedicine"])
async def test_without_the_plugin_that_keeps_visits_the_pages_stay(clinic, assembly, slug):
    patient = await clinic.patient(language="en")
    await visit(clinic, patient)
    await book(clinic, patient)
    async with global_session(assembly.runtime.database) as session:
        session.add(PluginState(tenant_id=clinic.tenant.id, slug=slug, enabled=False))
        await session.commit()
    browser = await clinic.portal(patient)
    for path in PAGES:
        assert (await browser.get(home(clinic) + path)).status_code == 200
    shown = (await browser.get(f"{home(clinic)}/visits")).text
    assert ("None yet" in shown) == (slug == "emr")
    assert ("No visit is planned" in shown) == (slug == "scheduling")


async def test_a_patient_whose_language_is_arabic_arrives_in_arabic_with_every_value_isolated(clinic):
    patient = await clinic.patient(language="ar", email="layla@patient.example")
    id = await visit(clinic, patient, reason="سعال")
    await book(clinic, patient)
    async with clinic.context("reception") as ctx:
        token = await invite(ctx, patient.id, home(clinic))
    browser = clinic.anonymous()
    arrived = await browser.post(
        f"{home(clinic)}/i/{token}", data={"birth_date": "1991-08-19", "password": "a sentence of mine"}
    )
    assert arrived.headers["location"] == home(clinic)
    for path in (*PAGES, f"/encounters/{id}"):
        shown = (await browser.get(home(clinic) + path)).text
        assert '<html lang="ar" dir="rtl"' in shown
        for english in ("Hello", "Coming", "Past visits", "Who opened", "Date of birth", "Sign out", "Visit ", "Home"):
            assert english not in displayed(shown), (path, english)
    me = (await browser.get(f"{home(clinic)}/me")).text
    for value in ("1991-08-19", patient.mrn, patient.phone, "layla@patient.example"):
        assert f'<bdi dir="ltr">{value}</bdi>' in me
    assert "مرحباً، ليلى" in (await browser.get(home(clinic))).text


async def test_a_visit_that_has_a_card_of_its_own_is_not_listed_a_second_time(clinic):
    async with clinic.context() as ctx:
        video = next(mode for mode in ctx.registry.all(VisitMode) if mode.id.startswith("telemedicine."))
        first, second = (
            Visit(uuid.uuid4(), ctx.now + timedelta(hours=n), None, "", "", "booked", video, "/portal/x/visits")
            for n in (1, 2)
        )
        plain = Visit(uuid.uuid4(), ctx.now, None, "", "", "booked", None)
        assert without_own_card(ctx, [plain, first, second], ["<section>"]) == [plain, second]
        assert without_own_card(ctx, [plain, first, second], []) == [plain, first, second]
