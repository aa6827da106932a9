"""A call with several people: hands, microphones, the lock, and who may do what to whom."""

import asyncio
import uuid

import pytest

from plugins.telemedicine.tests.conftest import until
from plugins.telemedicine.tests.test_guests import waiting
from plugins.telemedicine.tests.test_sockets import InCall, call, colleague_of
from qanun.api import Forbidden
from qanun_telemedicine import service
from qanun_telemedicine.models import Participant
from qanun_telemedicine.service import group


async def joined(visit, name: str, role: str = "relative") -> tuple[InCall, object]:
    """A guest who is in the call."""
    guest = await visit.invites(name, role)
    person = await waiting(guest)
    await guest.let_in()
    await person.page.sees(lambda state: state["state"] == "in-progress", "is let in")
    assert (await person.join())["type"] == "answer"
    return person, guest


def of(state: dict, name: str) -> dict:
    return next(one for one in state["people"] if one["name"] == name)


async def test_hands_are_raised_seen_by_all_and_lowered_by_who_moderates(clinic, other_clinic, book, worker):
    visit, theirs = await book(clinic), await book(other_clinic)
    doctor, patient = await call(visit)
    await theirs.admit()
    elsewhere = await theirs.page()
    karim, _ = await joined(visit, "Karim")
    karim.page.send("hand", on=True)
    for one in (doctor, patient):
        await one.page.sees(lambda state: of(state, "Karim")["hand"], "everybody sees the hand")
    patient.page.send("lower", who=karim.peer.name)
    assert (await patient.page.hears("problem", about="lower"))["code"] == "forbidden"
    doctor.page.send("lower", who=karim.peer.name)
    await karim.page.sees(lambda state: of(state, "Karim")["hand"] is None, "it was heard")
    for _ in range(2):
        karim.page.send("hand", on=True)
    karim.page.send("leave")
    await doctor.page.sees(lambda state: len(state["people"]) == 2, "they leave")
    assert (await karim.join())["type"] == "answer"
    await doctor.page.sees(
        lambda state: len(state["people"]) == 3 and of(state, "Karim")["hand"] is None, "who comes back asks anew"
    )
    await elsewhere.hears("welcome")
    assert "Karim" not in str(elsewhere.heard)


async def test_to_mute_is_the_clinics_and_pages_are_told_once(clinic, book, worker):
    visit = await book(clinic)
    doctor, patient = await call(visit)
    karim, _ = await joined(visit, "Karim")
    for one, about in ((patient, "mute"), (karim, "mute"), (karim, "lock")):
        one.page.send(about, **({"on": True} if about == "lock" else {"who": doctor.peer.name}))
        assert (await one.page.hears("problem", about=about))["code"] == "forbidden"
    assert doctor.page.said("state")[-1]["mute_asked"] is None
    doctor.page.send("mute", who=karim.peer.name)
    await karim.page.sees(lambda state: state["mute_asked"], "who is meant is told")
    assert patient.page.said("state")[-1]["mute_asked"] is None, "and nobody else"
    karim.page.send("muted", on=True)
    await patient.page.sees(lambda state: of(state, "Karim")["muted"], "everybody sees who is muted")
    doctor.page.send("mute")
    await patient.page.sees(lambda state: state["mute_asked"], "everybody is everybody")
    assert doctor.page.said("state")[-1]["mute_asked"] is None, "but the clinic"
    noted = await visit.noted("telemedicine.call.mute")
    assert [sorted(one["participants"]) for one in noted] == [
        [karim.peer.name],
        sorted([karim.peer.name, patient.peer.name]),
    ]
    doctor.page.send("mute", who=str(uuid.uuid4()))
    assert (await doctor.page.hears("problem", about="mute"))["code"] == "not-found"


async def test_a_locked_call_takes_nobody_new_and_keeps_whom_it_has(clinic, book, worker):
    visit = await book(clinic)
    await colleague_of(clinic)
    doctor, patient = await call(visit)
    karim, _ = await joined(visit, "Karim")
    late = await visit.invites("Late")
    late_page = await waiting(late)
    doctor.page.send("lock", on=True)
    await patient.page.sees(lambda state: state["locked"], "everybody sees it")
    doctor.page.send("lock", on=True)
    colleague = InCall(await visit.page("colleague"))
    assert (await colleague.join())["code"] == "forbidden"
    assert (await colleague.page.hears("problem", about="join"))["code"] == "locked"
    staff = await clinic.client()
    refused = await staff.post(f"{visit.href}/guests/{late.id}/admit", data={"way": "known"})
    assert refused.status_code == 409 and (await late.row()).state == "waiting"
    for inside in (karim, patient):
        inside.page.send("leave")
        await doctor.page.sees(lambda state: len(state["people"]) == 2, "somebody leaves")
        assert (await inside.join())["type"] == "answer", "and comes back"
        await doctor.page.sees(lambda state: len(state["people"]) == 3, "is back")
    doctor.page.send("lock", on=False)
    await patient.page.sees(lambda state: not state["locked"], "it is open again")
    assert (await staff.post(f"{visit.href}/guests/{late.id}/admit", data={"way": "known"})).status_code == 303
    assert (await late_page.join())["type"] == "answer"
    assert (await colleague.join())["type"] == "answer"
    assert len(await visit.noted("telemedicine.call.lock")) == len(await visit.noted("telemedicine.call.unlock")) == 1


async def test_the_patient_comes_into_their_own_visit_though_it_is_locked(clinic, book, live):
    visit = await book(clinic)
    await visit.admit()
    await visit.come("doctor")
    async with visit.acting() as (ctx, row, _):
        await group.lock(ctx, row, True)
    async with visit.acting("patient") as (ctx, row, person):
        await group.may_come(ctx, row, person)
    with pytest.raises(Forbidden):
        async with visit.acting("nurse") as (ctx, row, person):
            await group.may_come(ctx, row, person)


async def test_twelve_fit_and_a_thirteenth_does_not(clinic, book):
    visit = await book(clinic)
    await visit.admit()
    for who in ("doctor", "patient"):
        await visit.come(who)
    async with visit.acting() as (ctx, row, _):
        for number in range(10):
            person = Participant(
                id=uuid.uuid4(), consultation_id=row.id, subject=f"Guest/{uuid.uuid4()}", kind="guest", name=f"G {number}",
                role="relative",
            )  # fmt: skip
            ctx.db.add(person)
            await ctx.db.flush()
            await service.arrive(ctx, row, person, "call", f"c{number}")
    async with visit.acting("patient") as (ctx, row, person):
        await group.may_come(ctx, row, person)  # is counted already
    with pytest.raises(Forbidden) as refused:
        async with visit.acting("nurse") as (ctx, row, person):
            await group.may_come(ctx, row, person)
    assert refused.value.details["code"] == "full"


async def test_several_are_in_one_call_and_each_hears_the_others(clinic, book, worker):
    visit = await book(clinic)
    doctor, patient = await call(visit)
    guests = [(await joined(visit, f"Guest {n}"))[0] for n in range(3)]
    everybody = [doctor, patient, *guests]
    await doctor.page.sees(lambda state: len(state["people"]) == 5, "five are there")
    before = [one.peer.heard() for one in everybody]

    async def heard() -> bool:
        await asyncio.gather(*(one.peer.speak() for one in everybody))
        return all(one.peer.heard() > then + 5 for one, then in zip(everybody, before, strict=True))

    await until(heard, "everybody hears somebody")
    room = (await visit.row()).room
    assert len((await worker.clients[0].stats(room))[room]) == 5


async def test_only_who_is_in_the_call_raises_a_hand(clinic, book, live):
    visit = await book(clinic)
    await visit.admit()
    patient = await visit.page("patient")
    await patient.hears("welcome")
    for about in ("hand", "muted"):
        patient.send(about, on=True)
        assert (await patient.hears("problem", about=about))["code"] == "conflict"
    guest = await visit.invites()
    outside = await waiting(guest)
    outside.page.send("hand", on=True)
    assert (await outside.page.hears("problem", about="hand"))["code"] == "forbidden"
