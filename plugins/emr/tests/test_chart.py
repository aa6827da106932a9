"""The chart: who this is and what is dangerous first, one audit entry per look, nothing of another clinic."""

import re
import uuid

import pytest

from qanun_emr import service

ALLERGIES = (
    {"substance": "Aspirin", "criticality": "low", "severity": "severe"},
    {"substance": "Bee venom", "criticality": "unable-to-assess"},
    {"substance": "Latex", "criticality": "high", "severity": "moderate"},
    {"substance": "Penicillin", "criticality": "high", "severity": "severe", "reaction": "anaphylaxis"},
)


async def record_allergies(clinic, patient):
    async with clinic.context() as ctx:
        for typed in ALLERGIES:
            await service.record_allergy(ctx, patient.id, typed)


async def test_the_banner_names_the_patient_and_the_most_dangerous_allergy_first(clinic):
    patient = await clinic.patient()
    await record_allergies(clinic, patient)
    shown = (await (await clinic.client()).get(f"/emr/patients/{patient.id}")).text
    banner = shown[shown.index('class="q-banner"') : shown.index('class="q-tabs"')]
    for fact in ("Layla Haddad", "ليلى حداد", "1991-08-19", patient.mrn, "Female", "Arabic", "anaphylaxis"):
        assert fact in banner
    pills = re.findall(r'<span class="q-allergy( mod)?">.*?<span dir="auto">([^<]+)</span>', banner)
    assert pills == [("", "Penicillin"), ("", "Latex"), (" mod", "Bee venom"), (" mod", "Aspirin")]


async def test_a_patient_without_allergies_is_said_to_have_none_recorded(clinic):
    patient = await clinic.patient()
    shown = (await (await clinic.client()).get(f"/emr/patients/{patient.id}")).text
    assert "No known allergies recorded" in shown and "q-allergy" not in shown


async def test_every_look_at_the_chart_leaves_exactly_one_audit_entry(clinic, audited):
    patient = await clinic.patient()
    before = await audited(clinic, patient)
    for role in ("doctor", "nurse", "doctor"):
        await (await clinic.client(role)).get(f"/emr/patients/{patient.id}")
    assert (await audited(clinic, patient))[len(before) :] == ["emr.chart.read"] * 3


async def test_a_look_at_a_visit_leaves_exactly_one_audit_entry(clinic, begin, audited):
    visit = await begin(clinic)
    before = await audited(clinic, visit.patient)
    await (await clinic.client()).get(f"{visit.chart}/encounters/{visit.id}")
    assert (await audited(clinic, visit.patient))[len(before) :] == ["emr.encounter.read"]


@pytest.mark.parametrize("part", ["", "/summary", "/encounters", "/encounters/{visit}", "/workspaces/note"])
async def test_another_clinics_patient_looks_like_nobody(clinic, other_clinic, begin, audited, part):
    visit = await begin(other_clinic)
    await record_allergies(other_clinic, visit.patient)
    before = await audited(other_clinic, visit.patient)
    browser = await clinic.client()
    part = part.replace("{visit}", str(visit.id))
    theirs = await browser.get(f"/emr/patients/{visit.patient.id}{part}")
    nobody_id = uuid.uuid4()
    nobody = await browser.get(f"/emr/patients/{nobody_id}{part}")
    assert theirs.status_code == nobody.status_code == 404
    assert theirs.text.replace(str(visit.patient.id), "") == nobody.text.replace(str(nobody_id), "")
    for private in ("Haddad", visit.patient.mrn, "Penicillin"):
        assert private not in theirs.text
    assert await audited(other_clinic, visit.patient) == before


async def test_a_visit_is_not_shown_under_another_patients_name(clinic, begin):
    visit, other = await begin(clinic), await clinic.patient(given="Omar", family="Ziani")
    browser = await clinic.client()
    assert (await browser.get(f"{visit.chart}/encounters/{visit.id}")).status_code == 200
    assert (await browser.get(f"/emr/patients/{other.id}/encounters/{visit.id}")).status_code == 404


@pytest.mark.parametrize("role", ["reception", "lab-technician", "administrator"])
async def test_who_has_no_business_in_records_is_refused_everywhere(clinic, begin, audited, role):
    visit = await begin(clinic)
    await record_allergies(clinic, visit.patient)
    before = await audited(clinic, visit.patient)
    browser = await clinic.client(role)
    for path in ("", "/summary", "/encounters", f"/encounters/{visit.id}", "/workspaces/note"):
        answer = await browser.get(visit.chart + path)
        assert answer.status_code == 403 and "Penicillin" not in answer.text and "Haddad" not in answer.text
    assert (await browser.get("/emr/patients")).status_code == 403
    for path, typed in (
        ("/vitals", {"heart_rate": "70"}),
        ("/facts/allergy", {"substance": "Latex"}),
        ("/encounters", {}),
    ):
        assert (await browser.post(visit.chart + path, data=typed)).status_code == 403
    assert (await browser.put(visit.note, data={"version": "0", "plan": "x"})).status_code == 403
    assert (await browser.post(visit.sign, data={"version": "0", "plan": "x"})).status_code == 403
    assert await audited(clinic, visit.patient) == before


async def test_a_nurse_records_but_neither_writes_the_note_nor_signs(clinic, begin):
    visit = await begin(clinic)
    browser = await clinic.client("nurse")
    assert (await browser.post(f"{visit.chart}/vitals", data={"heart_rate": "70"})).status_code == 303
    assert (await browser.post(f"{visit.chart}/facts/allergy", data={"substance": "Latex"})).status_code == 303
    assert (await browser.put(visit.note, data={"version": "0", "plan": "x"})).status_code == 403
    assert (await browser.post(visit.sign, data={"version": "0", "plan": "x"})).status_code == 403
    assert (await browser.post(f"{visit.chart}/encounters")).status_code == 403
    assert (await browser.post(f"/emr/encounters/{visit.id}/addenda", data={"text": "x"})).status_code == 403
    shown = (await browser.get(visit.chart)).text
    for form in ("vitals", "allergy", "condition", "medication"):
        assert f'id="ws-{form}"' in shown, "what the rail offers is there"
    assert f'action="{visit.sign}"' in shown and "readonly" in shown
    assert "data-autosave" not in shown and ">Sign " not in shown
    assert (await visit.stored()).version == 0


async def test_a_stranger_is_led_to_the_way_in(clinic, begin):
    visit = await begin(clinic)
    answer = await clinic.anonymous().get(visit.chart)
    assert answer.status_code == 303 and answer.headers["location"].startswith("/sign-in")
    patient = await (await clinic.portal(visit.patient)).get(visit.chart)
    assert patient.status_code == 303 and patient.headers["location"].startswith("/sign-in")


async def test_in_arabic_every_value_is_isolated_from_the_sentence_around_it(other_clinic, begin):
    visit = await begin(other_clinic)
    async with other_clinic.context() as ctx:
        await service.record_vitals(
            ctx, visit.patient.id, {"systolic": "118", "diastolic": "76", "temperature": "36.8"}
        )
        await service.record_medication(ctx, visit.patient.id, {"text": "ميتفورمين", "strength": "500 mg"})
        await service.record_condition(ctx, visit.patient.id, {"text": "الربو", "onset": "2024-05"})
    shown = (await (await other_clinic.client()).get(visit.chart)).text
    assert '<html lang="ar" dir="rtl"' in shown
    for value in (
        "118/76 <small>mmHg</small>",
        "36.8 <small>°C</small>",
        visit.patient.mrn,
        "500 mg",
        "2024-05",
        "1991-08-19",
    ):
        assert f'<bdi dir="ltr">{value}</bdi>' in shown, value
        outside = shown.replace(f'<bdi dir="ltr">{value}</bdi>', "")
        assert not re.search(rf">[^<]*{re.escape(value)}", outside), value
    for english in ("Problems", "Medications", "Timeline", "Blood pressure", "Visit note", "Draft", "No known"):
        assert english not in shown


async def test_a_summary_that_refreshes_brings_the_allergies_with_it(clinic):
    patient = await clinic.patient()
    await record_allergies(clinic, patient)
    part = await (await clinic.client()).get(f"/emr/patients/{patient.id}/summary", headers={"hx-request": "true"})
    assert part.status_code == 200 and 'hx-swap-oob="outerHTML:#allergies"' in part.text and "Penicillin" in part.text


async def test_the_list_of_patients_finds_ours_in_either_script_and_never_theirs(clinic, other_clinic):
    await clinic.patient()
    await other_clinic.patient(given="Salma", family="Haddad", given_alt="سلمى", family_alt="حداد")
    browser = await clinic.client()
    for path in ("/emr/patients", "/emr/patients?q=hadad", "/emr/patients?q=ليلي"):
        shown = await browser.get(path)
        assert "Layla Haddad" in shown.text and "Salma" not in shown.text
    assert "Nobody found" in (await browser.get("/emr/patients?q=Zzyzx")).text
