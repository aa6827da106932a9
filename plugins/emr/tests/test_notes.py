"""The visit note: every draft is kept, nobody's text is overwritten, a signed note never changes."""

import asyncio

import pytest
from sqlalchemy import func, select

from qanun.api import AuditEvent, Invalid, NotFound
from qanun_emr import service
from qanun_emr.models import Note, NoteAddendum


async def test_a_draft_is_saved_with_the_next_version_who_and_when(clinic, begin):
    visit = await begin(clinic)
    browser = await clinic.client()
    first = await browser.put(visit.note, data={"version": "0", "subjective": "Cough for five days."})
    second = await browser.put(visit.note, data={"version": "1", "subjective": "Cough.", "plan": "Fluids."})
    assert (first.json()["version"], second.json()["version"]) == (1, 2)
    assert len(first.json()["time"]) == 5
    note = await visit.stored()
    assert (note.subjective, note.plan, note.version) == ("Cough.", "Fluids.", 2)
    assert note.saved_by == clinic.users["doctor"].id and note.saved_name == "doctor of razi" and note.saved_at
    assert note.signed_at is None


async def test_an_answer_that_got_lost_is_given_again_without_a_new_version(clinic, begin, audited):
    visit = await begin(clinic)
    browser = await clinic.client()
    sent = {"version": "0", "subjective": "Cough."}
    assert (await browser.put(visit.note, data=sent)).json()["version"] == 1
    again = await browser.put(visit.note, data=sent)
    assert again.status_code == 200 and again.json()["version"] == 1
    assert (await audited(clinic, visit.patient)).count("emr.note.draft") == 1


async def test_a_stale_version_is_a_conflict_that_gives_back_the_stored_text_and_changes_nothing(clinic, begin):
    visit = await begin(clinic)
    browser = await clinic.client()
    await browser.put(visit.note, data={"version": "0", "subjective": "First text.", "plan": "First plan."})
    answer = await browser.put(visit.note, data={"version": "0", "subjective": "Second text."})
    assert answer.status_code == 409
    assert answer.json()["version"] == 1 and answer.json()["by"] == "doctor of razi"
    assert answer.json()["stored"] == {
        "subjective": "First text.", "objective": "", "assessment": "", "plan": "First plan.",
    }  # fmt: skip
    assert not answer.json()["signed"]
    note = await visit.stored()
    assert (note.subjective, note.plan, note.version) == ("First text.", "First plan.", 1)


async def test_of_twenty_writers_at_once_one_is_stored_and_nineteen_are_told(clinic, begin):
    visit = await begin(clinic)

    async def write(number: int) -> str:
        try:
            await visit.save(0, subjective=f"text of writer {number}")
        except service.NoteConflict as conflict:
            return str(conflict.note.subjective)
        return "stored"

    answers = await asyncio.gather(*(write(number) for number in range(20)))
    note = await visit.stored()
    assert answers.count("stored") == 1 and note.version == 1
    winner = answers.index("stored")
    assert note.subjective == f"text of writer {winner}"
    assert {answer for answer in answers if answer != "stored"} == {note.subjective}


async def test_writers_who_retry_from_what_is_stored_lose_nothing(clinic, begin):
    visit = await begin(clinic)

    async def append(number: int) -> None:
        version, text = 0, ""
        while True:
            try:
                await visit.save(version, plan=f"{text}\nline {number}".strip())
            except service.NoteConflict as conflict:
                version, text = conflict.note.version, conflict.note.plan
            else:
                return

    await asyncio.gather(*(append(number) for number in range(8)))
    note = await visit.stored()
    assert note.version == 8
    assert sorted(note.plan.splitlines()) == sorted(f"line {number}" for number in range(8))


@pytest.mark.parametrize("version", ["abc", "-1", "1.5", "١٢", "9" * 30])
async def test_a_version_that_is_no_number_is_refused_and_not_a_fault_of_the_server(clinic, begin, version):
    visit = await begin(clinic)
    browser = await clinic.client()
    sent = {"version": version, "subjective": "Cough."}
    assert (await browser.put(visit.note, data=sent)).status_code == 422
    assert (await browser.post(visit.sign, data=sent)).status_code == 422
    assert (await visit.stored()).version == 0


async def test_a_text_beyond_the_limit_is_refused_naming_its_section(clinic, begin):
    visit = await begin(clinic)
    browser = await clinic.client()
    sent = {"version": "0", "assessment": "x" * (service.LONGEST + 1), "plan": "Fluids."}
    answer = await browser.put(visit.note, data=sent, headers={"accept": "application/json"})
    assert answer.status_code == 422 and set(answer.json()["fields"]) == {"assessment"}
    assert (await visit.stored()).plan == ""


async def test_a_colleague_reads_who_is_writing_until_the_claim_runs_out(clinic, begin):
    visit = await begin(clinic)
    await visit.save(0, subjective="Cough.")
    colleague = await clinic.client("nurse")
    author = await clinic.client()
    workspace = f"{visit.chart}/workspaces/note"
    assert "doctor of razi is writing this note." in (await colleague.get(workspace)).text
    assert "is writing this note" not in (await author.get(workspace)).text
    async with clinic.context("system") as ctx:
        note = await service.note_of(ctx, visit.id)
        note.lease_until = ctx.now - service.LEASE
    assert "is writing this note" not in (await colleague.get(workspace)).text


async def test_signing_freezes_the_note_and_ends_the_visit(clinic, begin):
    visit = await begin(clinic)
    browser = await clinic.client()
    answer = await browser.post(visit.sign, data={"version": "0", "assessment": "Viral infection."})
    assert answer.status_code == 303
    assert answer.headers["location"] == f"{visit.chart}/encounters/{visit.id}"
    refused = await browser.put(visit.note, data={"version": "1", "assessment": "Something else."})
    assert refused.status_code == 409 and refused.json()["signed"]
    note = await visit.stored()
    assert note.assessment == "Viral infection." and note.signed_at is not None
    async with clinic.context() as ctx:
        encounter = await service.encounter_of(ctx, visit.id)
    assert (encounter.status, encounter.signed_name) == ("finished", "doctor of razi") and encounter.end


async def test_signing_twice_and_at_once_is_one_signing(clinic, begin, audited):
    visit = await begin(clinic)
    browser = await clinic.client()
    sent = {"version": "0", "assessment": "Viral infection."}
    answers = await asyncio.gather(*(browser.post(visit.sign, data=sent) for _ in range(5)))
    assert [answer.status_code for answer in answers] == [303] * 5
    signed_at = (await visit.stored()).signed_at
    assert (await browser.post(visit.sign)).status_code == 303
    assert (await visit.stored()).signed_at == signed_at
    assert (await audited(clinic, visit.patient)).count("emr.encounter.sign") == 1


async def test_an_empty_note_is_not_signed(clinic, begin):
    visit = await begin(clinic)
    browser = await clinic.client()
    answer = await browser.post(visit.sign, data={"version": "0", "plan": "  "}, headers={"hx-request": "true"})
    assert answer.status_code == 422 and "Write the note before signing." in answer.text
    page = await browser.post(visit.sign, data={"version": "0"})
    assert page.status_code == 422 and "Write the note before signing." in page.text and "<html" in page.text
    assert (await visit.stored()).signed_at is None


@pytest.mark.parametrize("headers", [{"hx-request": "true"}, {}])
async def test_signing_an_outdated_text_shows_both_texts_and_signs_neither(clinic, begin, headers):
    visit = await begin(clinic)
    await visit.save(0, plan="What the colleague wrote.")
    browser = await clinic.client()
    answer = await browser.post(visit.sign, data={"version": "0", "plan": "What I typed."}, headers=headers)
    assert answer.status_code == 409
    assert "What the colleague wrote." in answer.text and "What I typed.</textarea>" in answer.text
    note = await visit.stored()
    assert note.signed_at is None and note.plan == "What the colleague wrote."


async def test_a_text_typed_while_a_colleague_signed_is_shown_for_an_addendum(clinic, begin):
    visit = await begin(clinic)
    await visit.save(0, plan="Fluids.")
    browser = await clinic.client()
    assert (await browser.post(visit.sign, data={"version": "1"})).status_code == 303
    late = {"version": "1", "plan": "Fluids and rest."}
    answer = await browser.post(visit.sign, data=late, headers={"hx-request": "true"})
    assert answer.status_code == 409 and "Fluids and rest." in answer.text and "addendum" in answer.text
    assert (await visit.stored()).plan == "Fluids."


async def test_addenda_are_added_to_a_signed_note_with_their_author_and_never_to_a_draft(clinic, begin):
    visit = await begin(clinic)
    browser = await clinic.client()
    addenda = f"/emr/encounters/{visit.id}/addenda"
    early = await browser.post(addenda, data={"text": "Too early."})
    assert early.status_code == 422 and "still a draft" in early.text
    await browser.post(visit.sign, data={"version": "0", "plan": "Fluids."})
    empty = await browser.post(addenda, data={"text": " "})
    assert empty.status_code == 422 and "Write what is to be added." in empty.text
    assert (await browser.post(addenda, data={"text": "Called back: better."})).status_code == 303
    shown = (await browser.get(f"{visit.chart}/encounters/{visit.id}")).text
    assert "Called back: better." in shown and "doctor of razi" in shown and "Fluids." in shown
    async with clinic.context() as ctx:
        assert (await ctx.db.execute(select(func.count()).select_from(NoteAddendum))).scalar_one() == 1


async def test_another_clinic_reaches_neither_note_nor_signature(clinic, other_clinic, begin):
    visit = await begin(clinic)
    await visit.save(0, plan="Fluids.")
    stranger = await other_clinic.client()
    for answer in (
        await stranger.put(visit.note, data={"version": "1", "plan": "Mine."}),
        await stranger.post(visit.sign, data={"version": "1"}),
        await stranger.post(f"/emr/encounters/{visit.id}/addenda", data={"text": "Mine."}),
        await stranger.get(f"{visit.chart}/workspaces/note"),
        await stranger.post(f"{visit.chart}/encounters"),
    ):
        assert answer.status_code == 404 and "Fluids." not in answer.text
    async with other_clinic.context() as ctx:
        with pytest.raises(NotFound):
            await service.encounter_of(ctx, visit.id)
        assert (await ctx.db.execute(select(func.count()).select_from(Note))).scalar_one() == 0
    note = await visit.stored()
    assert (note.plan, note.signed_at) == ("Fluids.", None)


async def test_pressing_start_twice_at_once_opens_one_visit(clinic):
    patient = await clinic.patient()
    browser = await clinic.client()
    address = f"/emr/patients/{patient.id}/encounters"
    answers = await asyncio.gather(*(browser.post(address) for _ in range(6)))
    assert {answer.status_code for answer in answers} == {303}
    async with clinic.context() as ctx:
        assert (await ctx.db.execute(select(func.count()).select_from(Note))).scalar_one() == 1
        started = select(func.count()).select_from(AuditEvent).where(AuditEvent.type == "emr.encounter.start")
        assert (await ctx.db.execute(started)).scalar_one() == 1


async def test_a_draft_of_the_visit_keeps_its_text_when_signing_is_refused(clinic, begin):
    visit = await begin(clinic)
    async with clinic.context() as ctx:
        with pytest.raises(Invalid):
            await service.sign_encounter(ctx, visit.id)
    await visit.save(0, subjective="Kept.")
    async with clinic.context() as ctx:
        with pytest.raises(service.NoteConflict) as conflict:
            await service.sign_encounter(ctx, visit.id, version=7)
    assert conflict.value.note.subjective == "Kept."
