"""A record that is closed while somebody is in a call with its patient: their connection ends, and they are out of the media."""

import pytest

from plugins.telemedicine.tests.conftest import until
from plugins.telemedicine.tests.test_sockets import call
from qanun.access import closed
from qanun.api import NotFound, RecordClosed
from qanun_telemedicine import service

WHY = "A colleague of ours, at her own wish"


async def close(clinic, patient, role: str = "nurse") -> None:
    async with clinic.context("administrator") as ctx:
        await closed.close_record(ctx, patient.mrn, WHY, [clinic.users[role].id])


async def test_a_socket_into_a_closed_record_does_not_open(clinic, book, live):
    visit, other = await book(clinic), await book(clinic)
    await close(clinic, visit.patient)
    page = await visit.page("doctor")
    await until(lambda: page.closed is not None or page._task.done(), "is refused")
    assert not page.accepted and not page.said("state")
    assert (await other.page("doctor")).accepted
    assert (await visit.page("patient")).accepted, "their own visit is theirs"
    async with clinic.context("nurse") as ctx:
        await service.consultation(ctx, visit.id)
    for error, id in ((RecordClosed, visit.id), (NotFound, visit.patient.id)):
        with pytest.raises(error):
            async with clinic.context("doctor") as ctx:
                await service.consultation(ctx, id)


async def test_a_record_that_is_closed_during_the_call_puts_out_who_was_not_named(clinic, other_clinic, book, worker):
    visit, theirs = await book(clinic), await book(other_clinic)
    doctor, patient = await call(visit)
    await theirs.admit()
    elsewhere = await theirs.page()
    await elsewhere.hears("welcome")
    room = (await visit.row()).room
    await close(clinic, visit.patient)
    await until(lambda: doctor.page.closed is not None, "the doctor is put out")

    async def alone() -> bool:
        return list((await worker.clients[0].stats(room))[room]) == [patient.peer.name]

    await until(alone, "out of the media, too")
    assert patient.page.closed is None and elsewhere.closed is None
    said = len(doctor.page.heard)
    patient.page.send("say", id="01939c7e-0000-7000-8000-000000000009", text="Are you there?")
    await patient.page.hears("said", text="Are you there?")
    assert len(doctor.page.heard) == said
