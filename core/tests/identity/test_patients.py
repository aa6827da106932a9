"""Reception finds people whatever the spelling; what cannot be stored is refused at its field."""

import pytest

from qanun.errors import Invalid, NotFound
from qanun.identity import PatientDraft, find_patients, patient, register_patient
from qanun.identity.patients import likely_duplicates


@pytest.mark.parametrize(
    "typed",
    [
        "Haddad",
        "hadad",
        "ليلى",
        "ليلي حداد",
        "Layla Hadad",
        "haddad layla",
        "QN-000001",
        "٠٦١٢٣٤٥٦",
        "1991-08-19",
        "١٩٩١-٠٨-١٩",
    ],
)
async def test_a_patient_is_found_in_either_script_with_typos_numbers_and_birth_date(clinic, other_clinic, typed):
    ours = await clinic.patient(phone="+212 6 06123456")
    await clinic.patient(given="Omar", family="Ziani", given_alt="عمر", family_alt="الزياني", birth_date="1980-01-02")
    await other_clinic.patient(phone="+212 6 06123456")
    async with clinic.context("reception") as ctx:
        found = await find_patients(ctx, typed)
    assert [match.id for match in found][:1] == [ours.id]
    assert len(found) == 1


async def test_a_search_finds_nothing_for_a_stranger_for_one_letter_and_for_wildcards(clinic, other_clinic):
    await other_clinic.patient()
    await clinic.patient()
    async with clinic.context("reception") as ctx:
        for typed in ("", "a", "Zzyzx", "%%", "__"):
            assert await find_patients(ctx, typed) == []


async def test_registration_names_every_faulty_field_and_stores_nothing(clinic):
    draft = PatientDraft(given=" ", family="", birth_date="2999-01-01", sex="x", phone="abc", email="nobody")
    with pytest.raises(Invalid) as refusal:
        async with clinic.context("reception") as ctx:
            await register_patient(ctx, draft)
    assert set(refusal.value.fields) == {"given", "family", "birth_date", "sex", "phone", "email"}
    async with clinic.context("reception") as ctx:
        registered = await register_patient(ctx, PatientDraft(given="A", family="B", birth_date="1990-01-01"))
    assert registered.mrn == "QN-000001"


async def test_native_digits_are_stored_as_ascii(clinic):
    registered = await clinic.patient(birth_date="١٩٩١-٠٨-١٩", phone="٠٦١٢٣٤٥٦٧٨")
    assert registered.birth_date.isoformat() == "1991-08-19"
    assert registered.phone == "0612345678"


async def test_a_likely_duplicate_is_named_and_a_namesake_of_another_age_is_not(clinic, other_clinic):
    ours = await clinic.patient()
    await other_clinic.patient()
    async with clinic.context("reception") as ctx:
        same = await likely_duplicates(ctx, PatientDraft(given="Laila", family="Hadad", birth_date="1991-08-19"))
        other = await likely_duplicates(ctx, PatientDraft(given="Layla", family="Haddad", birth_date="1950-01-01"))
    assert [match.id for match in same] == [ours.id]
    assert other == []


async def test_an_unknown_patient_and_another_clinics_patient_look_the_same(clinic, other_clinic):
    theirs = await other_clinic.patient()
    async with clinic.context() as ctx:
        with pytest.raises(NotFound) as foreign:
            await patient(ctx, theirs.id)
        with pytest.raises(NotFound) as unknown:
            await patient(ctx, ctx.tenant.id)
    assert str(foreign.value) == str(unknown.value)


async def test_record_numbers_have_no_gap_after_a_refused_registration(clinic, other_clinic):
    await clinic.patient()
    with pytest.raises(RuntimeError):
        async with clinic.context("reception") as ctx:
            await register_patient(ctx, PatientDraft(given="A", family="B", birth_date="1990-01-01"))
            raise RuntimeError
    assert (await clinic.patient()).mrn == "QN-000002"
    assert (await other_clinic.patient()).mrn == "QN-000001"
