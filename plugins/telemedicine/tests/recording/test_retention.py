"""How long a recording is kept, who decides, what holds it back, and that a destroyed one is gone and can be proven to be."""

import json
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import select

from plugins.telemedicine.tests.recording.conftest import audio_feed, play_into, video_feed
from plugins.telemedicine.tests.recording.test_consent import agreed, stop, waiting
from plugins.telemedicine.tests.test_visits import answer
from qanun.api import Conflict, CryptoError
from qanun_telemedicine import service
from qanun_telemedicine.commands import verify_certificate
from qanun_telemedicine.jobs import erase_files, look_through
from qanun_telemedicine.models import Recording
from qanun_telemedicine.models_kept import DeletionCertificate, RetentionPolicy
from qanun_telemedicine.recording.recorder import Recorder, options
from qanun_telemedicine.service import deletion, jurisdictions, retention
from qanun_telemedicine.service.recording import binding, folder

RULE = {
    "jurisdiction": "own", "adult_years": "10", "minor_age": "18", "minor_years": "3", "counted_from": "recording",
    "review": "1", "basis": "Decision of the board, 2026",
}  # fmt: skip
HOME = "/telemedicine/retention"


async def rule(clinic, **changes):
    async with clinic.context("administrator") as ctx:
        await retention.set_policy(ctx, {**RULE, **changes})


async def recorded(clinic, book, *, years_ago=0, patient=None):
    """The id of a finished recording with real pictures, made so many years ago."""
    visit = await book(clinic, patient) if patient else await book(clinic)
    record_id = await agreed(visit)
    async with visit.acting() as (ctx, row, _):
        record = await service.recording(ctx, record_id)
        recorder = Recorder(
            options(folder(ctx, record), await service.recording_key(ctx, record), binding(ctx, record))
        )
        play_into(recorder, [video_feed("patient", 1), audio_feed("patient", 1)])
        recorder.close()
    await stop(visit)
    async with visit.acting() as (ctx, row, _):
        await service.end(ctx, row)
    async with clinic.context("system") as ctx:
        record = await service.recording(ctx, record_id)
        record.started_at -= timedelta(days=round(365.25 * years_ago))
    return visit, record_id


async def night(clinic):
    async with clinic.context("system") as ctx:
        await look_through(ctx)


async def state(clinic, record_id) -> Recording:
    async with clinic.context("system") as ctx:
        return await service.recording(ctx, record_id)


# --- reckoning ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("born", "recorded_on", "last", "policy", "until"),
    [
        ("1980-05-01", "2026-01-10", "2026-01-10", {}, "2036-01-10"),
        ("1980-05-01", "2026-01-10", "2030-03-03", {}, "2036-01-10"),
        ("1980-05-01", "2026-01-10", "2030-03-03", {"counted_from": "last-visit"}, "2040-03-03"),
        ("2020-05-01", "2026-01-10", "2026-01-10", {}, "2041-05-01"),
        ("2008-05-01", "2026-04-30", "2026-04-30", {"minor_age": 18, "minor_years": 3}, "2036-04-30"),
        ("2008-05-01", "2026-05-01", "2026-05-01", {"minor_age": 40}, "2036-05-01"),
        ("2020-05-01", "2026-01-10", "2026-01-10", {"minor_age": 0, "minor_years": 0}, "2036-01-10"),
        ("1980-05-01", "2024-02-29", "2024-02-29", {"adult_years": 1}, "2025-03-01"),
    ],
)
def test_until_when_it_is_kept(born, recorded_on, last, policy, until):
    made = RetentionPolicy(
        **{"adult_years": 10, "minor_age": 18, "minor_years": 3, "counted_from": "recording", **policy}
    )
    days = {
        name: date.fromisoformat(day) for name, day in (("born", born), ("recorded", recorded_on), ("last_visit", last))
    }
    assert retention.keep_until(made, **days) == date.fromisoformat(until)


def test_every_known_place_names_its_source_and_what_it_leaves_open():
    for place in jurisdictions.JURISDICTIONS:
        assert place.note and 0 < place.adult_years <= 100
        assert place.source or place.code == jurisdictions.OWN


async def test_a_rule_needs_figures_and_a_reason_and_only_an_administrator_sets_it(clinic, other_clinic):
    admin = await clinic.client("administrator")
    for wrong in ({"adult_years": "0"}, {"adult_years": "ten"}, {"minor_age": "-1"}, {"minor_years": "500"},
                  {"jurisdiction": "atlantis"}, {"counted_from": "birth"}, {"basis": " "}):  # fmt: skip
        refused = await admin.post(HOME, data={**RULE, **wrong})
        assert refused.status_code == 422
        assert "invalid-feedback" in refused.text or "jurisdiction" in wrong
    for role in ("doctor", "nurse", "reception"):
        client = await clinic.client(role)
        assert (await client.get(HOME)).status_code == 403
        assert (await client.post(HOME, data=RULE)).status_code == 403
    async with clinic.context("system") as ctx:
        assert await retention.current_policy(ctx) is None
    assert (await admin.post(HOME, data=RULE)).status_code == 303
    assert (await admin.post(HOME, data={**RULE, "adult_years": "12"})).status_code == 303
    async with clinic.context("system") as ctx:
        assert [one.adult_years for one in await retention.policies(ctx)] == [12, 10], "the earlier one is kept"
    async with other_clinic.context("system") as ctx:
        assert await retention.current_policy(ctx) is None
    assert "Code de la santé publique" in (await admin.get(f"{HOME}?preset=fr")).text


# --- what is due ------------------------------------------------------------------------------------------------------------


async def test_what_is_due_is_listed_once_and_destroyed_by_nobody(clinic, other_clinic, book):
    _, old = await recorded(clinic, book, years_ago=11)
    _, young = await recorded(clinic, book, years_ago=9)
    _, theirs = await recorded(other_clinic, book, years_ago=30)
    await night(clinic)
    assert await waiting(clinic) == [], "without a rule nothing is due"
    await rule(clinic)
    for _ in range(2):
        await night(clinic)
        await night(other_clinic)
    assert await waiting(clinic) == [("due", old)]
    assert await waiting(other_clinic) == []
    for where, one in ((clinic, old), (clinic, young), (other_clinic, theirs)):
        assert (await state(where, one)).state == "stopped"
    assert (await state(clinic, young)).keep_until is not None
    assert (await state(other_clinic, theirs)).keep_until is None


async def test_a_minors_recording_waits_until_they_are_grown(clinic, book):
    today = datetime.now(UTC).date()
    child = await clinic.patient(birth_date=f"{today.year - 15}-01-01")
    _, record_id = await recorded(clinic, book, years_ago=11, patient=child)
    await rule(clinic)
    await night(clinic)
    assert await waiting(clinic) == []
    assert (await state(clinic, record_id)).keep_until == date(today.year - 15 + 21, 1, 1)


async def test_without_review_it_is_destroyed_at_night_but_never_what_is_held(clinic, book):
    _, record_id = await recorded(clinic, book, years_ago=11)
    _, kept = await recorded(clinic, book, years_ago=11)
    async with clinic.context("administrator") as ctx:
        await retention.place_hold(ctx, await service.recording(ctx, kept), "Letter of the court, 3 March")
    await rule(clinic, review="")
    await night(clinic)
    await clinic.run_jobs()
    assert (await state(clinic, record_id)).state == "deleted"
    assert (await state(clinic, kept)).state == "stopped"


async def test_a_later_visit_puts_it_off_when_the_rule_counts_from_the_last_one(clinic, book):
    visit, record_id = await recorded(clinic, book, years_ago=11)
    await rule(clinic, counted_from="last-visit")
    await night(clinic)
    assert await waiting(clinic) == [], "the visit itself was held today"
    async with visit.acting() as (ctx, row, _):
        row.ended_at = row.admitted_at = ctx.now - timedelta(days=4100)
    async with clinic.context("doctor") as ctx:
        if ctx.records.provides("Encounter"):
            await night(clinic)
            assert await waiting(clinic) == [], "they were seen in the clinic since"
            until = (await state(clinic, record_id)).keep_until
            assert until > datetime.now(UTC).date()
            await night(clinic)
            assert (await state(clinic, record_id)).keep_until == until, "and that is remembered"


async def test_a_hold_that_is_placed_in_the_last_moment_still_holds(clinic, book):
    _, record_id = await recorded(clinic, book, years_ago=11)
    await rule(clinic, review="")
    await night(clinic)
    async with clinic.context("administrator") as ctx:
        await retention.place_hold(ctx, await service.recording(ctx, record_id), "Letter of the court, 3 March")
    await clinic.run_jobs()
    assert (await state(clinic, record_id)).state == "stopped"


async def test_a_recording_of_a_visit_that_everybody_left_and_nobody_ended_is_closed_and_kept_like_others(clinic, book):
    left, runs = await book(clinic), await book(clinic)
    record_id, running = await agreed(left), await agreed(runs)
    async with left.acting() as (ctx, row, _):
        for one in (record_id, running):
            (await service.recording(ctx, one)).started_at -= timedelta(hours=9)
        for _, stay in await service.stays(ctx, row):
            stay.joined_at = ctx.now - timedelta(hours=9)
            stay.seen_at = last = ctx.now - timedelta(hours=8)
    await rule(clinic)
    await night(clinic)
    closed = await state(clinic, record_id)
    assert (closed.state, closed.ended_because, closed.stopped_at) == ("failed", "fault", last)
    assert (await state(clinic, running)).state == "recording", "somebody is there"
    await night(clinic)
    assert (await state(clinic, record_id)).keep_until is not None


# --- deciding ---------------------------------------------------------------------------------------------------------------


async def the_review(clinic):
    async with clinic.context("system") as ctx:
        ((review, _),) = await service.open_reviews(ctx)
        return review.id


async def test_keeping_needs_a_reason_and_a_day_and_is_asked_again_on_it(clinic, other_clinic, book):
    _, record_id = await recorded(clinic, book, years_ago=11)
    await rule(clinic)
    await night(clinic)
    address = f"{HOME}/reviews/{await the_review(clinic)}"
    admin = await clinic.client("administrator")
    day = (datetime.now(UTC) + timedelta(days=30)).date().isoformat()
    for wrong in (
        {"note": "A dispute runs"},
        {"note": "", "again_on": day},
        {"note": "A dispute runs", "again_on": "2001-01-01"},
    ):
        assert (await admin.post(address, data={"decision": "keep", **wrong})).status_code == 422
    keep = {"decision": "keep", "note": "A dispute runs", "again_on": day}
    assert (await (await other_clinic.client("administrator")).post(address, data=keep)).status_code == 404
    assert (await (await clinic.client("doctor")).post(address, data=keep)).status_code == 403
    assert len(await waiting(clinic)) == 1
    assert (await admin.post(address, data=keep)).status_code == 303
    await night(clinic)
    assert await waiting(clinic) == []
    async with clinic.context("system") as ctx:
        (review,) = await service.reviews_of(ctx, record_id)
        review.again_on = ctx.now.date() - timedelta(days=1)
    await night(clinic)
    assert await waiting(clinic) == [("due", record_id)]


async def test_a_hold_stands_between_a_decision_and_the_deletion_until_it_is_lifted(clinic, other_clinic, book):
    visit, record_id = await recorded(clinic, book)
    async with visit.acting("patient") as (ctx, row, person):
        await service.withdraw_afterwards(ctx, row, person)
    admin = await clinic.client("administrator")
    address, hold = f"{HOME}/reviews/{await the_review(clinic)}", f"{HOME}/recordings/{record_id}/hold"
    assert (
        await (await other_clinic.client("administrator")).post(hold, data={"reason": "Curiosity"})
    ).status_code == 404
    assert (await admin.post(hold, data={"reason": ""})).status_code == 422
    assert (await admin.post(hold, data={"reason": "Letter of the court", "whole_patient": "1"})).status_code == 303
    delete = {"decision": "delete", "note": "The patient asks for it"}
    refused = await admin.post(address, data=delete)
    assert refused.status_code == 409 and "legal hold" in refused.text
    assert (await state(clinic, record_id)).state == "stopped"
    async with clinic.context("administrator") as ctx:
        ((held, _),) = await retention.standing_holds(ctx)
        with pytest.raises(Conflict):
            await deletion.destroy(ctx, await service.recording(ctx, record_id), why="due")
    assert (await admin.post(f"{HOME}/holds/{held.id}/release", data={"reason": "no"})).status_code == 422
    assert (
        await admin.post(f"{HOME}/holds/{held.id}/release", data={"reason": "The case is closed"})
    ).status_code == 303
    assert (await admin.post(address, data=delete)).status_code == 303
    assert (await state(clinic, record_id)).state == "deleted"
    types = [event.type for event in await visit.audited()]
    assert types.index("telemedicine.hold.place") < types.index("telemedicine.hold.release")
    assert types.index("telemedicine.hold.release") < types.index("telemedicine.recording.destroy")


# --- the proof --------------------------------------------------------------------------------------------------------------


async def test_a_destroyed_recording_cannot_be_read_again_and_its_certificate_holds(
    clinic, other_clinic, book, tmp_path
):
    visit, record_id = await recorded(clinic, book)
    record = await state(clinic, record_id)
    wrapped = record.key
    place = clinic.assembly.config.state_dir / "recordings" / record.directory
    copies = {path.name: path.read_bytes() for path in place.iterdir()}
    assert copies
    async with visit.acting("patient") as (ctx, row, person):
        await service.withdraw_afterwards(ctx, row, person)
    admin = await clinic.client("administrator")
    decided = await admin.post(
        f"{HOME}/reviews/{await the_review(clinic)}", data={"decision": "delete", "note": "The patient asks for it"}
    )
    address = decided.headers["location"]
    assert "something does not agree" in (await admin.get(address)).text, "the files still lie there"
    await clinic.run_jobs()
    assert not place.exists()
    shown = await admin.get(address)
    assert "it holds" in shown.text and visit.patient.family not in (await admin.get(f"{address}/file")).text

    gone = await state(clinic, record_id)
    assert (gone.state, gone.key) == ("deleted", b"")
    async with clinic.context("doctor") as ctx:
        with pytest.raises(CryptoError):
            await service.recording_key(ctx, gone)
    doctor = await clinic.client("doctor")
    watched = await doctor.get(f"/telemedicine/recordings/{record_id}")
    assert "This recording was destroyed" in watched.text and "<video" not in watched.text
    assert (await doctor.get(f"/telemedicine/recordings/{record_id}/patient/0")).status_code == 404
    assert (await (await other_clinic.client("administrator")).get(address)).status_code == 404
    assert (await doctor.get(address)).status_code == 403

    saved = tmp_path / "certificate.json"
    saved.write_bytes((await admin.get(f"{address}/file")).content)
    assert verify_certificate([str(saved)]) == 0
    body = json.loads(json.loads(saved.read_text())["body"])
    assert body["recording"] == str(record_id) and {file["name"] for file in body["files"]} == set(copies)
    assert wrapped.hex() not in saved.read_text()
    changed = json.loads(saved.read_text())
    changed["body"] = changed["body"].replace(str(record_id), str(visit.id))
    saved.write_text(json.dumps(changed))
    assert verify_certificate([str(saved)]) == 1
    assert verify_certificate([str(tmp_path / "nowhere")]) == 2


async def test_a_certificate_that_was_changed_in_the_database_is_found_out(clinic, book):
    _, record_id = await recorded(clinic, book)
    async with clinic.context("administrator") as ctx:
        made = await deletion.destroy(ctx, await service.recording(ctx, record_id), why="due")
        certificate_id = made.id
    await clinic.run_jobs()
    async with clinic.context("system") as ctx:
        assert (await deletion.proof(ctx, certificate_id)).holds
        found = (await ctx.db.execute(select(DeletionCertificate))).scalar_one()
        ctx.db.expunge(found)
        found.body = found.body.replace('"why":"due"', '"why":"withdrawn"')
        assert not service.genuine(found.public_key, found.signature, found.body)
    with pytest.raises(Exception, match="permission denied"):
        async with clinic.context("system") as ctx:
            found = (await ctx.db.execute(select(DeletionCertificate))).scalar_one()
            found.body = "{}"


async def test_files_are_erased_only_of_what_has_no_key_any_more(clinic, book):
    _, record_id = await recorded(clinic, book)
    record = await state(clinic, record_id)
    place = clinic.assembly.config.state_dir / "recordings" / record.directory
    async with clinic.context("system") as ctx:
        await erase_files(ctx, str(record_id))
    assert any(place.iterdir())


async def test_what_runs_is_not_destroyed_and_a_second_deletion_does_nothing(clinic, book):
    visit = await book(clinic)
    record_id = await agreed(visit)
    async with clinic.context("administrator") as ctx:
        with pytest.raises(Conflict):
            await deletion.destroy(ctx, await service.recording(ctx, record_id), why="due")
    await answer(visit, "patient", "withdrawn")
    await stop(visit, "withdrawn")
    admin = await clinic.client("administrator")
    address = f"{HOME}/reviews/{await the_review(clinic)}"
    for _ in range(2):
        assert (await admin.post(address, data={"decision": "delete", "note": "As they wish"})).status_code == 303
    assert len(await visit.noted("telemedicine.recording.destroy")) == 1
    assert (
        await admin.post(address, data={"decision": "keep", "note": "Or not", "again_on": "2040-01-01"})
    ).status_code == 409
