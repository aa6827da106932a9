"""The reception desk: find, register, book, check in — everything typed kept, nothing of another clinic."""

import asyncio
import uuid

from sqlalchemy import func, select

from qanun.api import Patient
from qanun_scheduling import service
from qanun_scheduling.models import Appointment

from .conftest import at, book, open_hours

DRAFT = {
    "given": "Layla", "family": "Haddad", "given_alt": "", "family_alt": "", "birth_date": "1991-08-19", "sex": "female",
    "phone": "", "email": "", "language": "ar", "address": "", "date": "", "held": "",
}  # fmt: skip


async def _patients(clinic):
    async with clinic.context("system") as ctx:
        return (await ctx.db.execute(select(func.count(Patient.id)))).scalar_one()


async def _appointments(clinic):
    async with clinic.context("system") as ctx:
        return list((await ctx.db.execute(select(Appointment))).scalars())


async def test_the_desk_is_receptions_and_nobody_elses(clinic):
    for role, status in (("reception", 200), ("doctor", 403), ("nurse", 403), ("lab-technician", 403)):
        client = await clinic.client(role)
        for path in ("", "/board", "/arrivals", "/patients?q=la"):
            assert (await client.get(f"/scheduling/desk{path}")).status_code == status, (role, path)
    assert (await clinic.anonymous().get("/scheduling/desk")).status_code == 303


async def test_a_patient_is_found_as_one_types_in_either_script_and_only_here(clinic, other_clinic):
    person = await clinic.patient(given="Huda", family="Nasser", given_alt="هدى", family_alt="ناصر")
    client, stranger = await clinic.client("reception"), await other_clinic.client("reception")
    for typed in ("hud nas", "هدي ناصر"):
        found = (await client.get("/scheduling/desk/patients", params={"q": typed})).text
        assert f"patient={person.id}" in found and "<html" not in found
        assert str(person.id) not in (await stranger.get("/scheduling/desk/patients", params={"q": typed})).text
    assert f"patient={person.id}" in (await client.get("/scheduling/desk", params={"q": "huda"})).text
    assert "Nobody found" in (await client.get("/scheduling/desk/patients", params={"q": "zzzz"})).text


async def test_the_palette_of_reception_finds_patients_and_leads_to_the_desk(clinic):
    person = await clinic.patient(given="Findme")
    client = await clinic.client("reception")
    groups = (await client.get("/search?q=findme", headers={"accept": "application/json"})).json()["groups"]
    assert [hit["href"] for group in groups for hit in group["hits"]] == [f"/scheduling/desk?patient={person.id}"]


async def test_a_new_patient_is_registered_and_chosen(clinic):
    client = await clinic.client("reception")
    answer = await client.post("/scheduling/desk/patients", data=DRAFT)
    assert answer.status_code == 303 and answer.headers["location"].startswith("/scheduling/desk?patient=")
    shown = (await client.get(answer.headers["location"])).text
    assert "Layla Haddad" in shown and 'name="patient"' in shown


async def test_a_registration_with_faults_keeps_all_that_was_typed_and_names_the_fields(clinic):
    client = await clinic.client("reception")
    before = await _patients(clinic)
    typed = {**DRAFT, "given": "Zeynep", "family": "", "birth_date": "yesterday", "phone": "abc", "address": "Rue 12"}
    answer = await client.post("/scheduling/desk/patients", data=typed)
    assert answer.status_code == 422 and await _patients(clinic) == before
    for kept in ("Zeynep", "yesterday", "abc", "Rue 12"):
        assert f'value="{kept}"' in answer.text
    for field in ("family", "birth_date", "phone"):
        assert f'id="{field}-error"' in answer.text
    assert 'id="given-error"' not in answer.text


async def test_who_may_be_registered_already_is_shown_with_reasons_before_a_second_press(clinic):
    known = await clinic.patient(phone="+212 600 123 456")
    client = await clinic.client("reception")
    before = await _patients(clinic)
    first = await client.post("/scheduling/desk/patients", data={**DRAFT, "phone": "0600123456"})
    assert first.status_code == 422 and await _patients(clinic) == before
    assert "Same name" in first.text and "Same date of birth" in first.text and known.mrn in first.text
    assert f"patient={known.id}" in first.text and 'value="0600123456"' in first.text
    second = await client.post("/scheduling/desk/patients", data={**DRAFT, "seen": str(known.id)})
    assert second.status_code == 303 and await _patients(clinic) == before + 1


async def test_what_was_confirmed_stays_confirmed_while_a_field_is_corrected(clinic):
    known = await clinic.patient()
    client = await clinic.client("reception")
    faulty = await client.post("/scheduling/desk/patients", data={**DRAFT, "seen": str(known.id), "email": "nowhere"})
    assert faulty.status_code == 422 and 'id="email-error"' in faulty.text
    assert f'name="seen" value="{known.id}' in faulty.text


async def test_having_seen_one_likeness_does_not_confirm_another(clinic):
    await clinic.patient()
    client = await clinic.client("reception")
    answer = await client.post("/scheduling/desk/patients", data={**DRAFT, "seen": str(uuid.uuid4())})
    assert answer.status_code == 422


async def test_booking_leads_to_a_confirmation_with_what_belongs_to_it(clinic, booking_form):
    person = await clinic.patient()
    client = await clinic.client("reception")
    answer = await client.post(
        "/scheduling/appointments", data=booking_form(person, at(clinic), visit_mode="telemedicine.video")
    )
    assert answer.status_code == 303
    (row,) = await _appointments(clinic)
    assert f"appointment={row.id}" in answer.headers["location"] and row.visit_mode == "telemedicine.video"
    shown = (await client.get(answer.headers["location"])).text
    assert "Booked." in shown and "/portal/" in shown and "Link for the patient" in shown


async def test_a_double_click_is_one_appointment(clinic, booking_form):
    form = booking_form(await clinic.patient(), at(clinic))
    clients = [await clinic.client("reception") for _ in range(2)]
    answers = await asyncio.gather(*(client.post("/scheduling/appointments", data=form) for client in clients))
    assert {answer.status_code for answer in answers} == {303}
    assert len({answer.headers["location"] for answer in answers}) == 1 and len(await _appointments(clinic)) == 1


async def test_a_taken_slot_answers_409_at_the_slot_and_keeps_everything(clinic, booking_form):
    await open_hours(clinic)
    person, faster = await clinic.patient(given="Slower"), await clinic.patient(given="Faster")
    await book(clinic, faster, at(clinic))
    form = booking_form(person, at(clinic), reason="A long story", visit_mode="telemedicine.video")
    client = await clinic.client("reception")
    answer = await client.post("/scheduling/appointments", data=form)
    assert (
        answer.status_code == 409
        and "This slot has just been taken" in answer.text
        and 'id="slot-error"' in answer.text
    )
    assert 'value="A long story"' in answer.text and f'value="{person.id}"' in answer.text
    assert 'value="telemedicine.video" checked' in answer.text and form["request_key"] in answer.text
    again = await client.post(
        "/scheduling/appointments", data=form | {"slot": booking_form(person, at(clinic, hour=11))["slot"]}
    )
    assert again.status_code == 303 and len(await _appointments(clinic)) == 2


async def test_a_form_used_already_gets_a_fresh_key_and_says_so(clinic, booking_form):
    person = await clinic.patient()
    client = await clinic.client("reception")
    form = booking_form(person, at(clinic))
    await client.post("/scheduling/appointments", data=form)
    back = await client.post(
        "/scheduling/appointments", data=form | {"slot": booking_form(person, at(clinic, hour=12))["slot"]}
    )
    assert back.status_code == 409 and "already booked" in back.text and form["request_key"] not in back.text
    assert len(await _appointments(clinic)) == 1


async def test_what_is_missing_or_senseless_is_named_and_the_rest_kept(clinic, booking_form):
    person = await clinic.patient()
    client = await clinic.client("reception")
    form = booking_form(person, at(clinic), reason="Kept")
    for wrong, said in (
        ({"slot": ""}, "Choose a slot."),
        ({"slot": "x.y.z"}, "Choose a slot."),
        ({"slot": f"{clinic.practitioner.id}.20260512T1050Z.20.7"}, "Choose a slot."),
        ({"patient": ""}, "Find or register the patient first."),
        ({"visit_mode": "nobody.offers"}, "Choose one of the listed values."),
    ):
        answer = await client.post("/scheduling/appointments", data=form | wrong)
        assert answer.status_code == 422 and said in answer.text, wrong
        if "patient" not in wrong:
            assert 'value="Kept"' in answer.text
    assert await _appointments(clinic) == []


async def test_patients_and_practitioners_of_another_clinic_are_nowhere(clinic, other_clinic, booking_form):
    stranger = await other_clinic.patient()
    theirs = await book(other_clinic, stranger, at(other_clinic))
    client = await clinic.client("reception")
    for query in (
        f"patient={stranger.id}",
        f"appointment={theirs.id}",
        f"patient={uuid.uuid4()}",
        f"appointment={uuid.uuid4()}",
    ):
        assert (await client.get(f"/scheduling/desk?{query}")).status_code == 404, query
    assert (await client.post("/scheduling/appointments", data=booking_form(stranger, at(clinic)))).status_code == 404
    slot = booking_form(stranger, at(clinic))["slot"].replace(
        str(clinic.practitioner.id), str(other_clinic.practitioner.id)
    )
    mine = booking_form(await clinic.patient(), at(clinic), slot=slot)
    assert (await client.post("/scheduling/appointments", data=mine)).status_code == 404
    assert await _appointments(clinic) == []


async def test_senseless_addresses_are_refused_by_field(clinic):
    client = await clinic.client("reception")
    for query, field in (
        ("date=x", "date"),
        ("slot=x", "slot"),
        ("patient=x", "patient"),
        ("appointment=x", "appointment"),
    ):
        answer = await client.get(f"/scheduling/desk?{query}", headers={"accept": "application/json"})
        assert answer.status_code == 422 and set(answer.json()["fields"]) == {field}, query
    whom = clinic.practitioner.id
    for slot in (
        "x", f"{whom}.20260512T1050Z.999999999999999999999", f"{whom}.99991231T2359Z.20", f"{whom}.20260512T1050Z.%0A20",
        f"{whom}.00010101T0000Z.20", f"{whom}.20260512T1050Z.-20", f"{uuid.uuid4()}.20260512T1050Z",
    ):  # fmt: skip
        for path in ("?slot", "/board?held"):
            assert (await client.get(f"/scheduling/desk{path}={slot}")).status_code == 422, (path, slot)
    assert (await client.get(f"/scheduling/desk?slot={uuid.uuid4()}.20260512T1050Z.20")).status_code == 404


async def test_the_board_offers_free_slots_and_shows_who_has_the_others(clinic, other_clinic):
    await open_hours(clinic)
    await book(clinic, await clinic.patient(given="Occupying"), at(clinic))
    day = at(clinic).astimezone(clinic.tenant.zone).date().isoformat()
    client = await clinic.client("reception")
    shown = (await client.get(f"/scheduling/desk/board?date={day}")).text
    assert "Occupying" in shown and shown.count('type="radio"') == 29 and "<html" not in shown
    theirs = await (await other_clinic.client("reception")).get(f"/scheduling/desk/board?date={day}")
    assert "Occupying" not in theirs.text and 'type="radio"' not in theirs.text


async def test_a_held_slot_that_somebody_else_took_meanwhile_says_so_on_the_next_refresh(clinic, booking_form):
    await open_hours(clinic)
    person = await clinic.patient()
    held = booking_form(person, at(clinic))["slot"]
    day = at(clinic).astimezone(clinic.tenant.zone).date().isoformat()
    client = await clinic.client("reception")
    before = (await client.get("/scheduling/desk/board", params={"date": day, "held": held})).text
    assert f'value="{held}" form="book" checked' in before and "just been taken" not in before
    await book(clinic, person, at(clinic))
    after = (await client.get("/scheduling/desk/board", params={"date": day, "held": held})).text
    assert "just been taken" in after and held not in after


async def test_reception_checks_in_by_htmx_and_by_plain_form(clinic):
    row = await book(clinic, await clinic.patient(given="Arriving"), at(clinic, days=0, hour=23, minute=40))
    client = await clinic.client("reception")
    assert "Arriving" in (await client.get("/scheduling/desk/arrivals")).text
    answer = await client.post(
        f"/scheduling/appointments/{row.id}/status", data={"status": "checked-in"}, headers={"hx-request": "true"}
    )
    assert answer.status_code == 200 and 'id="scheduling-arrivals"' in answer.text and "In the house" in answer.text
    assert 'hx-swap-oob="true"' in answer.text and f'id="checked-in-{row.id}"' not in answer.text
    plain = await client.post(f"/scheduling/appointments/{row.id}/status", data={"status": "checked-in"})
    assert plain.status_code == 303 and plain.headers["location"].startswith("/scheduling/desk")


async def test_a_cancellation_needs_a_reason_and_keeps_what_was_typed(clinic):
    row = await book(clinic, await clinic.patient(), at(clinic))
    client = await clinic.client("reception")
    refused = await client.post(
        f"/scheduling/appointments/{row.id}/status", data={"status": "cancelled", "reason": "   "}
    )
    assert refused.status_code == 422 and "Say why" in refused.text and 'id="reason-error"' in refused.text
    done = await client.post(f"/scheduling/appointments/{row.id}/status", data={"status": "cancelled", "reason": "Ill"})
    assert done.status_code == 303
    shown = (await client.get(f"/scheduling/desk?appointment={row.id}")).text
    assert "Cancelled" in shown and "Ill" in shown and 'value="checked-in"' not in shown


async def test_what_has_moved_on_elsewhere_is_not_overwritten(clinic):
    row = await book(clinic, await clinic.patient(), at(clinic))
    async with clinic.context("reception") as ctx:
        await service.set_status(ctx, row.id, "cancelled", reason="x")
    client = await clinic.client("reception")
    for headers in ({}, {"hx-request": "true"}):
        answer = await client.post(
            f"/scheduling/appointments/{row.id}/status", data={"status": "noshow"}, headers=headers
        )
        assert answer.status_code == 409 and "meanwhile" in answer.text


async def test_every_way_of_visit_that_is_installed_can_be_chosen(clinic):
    shown = (
        await (await clinic.client("reception")).get(f"/scheduling/desk?patient={(await clinic.patient()).id}")
    ).text
    assert 'value="scheduling.in-person" checked' in shown and 'value="telemedicine.video"' in shown


async def test_the_desk_speaks_arabic_from_the_right(other_clinic):
    shown = (await (await other_clinic.client("reception")).get("/scheduling/desk")).text
    assert 'dir="rtl"' in shown and "الاستقبال" in shown
