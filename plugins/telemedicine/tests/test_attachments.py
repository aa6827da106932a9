"""Photos and documents in the chat: what is taken, where it lies, who gets it out again."""

import uuid

import pytest
from sqlalchemy import select

from plugins.telemedicine.tests.test_guests import waiting
from qanun.api import Conflict, CryptoError, Invalid
from qanun.storage import Blob
from qanun_telemedicine import service
from qanun_telemedicine.models import Attachment, ChatMessage
from qanun_telemedicine.service.attachments import MOST_OCTETS, recognised

JPEG = b"\xff\xd8\xff\xe0" + b"a rash on the arm" * 20
PDF = b"%PDF-1.7 referral letter"


async def send(client, address: str, content: bytes, name: str = "photo.jpg", **fields: str):
    return await client.post(f"{address}/files", files={"file": (name, content, "text/html")}, data=fields)


async def test_a_photo_goes_from_the_patient_to_who_treats_and_lies_sealed(clinic, other_clinic, book, live):
    visit = await book(clinic)
    await visit.wait()
    page = await visit.page()
    portal = await clinic.portal(visit.patient)
    answer = await send(portal, visit.portal, JPEG, "C:\\photos\\ليلى.html")
    assert answer.status_code == 200
    id = answer.json()["id"]
    line = await page.hears("said", text="ليلى.jpg")
    assert line["file"] == {"id": id, "name": "ليلى.jpg", "type": "image/jpeg", "size": len(JPEG)}
    doctor = await clinic.client()
    got = await doctor.get(f"{visit.href}/files/{id}")
    assert got.status_code == 200 and got.content == JPEG
    assert got.headers["content-type"].startswith("image/jpeg"), "what the bytes are, not what somebody said"
    assert got.headers["content-security-policy"].startswith("default-src 'none'")
    assert "sandbox" in got.headers["content-security-policy"] and got.headers["x-content-type-options"] == "nosniff"
    assert (await portal.get(f"{visit.portal}/files/{id}")).content == JPEG
    assert "ليلى.jpg" in (await doctor.get(visit.href)).text
    async with clinic.context() as ctx:
        found = (await ctx.db.execute(select(Attachment))).scalar_one()
        blob = (await ctx.db.execute(select(Blob).where(Blob.id == found.blob_id))).scalar_one()
    assert (blob.patient_id, found.patient_id) == (visit.patient.id, visit.patient.id)
    stored = [path.read_bytes() for path in clinic.assembly.config.state_dir.rglob(str(blob.id))]
    assert stored and all(b"rash" not in one for one in stored)
    assert [one["attachment"] for one in await visit.noted("telemedicine.attachment.send")] == [id]
    assert len(await visit.noted("telemedicine.attachment.read")) == 2
    async with other_clinic.context() as ctx:
        assert (await ctx.db.execute(select(Attachment))).first() is None


async def test_nobody_else_gets_a_file(clinic, other_clinic, book):
    visit, hers, theirs = await book(clinic), await book(clinic), await book(other_clinic)
    for one in (visit, hers, theirs):
        await one.wait()
    id = (await send(await clinic.portal(visit.patient), visit.portal, JPEG)).json()["id"]
    for role in ("reception", "administrator", "lab-technician"):
        assert (await (await clinic.client(role)).get(f"{visit.href}/files/{id}")).status_code == 403
        assert (await send(await clinic.client(role), visit.href, JPEG)).status_code == 403
    assert (await (await clinic.portal(hers.patient)).get(f"{visit.portal}/files/{id}")).status_code == 404
    assert (await (await clinic.portal(hers.patient)).get(f"{hers.portal}/files/{id}")).status_code == 404
    assert (await (await clinic.client()).get(f"{hers.href}/files/{id}")).status_code == 404, "only where it was sent"
    stranger = await other_clinic.client()
    for address in (visit.href, theirs.href):
        assert (await stranger.get(f"{address}/files/{id}")).status_code == 404
    assert (await send(stranger, visit.href, JPEG)).status_code == 404
    assert await visit.noted("telemedicine.attachment.read") == []


async def test_a_guest_sends_and_gets_files_only_from_when_they_were_let_in(clinic, book, live):
    visit = await book(clinic)
    await visit.admit()
    before = (await send(await clinic.portal(visit.patient), visit.portal, JPEG)).json()["id"]
    guest = await visit.invites()
    await waiting(guest)
    browser = clinic.anonymous()
    browser.cookies.set("qanun_guest", guest.token)
    assert (await send(browser, guest.address, PDF)).status_code == 403
    assert (await browser.get(f"{guest.address}/files/{before}")).status_code == 403
    await guest.let_in()
    assert (await browser.get(f"{guest.address}/files/{before}")).status_code == 404
    mine = (await send(browser, guest.address, PDF, "letter.pdf")).json()["id"]
    got = await browser.get(f"{guest.address}/files/{mine}")
    assert got.content == PDF and got.headers["content-disposition"].startswith("attachment")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html><script>alert(1)</script>",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"MZ\x90\x00",
        b"GIF89a",
        b"RIFF....AVI ",
        b"\x89PNG",
        JPEG.ljust(MOST_OCTETS + 1, b"x"),
    ],
    ids=["nothing", "html", "svg", "program", "gif", "riff", "half a png", "too large"],
)
async def test_what_is_no_photo_and_no_document_is_not_taken(clinic, book, content):
    visit = await book(clinic)
    await visit.wait()
    answer = await send(await clinic.portal(visit.patient), visit.portal, content)
    assert answer.status_code == 422 and answer.json()["fields"]["file"]
    with pytest.raises(Invalid):
        recognised(content)
    async with clinic.context() as ctx:
        assert (await ctx.db.execute(select(ChatMessage))).first() is None
        assert (await ctx.db.execute(select(Attachment))).first() is None


async def test_sending_again_sends_once_and_nothing_is_sent_to_what_is_over(clinic, book):
    visit = await book(clinic)
    await visit.admit()
    id = uuid.uuid4()
    for _ in range(2):
        async with visit.acting("patient") as (ctx, row, person):
            await service.attach(ctx, row, person, id, "photo.jpg", JPEG)
    async with visit.acting() as (ctx, row, _):
        assert len((await ctx.db.execute(select(Attachment))).scalars().all()) == 1
        await service.end(ctx, row)
    with pytest.raises(Conflict):
        async with visit.acting("patient") as (ctx, row, person):
            await service.attach(ctx, row, person, uuid.uuid4(), "photo.jpg", JPEG)


async def test_a_file_that_was_changed_on_the_disk_is_not_given_out(clinic, book):
    visit = await book(clinic)
    await visit.wait()
    id = (await send(await clinic.portal(visit.patient), visit.portal, JPEG)).json()["id"]
    async with clinic.context() as ctx:
        found = (await ctx.db.execute(select(Attachment))).scalar_one()
    (place,) = clinic.assembly.config.state_dir.rglob(str(found.blob_id))
    bytes_ = bytearray(place.read_bytes())
    bytes_[-1] ^= 1
    place.write_bytes(bytes_)
    with pytest.raises(CryptoError):
        async with visit.acting() as (ctx, row, _):
            await service.attachment(ctx, row, uuid.UUID(id))
    assert (await (await clinic.client()).get(f"{visit.href}/files/{id}")).status_code == 503


def test_a_name_tells_no_path_and_hides_no_ending():
    from qanun_telemedicine.service.attachments import _clean

    assert _clean("../../etc/passwd", "image/png") == "passwd.png"
    assert _clean("report\u202egpj.exe", "application/pdf") == "reportgpj.pdf"
    assert _clean("\x00\n", "image/jpeg") == "file.jpg"
    assert len(_clean("x" * 500, "image/jpeg")) == 120
