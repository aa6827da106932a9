"""A group and closed records: whose record is closed to who leads it has no seat in the call, and anybody else of staff to whom
it is closed has none; the others go on."""

import uuid

import pytest

from plugins.telemedicine.tests.conftest import Page, until
from plugins.telemedicine.tests.test_closed import WHY
from plugins.telemedicine.tests.test_sockets import InCall, colleague_of
from plugins.telemedicine.tests.test_together import agree, gather  # noqa: F401 - a fixture
from qanun.access import closed
from qanun.api import RecordClosed
from qanun.web.security import COOKIES
from qanun_telemedicine import service
from qanun_telemedicine.service import apart


async def close(clinic, patient, *named: uuid.UUID) -> None:
    async with clinic.context("administrator") as ctx:
        await closed.close_record(ctx, patient.mrn, WHY, named)


async def inside(worker, room: str) -> set[str]:
    return set((await worker.clients[0].stats(room)).get(room, {}))


async def seated(visit, name: str) -> InCall:
    """They are let in and their page is in the call."""
    page = InCall(await visit.page("patient"))
    assert (await page.join())["type"] == "answer", name
    return page


async def test_a_record_closed_to_who_leads_the_group_takes_its_patients_seat(clinic, other_clinic, gather, worker):  # noqa: F811
    group, theirs = await gather(clinic, "Amina Idrissi", "Youssef Tazi"), await gather(other_clinic, "Layla Haddad")
    amina, youssef = group.visits
    for one, names in ((group, ("Sunflower", "Y.")), (theirs, ("L.",))):
        await one.begin()
        for visit, name in zip(one.visits, names, strict=True):
            await one.let_in(visit, name)
    leader = await group.leads()
    phones = [await seated(amina, "Sunflower"), await seated(youssef, "Y.")]
    elsewhere = await seated(theirs.visits[0], "L.")
    assert (await leader.join())["type"] == "answer"
    room = (await group.call()).room
    await leader.page.sees(lambda state: len(state["people"]) == 3, "three are in the call")
    for phone, text in ((phones[0], "only for the group"), (phones[1], "for everybody")):
        phone.page.send("say", id=str(uuid.uuid4()), text=text)
        await leader.page.hears("said", text=text)
    # Both are told, the seat is free, and the others stay.
    await close(clinic, amina.patient, clinic.users["nurse"].id)
    told = await phones[0].page.sees(lambda state: state["group"]["apart"], "the patient is told")
    assert told["state"] == "in-progress", "the visit itself is not over"

    async def without() -> bool:
        return await inside(worker, room) == {leader.peer.name, phones[1].peer.name}

    await until(without, "out of the media")
    seen = await leader.page.sees(
        lambda state: any(one["closed"] for one in state["group"]["visits"]), "the leader is told"
    )
    mine = {one["id"]: one for one in seen["group"]["visits"]}
    assert mine[str(amina.id)]["chart"] == "" and not mine[str(youssef.id)]["closed"]
    assert {one["name"] for one in seen["people"]} >= {"Youssef Tazi (Y.)"} and len(seen["people"]) == 2
    assert leader.page.closed is None and phones[1].page.closed is None and elsewhere.page.closed is None
    refused = await phones[0].join()
    assert refused["type"] == "error" and phones[0].page.said("problem", code="apart"), "and not back by itself"
    assert await inside(worker, room) == {leader.peer.name, phones[1].peer.name}
    assert not elsewhere.page.said("state")[-1]["group"]["apart"]
    assert len(await amina.noted("telemedicine.group.apart")) == 1
    assert await youssef.noted("telemedicine.group.apart") == []
    page = (await (await clinic.client("doctor")).get(group.href)).text
    assert "record closed to you" in page and str(amina.patient.id) not in page
    assert "for everybody" in page and "only for the group" not in page
    # Open again, they come back.
    async with clinic.context("administrator") as ctx:
        await closed.open_record(ctx, amina.patient.id)
    assert (await phones[0].join())["type"] == "answer"
    await leader.page.sees(lambda state: len(state["people"]) == 3, "and is there again")
    assert "only for the group" in (await (await clinic.client("doctor")).get(group.href)).text


async def test_who_leads_it_and_comes_later_sees_nothing_of_whose_record_is_closed_to_them(clinic, gather, worker):  # noqa: F811
    group = await gather(clinic, "Amina Idrissi", "Youssef Tazi")
    amina, youssef = group.visits
    await group.begin()
    for visit, name in ((amina, "Sunflower"), (youssef, "Y.")):
        await group.let_in(visit, name)
    early = await seated(amina, "Sunflower")
    await close(clinic, amina.patient, clinic.users["nurse"].id)
    leader = await group.leads()
    assert (await leader.join())["type"] == "answer"
    assert await inside(worker, (await group.call()).room) == {leader.peer.name}, "before a picture came or went"
    await early.page.sees(lambda state: state["group"]["apart"], "the patient is told")
    async with clinic.context("doctor") as ctx:
        with pytest.raises(RecordClosed):
            await service.consultation(ctx, amina.id)


async def test_somebody_else_of_staff_leaves_and_the_patient_stays(clinic, gather, worker):  # noqa: F811
    group = await gather(clinic, "Amina Idrissi")
    (amina,) = group.visits
    await group.begin()
    await group.let_in(amina, "Sunflower")
    leader, phone = await group.leads(), await seated(amina, "Sunflower")
    await colleague_of(clinic)
    token = await clinic.staff_token("colleague")
    path = f"/telemedicine/consultations/{group.id}/socket"
    page = await Page(clinic.application, path, (COOKIES["staff"], token), "http://clinic.test").open()
    group.pages.append(page)
    other = InCall(page)
    for one in (leader, other):
        assert (await one.join())["type"] == "answer"
    room = (await group.call()).room
    assert await inside(worker, room) == {leader.peer.name, phone.peer.name, other.peer.name}
    await close(clinic, amina.patient, clinic.users["doctor"].id)
    await page.hears("problem", code="closed-record")

    async def two() -> bool:
        return await inside(worker, room) == {leader.peer.name, phone.peer.name}

    await until(two, "the other doctor is out of the media")
    assert (await other.join())["type"] == "error" and await two()
    assert not phone.page.said("state")[-1]["group"]["apart"] and page.closed is None
    # Named as well, they may be in it.
    await leader.page.sees(lambda state: len(state["people"]) == 2, "two are in the call")


async def test_nobody_is_parted_where_no_record_is_closed(clinic, gather, live):  # noqa: F811
    group = await gather(clinic, "Amina Idrissi", "Youssef Tazi")
    amina, youssef = group.visits
    await group.begin()
    for visit, name in ((amina, "Sunflower"), (youssef, "Y.")):
        await group.let_in(visit, name)
    await agree(amina, "Sunflower")
    await close(clinic, (await clinic.patient()), clinic.users["nurse"].id)
    await close(clinic, youssef.patient, clinic.users["doctor"].id)
    async with clinic.context(actor=clinic.actor("doctor")) as ctx:
        call = await service.call_of(ctx, group.id)
        await service.arrive(ctx, call, await service.attend(ctx, call), "call", "desk")
    for visit in (amina, youssef):
        async with clinic.context(actor=clinic.patient_actor(visit.patient)) as ctx:
            call = await service.call_of(ctx, group.id)
            person = await service.attend(ctx, call)
            await apart.may_sit(ctx, call, person)
            await service.arrive(ctx, call, person, "call", "phone")
            assert await apart.to_part(ctx, call) == []
