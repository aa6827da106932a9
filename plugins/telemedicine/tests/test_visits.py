"""A video visit by its rules: who is let in and how that is known, who sees nothing, what remains when it is over."""

import uuid
from datetime import timedelta

import pytest
from sqlalchemy import select

from qanun.api import Conflict, Invalid, NotFound
from qanun_telemedicine import service
from qanun_telemedicine.models import ChatMessage, IdentityCheck, Presence
from qanun_telemedicine.service.recording import WORDING_VERSION

BOTH = {"identifier": ["name", "birth-date"], "how-name": "said", "how-birth-date": "shown", "outcome": "confirmed"}


async def checks(visit) -> list[IdentityCheck]:
    async with visit.clinic.context() as ctx:
        statement = select(IdentityCheck).where(IdentityCheck.consultation_id == visit.id)
        return list((await ctx.db.execute(statement.order_by(IdentityCheck.checked_at))).scalars())


# --- letting somebody in ------------------------------------------------------------------------------------------------


async def test_nobody_comes_in_before_two_identifiers_agree(clinic, other_clinic, book):
    visit = await book(clinic)
    await visit.wait()
    doctor = await clinic.client()
    assert (await doctor.post(f"{visit.href}/admit")).status_code == 409
    one = await doctor.post(f"{visit.href}/identity", data={"identifier": "name", "outcome": "confirmed"})
    assert one.status_code == 422
    assert await checks(visit) == []
    assert (await doctor.post(f"{visit.href}/admit")).status_code == 409
    assert (await visit.row()).state == "waiting"

    assert (await doctor.post(f"{visit.href}/identity", data=BOTH)).status_code == 303
    assert (await doctor.post(f"{visit.href}/admit")).status_code == 303
    row = await visit.row()
    assert (row.state, row.admitted_by) == ("in-progress", clinic.users["doctor"].id)
    (check,) = await checks(visit)
    assert check.identifiers == [{"identifier": "name", "how": "said"}, {"identifier": "birth-date", "how": "shown"}]
    assert (check.outcome, check.checked_by) == ("confirmed", clinic.users["doctor"].id)
    types = [event.type for event in await visit.audited()]
    assert types.index("telemedicine.identity.confirm") < types.index("telemedicine.consultation.admit")


@pytest.mark.parametrize(
    "marked",
    [
        {"identifier": ["name", "name"]},
        {"identifier": ["name", "shoe-size"]},
        {"identifier": ["name", "birth-date"], "how-name": "guessed"},
        {"identifier": ["photo", "phone"], "how-photo": "called-back"},
        {},
    ],
)
async def test_a_comparison_that_is_none_is_not_kept(clinic, book, marked):
    visit = await book(clinic)
    await visit.wait()
    doctor = await clinic.client()
    answer = await doctor.post(f"{visit.href}/identity", data={"outcome": "confirmed", **marked})
    assert answer.status_code == 422
    assert await checks(visit) == []


async def test_a_mismatch_keeps_the_door_shut_until_somebody_writes_how_it_was_cleared_up(clinic, book):
    visit = await book(clinic)
    await visit.wait()
    doctor = await clinic.client()
    wrong = {**BOTH, "outcome": "mismatch"}
    assert (await doctor.post(f"{visit.href}/identity", data=wrong)).status_code == 422, "a word about it is needed"
    answer = await doctor.post(f"{visit.href}/identity", data={**wrong, "note": "The year of birth is another."})
    assert answer.status_code == 303
    assert (await doctor.post(f"{visit.href}/admit")).status_code == 409
    assert (await doctor.post(f"{visit.href}/identity", data=BOTH)).status_code == 422, "not silently"
    assert (await doctor.post(f"{visit.href}/admit")).status_code == 409
    assert (await visit.row()).encounter_id is None
    cleared = {**BOTH, "note": "Read the wrong card; this one agrees."}
    assert (await doctor.post(f"{visit.href}/identity", data=cleared)).status_code == 303
    assert (await doctor.post(f"{visit.href}/admit")).status_code == 303
    assert [check.outcome for check in await checks(visit)] == ["mismatch", "confirmed"], "both are kept"


async def test_a_mismatch_after_a_confirmation_counts(clinic, book):
    visit = await book(clinic)
    await visit.wait()
    both = {"name": "said", "birth-date": "said"}
    async with visit.acting() as (ctx, row, _):
        await service.check_identity(ctx, row, service.IdentityForm(how=both))
    async with visit.acting() as (ctx, row, _):
        await service.check_identity(ctx, row, service.IdentityForm(how=both, matches=False, note="Another face."))
    with pytest.raises(Conflict):
        async with visit.acting() as (ctx, row, _):
            await service.admit(ctx, row)
    assert (await visit.row()).state == "waiting"


async def test_nobody_is_admitted_who_does_not_wait_and_an_identity_is_not_confirmed_afterwards(clinic, book):
    visit = await book(clinic)
    doctor = await clinic.client()
    assert (await doctor.post(f"{visit.href}/identity", data=BOTH)).status_code == 303
    assert (await doctor.post(f"{visit.href}/admit")).status_code == 409
    await visit.wait()
    assert (await doctor.post(f"{visit.href}/admit")).status_code == 303
    assert (await doctor.post(f"{visit.href}/identity", data=BOTH)).status_code == 409
    assert len(await checks(visit)) == 1


@pytest.mark.parametrize("role", ["nurse", "reception", "administrator", "lab-technician"])
async def test_only_who_holds_the_visit_confirms_admits_and_ends(clinic, book, role):
    visit = await book(clinic)
    await visit.wait()
    client = await clinic.client(role)
    for act in ("identity", "admit", "end"):
        assert (await client.post(f"{visit.href}/{act}", data=BOTH)).status_code == 403
    assert await checks(visit) == []
    assert (await visit.row()).state == "waiting"


# --- other clinics, other patients ------------------------------------------------------------------------------------


async def test_another_clinic_finds_nothing_at_any_address_of_the_visit(clinic, other_clinic, book):
    visit = await book(clinic)
    await visit.wait()
    theirs = await book(other_clinic)
    doctor = await other_clinic.client()
    for path in ("", "/lobby"):
        assert (await doctor.get(f"{visit.href}{path}")).status_code == 404
        assert (await doctor.get(f"{theirs.href}{path}")).status_code == 200
    assert (await doctor.get(f"/telemedicine/appointments/{visit.appointment_id}")).status_code == 404
    for act in ("identity", "admit", "end", "invitation"):
        assert (await doctor.post(f"{visit.href}/{act}", data=BOTH)).status_code == 404
    for listing in ("/telemedicine/consultations", "/telemedicine/consultations/list", "/telemedicine/waiting"):
        assert str(visit.id) not in (await doctor.get(listing)).text
    assert await checks(visit) == []
    assert (await visit.row()).state == "waiting"
    assert not [event for event in await visit.audited() if event.actor_id == other_clinic.users["doctor"].id]


async def test_a_patient_sees_their_own_visits_and_nobody_elses(clinic, other_clinic, book):
    mine, hers, elsewhere = await book(clinic), await book(clinic), await book(other_clinic)
    portal, slug = await clinic.portal(mine.patient), clinic.tenant.slug
    assert (await portal.get(mine.portal)).status_code == 200
    assert (await portal.get(hers.portal)).status_code == 404
    assert (await portal.get(f"/portal/{slug}/visits/{elsewhere.id}")).status_code == 404
    assert (await portal.get(elsewhere.portal)).status_code == 303, "the other clinic's portal asks for itself"
    own = await portal.get(f"/portal/{slug}/visits/for/{mine.appointment_id}")
    assert (own.status_code, own.headers["location"]) == (303, mine.portal)
    for other in (hers, elsewhere):
        assert (await portal.get(f"/portal/{slug}/visits/for/{other.appointment_id}")).status_code == 404
    for visit in (mine, hers):
        assert (await portal.get(visit.href)).status_code == 303, "staff's pages are not for patients"
    with pytest.raises(NotFound):
        async with clinic.context(actor=clinic.patient_actor(mine.patient)) as ctx:
            await service.consultation(ctx, hers.id)


async def test_the_link_of_an_invitation_opens_the_visit_once(clinic, other_clinic, book):
    visit = await book(clinic)
    async with visit.acting("reception") as (ctx, row, _):
        link = await service.invitation_link(ctx, row)
    way = link.removeprefix("http://clinic.test")
    assert way.startswith(f"/portal/{clinic.tenant.slug}/i/")
    phone = clinic.anonymous()
    shown = await phone.get(way)
    assert shown.status_code == 200
    assert visit.patient.family not in shown.text and visit.patient.given not in shown.text
    elsewhere = way.replace(clinic.tenant.slug, other_clinic.tenant.slug)
    assert (await other_clinic.anonymous().get(elsewhere)).status_code == 404
    password = {"password": "a sentence of their own"}
    assert (await phone.post(way, data={"birth_date": "1990-01-01", **password})).status_code == 422
    opened = await phone.post(way, data={"birth_date": "1991-08-19", **password})
    assert (opened.status_code, opened.headers["location"]) == (303, visit.portal)
    assert (await phone.get(visit.portal)).status_code == 200
    again = await clinic.anonymous().post(way, data={"birth_date": "1991-08-19", **password})
    assert again.status_code == 404
    once_more = await clinic.anonymous().get(way)
    assert once_more.status_code == 303 and "/sign-in" in once_more.headers["location"]


async def test_reception_renews_a_link_while_there_is_something_to_come_to(clinic, book):
    visit = await book(clinic)
    reception = await clinic.client("reception")
    async with visit.acting("reception") as (ctx, row, _):
        first = await service.invitation_link(ctx, row)
    answer = await reception.post(f"{visit.href}/invitation")
    assert answer.status_code == 200
    async with visit.acting("reception") as (ctx, row, _):
        second = await service.invitation_link(ctx, row)
        assert second != first and second in answer.text
        await service.cancel(ctx, row)
    assert (await reception.post(f"{visit.href}/invitation")).status_code == 409
    async with visit.acting("reception") as (ctx, row, _):
        assert await service.invitation_link(ctx, row) == ""


# --- being there ----------------------------------------------------------------------------------------------------------


async def stays_of(visit) -> list[tuple[str, str, bool]]:
    async with visit.acting() as (ctx, row, _):
        return [(person.kind, stay.place, stay.left_at is None) for person, stay in await service.stays(ctx, row)]


async def test_coming_back_continues_the_stay_and_a_long_absence_ends_it(clinic, book):
    visit = await book(clinic)
    await visit.admit()
    await visit.come("patient", "first")
    async with visit.acting("patient") as (ctx, row, person):
        await service.loosen(ctx, row, person, "first")
    await visit.come("patient", "second")
    assert await stays_of(visit) == [("patient", "lobby", False), ("patient", "call", True)]
    async with visit.acting("patient") as (ctx, row, person):
        await service.depart(ctx, row, person, "first")
    assert (await stays_of(visit))[-1] == ("patient", "call", True), "an old connection does not end a newer one's stay"
    async with visit.acting() as (ctx, row, _):
        stay = (await ctx.db.execute(select(Presence).where(Presence.connection == "second"))).scalar_one()
        stay.joined_at = ctx.now - timedelta(minutes=10)
        stay.seen_at = last = ctx.now - timedelta(minutes=3)
    async with visit.acting() as (ctx, row, _):
        assert await service.sweep(ctx, row)
        assert not await service.sweep(ctx, row)
    async with visit.acting() as (ctx, row, _):
        assert (await ctx.db.execute(select(Presence.left_at).where(Presence.place == "call"))).scalar_one() == last
    await visit.come("patient", "third")
    assert [stay for stay in await stays_of(visit) if stay[1] == "call"] == [
        ("patient", "call", False),
        ("patient", "call", True),
    ]


async def test_ending_writes_who_was_there_into_the_encounter_and_leaving_does_not_end(clinic, other_clinic, book):
    visit = await book(clinic)
    await visit.admit()
    for who in ("doctor", "patient"):
        await visit.come(who)
    async with visit.acting("patient") as (ctx, row, person):
        await service.depart(ctx, row, person, "one")
    assert (await visit.row()).state == "in-progress"
    await visit.come("patient", "two")
    doctor = await clinic.client()
    assert (await doctor.post(f"{visit.href}/end")).status_code == 303
    assert (await doctor.post(f"{visit.href}/end")).status_code == 303, "a second press changes nothing"
    row = await visit.row()
    assert (row.state, row.ended_by) == ("ended", clinic.users["doctor"].id)
    assert all(not there for _, _, there in await stays_of(visit))
    (ended,) = await visit.noted("telemedicine.consultation.end")
    assert sorted(stay["kind"] for stay in ended["stays"]) == ["patient", "patient", "practitioner"]
    assert all(stay["to"] >= stay["from"] for stay in ended["stays"])
    async with clinic.context() as ctx:
        if not ctx.records.provides("Encounter"):
            return
        encounter = await ctx.records.read("Encounter", row.encounter_id)
    assert encounter["status"] == "finished"
    assert encounter["subject"]["reference"] == f"Patient/{visit.patient.id}"
    # Beside whose visit it is, without a time, the record lists every stay.
    stays = [one for one in encounter["participant"] if one.get("period")]
    people = [one["individual"]["reference"] for one in stays]
    assert people.count(f"Patient/{visit.patient.id}") == 2
    assert people.count(f"Practitioner/{clinic.practitioner.id}") == 1
    assert len(stays) == 3
    assert all(one["period"]["start"] <= one["period"]["end"] for one in stays)
    async with other_clinic.context() as ctx:
        with pytest.raises(NotFound):
            await ctx.records.read("Encounter", row.encounter_id)


async def test_a_call_during_a_visit_at_the_clinic_is_a_part_of_that_visit_and_does_not_end_it(
    clinic, other_clinic, book
):
    visit, alone = await book(clinic), await book(clinic)
    async with clinic.context() as ctx:
        if not ctx.records.provides("Encounter"):
            return
        here = {"class": {"code": "AMB"}, "subject": {"reference": f"Patient/{visit.patient.id}"}}
        open_visit = await ctx.records.create("Encounter", here)
    await visit.admit()
    await alone.admit()
    await visit.come("doctor")
    assert str((await visit.row()).encounter_id) == open_visit["id"]
    assert str((await alone.row()).encounter_id) != open_visit["id"], "somebody else's visit is not joined"
    async with clinic.context() as ctx:
        assert len(await ctx.records.search("Encounter", patient=visit.patient.id)) == 1
    doctor = await clinic.client()
    for one in (visit, alone):
        assert (await doctor.post(f"{one.href}/end")).status_code == 303
    async with clinic.context() as ctx:
        joined = await ctx.records.read("Encounter", open_visit["id"])
        own = await ctx.records.read("Encounter", (await alone.row()).encounter_id)
    assert (joined["status"], own["status"]) == ("in-progress", "finished")
    assert [one["individual"]["reference"] for one in joined["participant"] if one.get("period")] == [
        f"Practitioner/{clinic.practitioner.id}"
    ]


async def test_what_never_began_cannot_end_and_what_runs_is_not_cancelled(clinic, book):
    visit = await book(clinic)
    doctor = await clinic.client()
    assert (await doctor.post(f"{visit.href}/end")).status_code == 409
    await visit.wait()
    assert (await doctor.post(f"{visit.href}/end")).status_code == 409
    running = await book(clinic)
    await running.admit()
    with pytest.raises(Conflict):
        async with running.acting() as (ctx, row, _):
            await service.cancel(ctx, row)
    assert (await running.row()).state == "in-progress"
    async with visit.acting() as (ctx, row, _):
        await service.cancel(ctx, row)
    with pytest.raises(Conflict):
        await visit.wait()
    assert all(not there for _, _, there in await stays_of(visit))


async def test_a_cancelled_appointment_takes_its_visit_along_but_not_one_that_runs(clinic, other_clinic, book):
    from qanun_telemedicine.handlers import HANDLERS

    (handler,) = HANDLERS
    planned, running, theirs = await book(clinic), await book(clinic), await book(other_clinic)
    await running.admit()
    async with clinic.context("system") as ctx:
        for visit in (planned, running, theirs):
            await handler.handle(ctx, {"event_id": str(uuid.uuid4()), "appointment_id": str(visit.appointment_id)})
    async with clinic.context("system") as ctx:
        await handler.handle(ctx, {"event_id": "again", "appointment_id": str(planned.appointment_id), "more": 1})
    assert (await planned.row()).state == "cancelled"
    assert (await running.row()).state == "in-progress"
    assert (await theirs.row()).state == "scheduled"


# --- chat -------------------------------------------------------------------------------------------------------------------


async def test_chat_lines_are_kept_in_order_once_each_and_for_this_visit_only(clinic, other_clinic, book):
    visit, theirs = await book(clinic), await book(other_clinic)
    for one in (visit, theirs):
        await one.admit()
    sent = uuid.uuid4()
    for who, client_id, text in (
        ("patient", sent, "  I have the papers here  "),
        ("patient", sent, "I have the papers here"),
        ("doctor", sent, "ممتاز، شكرًا"),
    ):
        async with visit.acting(who) as (ctx, row, person):
            await service.say(ctx, row, person, client_id, text)
    async with visit.acting() as (ctx, row, _):
        lines = await service.said(ctx, row.id)
        assert [(person.kind, line.text) for line, person in lines] == [
            ("patient", "I have the papers here"),
            ("practitioner", "ممتاز، شكرًا"),
        ]
        assert [line.text for line, _ in await service.said(ctx, row.id, after=lines[0][0].id)] == ["ممتاز، شكرًا"]
    for text in ("", "   ", "x" * 2001):
        with pytest.raises(Invalid):
            async with visit.acting() as (ctx, row, person):
                await service.say(ctx, row, person, uuid.uuid4(), text)
    async with visit.acting() as (ctx, row, _):
        await service.end(ctx, row)
    with pytest.raises(Conflict):
        async with visit.acting("patient") as (ctx, row, person):
            await service.say(ctx, row, person, uuid.uuid4(), "one thing more")
    async with other_clinic.context() as ctx:
        assert (await ctx.db.execute(select(ChatMessage))).first() is None
        assert await service.said(ctx, visit.id) == []
    shown = (await (await clinic.client()).get(visit.href)).text
    assert "I have the papers here" in shown


# --- being recorded -------------------------------------------------------------------------------------------------------


async def answer(visit, who: str, decision: str, version: str = "") -> None:
    async with visit.acting(who) as (ctx, row, person):
        await service.decide(ctx, row, person, decision, version or service.wording_version(person.kind))


async def ask(visit) -> None:
    async with visit.acting() as (ctx, row, _):
        await service.ask_to_record(ctx, row)


async def test_recording_waits_for_everybody_and_a_late_comer_is_asked_first(clinic, book):
    visit = await book(clinic)
    await visit.admit()
    for who in ("doctor", "patient"):
        await visit.come(who)
    with pytest.raises(Conflict):
        await answer(visit, "patient", "given")
    await ask(visit)
    assert (await visit.plan()).want == "nothing"
    await answer(visit, "doctor", "given")
    assert (await visit.plan()).want == "nothing"
    await answer(visit, "patient", "given")
    assert (await visit.plan()).want == "run"
    async with visit.acting() as (ctx, row, _):
        ctx.notices.clear()
        await service.new_recording(ctx, row)
        assert ("telemedicine.consultation", str(row.id)) in [
            (topic, ids["consultation"]) for topic, ids in ctx.notices
        ]
    assert (await visit.plan()).want == "run"
    await visit.come("nurse")
    assert (await visit.plan()).want == "pause", "who came later has not been asked"
    await answer(visit, "nurse", "given")
    assert (await visit.plan()).want == "run"
    await answer(visit, "patient", "withdrawn")
    assert (await visit.plan()).want == "stop"
    async with visit.acting("patient") as (ctx, row, person):
        await service.depart(ctx, row, person)
    assert (await visit.plan()).want == "stop", "going away does not undo a no"


async def test_a_no_counts_until_the_question_is_asked_anew(clinic, book):
    visit = await book(clinic)
    await visit.admit()
    for who in ("doctor", "patient"):
        await visit.come(who)
    await ask(visit)
    await answer(visit, "doctor", "given")
    await answer(visit, "patient", "refused")
    assert (await visit.plan()).want == "nothing"
    async with visit.acting() as (ctx, row, _):
        await service.stop_asking(ctx, row)
    await ask(visit)
    assert (await visit.plan()).given == frozenset(), "an answer to an earlier question is none to this one"
    assert (await visit.plan()).want == "nothing"


async def test_a_consent_is_kept_with_the_words_and_the_language_it_was_given_to(clinic, book):
    visit = await book(clinic)
    await visit.admit()
    await visit.come("patient")
    await ask(visit)
    for decision, version in (("given", "2020-1"), ("maybe", WORDING_VERSION)):
        with pytest.raises(Invalid):
            await answer(visit, "patient", decision, version)
    async with clinic.context(actor=clinic.patient_actor(visit.patient), locale="ar") as ctx:
        row = await service.consultation(ctx, visit.id, lock=True)
        await service.decide(ctx, row, await service.attend(ctx, row), "given", WORDING_VERSION)
    async with visit.acting() as (ctx, row, _):
        ((consent, person),) = await service.consents_of(ctx, row.id)
        _, sentences = service.wording(ctx.locale)
    assert (person.kind, consent.decision, consent.language) == ("patient", "given", "ar")
    assert consent.wording_version == WORDING_VERSION
    assert consent.wording.count("\n") == len(sentences) and consent.wording
    (noted,) = await visit.noted("telemedicine.consent.given")
    assert (noted["wording"], noted["language"]) == (WORDING_VERSION, "ar")


async def test_only_a_visit_that_runs_is_recorded_and_its_end_takes_the_question_back(clinic, book):
    visit = await book(clinic)
    await visit.wait()
    with pytest.raises(Conflict):
        await ask(visit)
    async with visit.acting() as (ctx, row, _):
        await service.check_identity(ctx, row, service.IdentityForm(how={"name": "said", "photo": "compared"}))
        await service.admit(ctx, row)
    await visit.come("patient")
    await ask(visit)
    await answer(visit, "patient", "given")
    assert (await visit.plan()).want == "run"
    async with visit.acting() as (ctx, row, _):
        await service.end(ctx, row)
    assert (await visit.plan()).want == "nothing"
    with pytest.raises(Conflict):
        await answer(visit, "patient", "given")


# --- who reads what ------------------------------------------------------------------------------------------------------


async def test_what_was_said_is_read_by_who_treats_and_by_nobody_at_the_desk(clinic, other_clinic, book):
    visit = await book(clinic)
    async with visit.acting("patient") as (ctx, row, _):
        await service.write_concern(ctx, row, "The lump has grown")
    await visit.wait()
    waiting = {}
    for role in ("doctor", "nurse", "reception", "administrator"):
        client = await clinic.client(role)
        waiting[role] = [
            (await client.get(address)).text for address in ("/telemedicine/waiting", f"{visit.href}/lobby", visit.href)
        ]
    await visit.admit_now()
    await visit.come("patient")
    async with visit.acting("patient") as (ctx, row, person):
        await service.say(ctx, row, person, uuid.uuid4(), "It hurts at night")
    for role, may in (("doctor", True), ("nurse", True), ("reception", False), ("administrator", False)):
        page = (await (await clinic.client(role)).get(visit.href)).text
        assert visit.patient.name in page, "who was there is no secret of the visit"
        assert ("It hurts at night" in page) == may, role
        assert ("The lump has grown" in waiting[role][0]) == may, role
        assert ("The lump has grown" in waiting[role][1]) == may, role
        if not may:
            assert not any("The lump has grown" in text for text in waiting[role]), role
    assert "The lump" not in (await (await other_clinic.client()).get("/telemedicine/waiting")).text


async def test_the_charts_chips_follow_the_visit(clinic, other_clinic, book):
    visit = await book(clinic)
    chips = f"/telemedicine/patients/{visit.patient.id}/chips"
    doctor = await clinic.client()
    assert "q-chip" not in (await doctor.get(chips)).text
    await visit.wait()
    assert "Waits for the video visit" in (await doctor.get(chips)).text
    await visit.admit_now()
    running = (await doctor.get(chips)).text
    assert "Waits for" not in running and "Video visit since" in running and "Identity confirmed" in running
    assert "live:telemedicine.consultation" in running, "the next notice asks again"
    assert (await (await clinic.client("lab-technician")).get(chips)).status_code == 403
    assert "q-chip" not in (await (await other_clinic.client()).get(chips)).text
    async with visit.acting() as (ctx, row, _):
        await service.end(ctx, row)
    assert "q-chip" not in (await doctor.get(chips)).text
