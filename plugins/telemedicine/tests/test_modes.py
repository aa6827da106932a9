"""Visits by voice, and where the patient is: said before it starts, seen by who holds it, with the number for help there."""

import pytest
from sqlalchemy import select

from plugins.telemedicine.tests.test_guests import waiting
from qanun.api import BookedAppointment, Conflict, Invalid, VisitMode
from qanun_telemedicine import service
from qanun_telemedicine.models import Consultation
from qanun_telemedicine.service.place import NUMBERS

RABAT = {"place": "12 Rue des Orangers, Rabat", "country": "MA"}


async def test_a_voice_visit_is_booked_and_asks_for_no_camera(clinic, other_clinic, book):
    video = await book(clinic)
    mode = clinic.assembly.registry.get(VisitMode, "telemedicine.voice")
    patient = await clinic.patient()
    async with clinic.context("reception") as ctx:
        booked = BookedAppointment(
            id=video.id, patient_id=patient.id, practitioner_id=clinic.practitioner.id, start=ctx.now, end=ctx.now
        )
        await mode.prepare(ctx, booked)
        await ctx.db.flush()
        row = await service.for_appointment(ctx, booked.id)
    portal = await clinic.portal(patient)
    page = (await portal.get(f"/portal/{clinic.tenant.slug}/visits/{row.id}")).text
    assert 'data-mode="voice"' in page and 'data-check="camera"' not in page and 'data-check="microphone"' in page
    seen = (await (await clinic.portal(video.patient)).get(video.portal)).text
    assert 'data-mode="video"' in seen and 'data-check="camera"' in seen
    assert mode.staff_href(booked.id) == f"/telemedicine/appointments/{booked.id}"
    async with other_clinic.context() as ctx:
        assert (await ctx.db.execute(select(Consultation))).first() is None


async def test_a_voice_visit_begins_from_the_chart(clinic):
    patient = await clinic.patient()
    doctor = await clinic.client()
    assert (await doctor.post(f"/telemedicine/patients/{patient.id}/begin", data={"mode": "voice"})).status_code == 303
    async with clinic.context() as ctx:
        (row,) = await service.concerning(ctx, patient.id)
    assert row.mode == "voice"


# --- where the patient is ---------------------------------------------------------------------------------------------------


async def test_who_holds_the_visit_sees_where_the_patient_is_and_whom_to_call_before_it_starts(
    clinic, other_clinic, book, live
):
    visit = await book(clinic)
    doctor, patient = await clinic.client(), await visit.page("patient")
    patient.send("enter")
    await patient.sees(lambda state: state["state"] == "waiting" and state["place"] is None, "waits")
    assert "has not been confirmed" in (await doctor.get(f"{visit.href}/lobby")).text
    patient.send("place", text="  12 Rue des Orangers,\n Rabat ", country="MA")
    state = await patient.sees(lambda state: state["place"], "it is kept")
    assert (state["place"]["text"], state["place"]["number"]) == (RABAT["place"], NUMBERS["MA"])
    lobby = (await doctor.get(f"{visit.href}/lobby")).text
    assert RABAT["place"] in lobby and f"tel:{NUMBERS['MA']}" in lobby and "has not been confirmed" not in lobby
    (noted,) = await visit.noted("telemedicine.place.confirm")
    assert noted == {"country": "MA", "by": "patient"}, "no address in the audit"
    assert (await (await other_clinic.client()).get(f"{visit.href}/lobby")).status_code == 404


async def test_the_clinic_writes_the_place_down_when_the_patient_says_it(clinic, other_clinic, book):
    visit = await book(clinic)
    await visit.wait()
    for role in ("nurse", "reception", "administrator"):
        assert (await (await clinic.client(role)).post(f"{visit.href}/place", data=RABAT)).status_code == 403
    assert (await (await other_clinic.client()).post(f"{visit.href}/place", data=RABAT)).status_code == 404
    doctor = await clinic.client()
    for wrong in ({**RABAT, "place": "x"}, {**RABAT, "country": "XX"}, {**RABAT, "place": "y" * 301}):
        refused = await doctor.post(f"{visit.href}/place", data=wrong)
        assert refused.status_code == 422 and "invalid-feedback" in refused.text
    assert (await visit.row()).place_at is None
    assert (await doctor.post(f"{visit.href}/place", data=RABAT)).status_code == 303
    row = await visit.row()
    assert (row.place, row.place_country, row.place_by) == (RABAT["place"], "MA", "staff")
    async with visit.acting() as (ctx, locked, _):
        await service.cancel(ctx, locked)
    with pytest.raises(Conflict):
        async with visit.acting() as (ctx, locked, _):
            await service.confirm_place(ctx, locked, RABAT["place"], "MA")


async def test_a_guest_neither_says_nor_sees_where_the_patient_is(clinic, book, live):
    visit = await book(clinic)
    async with visit.acting("patient") as (ctx, row, _):
        await service.confirm_place(ctx, row, RABAT["place"], "MA")
    await visit.admit()
    guest = await visit.invites()
    person = await waiting(guest)
    person.page.send("place", text="Elsewhere 1", country="FR")
    assert (await person.page.hears("problem", about="place"))["code"] == "forbidden"
    await guest.let_in()
    await person.page.sees(lambda state: state["state"] == "in-progress", "is let in")
    assert "Orangers" not in str(person.page.heard)
    browser = clinic.anonymous()
    browser.cookies.set("qanun_guest", guest.token)
    assert "Orangers" not in (await browser.get(guest.address)).text
    assert (await visit.row()).place == RABAT["place"]


async def test_a_country_without_a_known_number_shows_none_rather_than_a_guess(clinic, book):
    visit = await book(clinic)
    async with visit.acting("patient") as (ctx, row, _):
        await service.confirm_place(ctx, row, "Main street 1, Ulaanbaatar", "MN")
        known = dict(service.countries(ctx))
        assert next(iter(known)) == "MA", "the clinic's own country first"
        assert set(NUMBERS) <= set(known)
        with pytest.raises(Invalid):
            await service.confirm_place(ctx, row, "Brussels", "EU")
    lobby = (await (await clinic.client()).get(visit.href)).text
    assert "not known here" not in lobby, "the lobby shows it to who waits"
    await visit.wait()
    assert "not known here" in (await (await clinic.client()).get(f"{visit.href}/lobby")).text
