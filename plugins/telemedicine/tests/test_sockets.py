"""The live side of a visit, with a real media worker: who may speak on a socket, and what is recorded at which moment."""

import io
import os
import signal
import uuid

import av
import pytest
from sqlalchemy import select

from plugins.telemedicine.tests.conftest import Page, until
from plugins.telemedicine.tests.sfu.peer import Peer
from qanun.api import new_id
from qanun.identity import Membership, User
from qanun.tenancy import global_session
from qanun_telemedicine import service
from qanun_telemedicine.models import Recording
from qanun_telemedicine.recording import player
from qanun_telemedicine.service.recording import binding, folder


class InCall:
    """Somebody with a page and real media."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.number = 0

    async def join(self) -> dict:
        self.number += 1
        welcome = await self.page.hears("welcome")
        self.peer = Peer(welcome["me"])
        sources = {"0": "microphone", "1": "camera"}
        answer = await self.page.ask("join", self.number, sdp=await self.peer.offer(), sources=sources)
        if answer["type"] == "answer":
            self.peer.answer = answer["sdp"]
            await self.peer.connect()
        return answer


async def speaking(one: InCall, other: InCall) -> None:
    """Both send until each has heard the other again."""
    before = one.peer.heard(), other.peer.heard()

    async def heard() -> bool:
        await one.peer.speak()
        await other.peer.speak()
        return one.peer.heard() > before[0] + 10 and other.peer.heard() > before[1] + 10

    await until(heard, "both hear each other")


async def call(visit) -> tuple[InCall, InCall]:
    """Doctor and patient in the call, hearing each other."""
    await visit.admit()
    people = InCall(await visit.page()), InCall(await visit.page("patient"))
    for one in people:
        assert (await one.join())["type"] == "answer"
    await speaking(*people)
    return people


async def recording_of(visit) -> Recording | None:
    async with visit.clinic.context() as ctx:
        found = await service.recordings_of(ctx, visit.id)
    return found[-1] if found else None


async def consent(one: InCall, decision: str) -> None:
    wording = one.page.said("state")[-1]["recording"]["wording"]
    one.page.send("consent", decision=decision, version=wording)


async def in_state(visit, state: str) -> Recording:
    async def reached() -> Recording | None:
        record = await recording_of(visit)
        return record if record is not None and record.state == state else None

    return await until(reached, f"the recording is {state}")


# --- who may speak ------------------------------------------------------------------------------------------------------


async def test_no_socket_opens_for_another_clinic_another_patient_or_nobody(clinic, other_clinic, book, worker):
    visit, hers, theirs = await book(clinic), await book(clinic), await book(other_clinic)
    await visit.admit()
    refused = [
        await visit.page("doctor", by=theirs),
        await visit.page("patient", by=theirs),
        await visit.page("patient", by=hers),
        await visit.page("nurse"),
        await visit.page("reception"),
        await visit.stranger(),
        await visit.page("doctor", origin="http://elsewhere.test"),
        await theirs.page("patient", by=visit),
    ]
    for page in refused:
        assert not page.accepted
        assert page.heard == []
        assert page.closed is not None, "and it is told at once"
    async with clinic.context() as ctx:
        assert [person.kind for person, _ in await service.stays(ctx, await visit.row())] == ["patient"]
    assert (await visit.page("patient")).accepted


async def test_a_patient_waits_for_free_and_has_no_media_before_being_let_in(clinic, book, worker):
    visit = await book(clinic)
    doctor, patient = InCall(await visit.page()), InCall(await visit.page("patient"))
    assert (await patient.join())["code"] == "forbidden"
    patient.page.send("concern", text="My shoulder hurts")
    patient.page.send("enter")
    await patient.page.sees(lambda state: state["state"] == "waiting" and state["position"] == 0, "the patient waits")
    await doctor.page.sees(
        lambda state: state["patient_here"] and state["concern"] == "My shoulder hurts", "and is seen"
    )
    assert (await patient.join())["code"] == "forbidden"
    assert (await doctor.join())["code"] == "forbidden", "nobody is in a call that has not begun"
    patient.page.send("record", on=True)
    assert (await patient.page.hears("problem", about="record"))["code"] == "forbidden"
    doctor.page.send("enter")
    assert (await doctor.page.hears("problem", about="enter"))["code"] == "forbidden"
    assert await worker.clients[0].stats() == {}
    await visit.admit()
    await patient.page.sees(lambda state: state["state"] == "in-progress", "the door opens by itself")
    for one in (doctor, patient):
        assert (await one.join())["type"] == "answer"
    await speaking(doctor, patient)
    await doctor.page.sees(lambda state: len(state["people"]) == 2, "both are listed")


async def test_rubbish_is_answered_by_name_and_ends_the_line_when_it_goes_on(clinic, book, live):
    visit = await book(clinic)
    page = await visit.page("patient")
    await page.hears("welcome", video=False)
    for text in ("", "{", '{"type":"become-doctor"}', '{"type":"join"}', '{"type":"say","id":"7","text":5}', "[]"):
        page.send_text(text)
    await until(lambda: len(page.said("problem", code="malformed")) == 6, "each is answered")
    page.send("ping")
    await page.hears("pong")
    for _ in range(30):
        page.send_text("rubbish")
    await until(lambda: page.closed == 4400, "enough is enough")


async def test_whoever_signs_out_is_out_of_the_call_within_moments(clinic, book, worker):
    visit = await book(clinic)
    doctor, patient = await call(visit)
    client = worker.clients[0]
    room = (await visit.row()).room
    cookie = next(value for name, value in patient.page._scope["headers"] if name == b"cookie")
    phone = clinic.anonymous()
    signed_out = await phone.post(f"/portal/{clinic.tenant.slug}/sign-out", headers={"cookie": cookie.decode()})
    assert signed_out.status_code == 303
    await until(lambda: patient.page.closed == 4401, "the socket is closed")

    async def alone() -> bool:
        return set((await client.stats(room))[room]) == {doctor.peer.name}

    await until(alone, "and so is the media")
    assert doctor.page.closed is None


async def test_a_second_tab_takes_the_call_over(clinic, book, worker):
    visit = await book(clinic)
    doctor, patient = await call(visit)
    again = InCall(await visit.page("patient"))
    assert (await again.join())["type"] == "answer"
    await until(lambda: patient.page.closed == 4409, "the first tab is told")
    await speaking(doctor, again)
    async with visit.acting() as (ctx, row, _):
        here = await service.present(ctx, row.id)
    assert sorted(person.kind for person, stay in here if stay.place == "call") == ["patient", "practitioner"]


async def test_chat_reaches_the_other_page_and_a_page_that_comes_later(clinic, other_clinic, book, worker):
    visit, theirs = await book(clinic), await book(other_clinic)
    for one in (visit, theirs):
        await one.admit()
    doctor, patient, elsewhere = await visit.page(), await visit.page("patient"), await theirs.page()
    sent = str(uuid.uuid4())
    for _ in range(2):
        patient.send("say", id=sent, text="هل أرسل الصورة الآن؟")
    line = await doctor.hears("said", client_id=sent)
    assert (line["text"], line["me"], line["name"]) == ("هل أرسل الصورة الآن؟", False, visit.patient.name)
    assert (await patient.hears("said", client_id=sent))["me"] is True
    doctor.send("say", id=str(uuid.uuid4()), text="Yes, please")
    await patient.hears("said", text="Yes, please")
    patient.send("say", id=str(uuid.uuid4()), text="  ")
    await patient.hears("problem", about="say")
    await patient.close()
    later = await visit.page("patient")
    await later.hears("said", text="Yes, please")
    assert [one["text"] for one in later.said("said")] == ["هل أرسل الصورة الآن؟", "Yes, please"]
    await elsewhere.hears("welcome")
    assert elsewhere.said("said") == []


# --- recording ------------------------------------------------------------------------------------------------------------


async def test_a_recording_runs_only_while_everybody_present_agrees(clinic, other_clinic, book, worker):
    visit = await book(clinic)
    doctor, patient = await call(visit)
    client = worker.clients[0]
    doctor.page.send("record", on=True)
    await patient.page.sees(lambda state: state["recording"]["asked"], "the patient is asked")
    await consent(doctor, "given")
    await patient.page.sees(lambda state: state["recording"]["given"] == 1, "one has agreed")
    assert await recording_of(visit) is None
    await consent(patient, "given")
    record = await in_state(visit, "recording")
    for one in (doctor, patient):
        await one.page.sees(lambda state: state["recording"]["state"] == "recording", "everybody sees that it runs")
    await speaking(doctor, patient)

    await (await visit.page()).hears("welcome")  # another page of the doctor is no new person
    assert (await client.recording_status(str(record.id)))["state"] == "recording"

    await consent(patient, "withdrawn")
    record = await in_state(visit, "stopped")
    assert record.problem == ""
    await doctor.page.sees(lambda state: state["recording"]["state"] == "none", "and that it does not any more")
    await speaking(doctor, patient)
    size = folder_size(clinic, record)
    await speaking(doctor, patient)
    assert folder_size(clinic, record) == size, "not a packet after the no"
    types = [event.type for event in await visit.audited()]
    assert types.count("telemedicine.recording.start") == types.count("telemedicine.recording.stop") == 1
    async with other_clinic.context() as ctx:
        assert (await ctx.db.execute(select(Recording))).first() is None


def folder_size(clinic, record: Recording) -> int:
    place = clinic.assembly.config.state_dir / "recordings" / record.directory
    return sum(path.stat().st_size for path in place.iterdir())


async def colleague_of(clinic) -> None:
    """A second doctor, who may hold visits too."""
    first = clinic.users["doctor"]
    async with global_session(clinic.assembly.runtime.database) as session:
        user = User(
            id=new_id(), email=f"second.{first.email}", name="Dr Samir", password=first.password, failures=0,
            name_alt="", locale="",
        )  # fmt: skip
        session.add(user)
        await session.flush()
        session.add(Membership(user_id=user.id, tenant_id=clinic.tenant.id, roles=["doctor"]))
        await session.commit()
    clinic.users["colleague"] = user


async def test_who_comes_later_is_not_recorded_before_being_asked(clinic, book, worker):
    visit = await book(clinic)
    await colleague_of(clinic)
    doctor, patient = await call(visit)
    doctor.page.send("record", on=True)
    await patient.page.sees(lambda state: state["recording"]["asked"], "the patient is asked")
    for one in (doctor, patient):
        await consent(one, "given")
    record = await in_state(visit, "recording")
    late = InCall(await visit.page("colleague"))
    assert (await late.join())["type"] == "answer"
    status = await worker.clients[0].recording_status(str(record.id))
    assert status["state"] == "paused", "from before their first packet on"
    await patient.page.sees(lambda state: state["recording"]["state"] == "paused", "everybody sees it")
    await late.page.sees(lambda state: state["recording"]["asked"] and state["recording"]["mine"] == "open", "is asked")
    await consent(late, "given")
    await in_state(visit, "recording")
    assert (await worker.clients[0].recording_status(str(record.id)))["state"] == "recording"
    await consent(late, "withdrawn")
    assert (await in_state(visit, "stopped")).id == record.id
    late.page.send("leave")
    await doctor.page.sees(lambda state: len(state["people"]) == 2, "they leave")
    assert (await visit.plan()).want == "nothing", "and their no remains"


async def test_what_was_recorded_is_played_to_those_who_may_and_every_viewing_is_noted(
    clinic, other_clinic, book, worker
):
    visit = await book(clinic)
    doctor, patient = await call(visit)
    doctor.page.send("record", on=True)
    await patient.page.sees(lambda state: state["recording"]["asked"], "the patient is asked")
    for one in (doctor, patient):
        await consent(one, "given")
    record = await in_state(visit, "recording")
    for _ in range(3):
        await speaking(doctor, patient)
    client = await clinic.client()
    assert (await client.post(f"{visit.href}/end")).status_code == 303
    record = await in_state(visit, "stopped")
    await doctor.page.sees(lambda state: state["state"] == "ended", "the page knows that it is over")
    assert await worker.clients[0].stats() == {}, "the room is closed"
    assert (await doctor.join())["code"] == "closed"
    await clinic.run_jobs()

    address = f"/telemedicine/recordings/{record.id}"
    shown = await client.get(address)
    assert shown.status_code == 200
    assert f"{address}/{patient.peer.name}/0" in shown.text
    first = await client.get(f"{address}/{patient.peer.name}/0", headers={"range": "bytes=0-99"})
    assert first.status_code == 206 and len(first.content) == 100
    whole = await client.get(f"{address}/{patient.peer.name}/0")
    assert whole.content[:100] == first.content
    with av.open(io.BytesIO(whole.content), format="matroska") as container:
        assert {stream.type for stream in container.streams} == {"audio", "video"}
        assert sum(1 for _ in container.demux()) > 20
    assert (await client.get(f"{address}/{uuid.uuid4()}/0")).status_code == 404
    assert len(await visit.noted("telemedicine.recording.view")) == 1, "one sitting is one viewing"

    for role in ("nurse", "reception", "administrator"):
        assert (await (await clinic.client(role)).get(address)).status_code == 403
    portal = await clinic.portal(visit.patient)
    assert (await portal.get(address)).status_code == 303
    stranger = await other_clinic.client()
    for path in (address, f"{address}/{patient.peer.name}/0"):
        assert (await stranger.get(path)).status_code == 404
    assert len(await visit.noted("telemedicine.recording.view")) == 1
    raw = b"".join(
        path.read_bytes() for path in (clinic.assembly.config.state_dir / "recordings" / record.directory).iterdir()
    )
    assert patient.peer.name.encode() not in raw and b"matroska" not in raw


async def test_a_worker_that_dies_is_joined_again_and_the_recording_goes_on_in_the_same_folder(clinic, book, worker):
    visit = await book(clinic)
    doctor, patient = await call(visit)
    doctor.page.send("record", on=True)
    await patient.page.sees(lambda state: state["recording"]["asked"], "the patient is asked")
    for one in (doctor, patient):
        await consent(one, "given")
    record = await in_state(visit, "recording")
    await speaking(doctor, patient)
    os.kill(worker.pid(), signal.SIGKILL)
    for one in (doctor, patient):
        await one.page.hears("restarted")
        one.peer.vanish()
        assert (await one.join())["type"] == "answer"
    await speaking(doctor, patient)

    assert (await worker.clients[0].recording_status(str(record.id)))["state"] == "recording", "it goes on"
    await speaking(doctor, patient)
    assert (await (await clinic.client()).post(f"{visit.href}/end")).status_code == 303
    stopped = await in_state(visit, "stopped")
    assert stopped.id == record.id
    async with visit.acting() as (ctx, _, _person):
        key = await service.recording_key(ctx, stopped)
        with player.Recording(folder(ctx, stopped), key, binding(ctx, stopped)) as opened:
            assert list(opened.parts) == ["0001.part", "0002.part"]
            assert {seat.participant for seat in opened.seats()} == {doctor.peer.name, patient.peer.name}


async def test_without_a_media_worker_the_visit_is_waited_for_and_the_page_says_so(clinic, book, live):
    visit = await book(clinic)
    await visit.admit()
    patient = InCall(await visit.page("patient"))
    assert (await patient.page.hears("welcome"))["video"] is False
    assert (await patient.join())["code"] == "unavailable"
    patient.page.send("say", id=str(uuid.uuid4()), text="Can you hear me?")
    await patient.page.hears("said", text="Can you hear me?")


@pytest.mark.parametrize("who", ["doctor", "patient"])
async def test_leaving_ends_the_stay_and_not_the_visit(clinic, book, worker, who):
    visit = await book(clinic)
    doctor, patient = await call(visit)
    leaver, stayer = (doctor, patient) if who == "doctor" else (patient, doctor)
    leaver.page.send("leave")
    await stayer.page.sees(lambda state: len(state["people"]) == 1, "one is left")
    assert (await visit.row()).state == "in-progress"
    assert (await leaver.join())["type"] == "answer"
    await stayer.page.sees(lambda state: len(state["people"]) == 2, "and back again")
    await speaking(doctor, patient)
