"""The device check's round trip: own media out and back, nobody else in it, gone when it is over."""

import asyncio

from plugins.telemedicine.tests.conftest import until
from plugins.telemedicine.tests.sfu.peer import Peer
from plugins.telemedicine.tests.test_guests import waiting
from plugins.telemedicine.tests.test_sockets import call
from qanun_telemedicine import check


async def seat(page, name: str, number: int) -> tuple[Peer | None, dict]:
    """A page takes one of its two seats; the peer and the answer."""
    peer = Peer(name)
    sources = {"0": "microphone", "1": "camera"}
    page.send("check", seat=name, step="join", number=number, sdp=await peer.offer(), sources=sources)

    def told() -> list[dict]:
        return [
            one["message"]
            for one in page.said("check", seat=name)
            if one["message"]["type"] in ("answer", "error") and one["message"]["number"] == number
        ]

    answer = (await until(told, f"{name} is answered"))[0]
    if answer["type"] != "answer":
        return None, answer
    peer.answer = answer["sdp"]
    await peer.connect()
    return peer, answer


async def test_ones_own_sound_and_picture_come_back_before_anybody_is_there(clinic, other_clinic, book, worker):
    visit, theirs = await book(clinic), await book(other_clinic)
    mine, others = await visit.page("patient"), await theirs.page("patient")
    pages = []
    for page in (mine, others):
        await page.hears("welcome")
        out, _ = await seat(page, "out", 1)
        back, _ = await seat(page, "back", 1)
        assert out is not None and back is not None
        pages.append((out, back))

    async def returned() -> bool:
        await pages[0][0].speak()
        return pages[0][1].heard() > 20

    await until(returned, "it comes back")
    assert pages[1][1].heard() == 0, "and to nobody else"
    rooms = await worker.clients[0].stats()
    assert len(rooms) == 2 and all(name.startswith("check/") for name in rooms), "the visit's own room does not exist"
    assert (await visit.row()).state == "scheduled"
    mine.send("check", seat="out", step="leave")

    async def closed() -> bool:
        return len(await worker.clients[0].stats()) == 1

    await until(closed, "it ends with a word")
    await others.close()

    async def gone() -> bool:
        return await worker.clients[0].stats() == {}

    await until(gone, "and with the connection")
    assert [event.type for event in await visit.audited() if "join" in event.type] == []


async def test_a_guest_tries_their_devices_too_and_hears_nothing_of_the_call(clinic, book, worker):
    visit = await book(clinic)
    doctor, _ = await call(visit)
    guest = await waiting(await visit.invites())
    out, _ = await seat(guest.page, "out", 1)
    back, _ = await seat(guest.page, "back", 1)
    for _ in range(5):
        await doctor.peer.speak()
    assert back.heard() == 0
    await out.speak()
    await until(lambda: back.heard(), "their own comes back")
    await guest.page.close()


async def test_who_is_in_the_call_or_whose_visit_is_over_tries_nothing(clinic, book, worker):
    visit = await book(clinic)
    doctor, patient = await call(visit)
    sdp = await Peer("out").offer()
    patient.page.send("check", seat="out", step="join", number=7, sdp=sdp)
    await patient.page.hears("error", number=7)
    assert (await (await clinic.client()).post(f"{visit.href}/end")).status_code == 303
    late = await visit.page("patient")
    await late.sees(lambda state: state["state"] == "ended", "it is over")
    late.send("check", seat="out", step="join", number=8, sdp=sdp)
    await late.hears("error", number=8)
    assert await worker.clients[0].stats() == {}
    assert doctor.page.closed is None


async def test_a_check_that_is_forgotten_ends_by_itself_and_nobody_checks_for_ever(clinic, book, worker, monkeypatch):
    monkeypatch.setattr(check, "LASTS_S", 0.3)
    monkeypatch.setattr(check, "MOST", 2)
    visit = await book(clinic)
    page = await visit.page("patient")
    await page.hears("welcome")
    for number in (1, 2):
        await seat(page, "out", number)
        for _ in range(300):
            if await worker.clients[0].stats() == {}:
                break
            await asyncio.sleep(0.1)
        assert await worker.clients[0].stats() == {}
    page.send("check", seat="out", step="join", number=3, sdp=await Peer("out").offer())
    assert (await page.hears("error", number=3))["code"] == "too-many"


async def test_a_seat_that_does_not_exist_is_refused(clinic, book, live):
    page = await (await book(clinic)).page("patient")
    await page.hears("welcome")
    page.send("check", seat="chair", step="join", sdp="")
    await page.hears("problem", code="malformed")
    page.send("check", seat="out", step="join", number=1, sdp="v=0")
    assert (await page.hears("error", number=1))["code"] == "unavailable", "no media worker here"
