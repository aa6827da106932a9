"""An encrypted visit: chosen before it begins, told to all, never changed behind anybody's back; keys go only to whom they are for."""

import base64
import uuid

import pytest
from sqlalchemy import select

from plugins.telemedicine.tests.conftest import until
from plugins.telemedicine.tests.test_guests import waiting
from plugins.telemedicine.tests.test_sockets import InCall
from qanun.api import BookedAppointment, Conflict, VisitMode
from qanun_telemedicine import service
from qanun_telemedicine.models import Participant, SealedKey


def public_key(mark: int) -> str:
    return base64.b64encode(b"\x04" + bytes([mark]) * 64).decode()


class Sealed(InCall):
    """Somebody whose page says a public key when it joins."""

    def __init__(self, page, mark: int) -> None:
        super().__init__(page)
        self.key = public_key(mark)
        ask = page.ask
        page.ask = lambda said, number, **values: ask(said, number, **values, key=self.key)


async def encrypted(book, clinic):
    visit = await book(clinic)
    async with visit.acting() as (ctx, row, _):
        await service.choose_encryption(ctx, row, True)
    return visit


async def call(visit) -> tuple[Sealed, Sealed]:
    await visit.admit()
    people = Sealed(await visit.page(), 1), Sealed(await visit.page("patient"), 2)
    for one in people:
        assert (await one.join())["type"] == "answer"
    return people


def both_are_known(state) -> bool:
    return sorted(one["key"] for one in state["people"]) == [public_key(1), public_key(2)]


async def test_it_is_chosen_by_who_holds_the_visit_before_it_begins_and_everybody_is_told(
    clinic, other_clinic, book, live
):
    visit, theirs = await book(clinic), await book(other_clinic)
    doctor = await clinic.client()
    patient = await visit.page("patient")
    assert (await patient.sees(lambda state: True, "greeted"))["encryption"] == {"on": False, "keys": []}
    assert "Encrypt end to end" in (await doctor.get(f"{visit.href}/lobby")).text
    address = f"{visit.href}/encryption"
    for who in ("nurse", "reception"):
        assert (await (await clinic.client(who)).post(address, data={"on": "1"})).status_code == 403
    assert (await (await other_clinic.client()).post(address, data={"on": "1"})).status_code == 404
    assert not (await visit.row()).encrypted
    for _ in range(2):
        assert (await doctor.post(address, data={"on": "1"})).status_code == 303
    await patient.sees(lambda state: state["encryption"]["on"], "the patient is told")
    lobby = (await doctor.get(f"{visit.href}/lobby")).text
    assert "cannot record this call" in lobby and "Do not encrypt" in lobby
    portal = await (await clinic.portal(visit.patient)).get(visit.portal)
    assert 'data-encrypted="true"' in portal.text
    assert await visit.noted("telemedicine.encryption.choose") == [{"on": True}], "twice is once"
    await visit.admit()
    assert (await doctor.post(address, data={"on": "0"})).status_code == 409
    assert (await visit.row()).encrypted, "a call that runs keeps what it was begun with"
    assert not (await theirs.row()).encrypted


async def test_it_is_booked_as_a_way_to_hold_the_visit(clinic, book):
    patient = await clinic.patient()
    mode = clinic.assembly.registry.get(VisitMode, "telemedicine.encrypted")
    async with clinic.context("reception") as ctx:
        booked = BookedAppointment(
            id=uuid.uuid4(), patient_id=patient.id, practitioner_id=clinic.practitioner.id, start=ctx.now, end=ctx.now
        )
        await mode.prepare(ctx, booked)
        await ctx.db.flush()
        row = await service.for_appointment(ctx, booked.id)
        assert (row.encrypted, row.mode) == (True, "video")


async def test_nobody_is_in_it_without_a_key(clinic, book, worker):
    visit = await encrypted(book, clinic)
    await visit.admit()
    plain = InCall(await visit.page("patient"))
    assert (await plain.join())["code"] == "forbidden"
    await plain.page.hears("problem", code="unsealed")
    assert await service_present(visit) == []
    for false in ("", "no key", base64.b64encode(b"\x04" + bytes(20)).decode(), base64.b64encode(bytes(65)).decode()):
        odd = Sealed(await visit.page("doctor"), 1)
        odd.key = false
        assert (await odd.join())["code"] == "forbidden", false
    plain.page.send("back")
    assert (await plain.page.hears("problem", about="back"))["code"] == "forbidden"
    assert await service_present(visit) == []


async def service_present(visit) -> list:
    async with visit.clinic.context() as ctx:
        return [person.kind for person, stay in await service.present(ctx, visit.id) if stay.place == "call"]


async def test_sealed_keys_reach_whom_they_are_for_and_nobody_else(clinic, other_clinic, book, worker):
    visit = await encrypted(book, clinic)
    doctor, patient = await call(visit)
    await doctor.page.sees(both_are_known, "both keys are known")
    guest = await visit.invites("Karim", "relative")
    outside = await waiting(guest)
    stranger = uuid.uuid4()
    doctor.page.send("keys", sealed={patient.peer.name: "for-the-patient", str(stranger): "x", doctor.peer.name: "y"})
    state = await patient.page.sees(lambda state: state["encryption"]["keys"], "the key arrives")
    assert state["encryption"]["keys"] == [{"from": doctor.peer.name, "sealed": "for-the-patient"}]
    assert doctor.page.said("state")[-1]["encryption"]["keys"] == []
    async with clinic.context() as ctx:
        assert len((await ctx.db.execute(select(SealedKey))).scalars().all()) == 1
    async with other_clinic.context() as ctx:
        assert (await ctx.db.execute(select(SealedKey))).scalars().all() == []
    # Who waits knows that it is encrypted, and no key.
    assert outside.page.said("state")[-1]["encryption"] == {"on": True, "keys": []}
    assert public_key(1) not in str(outside.page.heard)
    outside.page.send("keys", sealed={patient.peer.name: "forged"})
    assert (await outside.page.hears("problem", about="keys"))["code"] == "forbidden"
    # Another page of the patient has another key: what was sealed for the first is of no use.
    again = Sealed(await visit.page("patient"), 3)
    assert (await again.join())["type"] == "answer"
    await doctor.page.sees(lambda state: public_key(3) in str(state["people"]), "the new key is known")
    assert again.page.said("state")[-1]["encryption"]["keys"] == []


async def test_the_server_records_nothing_of_it_and_asks_for_no_picture(clinic, book, worker):
    visit = await encrypted(book, clinic)
    doctor, patient = await call(visit)
    doctor.page.send("record", on=True)
    assert (await doctor.page.hears("problem", about="record"))["code"] == "conflict"
    doctor.page.send("picture", participant=patient.peer.name)
    assert (await doctor.page.hears("problem", about="picture"))["code"] == "conflict"
    assert (await visit.row()).recording_asked_at is None
    async with clinic.context() as ctx:
        assert await service.recordings_of(ctx, visit.id) == []
    assert await visit.noted("telemedicine.recording.ask") == []


async def test_what_comparing_the_code_gave_is_audited_and_the_keys_go_with_the_call(clinic, book, worker):
    visit = await encrypted(book, clinic)
    doctor, patient = await call(visit)
    doctor.page.send("keys", sealed={patient.peer.name: "sealed"})
    await patient.page.sees(lambda state: state["encryption"]["keys"], "a key")
    patient.page.send("compared", same=False)
    doctor.page.send("compared", same=True)

    def results(noted):
        return {one["participant"]: one["same"] for one in noted}

    async def both():
        return len(await visit.noted("telemedicine.encryption.compare")) == 2

    await until(both, "both are written down")
    noted = results(await visit.noted("telemedicine.encryption.compare"))
    assert noted == {doctor.peer.name: True, patient.peer.name: False}
    assert (await (await clinic.client()).post(f"{visit.href}/end")).status_code == 303
    async with clinic.context() as ctx:
        assert (await ctx.db.execute(select(SealedKey))).scalars().all() == []
        people = (await ctx.db.execute(select(Participant.public_key))).scalars().all()
        assert set(people) == {""}


async def test_an_open_call_has_no_keys_and_no_code(clinic, book, worker):
    visit = await book(clinic)
    await visit.admit()
    patient = Sealed(await visit.page("patient"), 2)
    assert (await patient.join())["type"] == "answer"
    state = await patient.page.sees(lambda state: state["people"], "is in")
    assert [one["key"] for one in state["people"]] == [""]
    for said, values in (("keys", {"sealed": {}}), ("compared", {"same": True})):
        patient.page.send(said, **values)
        assert (await patient.page.hears("problem", about=said))["code"] == "conflict"
    with pytest.raises(Conflict):
        async with visit.acting() as (ctx, row, _):
            await service.choose_encryption(ctx, row, True)
