"""What is said, kept in the record on request: asked by the clinic, agreed to by everybody, thrown away at the first no."""

import time
import uuid

import pytest
from sqlalchemy import select

from qanun.api import Conflict, Invalid
from qanun.storage import Blob
from qanun_telemedicine import service
from qanun_telemedicine.captions.line import Caption
from qanun_telemedicine.models_kept import Transcript, TranscriptLine
from qanun_telemedicine.service import transcripts
from qanun_telemedicine.service.transcripts import WORDING


async def in_call(visit) -> None:
    await visit.admit()
    for who in ("doctor", "patient"):
        await visit.come(who)


async def ask(visit, on: bool = True) -> None:
    async with visit.acting() as (ctx, row, person):
        await transcripts.ask(ctx, row, person, on)


async def answer(visit, decision: str = "given") -> None:
    async with visit.acting("patient") as (ctx, row, person):
        await transcripts.answer(ctx, row, person, decision, WORDING)


async def says(visit, who: str, text: str, *, ago: float = 0.0, id: str = "") -> bool:
    """Somebody began to say this so many seconds ago."""
    async with visit.acting(who) as (ctx, row, person):
        return await transcripts.keep(
            ctx, row, Caption(row.room, str(person.id), text, id or uuid.uuid4().hex, time.time() - ago)
        )


async def lines_of(clinic) -> int:
    async with clinic.context() as ctx:
        return len((await ctx.db.execute(select(TranscriptLine))).all())


async def kept(visit) -> Transcript | None:
    async with visit.clinic.context() as ctx:
        found = await transcripts.transcripts_of(ctx, visit.id)
        return found[-1] if found else None


async def test_nothing_is_kept_before_everybody_has_agreed(clinic, other_clinic, book):
    visit, theirs = await book(clinic), await book(other_clinic)
    await in_call(visit)
    assert not await says(visit, "doctor", "before anybody asked")
    await ask(visit)
    assert not await says(visit, "doctor", "the patient has not answered")
    await answer(visit)
    assert not await says(visit, "patient", "begun before the answer", ago=60)
    assert await says(visit, "patient", "my head aches")
    # Somebody comes later: not another word before they have answered.
    await visit.come("nurse")
    assert not await says(visit, "doctor", "the nurse has not answered")
    async with visit.acting("nurse") as (ctx, row, person):
        await transcripts.answer(ctx, row, person, "given", WORDING)
    assert await says(visit, "doctor", "since when", id="twice") and await says(
        visit, "doctor", "since when", id="twice"
    )
    assert await lines_of(clinic) == 2, "two pages hear one caption"
    async with visit.acting() as (ctx, row, _):
        await service.end(ctx, row)
    made = await kept(visit)
    assert made is not None and made.lines == 2 and made.encounter_id == (await visit.row()).encounter_id
    assert await lines_of(clinic) == 0
    assert await kept(theirs) is None and await lines_of(other_clinic) == 0
    async with visit.acting() as (ctx, row, _):
        _, document = await transcripts.read(ctx, row, made.id)
    assert [line.text for line in document.lines] == ["my head aches", "since when"]
    assert len(document.agreed) == 3 and all(WORDING in one.wording for one in document.agreed)
    trail = " ".join(event.body for event in await visit.audited())
    assert "aches" not in trail, "what was said is not in the audit"


async def test_it_lies_sealed_and_only_who_may_read_what_was_said_reads_it(clinic, other_clinic, book):
    visit = await book(clinic)
    await in_call(visit)
    await ask(visit)
    await answer(visit)
    await says(visit, "patient", "my head aches")
    async with clinic.context() as ctx:
        (line,) = (await ctx.db.execute(select(TranscriptLine))).scalars()
        assert b"aches" not in line.sealed
    await ask(visit, on=False)
    made = await kept(visit)
    assert made is not None
    async with clinic.context() as ctx:
        blob = (await ctx.db.execute(select(Blob).where(Blob.id == made.blob_id))).scalar_one()
        assert blob.patient_id == visit.patient.id, "it is erased with the patient"
    address = f"{visit.href}/transcripts/{made.id}"
    shown = await (await clinic.client("doctor")).get(address)
    assert shown.status_code == 200 and "my head aches" in shown.text
    assert len(await visit.noted("telemedicine.transcript.read")) == 1
    for who in ("reception", "administrator", "lab-technician"):
        assert (await (await clinic.client(who)).get(address)).status_code == 403
    assert (await (await other_clinic.client("doctor")).get(address)).status_code == 404
    mine = await clinic.portal(visit.patient)
    assert "my head aches" in (await mine.get(f"{visit.portal}/transcripts/{made.id}")).text
    stranger = await clinic.portal(await clinic.patient())
    assert (await stranger.get(f"{visit.portal}/transcripts/{made.id}")).status_code == 404
    other = await book(clinic, visit.patient)
    assert (await (await clinic.client("doctor")).get(f"{other.href}/transcripts/{made.id}")).status_code == 404


async def test_one_no_throws_away_what_was_written_and_nothing_reaches_the_record(clinic, book):
    visit = await book(clinic)
    await in_call(visit)
    await ask(visit)
    await answer(visit)
    assert await says(visit, "patient", "something I regret")
    await answer(visit, "refused")
    assert await lines_of(clinic) == 0 and (await visit.row()).transcript_asked_at is None
    assert not await says(visit, "doctor", "afterwards")
    async with visit.acting() as (ctx, row, _):
        assert row.captions_asked_at is not None, "captions themselves go on"
        await service.end(ctx, row)
    assert await kept(visit) is None
    assert await visit.noted("telemedicine.transcript.discard") == [{"lines": 1}]
    # Asked again, everybody answers again.
    again = await book(clinic)
    await in_call(again)
    await ask(again)
    await answer(again, "refused")
    await ask(again)
    assert not await says(again, "doctor", "an old answer counts for nothing")
    await ask(again, on=False)
    assert await kept(again) is None, "a document without a word is none"


async def test_who_may_ask_and_what_is_refused(clinic, book):
    visit = await book(clinic)
    await visit.wait()
    with pytest.raises(Conflict):
        await ask(visit)
    await visit.admit_now()
    for who in ("doctor", "patient"):
        await visit.come(who)
    with pytest.raises(Conflict):
        await answer(visit)
    await ask(visit)
    for decision, version, field in (("perhaps", WORDING, "decision"), ("given", "2020-1", "version")):
        with pytest.raises(Invalid) as refused:
            async with visit.acting("patient") as (ctx, row, person):
                await transcripts.answer(ctx, row, person, decision, version)
        assert field in refused.value.fields
    sealed = await book(clinic)
    async with sealed.acting() as (ctx, row, _):
        await service.choose_encryption(ctx, row, True)
    await sealed.wait()
    await sealed.admit_now()
    await sealed.come("doctor")
    with pytest.raises(Conflict):
        await ask(sealed)


async def test_the_page_of_a_patient_cannot_ask(clinic, book, worker):
    visit = await book(clinic)
    await visit.admit()
    await visit.come("doctor")
    page = await visit.page("patient")
    await page.hears("welcome")
    page.send("transcript", on=True)
    assert (await page.hears("problem", about="transcript"))["code"] == "forbidden"
    assert (await visit.row()).transcript_asked_at is None


async def test_taken_back_it_is_shown_to_nobody_and_a_person_decides(clinic, other_clinic, book):
    visit = await book(clinic)
    await in_call(visit)
    await ask(visit)
    await answer(visit)
    await says(visit, "patient", "my head aches")
    async with visit.acting() as (ctx, row, _):
        await service.end(ctx, row)
    made = await kept(visit)
    assert made is not None
    admin = await clinic.client("administrator")
    early = f"/telemedicine/retention/transcripts/{made.id}/destroy"
    assert (await admin.post(early, data={"reason": "on request"})).status_code == 404, "a consent that stands"
    mine = await clinic.portal(visit.patient)
    assert (await mine.post(f"{visit.portal}/transcripts/{made.id}/take-back")).status_code == 303
    for reader, address in ((await clinic.client("doctor"), visit.href), (mine, visit.portal)):
        assert (await reader.get(f"{address}/transcripts/{made.id}")).status_code == 404
    page = await admin.get("/telemedicine/retention")
    assert early in page.text and "aches" not in page.text
    assert (await (await clinic.client("doctor")).post(early, data={"reason": "x y z"})).status_code == 403
    assert (await (await other_clinic.client("administrator")).post(early, data={"reason": "x y z"})).status_code == 404
    assert (await admin.post(early, data={"reason": " "})).status_code == 422
    blob_id = made.blob_id
    for _ in range(2):
        assert (await admin.post(early, data={"reason": "on request"})).status_code == 303
    gone = await kept(visit)
    assert gone is not None and gone.blob_id is None and gone.destroyed_at is not None
    async with clinic.context() as ctx:
        assert (await ctx.db.execute(select(Blob).where(Blob.id == blob_id))).first() is None
    assert len(await visit.noted("telemedicine.transcript.destroy")) == 1


async def test_kept_in_error_it_stays_marked_and_is_not_shown(clinic, book):
    visit = await book(clinic)
    await in_call(visit)
    await ask(visit)
    await answer(visit)
    await says(visit, "doctor", "of another patient")
    await ask(visit, on=False)
    made = await kept(visit)
    assert made is not None
    doctor = await clinic.client("doctor")
    address = f"{visit.href}/transcripts/{made.id}"
    assert (await doctor.post(f"{address}/void", data={"reason": ""})).status_code == 422
    assert (await doctor.post(f"{address}/void", data={"reason": "of another patient"})).status_code == 303
    assert (await doctor.get(address)).status_code == 404
    assert "of another patient" in (await doctor.get(visit.href)).text
    nurse = await clinic.client("nurse")
    assert (await nurse.post(f"{address}/void", data={"reason": "no"})).status_code == 403
