"""A closed record answers with the closed page, by whatever id of it somebody comes: every staff route that reaches a patient.

A route with an id that nobody classified here fails, so that a new one is thought about.
"""

import re
import uuid
from datetime import timedelta

import pytest

from qanun.access import closed
from qanun.api import BookedAppointment, RecordClosed, new_id
from qanun_emr.service import record_allergy
from qanun_telemedicine import service as telemedicine
from qanun_telemedicine.models import Recording
from tests.contracts.test_route_matrix import MATRIX

WHY = "A colleague of ours, at her own wish"
#: Ids that lead to no patient, or to work that shows nothing of a record and that the clinic must be able to do.
ELSEWHERE = {
    "user_id", "passkey_id", "practitioner_id", "exception_id", "group_id", "session",
    # The privacy officer's: to open it again, to break the glass, to review that.
    "record", "access_id",
    # Whoever decides about the end of what is kept sees none of it.
    "hold_id", "review_id", "certificate_id",
}  # fmt: skip
EXEMPT = {
    "POST /scheduling/appointments/{appointment_id:uuid}/status": "the desk checks in; nothing of the record is shown",
    "POST /scheduling/appointments/{appointment_id:uuid}/start": "the desk calls in; the chart it leads to is closed",
    "POST /telemedicine/retention/pictures/{picture_id:uuid}/destroy": "whoever decides sees none of it",
    "POST /telemedicine/retention/recordings/{recording_id:uuid}/hold": "whoever decides sees none of it",
    "POST /telemedicine/retention/transcripts/{transcript_id:uuid}/destroy": "whoever decides sees none of it",
}
STAFF = {"administrator", "doctor", "nurse", "reception", "lab-technician"}
_ID = re.compile(r"\{(\w+):uuid\}")


def _reaching() -> dict[str, list[str]]:
    """Staff's routes with an id in them that leads to a patient, with the roles that get through."""
    return {
        route: row["roles"]
        for route, row in MATRIX.items()
        if route not in EXEMPT and set(row["roles"]) & STAFF and set(_ID.findall(route)) - ELSEWHERE
    }


async def _ids(clinic, patient) -> dict[str, uuid.UUID]:
    """Something of every kind in the patient's record."""
    async with clinic.context("reception") as ctx:
        booked = BookedAppointment(
            id=uuid.uuid4(), patient_id=patient.id, practitioner_id=clinic.practitioner.id, start=ctx.now,
            end=ctx.now + timedelta(minutes=20),
        )  # fmt: skip
        await telemedicine.prepare(ctx, booked)
        await ctx.db.flush()
        visit = await telemedicine.for_appointment(ctx, booked.id)
        assert visit is not None
    async with clinic.context("doctor") as ctx:
        made = await ctx.records.create("Encounter", {"subject": {"reference": f"Patient/{patient.id}"}})
        fact = await record_allergy(ctx, patient.id, {"substance": "Penicillin"})
        record = Recording(
            id=new_id(), consultation_id=visit.id, patient_id=patient.id, key=b"x", directory="nowhere", state="stopped",
            started_at=ctx.now, started_by=ctx.actor.id, stopped_at=ctx.now,
        )  # fmt: skip
        ctx.db.add(record)
        await ctx.db.flush()
    return {
        "patient_id": patient.id, "consultation_id": visit.id, "appointment_id": booked.id, "recording_id": record.id,
        "encounter_id": uuid.UUID(str(made["id"])), "entry_id": fact.id,
    }  # fmt: skip


async def _close(clinic, patient, role="nurse") -> None:
    async with clinic.context("administrator") as ctx:
        await closed.close_record(ctx, patient.mrn, WHY, [clinic.users[role].id])


def _url(path: str, ids: dict[str, uuid.UUID]) -> str:
    path = _ID.sub(lambda found: str(ids.get(found[1], uuid.uuid4())), path)
    path = path.replace("{kind:str}", "allergy").replace("{participant:str}", str(uuid.uuid4()))
    return re.sub(r"\{\w+:int\}", "0", path)


async def test_every_route_that_reaches_a_patient_answers_with_the_closed_page(clinic):
    patient, neighbour = await clinic.patient(), await clinic.patient(given="Omar")
    ids, theirs = await _ids(clinic, patient), await _ids(clinic, neighbour)
    await _close(clinic, patient)
    clients = {role: await clinic.client(role) for role in STAFF - {"nurse"}}
    wrong = []
    walked = 0
    for route, roles in _reaching().items():
        method, path = route.split(" ", 1)
        if method == "WEBSOCKET":
            continue  # has a test of its own, where there is a page to speak through it
        unknown = set(_ID.findall(path)) - ELSEWHERE - set(ids)
        if unknown and not set(_ID.findall(path)) & set(ids):
            wrong.append(f"{route}: nobody said where {unknown} leads")
            continue
        for role in sorted(set(roles) & set(clients)):
            sent = {} if method == "GET" else {"data": {"reason": "because it must be"}}
            answer = await clients[role].request(method, _url(path, ids), **sent)
            walked += 1
            if answer.status_code != 403 or "This record is closed" not in answer.text or patient.family in answer.text:
                wrong.append(f"{role} {route}: {answer.status_code}")
            if method == "GET" and role == "doctor":
                answer = await clients[role].request(method, _url(path, theirs))
                if "This record is closed" in answer.text:
                    wrong.append(f"{role} {route}: a neighbour's record answers as if it were closed")
    assert wrong == []
    assert walked > 60


async def test_the_broker_writes_into_no_closed_record_and_lists_none(clinic, other_clinic):
    patient, neighbour = await clinic.patient(), await clinic.patient(given="Omar")
    ids, theirs = await _ids(clinic, patient), await _ids(clinic, neighbour)
    stranger = await other_clinic.patient()
    elsewhere = await _ids(other_clinic, stranger)
    await _close(clinic, patient)
    for act in (
        lambda ctx: ctx.records.create("Encounter", {"subject": {"reference": f"Patient/{patient.id}"}}),
        lambda ctx: ctx.records.update("Encounter", ids["encounter_id"], {"status": "finished"}),
        lambda ctx: ctx.records.read("Encounter", ids["encounter_id"]),
        lambda ctx: ctx.records.search("Encounter", patient=patient.id),
        lambda ctx: telemedicine.consultation(ctx, ids["consultation_id"]),
        lambda ctx: telemedicine.readable(ctx, ids["recording_id"]),
    ):
        with pytest.raises(RecordClosed):
            async with clinic.context("doctor") as ctx:
                await act(ctx)
    async with clinic.context("doctor") as ctx:
        await ctx.records.update("Encounter", theirs["encounter_id"], {"status": "finished"})
    async with clinic.context("nurse") as ctx:
        assert (await ctx.records.read("Encounter", ids["encounter_id"]))["status"] != "finished", "nothing was written"
    async with other_clinic.context("doctor") as ctx:
        await ctx.records.update("Encounter", elsewhere["encounter_id"], {"status": "finished"})
    # The clinic's own work, and the patient, go on.
    async with clinic.context("system") as ctx:
        await telemedicine.consultation(ctx, ids["consultation_id"])
    async with clinic.context(actor=clinic.patient_actor(patient)) as ctx:
        await telemedicine.consultation(ctx, ids["consultation_id"])
