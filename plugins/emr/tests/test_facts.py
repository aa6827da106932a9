"""Allergies, vital signs, problems and medicines: refused at their field with what was typed kept, stored as meant, and
taken back without a trace being lost."""

import asyncio
import uuid
from decimal import Decimal

import pytest
from sqlalchemy import func, select

from qanun.api import AuditEvent, Invalid, NotFound
from qanun_emr import service
from qanun_emr.models import AllergyIntolerance, Condition, MedicationStatement, Observation

HTMX = {"hx-request": "true"}


async def count(clinic, model):
    async with clinic.context() as ctx:
        return (await ctx.db.execute(select(func.count()).select_from(model))).scalar_one()


async def test_vital_signs_typed_in_arabic_digits_are_stored_in_ascii(clinic, begin):
    visit = await begin(clinic)
    browser = await clinic.client("nurse")
    typed = {"systolic": "١١٨", "diastolic": "٧٦", "temperature": "٣٦٫٨", "spo2": "۹۸"}
    assert (await browser.post(f"{visit.chart}/vitals", data=typed)).status_code == 303
    async with clinic.context() as ctx:
        rows = (await ctx.db.execute(select(Observation).order_by(Observation.code))).scalars().all()
    stored = {row.code: (row.value, row.value2, row.unit) for row in rows}
    assert stored == {
        "85354-9": (Decimal(118), Decimal(76), "mm[Hg]"),
        "8310-5": (Decimal("36.8"), None, "Cel"),
        "59408-5": (Decimal(98), None, "%"),
    }
    assert {row.encounter_id for row in rows} == {visit.id}
    assert {row.recorded_by for row in rows} == {clinic.users["nurse"].id}
    assert '<bdi dir="ltr">118/76 <small>mmHg</small></bdi>' in (await browser.get(visit.chart)).text


@pytest.mark.parametrize(
    ("typed", "faulty", "said"),
    [
        ({"systolic": "12O", "diastolic": "80"}, "systolic", "Enter a number."),
        ({"systolic": "1200", "diastolic": "80"}, "systolic", "This value is not possible."),
        ({"systolic": "120"}, "diastolic", "Enter both pressures."),
        ({"diastolic": "80"}, "systolic", "Enter both pressures."),
        ({"systolic": "80", "diastolic": "120"}, "diastolic", "must be below the upper one"),
        ({"temperature": "98.6"}, "temperature", "This value is not possible."),
        ({"spo2": "101", "heart_rate": "70"}, "spo2", "This value is not possible."),
        ({"weight": "NaN"}, "weight", "Enter a number."),
        ({"height": "1e2"}, "height", "Enter a number."),
        ({}, "systolic", "Enter at least one value."),
    ],
)
async def test_a_vital_sign_that_cannot_be_right_is_named_and_none_is_stored(clinic, typed, faulty, said):
    patient = await clinic.patient()
    browser = await clinic.client("nurse")
    for headers in (HTMX, {}):
        answer = await browser.post(f"/emr/patients/{patient.id}/vitals", data=typed, headers=headers)
        assert answer.status_code == 422 and said in answer.text
        assert answer.text.count('aria-invalid="true"') == 1 and f'id="{faulty}-error"' in answer.text
        for value in typed.values():
            assert f'value="{value}"' in answer.text
    assert await count(clinic, Observation) == 0


@pytest.mark.parametrize(
    ("kind", "typed", "faulty"),
    [
        ("allergy", {"substance": "", "reaction": "rash over the arms"}, {"substance"}),
        ("allergy", {"substance": "s" * 201, "reaction": "rash"}, {"substance"}),
        ("allergy", {"substance": "Latex", "criticality": "deadly", "severity": "9"}, {"criticality", "severity"}),
        ("allergy", {"substance": "Latex", "reaction": "r" * 501}, {"reaction"}),
        ("condition", {"text": " ", "onset": "2024-05"}, {"text"}),
        ("condition", {"text": "t" * 301}, {"text"}),
        ("condition", {"text": "Asthma", "onset": "childhood"}, {"onset"}),
        ("condition", {"text": "Asthma", "onset": "2999"}, {"onset"}),
        ("condition", {"text": "Asthma", "onset": "2024-13"}, {"onset"}),
        ("condition", {"text": "Asthma", "onset": "2023-02-29"}, {"onset"}),
        ("medication", {"text": "", "strength": "500 mg"}, {"text"}),
        ("medication", {"text": "Metformin", "dosage": "d" * 201}, {"dosage"}),
        ("medication", {"text": "Metformin", "strength": "5" * 61}, {"strength"}),
    ],
)
async def test_a_faulty_entry_names_its_fields_keeps_what_was_typed_and_stores_nothing(clinic, kind, typed, faulty):
    patient = await clinic.patient()
    browser = await clinic.client("nurse")
    address = f"/emr/patients/{patient.id}/facts/{kind}"
    part = await browser.post(address, data=typed, headers=HTMX)
    whole = await browser.post(address, data=typed)
    for answer in (part, whole):
        assert answer.status_code == 422
        assert answer.text.count('aria-invalid="true"') == len(faulty)
        for field in faulty:
            assert answer.text.count(f'id="{field}-error"') == 1
        for field, value in typed.items():
            assert value in answer.text or field in {"criticality", "severity"}  # a list shows only what it offers
    assert "<html" in whole.text and "<html" not in part.text
    for model in (AllergyIntolerance, Condition, MedicationStatement):
        assert await count(clinic, model) == 0


async def test_the_page_after_a_faulty_entry_opens_that_form_alone(clinic):
    patient = await clinic.patient()
    browser = await clinic.client("nurse")
    answer = await browser.post(f"/emr/patients/{patient.id}/facts/condition", data={"text": "", "onset": "2024"})
    closed = [name for name in ("vitals", "allergy", "condition", "medication")
              if f'id="ws-{name}" aria-labelledby="ws-{name}-title" hidden' in answer.text]  # fmt: skip
    assert closed == ["vitals", "allergy", "medication"]


async def test_an_allergy_is_recorded_once_whatever_the_case(clinic, other_clinic):
    patient = await clinic.patient()
    browser = await clinic.client("nurse")
    address = f"/emr/patients/{patient.id}/facts/allergy"
    assert (await browser.post(address, data={"substance": "Penicillin"})).status_code == 303
    again = await browser.post(address, data={"substance": "PENICILLIN"})
    assert again.status_code == 422 and "This allergy is recorded already." in again.text
    assert await count(clinic, AllergyIntolerance) == 1
    assert await count(other_clinic, AllergyIntolerance) == 0


@pytest.mark.parametrize(
    ("typed", "stored"), [("2019", "2019"), ("٢٠٢٤-٠٥", "2024-05"), ("2024-02-29", "2024-02-29"), ("", "")]
)
async def test_since_when_is_a_year_a_month_or_a_day_in_any_digits(clinic, typed, stored):
    patient = await clinic.patient()
    async with clinic.context("nurse") as ctx:
        condition = await service.record_condition(ctx, patient.id, {"text": "Asthma", "onset": typed})
    assert condition.onset == stored


@pytest.mark.parametrize(
    ("kind", "model", "typed"),
    [
        ("allergy", AllergyIntolerance, {"substance": "Latex glove"}),
        ("condition", Condition, {"text": "Latex glove"}),
        ("medication", MedicationStatement, {"text": "Latex glove"}),
        ("observation", Observation, {"heart_rate": "70"}),
    ],
)
async def test_an_entry_taken_back_keeps_who_when_and_why_and_leaves_the_chart(
    clinic, other_clinic, audited, kind, model, typed
):
    patient = await clinic.patient()
    browser = await clinic.client()
    where = "vitals" if kind == "observation" else f"facts/{kind}"
    await browser.post(f"/emr/patients/{patient.id}/{where}", data=typed)
    async with clinic.context() as ctx:
        entry = (await ctx.db.execute(select(model))).scalar_one()
    address = f"/emr/facts/{kind}/{entry.id}/void"
    shown = "70 <small>/min" if kind == "observation" else "Latex glove"
    assert shown in (await browser.get(f"/emr/patients/{patient.id}")).text

    stranger = await other_clinic.client()
    assert (await stranger.post(address, data={"reason": "mine"})).status_code == 404
    assert (await browser.post(address, data={"reason": "  "})).status_code == 422
    answers = await asyncio.gather(*(browser.post(address, data={"reason": f"wrong patient {n}"}) for n in range(3)))
    assert {answer.status_code for answer in answers} == {303}

    async with clinic.context() as ctx:
        entry = (await ctx.db.execute(select(model))).scalar_one()
    assert entry.voided_by == clinic.users["doctor"].id and entry.voided_at is not None
    assert entry.void_reason in {f"wrong patient {n}" for n in range(3)}
    assert (await audited(clinic, patient)).count(f"emr.{kind}.void") == 1
    assert shown not in (await browser.get(f"/emr/patients/{patient.id}")).text
    async with clinic.context() as ctx:
        act = (await ctx.db.execute(select(AuditEvent).where(AuditEvent.type == f"emr.{kind}.void"))).scalar_one()
    assert str(entry.id) in act.entity and "wrong patient" not in act.body


async def test_what_is_unknown_or_of_no_kind_cannot_be_taken_back(clinic):
    browser = await clinic.client()
    for kind in ("allergy", "condition", "note", "patient"):
        assert (await browser.post(f"/emr/facts/{kind}/{uuid.uuid4()}/void", data={"reason": "x"})).status_code == 404
    patient = await clinic.patient()
    assert (await browser.post(f"/emr/patients/{patient.id}/facts/note", data={"text": "x"})).status_code == 404


async def test_nothing_is_recorded_about_another_clinics_patient(clinic, other_clinic):
    theirs = await other_clinic.patient()
    async with clinic.context() as ctx:
        for verb, typed in (
            (service.record_vitals, {"heart_rate": "70"}),
            (service.record_allergy, {"substance": "Latex"}),
            (service.record_condition, {"text": "Asthma"}),
            (service.record_medication, {"text": "Metformin"}),
            (service.start_encounter, None),
        ):
            with pytest.raises(NotFound):
                await (verb(ctx, theirs.id, typed) if typed else verb(ctx, theirs.id))
    for model in (Observation, AllergyIntolerance, Condition, MedicationStatement):
        assert await count(other_clinic, model) == 0


async def test_an_audit_entry_of_vital_signs_holds_codes_and_no_values(clinic):
    patient = await clinic.patient()
    async with clinic.context() as ctx:
        await service.record_vitals(ctx, patient.id, {"heart_rate": "171"})
    async with clinic.context() as ctx:
        statement = select(AuditEvent).where(AuditEvent.type == "emr.observation.record")
        act = (await ctx.db.execute(statement)).scalar_one()
    assert "8867-4" in act.body and "171" not in act.body


async def test_every_faulty_vital_sign_is_named_at_once(clinic):
    patient = await clinic.patient()
    with pytest.raises(Invalid) as refusal:
        async with clinic.context() as ctx:
            await service.record_vitals(ctx, patient.id, {"systolic": "x", "spo2": "120", "heart_rate": "70"})
    assert set(refusal.value.fields) == {"systolic", "spo2"}
