"""Guests of a visit: invited by name and role, let in by a clinician who knows who they are, seeing the call and nothing else."""

import uuid

import pytest
from sqlalchemy import select

from plugins.telemedicine.tests.conftest import until
from plugins.telemedicine.tests.test_sockets import InCall, call, speaking
from qanun.api import Conflict, Invalid, NotFound
from qanun.identity import SignInSession
from qanun.tenancy import global_session
from qanun_telemedicine import service
from qanun_telemedicine.models import Guest, Presence

HUDA = {"name": "Huda Alami", "role": "interpreter"}


async def waiting(guest) -> InCall:
    """The guest's page is open and they wait."""
    person = InCall(await guest.page())
    await person.page.hears("welcome")
    person.page.send("enter")
    await person.page.sees(lambda state: state["state"] == "waiting", "the guest waits")
    return person


async def reaches(speaker: InCall, hearer: InCall) -> None:
    """Until the one has heard the other (these peers hear one person at a time)."""
    before = hearer.peer.heard()

    async def heard() -> bool:
        await speaker.peer.speak()
        return hearer.peer.heard() > before + 10

    await until(heard, "the one hears the other")


# --- inviting -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["doctor", "nurse", "reception"])
async def test_who_may_invite_makes_a_link_for_a_name_and_a_role(clinic, other_clinic, book, role):
    visit = await book(clinic)
    staff = await clinic.client(role)
    answer = await staff.post(f"{visit.href}/guests", data=HUDA, headers={"hx-request": "true"})
    assert answer.status_code == 200
    assert "Huda Alami" in answer.text and f"/guest/{clinic.tenant.slug}/i/" in answer.text
    (noted,) = await visit.noted("telemedicine.guest.invite")
    assert noted["role"] == "interpreter" and "Huda" not in str(noted)
    for who in (await clinic.client("administrator"), await clinic.client("lab-technician")):
        assert (await who.post(f"{visit.href}/guests", data=HUDA)).status_code == 403
    seen = await (await clinic.client("administrator")).get(f"{visit.href}/guests")
    assert "Huda Alami" in seen.text and "/i/" not in seen.text, "who may not invite gets no link to pass on"
    stranger = await other_clinic.client()
    assert (await stranger.get(f"{visit.href}/guests")).status_code == 404
    assert (await stranger.post(f"{visit.href}/guests", data=HUDA)).status_code == 404
    async with other_clinic.context() as ctx:
        assert (await ctx.db.execute(select(Guest))).first() is None


@pytest.mark.parametrize(
    "typed",
    [{"name": " ", "role": "relative"}, {"name": "x" * 121, "role": "relative"}, {"name": "Huda", "role": "boss"}],
)
async def test_an_invitation_for_nobody_in_particular_is_not_made(clinic, book, typed):
    visit = await book(clinic)
    answer = await (await clinic.client()).post(f"{visit.href}/guests", data=typed)
    assert answer.status_code == 422
    async with clinic.context() as ctx:
        assert (await ctx.db.execute(select(Guest))).first() is None


async def test_at_most_ten_guests_and_none_to_what_is_over(clinic, book):
    visit, gone = await book(clinic), await book(clinic)
    guests = [await visit.invites(f"Guest {n}") for n in range(10)]
    with pytest.raises(Invalid):
        await visit.invites("One more")
    async with visit.acting() as (ctx, row, _):
        await service.remove(ctx, row, await service.guest(ctx, row, guests[0].id))
    await visit.invites("In their place")
    async with gone.acting() as (ctx, row, _):
        await service.cancel(ctx, row)
    with pytest.raises(Conflict):
        await gone.invites()


# --- what a guest sees ------------------------------------------------------------------------------------------------------


async def test_a_guest_sees_the_call_they_are_invited_to_and_nothing_of_the_patient(clinic, other_clinic, book):
    visit, other, elsewhere = await book(clinic), await book(clinic), await book(other_clinic)
    async with visit.acting("patient") as (ctx, row, _):
        await service.write_concern(ctx, row, "The lump has grown")
    await visit.wait()
    guest = await visit.invites()
    browser = await guest.enters()
    page = await browser.get(guest.address)
    assert page.status_code == 200 and "Interpreter" not in page.text
    patient = visit.patient
    for private in (
        patient.given,
        patient.family,
        patient.family_alt,
        patient.mrn,
        patient.phone,
        "The lump",
        "/portal/",
    ):
        assert private not in page.text, private
    for hidden in (other.id, elsewhere.id):
        assert (await browser.get(f"/guest/{clinic.tenant.slug}/visits/{hidden}")).status_code == 404
    foreign = await browser.get(f"/guest/{other_clinic.tenant.slug}/visits/{elsewhere.id}")
    assert foreign.headers["location"] == f"/guest/{other_clinic.tenant.slug}"
    for door in (visit.href, visit.portal, f"{visit.href}/guests", "/telemedicine/waiting"):
        assert (await browser.get(door)).status_code == 303, door
    assert [entry["guest"] for entry in await visit.noted("telemedicine.visit.open")] == [str(guest.id)]


async def test_before_being_let_in_a_guest_hears_nobody_and_nothing_said_before(clinic, book, worker):
    visit = await book(clinic)
    doctor, patient = await call(visit)
    patient.page.send("say", id=str(uuid.uuid4()), text="Between us")
    await doctor.page.hears("said", text="Between us")
    guest = await visit.invites()
    huda = await waiting(guest)
    state = huda.page.said("state")[-1]
    assert (state["people"], state["concern"], state["admitted_at"]) == ([], "", None)
    assert visit.patient.name not in str(huda.page.heard)
    assert (await huda.join())["code"] == "forbidden"
    for message in ({"type": "say", "id": str(uuid.uuid4()), "text": "Hello?"}, {"type": "concern", "text": "mine"},
                    {"type": "record", "on": True}, {"type": "consent", "decision": "given", "version": "x"}):  # fmt: skip
        kind = message.pop("type")
        huda.page.send(kind, **message)
        assert (await huda.page.hears("problem", about=kind))["code"] == "forbidden"
    await doctor.page.sees(lambda state: state["guests"][0]["state"] == "waiting", "the doctor sees who waits")
    assert patient.page.said("state")[-1]["guests"] == [], "the list is the clinic's"

    await guest.let_in()
    await huda.page.sees(lambda state: state["state"] == "in-progress", "the door opens by itself")
    assert (await huda.join())["type"] == "answer"
    await reaches(doctor, huda)
    await patient.page.sees(
        lambda state: "interpreter" in [one["role"] for one in state["people"]], "everybody sees who came"
    )
    doctor.page.send("say", id=str(uuid.uuid4()), text="Welcome")
    await huda.page.hears("said", text="Welcome")
    assert [line["text"] for line in huda.page.said("said")] == ["Welcome"]
    assert "Between us" not in str(huda.page.heard)
    huda.page.send("concern", text="still not mine")
    assert (await huda.page.hears("problem", about="concern"))["code"] == "forbidden"


async def test_a_guests_socket_opens_for_their_own_visit_only(clinic, other_clinic, book, worker):
    visit, other, elsewhere = await book(clinic), await book(clinic), await book(other_clinic)
    guest = await visit.invites()
    assert (await guest.page()).accepted
    for wrong in (other, elsewhere):
        page = await guest.page(of=wrong)
        assert not page.accepted and page.heard == []


# --- letting in -------------------------------------------------------------------------------------------------------------


async def test_nobody_lets_a_guest_in_without_saying_how_they_know_who_it_is(clinic, other_clinic, book, live):
    visit = await book(clinic)
    guest = await visit.invites()
    doctor = await clinic.client()
    admit = f"{visit.href}/guests/{guest.id}/admit"
    way = {"way": ["vouched", "document"]}
    assert (await doctor.post(admit, data=way)).status_code == 409, "they are not there"
    await waiting(guest)
    assert (await doctor.post(admit, data=way)).status_code == 409, "there is no call yet"
    await visit.admit()
    for nothing in ({}, {"way": "they look nice"}):
        assert (await doctor.post(admit, data=nothing)).status_code == 422
    for role in ("nurse", "reception", "administrator"):
        assert (await (await clinic.client(role)).post(admit, data=way)).status_code == 403
    assert (await (await other_clinic.client()).post(admit, data=way)).status_code == 404
    assert (await guest.row()).state == "waiting"
    for _ in range(2):
        assert (await doctor.post(admit, data=way)).status_code == 303, "a second press changes nothing"
    row = await guest.row()
    assert (row.state, row.identity, row.admitted_by) == (
        "admitted",
        ["vouched", "document"],
        clinic.users["doctor"].id,
    )
    (noted,) = await visit.noted("telemedicine.guest.admit")
    assert noted["ways"] == ["vouched", "document"]


async def test_a_guest_of_one_visit_is_none_of_another(clinic, book):
    visit, other = await book(clinic), await book(clinic)
    guest = await visit.invites()
    with pytest.raises(NotFound):
        async with other.acting() as (ctx, row, _):
            await service.guest(ctx, row, guest.id)
    doctor = await clinic.client()
    for act in ("admit", "link", "remove"):
        assert (await doctor.post(f"{other.href}/guests/{guest.id}/{act}", data={"way": "known"})).status_code == 404


# --- putting out ------------------------------------------------------------------------------------------------------------


async def test_a_guest_who_is_put_out_is_out_of_media_and_cannot_come_again(clinic, book, worker):
    visit = await book(clinic)
    doctor, patient = await call(visit)
    guest = await visit.invites()
    huda = await waiting(guest)
    await guest.let_in()
    assert (await huda.join())["type"] == "answer"
    await reaches(doctor, huda)
    reception = await clinic.client("reception")
    assert (await reception.post(f"{visit.href}/guests/{guest.id}/remove")).status_code == 403, "who holds it decides"
    assert (await (await clinic.client()).post(f"{visit.href}/guests/{guest.id}/remove")).status_code == 303
    room = (await visit.row()).room
    there = set((await worker.clients[0].stats(room))[room])
    assert there == {doctor.peer.name, patient.peer.name}, "at once, whatever their page does"
    await until(lambda: huda.page.closed == 4401, "and their page is told")
    assert (await clinic.anonymous().post(guest.link)).status_code == 404
    back = clinic.anonymous()
    back.cookies.set("qanun_guest", guest.token)
    assert (await back.get(guest.address)).headers["location"] == f"/guest/{clinic.tenant.slug}"
    await doctor.page.sees(lambda state: state["guests"] == [] and len(state["people"]) == 2, "and nobody sees them")
    await speaking(doctor, patient)
    (left,) = [n for n in await visit.noted("telemedicine.participant.leave") if n["participant"] == huda.peer.name]
    assert left and len(await visit.noted("telemedicine.guest.remove")) == 1


async def test_a_new_link_shuts_the_old_one_and_its_owner_is_let_in_anew(clinic, book, live):
    visit = await book(clinic)
    await visit.admit()
    guest = await visit.invites()
    huda = await waiting(guest)
    await guest.let_in()
    assert (await (await clinic.client()).post(f"{visit.href}/guests/{guest.id}/link")).status_code == 303
    await until(lambda: huda.page.closed == 4401, "the old session ends")
    assert (await clinic.anonymous().post(guest.link)).status_code == 404
    row = await guest.row()
    assert (row.state, row.identity, row.admitted_at) == ("invited", [], None)
    async with visit.acting() as (ctx, found, _):
        (seen,) = await service.guests_seen(ctx, found, links=True)
    assert seen.link and guest.link not in seen.link
    assert (await clinic.anonymous().post(seen.link.removeprefix("http://clinic.test"))).status_code == 303


async def test_the_end_of_a_visit_ends_every_guests_way_in(clinic, book, live):
    visit = await book(clinic)
    came, never = await visit.invites(), await visit.invites("Karim", "relative")
    await visit.admit()
    huda = await waiting(came)
    await came.let_in()
    assert (await (await clinic.client()).post(f"{visit.href}/end")).status_code == 303
    await huda.page.sees(lambda state: state["state"] == "ended", "their page says that it is over")
    assert (await clinic.anonymous().post(never.link)).status_code == 404
    async with visit.acting() as (ctx, row, _):
        assert [seen.link for seen in await service.guests_seen(ctx, row, links=True)] == ["", ""]
        await service.shut(ctx, row)  # the job that runs ten minutes later
    await until(lambda: huda.page.closed == 4401, "and later their session is over, too")
    async with global_session(clinic.assembly.runtime.database) as session:
        found = select(SignInSession.ended_at).where(
            SignInSession.tenant_id == clinic.tenant.id, SignInSession.kind == "guest"
        )
        assert all((await session.execute(found)).scalars())
    shown = await (await clinic.client()).get(visit.href)
    assert "Huda Alami" in shown.text and "Invite somebody" not in shown.text


async def test_shutting_a_visit_that_runs_puts_nobody_out(clinic, book):
    visit = await book(clinic)
    guest = await visit.invites()
    async with visit.acting() as (ctx, row, _):
        await service.shut(ctx, row)
    assert (await clinic.anonymous().get(guest.link)).status_code == 200


# --- from the chart ----------------------------------------------------------------------------------------------------------


async def test_a_visit_begins_from_the_chart_without_an_appointment(clinic, other_clinic, book):
    patient = await clinic.patient()
    doctor = await clinic.client()
    chart = f"/emr/patients/{patient.id}"
    begin = f"/telemedicine/patients/{patient.id}/begin"
    assert begin in (await doctor.get(chart)).text
    for role in ("nurse", "reception", "administrator"):
        assert (await (await clinic.client(role)).post(begin)).status_code == 403
    assert (await (await other_clinic.client()).post(begin)).status_code == 404
    for _ in range(2):
        answer = await doctor.post(begin)
        assert (answer.status_code, answer.headers["location"]) == (303, chart)
    async with clinic.context() as ctx:
        (row,) = await service.concerning(ctx, patient.id)
        link = await service.invitation_link(ctx, row)
    assert (row.appointment_id, row.state, row.practitioner_id) == (None, "scheduled", clinic.practitioner.id)
    page = (await doctor.get(chart)).text
    assert link in page and begin not in page, "the link is at hand, and there is one visit"
    async with clinic.context(actor=clinic.patient_actor(patient)) as ctx:
        mine = await service.consultation(ctx, row.id, lock=True)
        await service.enter_waiting_room(ctx, mine, await service.attend(ctx, mine), "phone")
    opened = await doctor.get(f"/telemedicine/consultations/{row.id}/open")
    assert opened.headers["location"] == chart
    reception = await (await clinic.client("reception")).get(f"/telemedicine/consultations/{row.id}/open")
    assert reception.headers["location"] == f"/telemedicine/consultations/{row.id}"
    for listing in ("/telemedicine/waiting", "/telemedicine/consultations"):
        assert f"/telemedicine/consultations/{row.id}/open" in (await doctor.get(listing)).text
    async with clinic.context() as ctx:
        row = await service.consultation(ctx, row.id, lock=True)
        await service.check_identity(ctx, row, service.IdentityForm(how={"name": "said", "birth-date": "said"}))
        await service.admit(ctx, row)
        if ctx.records.provides("Encounter"):
            encounter = await ctx.records.read("Encounter", row.encounter_id)
            assert not encounter.get("appointment")
    async with other_clinic.context() as ctx:
        assert (await ctx.db.execute(select(Presence))).first() is None


async def test_a_planned_visit_of_today_is_the_one_that_begins(clinic, book):
    visit = await book(clinic)
    async with clinic.context() as ctx:
        assert (await service.begin_now(ctx, visit.patient.id)).id == visit.id
    with pytest.raises(Conflict):
        async with clinic.context("nurse") as ctx:
            await service.begin_now(ctx, visit.patient.id)
