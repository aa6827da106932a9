"""A consent is one person's, for particular words; it can be taken back, and what was recorded before is marked and asked about."""

import pytest

from plugins.telemedicine.tests.conftest import until
from plugins.telemedicine.tests.test_sockets import InCall, call, consent, folder_size, in_state, recording_of, speaking
from plugins.telemedicine.tests.test_visits import answer, ask
from qanun.api import Invalid
from qanun_telemedicine import service
from qanun_telemedicine.service.recording import OTHERS_VERSION, WORDING_VERSION
from qanun_telemedicine.service.reviews import open_reviews, reviews_of
from qanun_telemedicine.sfu.client import MediaError


async def agreed(visit):
    """Doctor and patient in a call to whose recording both agreed; the recording's row, no media."""
    await visit.admit()
    for who in ("doctor", "patient"):
        await visit.come(who)
    await ask(visit)
    for who in ("doctor", "patient"):
        await answer(visit, who, "given")
    async with visit.acting() as (ctx, row, _):
        record, _ = await service.new_recording(ctx, row)
    return record.id


async def stop(visit, because="end"):
    async with visit.acting() as (ctx, row, _):
        for record in await service.recordings_of(ctx, row.id):
            if record.stopped_at is None:
                service.recording_stopped(ctx, row, record, {"bytes": 5, "seconds": 3.0}, because=because)


async def waiting(clinic):
    async with clinic.context("system") as ctx:
        return [(review.reason, record.id) for review, record in await open_reviews(ctx)]


async def test_the_clinic_pauses_without_asking_anew_and_a_no_still_stops_it(clinic, book):
    visit = await book(clinic)
    await agreed(visit)
    assert (await visit.plan()).want == "run"
    async with visit.acting() as (ctx, row, _):
        await service.hold(ctx, row, True)
    plan = await visit.plan()
    assert (plan.want, plan.held) == ("pause", True)
    async with visit.acting() as (ctx, row, _):
        await service.hold(ctx, row, False)
    assert (await visit.plan()).want == "run"
    async with visit.acting() as (ctx, row, _):
        await service.hold(ctx, row, True)
    await answer(visit, "patient", "withdrawn")
    plan = await visit.plan()
    assert (plan.want, plan.because) == ("stop", "withdrawn"), "a pause does not outlast a no"


async def test_what_was_recorded_before_a_withdrawal_is_kept_marked_and_waits_for_a_decision(
    clinic, other_clinic, book
):
    visit = await book(clinic)
    record_id = await agreed(visit)
    await answer(visit, "patient", "withdrawn")
    await stop(visit, "withdrawn")
    async with visit.acting() as (ctx, row, _):
        (record,) = await service.recordings_of(ctx, row.id)
        assert (record.state, record.ended_because, len(record.key) > 0) == ("stopped", "withdrawn", True)
        assert record.withdrawn_at is not None
    assert await waiting(clinic) == [("withdrawn", record_id)]
    assert await waiting(other_clinic) == []
    (noted,) = await visit.noted("telemedicine.consent.withdrawn")
    assert noted["recordings"] == [str(record_id)]
    page = (await (await clinic.client()).get(visit.href)).text
    assert "Consent taken back" in page and "The words that were shown" in page


async def test_a_refusal_marks_nothing_that_somebody_else_agreed_to_earlier(clinic, book):
    visit = await book(clinic)
    await agreed(visit)
    await visit.come("nurse")
    await answer(visit, "nurse", "refused")
    await stop(visit, "refused")
    async with visit.acting() as (ctx, row, _):
        (record,) = await service.recordings_of(ctx, row.id)
        assert (record.ended_because, record.withdrawn_at) == ("refused", None)
    assert await waiting(clinic) == []


async def test_a_patient_takes_the_consent_back_after_the_visit_on_their_own_page(clinic, other_clinic, book):
    visit, theirs = await book(clinic), await book(other_clinic)
    stranger = await clinic.patient(given="Omar")
    record_id = await agreed(visit)
    await stop(visit)
    async with visit.acting() as (ctx, row, _):
        await service.end(ctx, row)
    page = f"{visit.portal}/recording"
    for portal in (await clinic.portal(stranger), await other_clinic.portal(theirs.patient)):
        assert (await portal.get(page)).status_code in (303, 404)
        assert (await portal.post(f"{page}/withdraw")).status_code in (303, 404)
    assert await waiting(clinic) == []
    portal = await clinic.portal(visit.patient)
    shown = await portal.get(page)
    assert (
        shown.status_code == 200 and "Take back my consent" in shown.text and "May we record this visit?" in shown.text
    )
    for _ in range(2):
        assert (await portal.post(f"{page}/withdraw")).status_code == 303, "a second press changes nothing"
    assert await waiting(clinic) == [("withdrawn", record_id)]
    shown = (await portal.get(page)).text
    assert "Take back my consent" not in shown and "You took your consent back" in shown
    assert len(await visit.noted("telemedicine.consent.withdrawn")) == 1
    async with clinic.context("system") as ctx:
        assert len(await reviews_of(ctx, record_id)) == 1


async def test_guests_and_staff_agree_to_words_about_a_record_that_is_not_theirs(clinic, book):
    visit = await book(clinic)
    await visit.admit()
    await visit.come("doctor")
    await ask(visit)
    with pytest.raises(Invalid):
        await answer(visit, "doctor", "given", WORDING_VERSION)
    await answer(visit, "doctor", "given")
    async with visit.acting() as (ctx, row, _):
        ((consent, _),) = await service.consents_of(ctx, row.id)
    assert consent.wording_version == OTHERS_VERSION
    assert "the patient’s record" in consent.wording and "your record" not in consent.wording
    portal = (await (await clinic.portal(visit.patient)).get(visit.portal)).text
    assert f'data-wording="{WORDING_VERSION}"' in portal and "may see your record" in portal


async def test_the_clinic_takes_a_consent_back_for_somebody_who_told_it_to(clinic, other_clinic, book):
    visit = await book(clinic)
    record_id = await agreed(visit)
    async with visit.acting("patient") as (_, __, person):
        patient = person.id
    address = f"{visit.href}/consents/{patient}/withdraw"
    doctor = await clinic.client()
    assert (await doctor.post(address)).status_code == 409, "while it runs, the call's own button is for that"
    await stop(visit)
    async with visit.acting() as (ctx, row, _):
        await service.end(ctx, row)
    assert (await (await clinic.client("nurse")).post(address)).status_code == 403
    assert (await (await other_clinic.client()).post(address)).status_code == 404
    assert (await doctor.post(f"{visit.href}/consents/{visit.id}/withdraw")).status_code == 404
    assert await waiting(clinic) == []
    assert address in (await doctor.get(visit.href)).text
    assert (await doctor.post(address)).status_code == 303
    assert await waiting(clinic) == [("withdrawn", record_id)]
    assert address not in (await doctor.get(visit.href)).text
    events = [event for event in await visit.audited() if event.type == "telemedicine.consent.withdrawn"]
    assert [event.actor_id for event in events] == [clinic.users["doctor"].id], "and who did it"


async def test_who_never_agreed_has_nothing_to_take_back(clinic, book):
    visit = await book(clinic)
    portal = await clinic.portal(visit.patient)
    page = f"{visit.portal}/recording"
    assert "Take back my consent" not in (await portal.get(page)).text
    assert (await portal.post(f"{page}/withdraw")).status_code == 409


async def test_a_paused_recording_gets_no_packet_and_everybody_sees_the_pause(clinic, book, worker):
    visit = await book(clinic)
    doctor, patient = await call(visit)
    patient.page.send("pause", on=True)
    assert (await patient.page.hears("problem", about="pause"))["code"] == "forbidden", "the clinic pauses"
    doctor.page.send("pause", on=True)
    assert (await doctor.page.hears("problem", about="pause"))["code"] == "conflict", "nothing was asked yet"
    doctor.page.send("record", on=True)
    await patient.page.sees(lambda state: state["recording"]["asked"], "the patient is asked")
    for one in (doctor, patient):
        await consent(one, "given")
    record = await in_state(visit, "recording")
    await speaking(doctor, patient)
    doctor.page.send("pause", on=True)
    for one in (doctor, patient):
        await one.page.sees(
            lambda state: state["recording"]["state"] == "paused" and state["recording"]["held"], "all see the pause"
        )
    size = folder_size(clinic, record)
    await speaking(doctor, patient)
    assert folder_size(clinic, record) == size
    doctor.page.send("pause", on=False)
    await in_state(visit, "recording")
    await speaking(doctor, patient)
    await until(lambda: folder_size(clinic, record) > size, "it is recorded again")
    doctor.page.send("record", on=False)
    record = await in_state(visit, "stopped")
    assert (record.ended_because, record.withdrawn_at) == ("clinic", None)
    assert (await recording_of(visit)).id == record.id
    types = [event.type for event in await visit.audited()]
    assert types.count("telemedicine.recording.pause") == types.count("telemedicine.recording.resume") == 1


async def test_a_no_that_the_worker_did_not_hear_is_told_again_until_it_stops(clinic, book, worker, monkeypatch):
    visit = await book(clinic)
    doctor, patient = await call(visit)
    doctor.page.send("record", on=True)
    await patient.page.sees(lambda state: state["recording"]["asked"], "the patient is asked")
    for one in (doctor, patient):
        await consent(one, "given")
    await in_state(visit, "recording")
    client, deaf = worker.clients[0], [True]
    stop_recording = client.stop_recording

    async def sometimes(name):
        if deaf[0]:
            raise MediaError("timeout", "no answer")
        return await stop_recording(name)

    monkeypatch.setattr(client, "stop_recording", sometimes)
    await consent(patient, "withdrawn")
    await doctor.page.sees(lambda state: state["recording"]["declined"], "everybody sees the no")
    assert (await recording_of(visit)).state == "recording", "nothing is claimed that is not so"
    deaf[0] = False
    record = await in_state(visit, "stopped")
    assert (record.ended_because, record.withdrawn_at is not None) == ("withdrawn", True)


async def test_who_was_put_out_before_answering_is_not_waited_for(clinic, book, worker):
    visit = await book(clinic)
    doctor, patient = await call(visit)
    doctor.page.send("record", on=True)
    await patient.page.sees(lambda state: state["recording"]["asked"], "the patient is asked")
    for one in (doctor, patient):
        await consent(one, "given")
    await in_state(visit, "recording")
    guest = await visit.invites()
    page = await guest.page()
    page.send("enter")
    await page.sees(lambda state: state["state"] == "waiting", "the guest waits")
    await guest.let_in()
    late = InCall(page)
    assert (await late.join())["type"] == "answer"
    await in_state(visit, "paused")
    assert (await (await clinic.client()).post(f"{visit.href}/guests/{guest.id}/remove")).status_code in (200, 303)
    await in_state(visit, "recording")
