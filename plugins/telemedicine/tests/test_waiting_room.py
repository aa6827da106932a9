"""The waiting room: places in line, messages in the patient's language, a clinician who is told, a colleague who takes over."""

import uuid

import pytest
from sqlalchemy import select

from plugins.telemedicine.tests.test_sockets import InCall, call, colleague_of, speaking
from qanun.api import Conflict, Forbidden, Invalid, new_id
from qanun.identity import Membership, Practitioner
from qanun.tenancy import global_session
from qanun_telemedicine import service
from qanun_telemedicine.models import Handover, Notice


async def second_practitioner(clinic) -> Practitioner:
    """Dr Samir, who treats patients and signs in as `colleague`."""
    await colleague_of(clinic)
    samir = Practitioner(id=new_id(), name="Dr Samir", name_alt="د. سمير", specialty="Cardiology", licence="MA-2")
    async with clinic.context("system") as ctx:
        ctx.db.add(samir)
    async with global_session(clinic.assembly.runtime.database) as session:
        found = select(Membership).where(Membership.user_id == clinic.users["colleague"].id)
        (await session.execute(found)).scalar_one().practitioner_id = samir.id
        await session.commit()
    return samir


# --- the line -------------------------------------------------------------------------------------------------------------


async def test_several_wait_each_knows_their_place_and_moves_forward_by_themselves(clinic, other_clinic, book, live):
    first, second, theirs = await book(clinic), await book(clinic), await book(other_clinic)
    pages = []
    for visit in (theirs, first, second):
        page = await visit.page("patient")
        page.send("enter")
        await page.sees(lambda state: state["state"] == "waiting", "waits")
        pages.append(page)
    assert [page.said("state")[-1]["position"] for page in pages] == [0, 0, 1]
    await first.admit_now()
    await pages[2].sees(lambda state: state["position"] == 0, "the next one moves forward")
    assert pages[0].said("state")[-1]["position"] == 0


# --- messages -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["doctor", "nurse", "reception"])
async def test_a_message_is_read_in_the_patients_language_and_by_nobody_else(clinic, other_clinic, book, live, role):
    visit, hers = await book(clinic), await book(clinic)
    for one in (visit, hers):
        await one.wait()
    patient, other = await visit.page("patient"), await hers.page("patient")
    staff = await clinic.client(role)
    answer = await staff.post(f"{visit.href}/notices", data={"phrase": "late", "minutes": "١٥"})
    assert answer.status_code == 303
    state = await patient.sees(lambda state: state["notices"], "the message comes by itself")
    assert "15 more minutes" in state["notices"][0]["text"]
    assert other.said("state")[-1]["notices"] == []
    async with clinic.context(actor=clinic.patient_actor(visit.patient), locale="ar") as ctx:
        ((notice, text),) = await service.notices_of(ctx, visit.id)
    assert "15" in text and "minutes" not in text and notice.sent_by_name == clinic.users[role].name
    (noted,) = await visit.noted("telemedicine.notice.send")
    assert noted["phrase"] == "late"
    async with other_clinic.context() as ctx:
        assert (await ctx.db.execute(select(Notice))).first() is None
    assert (
        await (await other_clinic.client()).post(f"{visit.href}/notices", data={"phrase": "soon"})
    ).status_code == 404


@pytest.mark.parametrize(
    ("typed", "field"),
    [
        ({"phrase": "late", "minutes": "soon"}, "minutes"),
        ({"phrase": "late", "minutes": "0"}, "minutes"),
        ({"phrase": "late", "minutes": "241"}, "minutes"),
        ({"phrase": "own", "text": "  "}, "text"),
        ({"phrase": "own", "text": "x" * 301}, "text"),
        ({"phrase": "hello"}, "phrase"),
    ],
)
async def test_a_message_that_says_nothing_is_not_sent_and_what_was_typed_stays(clinic, book, typed, field):
    visit = await book(clinic)
    await visit.wait()
    with pytest.raises(Invalid) as refused:
        async with visit.acting() as (ctx, row, _):
            await service.send(ctx, row, **typed)
    assert list(refused.value.fields) == [field]
    answer = await (await clinic.client("reception")).post(f"{visit.href}/notices", data=typed)
    assert answer.status_code == 422
    everywhere = await (await clinic.client("reception")).post("/telemedicine/waiting/notices", data=typed)
    assert everywhere.status_code == 422 and "<html" in everywhere.text
    async with clinic.context() as ctx:
        assert (await ctx.db.execute(select(Notice))).first() is None


@pytest.mark.parametrize(
    ("minutes", "english", "arabic"),
    [
        (1, "about 1 more minute.", "دقيقة واحدة"), (2, "2 more minutes", "دقيقتين"), (10, "10 more minutes", "10 دقائق"),
        (11, "11 more minutes", "11 دقيقة"), (100, "100 more minutes", "100 دقيقة"),
    ],
)  # fmt: skip
async def test_how_late_it_is_is_said_as_the_language_counts(clinic, book, minutes, english, arabic):
    visit = await book(clinic)
    await visit.wait()
    async with visit.acting() as (ctx, row, _):
        await service.send(ctx, row, "late", str(minutes), "")
    for locale, expected in (("en", english), ("ar", arabic)):
        async with clinic.context(actor=clinic.patient_actor(visit.patient), locale=locale) as ctx:
            ((_, text),) = await service.notices_of(ctx, visit.id)
        assert expected in text and "%(" not in text


async def test_only_who_waits_is_written_to_and_only_by_who_may(clinic, book):
    visit = await book(clinic)
    doctor = await clinic.client()
    assert (await doctor.post(f"{visit.href}/notices", data={"phrase": "soon"})).status_code == 409
    await visit.wait()
    for role in ("administrator", "lab-technician"):
        client = await clinic.client(role)
        assert (await client.post(f"{visit.href}/notices", data={"phrase": "soon"})).status_code == 403
        assert (await client.post("/telemedicine/waiting/notices", data={"phrase": "soon"})).status_code == 403
    await visit.admit_now()
    assert (await doctor.post(f"{visit.href}/notices", data={"phrase": "soon"})).status_code == 409
    async with clinic.context() as ctx:
        assert (await ctx.db.execute(select(Notice))).first() is None


async def test_everybody_who_waits_is_written_to_at_once_or_only_one_practitioners(clinic, other_clinic, book):
    samir = await second_practitioner(clinic)
    hers, his, planned, theirs = [await book(clinic), await book(clinic), await book(clinic), await book(other_clinic)]
    async with his.acting() as (ctx, row, _):
        await service.hand_over(ctx, row, samir.id)
    for visit in (hers, his, theirs):
        await visit.wait()
    reception = await clinic.client("reception")
    own = {"phrase": "own", "text": "The lift is broken"}
    told = await reception.post("/telemedicine/waiting/notices", data={**own, "practitioner": str(samir.id)})
    assert told.headers["location"] == "/telemedicine/consultations?told=1"
    told = await reception.post("/telemedicine/waiting/notices", data={"phrase": "fault"})
    assert told.headers["location"] == "/telemedicine/consultations?told=2"
    assert "2" in (await reception.get(told.headers["location"])).text
    found = {}
    for name, visit in (("hers", hers), ("his", his), ("planned", planned), ("theirs", theirs)):
        async with visit.clinic.context() as ctx:
            found[name] = [one.phrase or one.text for one, _ in await service.notices_of(ctx, visit.id)]
    assert found == {"hers": ["fault"], "his": ["fault", "The lift is broken"], "planned": [], "theirs": []}


async def test_a_guest_reads_no_message_that_was_meant_for_the_patient(clinic, book, live):
    visit = await book(clinic)
    await visit.wait()
    guest = await visit.invites()
    page = await guest.page()
    page.send("enter")
    async with visit.acting("reception") as (ctx, row, _):
        await service.send(ctx, row, "own", text="Your result is here")
    await page.sees(lambda state: state["state"] == "waiting", "the guest waits")
    assert "Your result" not in str(page.heard)


# --- telling the clinician --------------------------------------------------------------------------------------------------


async def test_the_clinician_who_is_waited_for_is_told_wherever_they_are_and_nobody_else_is(clinic, other_clinic, book):
    await second_practitioner(clinic)
    visit = await book(clinic)
    doctor, colleague = await clinic.client(), await clinic.client("colleague")
    summons = f"{visit.href}/summons"
    assert (await doctor.get(summons)).status_code == 204, "nobody waits yet"
    async with visit.acting("patient") as (ctx, row, person):
        await service.enter_waiting_room(ctx, row, person, "phone")
        told = [ids for topic, ids in ctx.notices if topic == "telemedicine.waiting"]
        assert told == [{"consultation": str(visit.id), "practitioner": str(clinic.practitioner.id)}]
        ctx.notices.clear()
        await service.enter_waiting_room(ctx, row, person, "phone again")
        assert not [topic for topic, _ in ctx.notices if topic == "telemedicine.waiting"], "once, not at every cut"
    shown = await doctor.get(summons)
    assert shown.status_code == 200 and visit.patient.name in shown.text
    assert (await colleague.get(summons)).status_code == 204
    for role in ("nurse", "reception", "administrator"):
        assert (await (await clinic.client(role)).get(summons)).status_code == 403
    assert (await (await other_clinic.client()).get(summons)).status_code == 404
    await visit.admit_now()
    assert (await doctor.get(summons)).status_code == 204


async def test_every_page_of_who_holds_visits_listens_and_no_other_page_does(clinic):
    for role, listens in (("doctor", True), ("reception", False), ("administrator", False)):
        page = (await (await clinic.client(role)).get("/telemedicine/consultations")).text
        assert ("summons.js" in page) == listens, role
        assert ("summons.js" in (await (await clinic.client(role)).get("/account")).text) == listens, role
    assert "summons.js" not in (await clinic.anonymous().get("/sign-in")).text


# --- handing over -----------------------------------------------------------------------------------------------------------


async def test_who_waits_keeps_waiting_when_a_colleague_takes_the_visit(clinic, other_clinic, book, live):
    samir = await second_practitioner(clinic)
    visit, behind = await book(clinic), await book(clinic)
    patient = await visit.page("patient")
    patient.send("enter")
    await patient.sees(lambda state: state["state"] == "waiting", "waits")
    await behind.wait()
    since = (await visit.row()).waiting_since
    reception = await clinic.client("reception")
    taken = await reception.post(
        f"{visit.href}/hand-over", data={"practitioner": str(samir.id), "reason": "Chest pain"}
    )
    assert taken.status_code == 303
    state = await patient.sees(lambda state: state["with"]["id"] == str(samir.id), "the patient sees who it is now")
    assert (state["state"], state["with"]["name"], state["with"]["specialty"]) == ("waiting", "Dr Samir", "Cardiology")
    assert "Chest pain" not in str(patient.heard), "what colleagues say to each other"
    row = await visit.row()
    assert (row.practitioner_id, row.waiting_since) == (samir.id, since)
    async with behind.acting() as (ctx, row, _):
        assert await service.position(ctx, row) == 0, "the line they left is shorter"
    summons = f"{visit.href}/summons"
    told = await (await clinic.client("colleague")).get(summons)
    assert told.status_code == 200 and "Chest pain" in told.text
    assert (await (await clinic.client()).get(summons)).status_code == 204
    (noted,) = await visit.noted("telemedicine.consultation.hand-over")
    assert noted == {"from": str(clinic.practitioner.id), "to": str(samir.id), "state": "waiting"}
    shown = (await (await clinic.client("reception")).get(visit.href)).text
    assert "Dr Samir" in shown and "Chest pain" in shown
    async with other_clinic.context() as ctx:
        assert (await ctx.db.execute(select(Handover))).first() is None


async def test_a_call_that_runs_is_handed_over_with_the_patient_staying_in_it(clinic, book, worker):
    samir = await second_practitioner(clinic)
    visit = await book(clinic)
    doctor, patient = await call(visit)
    nurse = await clinic.client("nurse")
    hand = {"practitioner": str(samir.id)}
    assert (await nurse.post(f"{visit.href}/hand-over", data=hand)).status_code == 403
    with pytest.raises(Forbidden):
        async with visit.acting("nurse") as (ctx, row, _):
            await service.hand_over(ctx, row, samir.id)
    assert (await (await clinic.client()).post(f"{visit.href}/hand-over", data=hand)).status_code == 303
    await patient.page.sees(
        lambda state: (state["with"]["name"], state["with"]["letters"]) == ("Dr Samir", "S"), "the patient sees it"
    )
    told = await (await clinic.client("colleague")).get(f"{visit.href}/summons")
    assert told.status_code == 200 and clinic.users["doctor"].name in told.text
    taker = InCall(await visit.page("colleague"))
    assert (await taker.join())["type"] == "answer"
    doctor.page.send("leave")
    await patient.page.sees(
        lambda state: (
            {one["kind"] for one in state["people"]} == {"patient", "practitioner"} and len(state["people"]) == 2
        ),
        "one doctor left, one came",
    )
    await patient.page.sees(lambda state: "Dr Samir" in str([one["name"] for one in state["people"]]), "the colleague")
    assert patient.page.closed is None
    await speaking(taker, patient) if taker.peer.heard() else None
    assert (await (await clinic.client("colleague")).post(f"{visit.href}/end")).status_code == 303
    (ended,) = await visit.noted("telemedicine.consultation.end")
    assert sorted(stay["kind"] for stay in ended["stays"]) == ["patient", "practitioner", "practitioner"]
    assert len([stay for stay in ended["stays"] if stay["kind"] == "patient"]) == 1, "without a gap"


async def test_a_visit_is_handed_only_to_somebody_else_who_treats_patients_here(clinic, other_clinic, book):
    samir = await second_practitioner(clinic)
    visit = await book(clinic)
    for nobody in (clinic.practitioner.id, other_clinic.practitioner.id, uuid.uuid4()):
        with pytest.raises(Invalid):
            async with visit.acting() as (ctx, row, _):
                await service.hand_over(ctx, row, nobody)
    doctor = await clinic.client()
    assert (await doctor.post(f"{visit.href}/hand-over", data={"practitioner": "Samir"})).status_code == 422
    async with visit.acting() as (ctx, row, _):
        with pytest.raises(Invalid):
            await service.hand_over(ctx, row, samir.id, "x" * 301)
        await service.cancel(ctx, row)
    with pytest.raises(Conflict):
        async with visit.acting() as (ctx, row, _):
            await service.hand_over(ctx, row, samir.id)
    assert (await visit.row()).practitioner_id == clinic.practitioner.id
    hand = {"practitioner": str(samir.id)}
    assert (await (await other_clinic.client()).post(f"{visit.href}/hand-over", data=hand)).status_code == 404


async def test_a_handover_is_announced_by_ids_only(clinic, book):
    samir = await second_practitioner(clinic)
    visit = await book(clinic)
    async with visit.acting() as (ctx, row, _):
        await service.hand_over(ctx, row, samir.id, "He knows her")
        (event,) = ctx.events
    assert event.type == "telemedicine.consultation.handed_over"
    assert (event.from_practitioner_id, event.to_practitioner_id) == (clinic.practitioner.id, samir.id)
    assert "knows" not in repr(event)
