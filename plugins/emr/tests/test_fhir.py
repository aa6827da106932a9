"""The record for other plugins: a patient reads their own visits and nothing else, an appointment has one visit."""

import asyncio
import uuid

import pytest
from sqlalchemy import func, select

from qanun.api import Conflict, Forbidden, Invalid, NotFound
from qanun_emr import service
from qanun_emr.models import Encounter


def encounter_for(patient, appointment, **values):
    return {
        "resourceType": "Encounter",
        "class": {"code": "VR"},
        "subject": {"reference": f"Patient/{patient.id}"},
        "appointment": [{"reference": appointment}] if appointment else [],
        **values,
    }


def appointment():
    return f"Appointment/{uuid.uuid4()}"


async def visits(clinic):
    async with clinic.context() as ctx:
        return (await ctx.db.execute(select(func.count()).select_from(Encounter))).scalar_one()


async def test_a_patient_reads_only_their_own_visits(clinic, other_clinic, begin):
    mine, neighbours, foreign = await begin(clinic), await begin(clinic), await begin(other_clinic)
    async with clinic.context(actor=clinic.patient_actor(mine.patient)) as ctx:
        assert [one["id"] for one in await ctx.records.search("Encounter")] == [str(mine.id)]
        asked_for_another = await ctx.records.search("Encounter", patient=neighbours.patient.id)
        assert [one["id"] for one in asked_for_another] == [str(mine.id)]
        assert (await ctx.records.read("Encounter", mine.id))["id"] == str(mine.id)
        for other in (neighbours.id, foreign.id, uuid.uuid4()):
            with pytest.raises(NotFound):
                await ctx.records.read("Encounter", other)


async def test_a_patient_finds_no_neighbours_visit_by_its_appointment(clinic, begin):
    theirs = appointment()
    neighbour = await begin(clinic, appointment=theirs)
    patient = await clinic.patient()
    async with clinic.context(actor=clinic.patient_actor(patient)) as ctx:
        assert await ctx.records.search("Encounter", appointment=theirs) == []
    async with clinic.context(actor=clinic.patient_actor(neighbour.patient)) as ctx:
        assert [one["id"] for one in await ctx.records.search("Encounter", appointment=theirs)] == [str(neighbour.id)]


async def test_a_patient_reads_their_allergies_but_no_problem_list_and_writes_nothing(clinic):
    patient, neighbour = await clinic.patient(), await clinic.patient(given="Omar", family="Ziani")
    async with clinic.context() as ctx:
        await service.record_allergy(ctx, patient.id, {"substance": "Latex"})
        await service.record_allergy(ctx, neighbour.id, {"substance": "Peanut"})
    async with clinic.context(actor=clinic.patient_actor(patient)) as ctx:
        found = await ctx.records.search("AllergyIntolerance", patient=neighbour.id)
        assert [one["code"]["text"] for one in found] == ["Latex"]
        for type in ("Condition", "Observation"):
            with pytest.raises(Forbidden):
                await ctx.records.search(type)
        with pytest.raises(Forbidden):
            await ctx.records.create("Encounter", encounter_for(patient, ""))


@pytest.mark.parametrize("role", ["reception", "lab-technician", "administrator"])
async def test_who_may_not_open_the_chart_asks_the_broker_in_vain(clinic, begin, role):
    visit = await begin(clinic)
    async with clinic.context(role) as ctx:
        for type in ("Encounter", "AllergyIntolerance", "Observation", "Condition"):
            with pytest.raises(Forbidden):
                await ctx.records.search(type, patient=visit.patient.id)
        with pytest.raises(Forbidden):
            await ctx.records.read("Encounter", visit.id)


async def test_an_appointment_has_one_visit_however_often_and_at_once_it_is_begun(clinic, other_clinic):
    patient, about = await clinic.patient(), appointment()

    async def begin_once():
        async with clinic.context() as ctx:
            return (await ctx.records.create("Encounter", encounter_for(patient, about)))["id"]

    ids = await asyncio.gather(*(begin_once() for _ in range(8)))
    assert len({*ids, await begin_once()}) == 1
    assert await visits(clinic) == 1 and await visits(other_clinic) == 0


async def test_visits_without_an_appointment_are_each_their_own(clinic):
    patient = await clinic.patient()
    async with clinic.context() as ctx:
        first = await ctx.records.create("Encounter", encounter_for(patient, ""))
        second = await ctx.records.create("Encounter", encounter_for(patient, ""))
    assert first["id"] != second["id"]


async def test_an_appointments_visit_is_never_given_to_another_patient(clinic):
    patient, neighbour, about = await clinic.patient(), await clinic.patient(given="Omar"), appointment()
    async with clinic.context() as ctx:
        await ctx.records.create("Encounter", encounter_for(patient, about))
    with pytest.raises(Conflict):
        async with clinic.context() as ctx:
            await ctx.records.create("Encounter", encounter_for(neighbour, about))
    assert await visits(clinic) == 1


async def test_a_visit_of_nobody_of_a_stranger_or_of_an_unknown_kind_is_refused(clinic, other_clinic):
    theirs, ours = await other_clinic.patient(), await clinic.patient()
    async with clinic.context() as ctx:
        with pytest.raises(Invalid):
            await ctx.records.create("Encounter", {"subject": {"reference": "Group/1"}})
        with pytest.raises(NotFound):
            await ctx.records.create("Encounter", encounter_for(theirs, ""))
        with pytest.raises(Invalid):
            await ctx.records.create("Encounter", encounter_for(ours, "", **{"class": {"code": "INPATIENT"}}))
    assert await visits(clinic) == 0


async def test_finishing_says_who_took_part_and_can_be_repeated(clinic):
    patient = await clinic.patient()
    people = [
        {
            "individual": {"reference": f"Patient/{patient.id}", "display": "Layla Haddad"},
            "type": [{"text": "patient"}],
            "period": {"start": "2026-05-12T09:00:00+00:00", "end": "2026-05-12T09:20:00+00:00"},
        }
    ]
    async with clinic.context() as ctx:
        id = uuid.UUID((await ctx.records.create("Encounter", encounter_for(patient, appointment())))["id"])
    for _ in range(2):
        async with clinic.context() as ctx:
            await ctx.records.update("Encounter", id, {"status": "finished", "participant": people})
    async with clinic.context() as ctx:
        stored = await ctx.records.read("Encounter", id)
        with pytest.raises(Invalid):
            await ctx.records.update("Encounter", id, {"status": "cancelled"})
    assert stored["status"] == "finished" and stored["period"]["end"]
    timed = [entry for entry in stored["participant"] if "period" in entry]
    assert [entry["individual"]["display"] for entry in timed] == ["Layla Haddad"]


async def test_blood_pressure_is_one_observation_with_two_components_and_what_was_taken_back_is_gone(clinic):
    patient = await clinic.patient()
    async with clinic.context() as ctx:
        kept, wrong = await service.record_vitals(
            ctx, patient.id, {"systolic": "118", "diastolic": "76", "heart_rate": "170"}
        )
        await service.void_entry(ctx, "observation", wrong.id, "mistyped")
    async with clinic.context() as ctx:
        found = await ctx.records.search("Observation", patient=patient.id)
        with pytest.raises(NotFound):
            await ctx.records.read("Observation", wrong.id)
    assert [one["id"] for one in found] == [str(kept.id)]
    parts = {part["code"]["coding"][0]["code"]: part["valueQuantity"] for part in found[0]["component"]}
    assert {code: quantity["value"] for code, quantity in parts.items()} == {"8480-6": "118", "8462-4": "76"}
    assert {quantity["code"] for quantity in parts.values()} == {"mm[Hg]"}


async def test_values_are_plain_decimals_for_whoever_reads_them(clinic):
    patient = await clinic.patient()
    async with clinic.context() as ctx:
        await service.record_vitals(ctx, patient.id, {"weight": "80", "height": "170.50", "spo2": "100"})
    async with clinic.context() as ctx:
        found = await ctx.records.search("Observation", patient=patient.id)
    assert {one["valueQuantity"]["value"] for one in found} == {"80", "170.5", "100"}
