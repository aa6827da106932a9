"""Consultations in writing: asked from the portal, promised, taken up by who makes sure whose question it is, answered, closed."""

import uuid
from datetime import timedelta

import pytest
from sqlalchemy import select

from qanun.api import Conflict, Invalid
from qanun_telemedicine import service
from qanun_telemedicine.models import ChatMessage, Consultation
from qanun_telemedicine.service import group, written

JPEG = b"\xff\xd8\xff\xe0" + b"a rash on the arm" * 20
QUESTION = "Is this rash from the new tablets?"


class Question:
    """A patient's question, and its two addresses."""

    def __init__(self, clinic, patient, id: uuid.UUID) -> None:
        self.clinic, self.patient, self.id = clinic, patient, id
        self.href = f"/telemedicine/written/{id}"
        self.portal = f"/portal/{clinic.tenant.slug}/written/{id}"

    async def row(self) -> Consultation:
        async with self.clinic.context() as ctx:
            return await service.consultation(ctx, self.id)


async def asks(clinic, patient=None, *, file: bytes = b"", text: str = QUESTION, to: str = "") -> Question:
    patient = patient or await clinic.patient()
    portal = await clinic.portal(patient)
    data = {"practitioner": to or str(clinic.practitioner.id), "text": text}
    files = {"file": ("arm.jpg", file, "image/jpeg")} if file else None
    answer = await portal.post(f"/portal/{clinic.tenant.slug}/written", data=data, files=files)
    assert answer.status_code == 303, answer.text[-2000:]
    return Question(clinic, patient, uuid.UUID(answer.headers["location"].rsplit("/", 1)[1]))


async def test_a_question_with_a_photo_is_asked_taken_up_answered_and_closed(clinic, other_clinic):
    question = await asks(clinic, file=JPEG)
    row = await question.row()
    assert (row.mode, row.state) == ("written", "waiting")
    assert row.answer_by - row.waiting_since == timedelta(hours=48)
    doctor, portal = await clinic.client(), await clinic.portal(question.patient)
    page = (await doctor.get(question.href)).text
    assert QUESTION in page and "arm.jpg" in page and question.patient.name in page
    calls = (await doctor.get("/telemedicine/consultations")).text
    assert question.href in calls and "Promised by" in calls
    assert (await doctor.post(f"{question.href}/lines", data={"text": "Stop them"})).status_code == 409, "not taken up"
    assert (await doctor.post(f"{question.href}/take-up")).status_code == 422, "nobody looked whose it is"
    assert (await question.row()).state == "waiting"
    for _ in range(2):
        assert (await doctor.post(f"{question.href}/take-up", data={"known": "1"})).status_code == 303
    row = await question.row()
    assert (row.state, row.admitted_by) == ("in-progress", clinic.users["doctor"].id)
    async with clinic.context() as ctx:
        check = await service.latest_check(ctx, question.id)
        assert [one["identifier"] for one in check.identifiers] == ["account", "birth-date"]
        if ctx.records.provides("Encounter"):
            encounter = await ctx.records.read("Encounter", row.encounter_id)
            assert encounter["subject"]["reference"] == f"Patient/{question.patient.id}"
    assert (
        await doctor.post(f"{question.href}/lines", data={"text": "Stop them and come tomorrow"})
    ).status_code == 303
    seen = (await portal.get(question.portal)).text
    assert "Stop them and come tomorrow" in seen
    assert "There is an answer for you" in (await portal.get(f"/portal/{clinic.tenant.slug}")).text
    assert (await portal.post(f"{question.portal}/lines", data={"text": "Thank you"})).status_code == 303
    assert (await doctor.post(f"{question.href}/end")).status_code == 303
    row = await question.row()
    assert (row.state, row.ended_by) == ("ended", clinic.users["doctor"].id)
    assert (await portal.post(f"{question.portal}/lines", data={"text": "one more"})).status_code == 409
    shown = (await portal.get(question.portal)).text
    assert "This question is closed" in shown and "<textarea" not in shown
    async with clinic.context() as ctx:
        if row.encounter_id and ctx.records.provides("Encounter"):
            assert (await ctx.records.read("Encounter", row.encounter_id))["status"] == "finished"
    async with other_clinic.context() as ctx:
        assert (await ctx.db.execute(select(Consultation))).first() is None
        assert (await ctx.db.execute(select(ChatMessage))).first() is None


async def test_every_step_is_announced_and_written_down_as_for_a_call(clinic):
    question = await asks(clinic)
    events = []
    for step in (
        lambda ctx, row: written.take_up(ctx, row, known=True),
        lambda ctx, row: written.write(ctx, row, "Yes."),
        service.end,
    ):
        async with clinic.context() as ctx:
            await step(ctx, await service.consultation(ctx, question.id, lock=True))
            events += [event.type for event in ctx.events]
    assert "telemedicine.consultation.admitted" in events and "telemedicine.consultation.ended" in events
    from qanun.audit import AuditEvent

    async with clinic.context("system") as ctx:
        found = select(AuditEvent.type).where(AuditEvent.patient_id == question.patient.id)
        types = set((await ctx.db.execute(found)).scalars())
    assert {
        "telemedicine.written.ask", "telemedicine.identity.confirm", "telemedicine.consultation.admit",
        "telemedicine.chat.send", "telemedicine.consultation.end",
    } <= types  # fmt: skip


async def test_a_question_is_read_by_who_treats_and_by_its_patient_alone(clinic, other_clinic):
    question, hers = await asks(clinic), await asks(clinic)
    for role in ("reception", "administrator", "lab-technician"):
        client = await clinic.client(role)
        assert (await client.get(question.href)).status_code == 403
        assert (await client.post(f"{question.href}/take-up", data={"known": "1"})).status_code == 403
    nurse = await clinic.client("nurse")
    assert (await nurse.get(question.href)).status_code == 200
    assert (await nurse.post(f"{question.href}/take-up", data={"known": "1"})).status_code == 403
    other = await clinic.portal(hers.patient)
    assert (await other.get(question.portal)).status_code == 404
    assert (await other.post(f"{question.portal}/lines", data={"text": "me too"})).status_code == 404
    assert QUESTION not in (await (await clinic.client("reception")).get("/telemedicine/consultations")).text
    stranger = await other_clinic.client()
    assert (await stranger.get(question.href)).status_code == 404
    assert QUESTION not in (await stranger.get("/telemedicine/consultations")).text
    assert str(question.id) not in (await stranger.get("/telemedicine/consultations")).text


@pytest.mark.parametrize(
    ("wrong", "file"),
    [
        ({"text": "  "}, b""),
        ({"text": "x" * 2001}, b""),
        ({"practitioner": str(uuid.uuid4())}, b""),
        ({"practitioner": "anybody"}, b""),
        ({}, b"<html>"),
    ],
)
async def test_a_question_that_cannot_be_asked_keeps_what_was_typed_and_stores_nothing(clinic, wrong, file):
    patient = await clinic.patient()
    portal = await clinic.portal(patient)
    data = {"practitioner": str(clinic.practitioner.id), "text": "My knee hurts", **wrong}
    files = {"file": ("page.jpg", file, "image/jpeg")} if file else None
    answer = await portal.post(f"/portal/{clinic.tenant.slug}/written", data=data, files=files)
    assert answer.status_code == 422 and data["text"].strip() in answer.text
    async with clinic.context() as ctx:
        assert (await ctx.db.execute(select(Consultation))).first() is None


async def test_three_questions_are_open_at_most(clinic):
    patient = await clinic.patient()
    questions = [await asks(clinic, patient) for _ in range(3)]
    async with clinic.context(actor=clinic.patient_actor(patient)) as ctx:
        with pytest.raises(Invalid):
            await written.ask(ctx, clinic.practitioner.id, "a fourth")
    async with clinic.context() as ctx:
        row = await service.consultation(ctx, questions[0].id, lock=True)
        await written.take_up(ctx, row, known=True)
        await service.end(ctx, row)
    await asks(clinic, patient)


async def test_a_promise_that_was_not_kept_is_seen(clinic):
    question, kept = await asks(clinic), await asks(clinic)
    async with clinic.context() as ctx:
        row = await service.consultation(ctx, kept.id, lock=True)
        await written.take_up(ctx, row, known=True)
        await written.write(ctx, row, "Here is your answer")
        assert row.answer_by is None
        (await service.consultation(ctx, question.id, lock=True)).answer_by = ctx.now - timedelta(minutes=1)
    async with clinic.context() as ctx:
        found = {one.consultation.id: (one.answered, one.late) for one in await written.asked(ctx)}
    assert found == {question.id: (False, True), kept.id: (True, False)}


async def test_a_question_is_no_call(clinic, book, live):
    """It waits in no waiting room, is docked in no chart, and nobody joins it with a camera."""
    call = await book(clinic)
    await call.wait()
    question = await asks(clinic, call.patient)
    async with clinic.context() as ctx:
        assert [row.consultation.id for row in await service.waiting_list(ctx)] == [call.id]
        assert question.id not in [row.consultation.id for row in await service.day_list(ctx)]
        assert (await service.open_for_patient(ctx, call.patient.id)).id == call.id
        assert await service.send_to_all(ctx, None, "soon") == 1
    async with clinic.context() as ctx:
        row = await service.consultation(ctx, question.id, lock=True)
        await written.take_up(ctx, row, known=True)
        with pytest.raises(Conflict):
            await group.may_come(ctx, row, await service.attend(ctx, row))
    with pytest.raises(Conflict):
        async with call.acting() as (ctx, row, _):
            await written.take_up(ctx, row, known=True)
    doctor = await clinic.client()
    assert (await doctor.get(call.href.replace("consultations", "written"))).status_code == 404
    opened = await doctor.get(f"/telemedicine/consultations/{question.id}")
    assert opened.headers["location"] == question.href


# --- the promise -----------------------------------------------------------------------------------------------------------


async def test_the_clinic_sets_its_promise_and_what_waits_longer_is_shown(clinic, other_clinic):
    before = await asks(clinic)
    for role in ("doctor", "nurse", "reception"):
        assert (
            await (await clinic.client(role)).post("/telemedicine/written-terms", data={"hours": "4"})
        ).status_code == 403
    administrator = await clinic.client("administrator")
    for false in ("", "0", "337", "two", "1.5", "-3"):
        refused = await administrator.post("/telemedicine/written-terms", data={"hours": false})
        assert refused.status_code == 422 and "from 1 to 336" in refused.text
    assert (await administrator.post("/telemedicine/written-terms", data={"hours": "4"})).status_code == 303
    after, theirs = await asks(clinic), await asks(other_clinic)
    for question, promised in ((before, 48), (after, 4), (theirs, 48)):
        row = await question.row()
        assert row.answer_by - row.waiting_since == timedelta(hours=promised)
    portal = await clinic.portal(await clinic.patient())
    assert "within" in (await portal.get(f"/portal/{clinic.tenant.slug}")).text
    async with clinic.context() as ctx:
        assert await written.overdue(ctx) == 0
        (await service.consultation(ctx, after.id, lock=True)).answer_by = ctx.now - timedelta(minutes=1)
    day = f"/telemedicine/waiting?practitioner={clinic.practitioner.id}"
    assert "question in writing is overdue" in await text(await clinic.client(), day)
    assert "overdue" not in await text(await other_clinic.client(), "/telemedicine/waiting")
    calls = await text(await clinic.client(), "/telemedicine/consultations")
    assert calls.count(">late<") == 1
    async with clinic.context() as ctx:
        row = await service.consultation(ctx, after.id, lock=True)
        await written.take_up(ctx, row, known=True)
        assert await written.overdue(ctx) == 1, "taken up is not answered"
        await written.write(ctx, row, "Come tomorrow.")
        assert await written.overdue(ctx) == 0 and row.answer_by is None
    portal = await clinic.portal(after.patient)
    assert (await portal.post(f"{after.portal}/lines", data={"text": "When?"})).status_code == 303
    row = await after.row()
    assert row.answer_by is not None, "the next question is promised an answer again"


async def text(client, address: str) -> str:
    answer = await client.get(address)
    assert answer.status_code == 200
    return answer.text


# --- the clinic writes first -----------------------------------------------------------------------------------------------


async def test_a_clinician_writes_first_and_the_patient_answers(clinic, other_clinic):
    patient = await clinic.patient()
    sheet = f"/telemedicine/patients/{patient.id}/write"
    for role in ("nurse", "reception", "administrator"):
        assert (await (await clinic.client(role)).post(sheet, data={"text": "x"})).status_code == 403
    assert (await (await other_clinic.client()).post(sheet, data={"text": "x"})).status_code == 404
    doctor = await clinic.client()
    assert patient.name in await text(doctor, sheet)
    assert (await doctor.post(sheet, data={"text": "  "})).status_code == 422
    kept = await doctor.post(sheet, data={"text": "y" * 2001})
    assert kept.status_code == 422 and "y" * 2001 in kept.text, "nothing typed is lost"
    sent = await doctor.post(sheet, data={"text": "Your result is here. How do you feel?"})
    assert sent.status_code == 303
    thread = Question(clinic, patient, uuid.UUID(sent.headers["location"].rsplit("/", 1)[1]))
    row = await thread.row()
    assert (row.mode, row.state, row.answer_by) == ("written", "in-progress", None)
    async with clinic.context() as ctx:
        check = await service.latest_check(ctx, thread.id)
        assert check.identifiers == [{"identifier": "account", "how": "addressed"}]
    portal = await clinic.portal(patient)
    assert "How do you feel?" in await text(portal, thread.portal)
    assert "There is an answer for you" in await text(portal, f"/portal/{clinic.tenant.slug}")
    assert (await portal.post(f"{thread.portal}/lines", data={"text": "Better."})).status_code == 303
    assert "Better." in await text(doctor, thread.href)
    stranger = await clinic.portal(await clinic.patient())
    assert (await stranger.get(thread.portal)).status_code == 404
    async with other_clinic.context() as ctx:
        assert (await ctx.db.execute(select(Consultation))).first() is None


async def test_word_goes_outside_once_and_says_nothing_of_what_was_written(clinic, monkeypatch):
    patient = await clinic.patient(language="ar")
    told = []

    async def notify(ctx, patient_id, subject, words):
        told.append((patient_id, subject, words))
        return "core.mail"

    monkeypatch.setattr(written, "notify_patient", notify)
    async with clinic.context() as ctx:
        row = await written.begin(ctx, patient.id, "Your HIV test is negative.")
        await written.write(ctx, row, "Call me.")
    (only,) = told
    assert only[0] == patient.id and clinic.tenant.name in only[1]
    assert "HIV" not in str(told) and f"/written/{row.id}" in only[2]
    assert any("\u0600" <= letter <= "\u06ff" for letter in only[2]), "in the patient's language"
    portal = await clinic.portal(patient)
    assert (
        await portal.post(f"/portal/{clinic.tenant.slug}/written/{row.id}/lines", data={"text": "Why?"})
    ).status_code == 303
    async with clinic.context() as ctx:
        await written.write(ctx, await service.consultation(ctx, row.id, lock=True), "To explain.")
    assert len(told) == 2, "who wrote in between is told again"
