"""A group: one call for several patients of the clinic, each with a visit, an encounter and a record of their own."""

import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from sqlalchemy import select

from plugins.telemedicine.tests.conftest import Page, Visit, until
from plugins.telemedicine.tests.test_sockets import InCall
from qanun.api import Conflict, Invalid, NotFound
from qanun.audit import AuditEvent
from qanun.events.outbox import StoredEvent
from qanun.web.security import COOKIES
from qanun_telemedicine import service
from qanun_telemedicine.models import Consultation, Participant
from qanun_telemedicine.models_kept import Snapshot
from qanun_telemedicine.service import group as moderated
from qanun_telemedicine.service import together
from qanun_telemedicine.service.pictures import PICTURE_WORDING

SECRETS = ("Amina", "Youssef", "Layla")


@dataclass
class Group:
    clinic: object
    id: uuid.UUID
    visits: list[Visit]
    pages: list[Page]

    @property
    def href(self) -> str:
        return f"/telemedicine/groups/{self.id}"

    async def leads(self) -> InCall:
        """The doctor's page of the call."""
        path = f"/telemedicine/consultations/{self.id}/socket"
        cookie = (COOKIES["staff"], await self.clinic.staff_token("doctor"))
        page = await Page(self.clinic.application, path, cookie, "http://clinic.test").open()
        self.pages.append(page)
        return InCall(page)

    async def call(self) -> Consultation:
        async with self.clinic.context() as ctx:
            return await service.call_of(ctx, self.id)

    async def begin(self) -> None:
        async with self.clinic.context(actor=self.clinic.actor("doctor")) as ctx:
            await together.begin(ctx, await service.call_of(ctx, self.id, lock=True))

    async def let_in(self, visit: Visit, name: str) -> None:
        """They agree, wait, and are confirmed and let in."""
        await agree(visit, name)
        await visit.admit()


async def agree(visit: Visit, name: str, decision: str = "given") -> None:
    async with visit.acting("patient") as (ctx, row, _):
        await together.answer(ctx, row, decision, together.WORDING, name)


@pytest_asyncio.fixture
async def gather() -> AsyncIterator[object]:
    """`await gather(clinic, "Amina Idrissi", …)`: a planned group with these patients."""
    pages: list[Page] = []

    async def made(clinic, *names: str) -> Group:
        people = [await clinic.patient(given=name.split()[0], family=name.split()[1]) for name in names]
        visits = []
        async with clinic.context("reception") as ctx:
            call = await together.arrange(ctx, "Living with diabetes", clinic.practitioner.id, ctx.now, 60)
            for person in people:
                row = await together.add(ctx, call, person.id)
                visits.append(Visit(clinic, person, row.id, uuid.UUID(int=0), pages))
            id = call.id
        return Group(clinic, id, visits, pages)

    yield made
    for page in pages:
        await page.close()


async def trail(clinic, patient) -> list[AuditEvent]:
    async with clinic.context("system") as ctx:
        found = select(AuditEvent).where(AuditEvent.patient_id == patient.id).order_by(AuditEvent.seq)
        return list((await ctx.db.execute(found)).scalars())


async def test_each_patient_of_a_group_has_a_visit_a_link_and_a_record_of_their_own(clinic, other_clinic, gather):
    group = await gather(clinic, "Amina Idrissi", "Youssef Tazi")
    theirs = await gather(other_clinic, "Layla Haddad")
    reception = await clinic.client("reception")
    page = await reception.get(group.href)
    assert page.status_code == 200 and "Amina Idrissi" in page.text and "Layla" not in page.text
    links = {line.split('"')[0] for line in page.text.split('value="http://clinic.test')[1:]}
    assert len(links) == 2, "one link for each"
    stranger = await other_clinic.client("doctor")
    for path in ("", "/members", "/lobby"):
        assert (await stranger.get(f"{group.href}{path}")).status_code == 404
    for act in ("begin", "end", "patients", f"patients/{group.visits[0].id}/remove"):
        assert (
            await stranger.post(f"{group.href}/{act}", data={"patient": str(group.visits[0].patient.id)})
        ).status_code in (404, 422)
    assert (await stranger.get(theirs.href)).status_code == 200
    assert {(await one.row()).state for one in group.visits} == {"scheduled"}
    lab = await clinic.client("lab-technician")
    assert (await lab.get(group.href)).status_code == 403


async def test_nobody_comes_to_a_group_who_did_not_agree_and_chose_a_name(clinic, gather, live):
    group = await gather(clinic, "Amina Idrissi", "Youssef Tazi")
    amina, youssef = group.visits
    with pytest.raises(Conflict):
        await amina.wait()
    for decision, version, name, field in (
        ("perhaps", together.WORDING, "A", "decision"), ("given", "2020-1", "A", "version"),
        ("given", together.WORDING, "  ", "name"), ("given", together.WORDING, "x" * 41, "name"),
    ):  # fmt: skip
        with pytest.raises(Invalid) as refused:
            async with amina.acting("patient") as (ctx, row, _):
                await together.answer(ctx, row, decision, version, name)
        assert field in refused.value.fields
    await agree(amina, "Sunflower")
    with pytest.raises(Invalid) as refused:
        await agree(youssef, "sunflower")
    assert "name" in refused.value.fields, "two of one name cannot be told apart"
    for name in (clinic.practitioner.name.upper(), f" {clinic.practitioner.name_alt}"):
        with pytest.raises(Invalid) as refused:
            await agree(youssef, name)
        assert "name" in refused.value.fields, "nobody speaks in the clinician's name"
    await agree(youssef, "", "refused")
    with pytest.raises(Conflict):
        await youssef.wait()
    async with amina.acting() as (ctx, row, _):
        with pytest.raises(Conflict):
            await together.answer(ctx, row, "given", together.WORDING, "By the clinic")
    await amina.wait()
    with pytest.raises(Conflict):
        await amina.admit_now()  # the call does not run
    await group.begin()
    await amina.admit_now()
    assert (await amina.row()).state == "in-progress"
    assert (await amina.noted("telemedicine.group.given"))[0]["wording"] == together.WORDING
    assert len(await youssef.noted("telemedicine.group.refused")) == 1
    assert "Sunflower" not in str(await amina.noted("telemedicine.group.given")), "names are not for the audit's detail"


async def test_the_others_read_the_chosen_name_and_nothing_else(clinic, gather, worker):
    group = await gather(clinic, "Amina Idrissi", "Youssef Tazi", "Layla Haddad")
    amina, youssef, layla = group.visits
    await group.begin()
    doctor = await group.leads()
    assert (await doctor.join())["type"] == "answer"
    pages = []
    for visit, name in ((amina, "Sunflower"), (youssef, "Y.")):
        await group.let_in(visit, name)
        pages.append(InCall(await visit.page("patient")))
        assert (await pages[-1].join())["type"] == "answer"
    await agree(layla, "Moon")
    await layla.wait()
    waiting = await layla.page("patient")
    await waiting.sees(lambda state: state["state"] == "waiting", "Layla waits")
    await doctor.page.sees(lambda state: len(state["people"]) == 3, "three are there")
    await doctor.page.sees(
        lambda state: (
            {one["name"] for one in state["people"] if one["kind"] == "patient"}
            == {"Amina Idrissi (Sunflower)", "Youssef Tazi (Y.)"}
        ),
        "the clinic knows who is who",
    )
    assert all(one["chart"] for one in doctor.page.said("state")[-1]["people"] if one["kind"] == "patient")
    pages[0].page.send("say", id=str(uuid.uuid4()), text="Good morning")
    doctor.page.send("say", id=str(uuid.uuid4()), text="Welcome")
    heard = await pages[1].page.hears("said", text="Good morning")
    assert heard["name"] == "Sunflower"
    await pages[0].page.hears("said", text="Welcome")
    await pages[1].page.sees(
        lambda state: {one["name"] for one in state["people"] if one["kind"] == "patient"} == {"Sunflower", "Y."},
        "patients read the chosen names",
    )
    told = [(amina, json.dumps(pages[0].page.heard)), (youssef, json.dumps(pages[1].page.heard))]
    for visit, words in told:
        for other in group.visits:
            if other is not visit:
                assert str(other.id) not in words and str(other.patient.id) not in words
        assert not any(secret in words for secret in SECRETS) and "/emr/" not in words
        assert "visits" not in words
    # Who was not let in learns nothing of who is there and what is said.
    outside = json.dumps(waiting.heard)
    assert "Sunflower" not in outside and "Good morning" not in outside and '"people": []' in outside
    room = (await group.call()).room
    assert len((await worker.clients[0].stats(room))[room]) == 3


async def test_no_patient_reaches_anothers_visit_or_the_call_by_its_own_address(clinic, other_clinic, gather, live):
    group = await gather(clinic, "Amina Idrissi", "Youssef Tazi")
    theirs = await gather(other_clinic, "Layla Haddad")
    amina, youssef = group.visits
    await group.begin()
    await group.let_in(amina, "Sunflower")
    await group.let_in(youssef, "Y.")
    browser = await clinic.portal(amina.patient)
    portal = f"/portal/{clinic.tenant.slug}/visits"
    assert (await browser.get(f"{portal}/{amina.id}")).status_code == 200
    for id in (youssef.id, group.id, theirs.id, theirs.visits[0].id):
        for path in ("", "/recording", f"/pictures/{uuid.uuid4()}"):
            assert (await browser.get(f"{portal}/{id}{path}")).status_code == 404, path
    for path in (f"{portal}/{group.id}/socket", f"{portal}/{youssef.id}/socket"):
        cookie = (COOKIES["portal"], await clinic.portal_token(amina.patient))
        page = await Page(clinic.application, path, cookie, "http://clinic.test").open()
        group.pages.append(page)
        await until(lambda page=page: page.closed is not None or page._task.done(), "is refused")
        assert not page.said("state")
    page = (await browser.get(f"{portal}/{amina.id}")).text
    assert "Youssef" not in page and "Tazi" not in page and str(youssef.id) not in page
    async with clinic.context(actor=clinic.patient_actor(amina.patient)) as ctx:
        await service.call_of(ctx, group.id)  # they are in it
    async with amina.acting() as (ctx, row, _):
        await service.end(ctx, row)
    async with clinic.context(actor=clinic.patient_actor(amina.patient)) as ctx:
        with pytest.raises(NotFound):
            await service.call_of(ctx, group.id)


async def test_attendance_and_encounter_and_billing_event_belong_to_each(clinic, gather, live):
    group = await gather(clinic, "Amina Idrissi", "Youssef Tazi", "Layla Haddad")
    amina, youssef, layla = group.visits
    await group.begin()
    async with clinic.context(actor=clinic.actor("doctor")) as ctx:
        call = await service.call_of(ctx, group.id)
        await service.arrive(ctx, call, await service.attend(ctx, call), "call", "desk")
    for visit, name in ((amina, "Sunflower"), (youssef, "Y.")):
        await group.let_in(visit, name)
        async with clinic.context(actor=clinic.patient_actor(visit.patient)) as ctx:
            call = await service.call_of(ctx, group.id)
            await service.arrive(ctx, call, await service.attend(ctx, call), "call", "phone")
    encounters = {visit.id: (await visit.row()).encounter_id for visit in (amina, youssef)}
    assert len(set(encounters.values())) == 2 and None not in encounters.values()
    # One goes, the group goes on.
    staff = await clinic.client("doctor")
    gone = await staff.post(f"/telemedicine/consultations/{amina.id}/end")
    assert gone.status_code == 303 and gone.headers["location"].endswith(group.href)
    assert (await youssef.row()).state == "in-progress" and (await group.call()).state == "in-progress"
    assert (await staff.post(f"{group.href}/end")).status_code == 303
    assert (await group.call()).state == "ended"
    assert [(await one.row()).state for one in group.visits] == ["ended", "ended", "cancelled"]
    async with clinic.context(actor=clinic.actor("doctor")) as ctx:
        for visit in (amina, youssef):
            held = await ctx.records.read("Encounter", encounters[visit.id])
            assert held["status"] == "finished"
            who = {(one["individual"].get("reference") or "").split("/")[0] for one in held["participant"]}
            patients = {
                one["individual"]["reference"] for one in held["participant"]
                if one["individual"].get("reference", "").startswith("Patient/")
            }  # fmt: skip
            assert patients == {f"Patient/{visit.patient.id}"} and "Practitioner" in who
        found = (await ctx.db.execute(select(StoredEvent))).scalars().all()
        ended = [one.payload for one in found if one.type == "telemedicine.consultation.ended"]
    assert {one["patient_id"] for one in ended} == {str(amina.patient.id), str(youssef.patient.id)}
    assert {one["encounter_id"] for one in ended} == {str(one) for one in encounters.values()}
    for visit, other in ((amina, youssef), (youssef, amina)):
        lines = await trail(clinic, visit.patient)
        kinds = [one.type for one in lines]
        assert kinds.count("telemedicine.participant.join") == kinds.count("telemedicine.participant.leave") == 1
        assert "telemedicine.consultation.end" in kinds
        words = " ".join(one.body for one in lines)
        assert str(other.patient.id) not in words and str(other.id) not in words
    assert "telemedicine.participant.join" not in [one.type for one in await trail(clinic, layla.patient)]
    page = (await staff.get(f"/telemedicine/consultations/{amina.id}")).text
    assert "Youssef" not in page and "Tazi" not in page and ">Y.<" not in page


async def test_a_picture_goes_into_the_record_of_whom_it_shows(clinic, gather, live):
    group = await gather(clinic, "Amina Idrissi", "Youssef Tazi")
    amina, youssef = group.visits
    await group.begin()
    people = {}
    for visit, name in ((amina, "Sunflower"), (youssef, "Y.")):
        await group.let_in(visit, name)
        async with clinic.context(actor=clinic.patient_actor(visit.patient)) as ctx:
            call = await service.call_of(ctx, group.id)
            people[visit.id] = await service.attend(ctx, call)
            await service.arrive(ctx, call, people[visit.id], "call", "phone")
    async with clinic.context(actor=clinic.actor("doctor")) as ctx:
        call = await service.call_of(ctx, group.id)
        me = await service.attend(ctx, call)
        await service.arrive(ctx, call, me, "call", "desk")
        asked = await service.ask_picture(ctx, call, people[youssef.id].id)
        asked_id = asked.id
        assert asked.consultation_id == youssef.id and asked.patient_id == youssef.patient.id
        assert asked.encounter_id == (await youssef.row()).encounter_id
    async with clinic.context(actor=clinic.patient_actor(amina.patient)) as ctx:
        call = await service.call_of(ctx, group.id)
        with pytest.raises(NotFound):
            await service.answer_picture(ctx, call, people[amina.id], asked_id, "given", PICTURE_WORDING)
    async with clinic.context(actor=clinic.patient_actor(youssef.patient)) as ctx:
        call = await service.call_of(ctx, group.id)
        person = await service.attend(ctx, call)
        assert (await service.snapshot(ctx, await service.consultation(ctx, youssef.id), person))["picture"]
        await service.answer_picture(ctx, call, person, asked_id, "given", PICTURE_WORDING)
    async with clinic.context() as ctx:
        assert [one.patient_id for one in (await ctx.db.execute(select(Snapshot))).scalars()] == [youssef.patient.id]
    assert "telemedicine.picture.given" not in [one.type for one in await trail(clinic, amina.patient)]


async def test_what_a_group_does_not_have_is_refused(clinic, gather, live):
    group = await gather(clinic, "Amina Idrissi")
    (amina,) = group.visits
    await group.begin()
    await group.let_in(amina, "Sunflower")
    async with clinic.context(actor=clinic.actor("doctor")) as ctx:
        call = await service.call_of(ctx, group.id)
        row = await service.consultation(ctx, amina.id)
        for refused in (
            service.ask_to_record(ctx, call), service.ask_to_record(ctx, row),
            service.attach(ctx, call, await service.attend(ctx, call), uuid.uuid4(), "a.pdf", b"%PDF-1.4"),
            service.invite_to(ctx, row, "Huda Alami", "relative"),
            service.hand_over(ctx, row, uuid.uuid4()),
            service.choose_encryption(ctx, row, True),
        ):  # fmt: skip
            with pytest.raises(Conflict):
                await refused
    staff = await clinic.client("doctor")
    for path in ("lobby", "place", "identity", "admit", "encryption"):
        address = f"/telemedicine/consultations/{group.id}/{path}"
        answer = await (staff.get(address) if path == "lobby" else staff.post(address))
        assert answer.status_code == 404, path


async def test_eleven_patients_come_to_a_group_and_none_twice(clinic, other_clinic, gather):
    group = await gather(clinic, *(f"Patient N{number}" for number in range(together.MOST_PATIENTS)))
    stranger = await other_clinic.patient()
    one_more = await clinic.patient()
    async with clinic.context("reception") as ctx:
        call = await service.call_of(ctx, group.id, lock=True)
        for patient_id in (one_more.id, group.visits[0].patient.id):
            with pytest.raises(Invalid):
                await together.add(ctx, call, patient_id)
        await service.cancel(ctx, await service.consultation(ctx, group.visits[0].id))
        await ctx.db.flush()
        with pytest.raises(NotFound):
            await together.add(ctx, call, stranger.id)
        await together.add(ctx, call, one_more.id)
        assert len(await together.members_of(ctx, call)) == together.MOST_PATIENTS


async def test_a_group_is_planned_on_its_page_and_what_is_wrong_is_named_and_stays_typed(clinic):
    reception = await clinic.client("reception")
    assert (await reception.get("/telemedicine/groups/new")).status_code == 200
    filled = {
        "title": "Diabetes",
        "practitioner": str(clinic.practitioner.id),
        "date": "2020-01-01",
        "time": "09:00",
        "minutes": "60",
    }
    refused = await reception.post("/telemedicine/groups", data=filled)
    assert refused.status_code == 422 and "not over" in refused.text and 'value="Diabetes"' in refused.text
    day = (datetime.now(UTC) + timedelta(days=3)).date().isoformat()
    for name, value in (
        ("title", " "), ("practitioner", str(uuid.uuid4())), ("minutes", "7"), ("date", "soon"), ("date", "9999-12-31"),
    ):  # fmt: skip
        assert (
            await reception.post("/telemedicine/groups", data=filled | {"date": day, name: value})
        ).status_code == 422
    made = await reception.post("/telemedicine/groups", data=filled | {"date": day})
    assert made.status_code == 303
    person = await clinic.patient(given="Amina", family="Idrissi")
    address = made.headers["location"].removeprefix("http://clinic.test")
    found = await reception.get(f"{address}?q=Idrissi")
    assert str(person.id) in found.text
    assert (await reception.post(f"{address}/patients", data={"patient": str(person.id)})).status_code == 303
    again = await reception.post(f"{address}/patients", data={"patient": str(person.id), "q": "Idrissi"})
    assert again.status_code == 422 and "comes already" in again.text and 'value="Idrissi"' in again.text
    assert "Diabetes" in (await reception.get("/telemedicine/consultations")).text


async def test_a_patient_who_changes_their_mind_is_out_of_the_call_at_once(clinic, gather, worker):
    group = await gather(clinic, "Amina Idrissi", "Youssef Tazi")
    amina, youssef = group.visits
    await group.begin()
    pages = []
    for visit, name in ((amina, "Sunflower"), (youssef, "Y.")):
        await group.let_in(visit, name)
        pages.append(InCall(await visit.page("patient")))
        assert (await pages[-1].join())["type"] == "answer"
    await pages[1].page.sees(lambda state: len(state["people"]) == 2, "both are there")
    pages[0].page.send("group-answer", decision="refused", version=together.WORDING)
    await pages[1].page.sees(lambda state: len(state["people"]) == 1, "one is gone")
    assert (await pages[0].join())["type"] == "error", "and does not come back without agreeing again"
    assert (await amina.row()).group_answer == "refused"
    room = (await group.call()).room

    async def alone() -> bool:
        return len((await worker.clients[0].stats(room))[room]) == 1

    await until(alone, "the media worker has one")


async def test_a_locked_group_lets_nobody_new_in(clinic, gather, live):
    group = await gather(clinic, "Amina Idrissi")
    (amina,) = group.visits
    await group.begin()
    await agree(amina, "Sunflower")
    await amina.wait()
    async with clinic.context(actor=clinic.actor("doctor")) as ctx:
        await moderated.lock(ctx, await service.call_of(ctx, group.id, lock=True), True)
    with pytest.raises(Conflict):
        await amina.admit_now()
    async with clinic.context() as ctx:
        people = (await ctx.db.execute(select(Participant).where(Participant.consultation_id == group.id))).scalars()
        assert all(one.kind != "patient" for one in people)


async def test_who_expected_a_group_that_is_called_off_stands_there_to_be_called(clinic, other_clinic, gather):
    group = await gather(clinic, "Amina Idrissi", "Youssef Tazi")
    amina, youssef = group.visits
    desk = await clinic.client("reception")
    taken_off = await desk.post(f"{group.href}/patients/{youssef.id}/remove")
    assert taken_off.status_code == 303
    planned = (await desk.get(group.href)).text
    assert amina.patient.phone not in planned and "cannot be undone" in planned
    stranger = await other_clinic.client("reception")
    assert (await stranger.post(f"{group.href}/cancel")).status_code == 404
    # A second click changes nothing, and says nothing that is not so.
    for _ in range(2):
        assert (await desk.post(f"{group.href}/cancel")).status_code == 303
    page = (await desk.get(group.href)).text
    assert "Amina" in page and f"tel:{amina.patient.phone.replace(' ', '')}" in page and "Call them" in page
    assert "Youssef" not in page, "who was taken off before expects nothing"
    assert f"{group.href}/cancel" not in page and f"/visits/{amina.id}" not in page
    row = await amina.row()
    assert row.state == "cancelled" and row.invitation is None
