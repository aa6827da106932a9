"""A picture from a call is kept only after whom it shows agreed, is only a picture, and is shown to nobody who may not see it."""

import io
import uuid
from datetime import timedelta
from fractions import Fraction

import av
import numpy as np
import pytest
from sqlalchemy import select

from plugins.telemedicine.tests.test_sockets import call
from qanun.api import Conflict, Forbidden, Invalid, NotFound, new_id
from qanun_telemedicine import service
from qanun_telemedicine.models_kept import LegalHold, Snapshot
from qanun_telemedicine.service import pictures, retention
from qanun_telemedicine.service.jpeg import cleaned
from qanun_telemedicine.service.pictures import PICTURE_WORDING


def jpeg(width=64, height=48) -> bytes:
    """A real picture as an encoder writes it."""
    noise = np.random.default_rng(7).integers(0, 255, (height, width, 3), dtype=np.uint8)
    out = io.BytesIO()
    with av.open(out, "w", format="mjpeg") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt, stream.time_base = width, height, "yuvj420p", Fraction(1, 1)
        for packet in [*stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")), *stream.encode()]:
            container.mux(packet)
    return out.getvalue()


def seen(data: bytes) -> tuple[int, int]:
    with av.open(io.BytesIO(data), format="mjpeg") as container:
        frame = next(container.decode(video=0))
    return frame.width, frame.height


# --- only a picture -----------------------------------------------------------------------------------------------------


def test_a_picture_loses_everything_but_itself():
    plain = jpeg()
    exif = b"\xff\xe1" + (2 + 20).to_bytes(2, "big") + b"Exif\0\0GPS 33.57 -7.6"[:20].ljust(20)
    comment = b"\xff\xfe\x00\x0d<script>x()"
    hidden = plain[:2] + exif + comment + plain[2:] + b"PK\x03\x04 a whole archive"
    clean, width, height = cleaned(hidden)
    assert (width, height) == (64, 48) == seen(clean)
    assert clean == cleaned(plain)[0]
    assert not any(word in clean for word in (b"Exif", b"GPS", b"script", b"archive", b"Lavc"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff\xd9",
        b"<html>",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"%PDF-1.7",
        b"\xff\xd8\xff\xe0\x00\x01",
    ],
)
def test_what_is_no_picture_is_refused(data):
    with pytest.raises(Invalid):
        cleaned(data)


def test_a_torn_or_disturbed_picture_is_refused_or_stays_a_picture():
    plain = jpeg()
    for cut in range(2, len(plain) - 2, 37):
        with pytest.raises(Invalid):
            cleaned(plain[:cut])
    chance = np.random.default_rng(1)
    for _ in range(300):
        bad = bytearray(plain)
        for place in chance.integers(2, len(bad), 3):
            bad[place] = chance.integers(0, 256)
        try:
            clean, width, height = cleaned(bytes(bad))
        except Invalid:
            continue
        assert 0 < width <= 4096 and 0 < height <= 4096 and clean[:2] == b"\xff\xd8" and clean[-2:] == b"\xff\xd9"
    with pytest.raises(Invalid):
        cleaned(plain + b"\0" * (7 * 1024 * 1024))


# --- consent ------------------------------------------------------------------------------------------------------------


async def started(clinic, book):
    visit = await book(clinic)
    await visit.admit()
    for who in ("doctor", "patient"):
        await visit.come(who)
    return visit


async def asked(visit, by="doctor"):
    async with visit.acting("patient") as (_, __, person):
        patient_id = person.id
    async with visit.acting(by) as (ctx, row, _):
        return (await service.ask_picture(ctx, row, patient_id)).id


async def answer(visit, picture, decision="given", who="patient", version=PICTURE_WORDING):
    async with visit.acting(who) as (ctx, row, person):
        await service.answer_picture(ctx, row, person, picture, decision, version)


async def keep(visit, picture, data=None, by="doctor"):
    async with visit.acting(by) as (ctx, row, _):
        return await pictures.keep_picture(ctx, row, picture, data or jpeg())


async def test_no_picture_is_kept_without_a_yes_of_whom_it_shows(clinic, other_clinic, book):
    visit, theirs = await started(clinic, book), await started(other_clinic, book)
    with pytest.raises(Forbidden):
        await asked(visit, by="nurse")
    with pytest.raises(Forbidden):
        await asked(visit, by="patient")
    picture = await asked(visit)
    assert await asked(visit) == picture, "one question at a time"
    with pytest.raises(Conflict):
        await keep(visit, picture)
    with pytest.raises(NotFound):
        await answer(visit, picture, who="doctor")
    for wrong in ({"decision": "maybe"}, {"version": "1999-1"}):
        with pytest.raises(Invalid):
            await answer(visit, picture, **wrong)
    with pytest.raises(NotFound):
        await answer(theirs, picture)
    await answer(visit, picture, "refused")
    with pytest.raises(Conflict):
        await answer(visit, picture, "given")
    with pytest.raises(Conflict):
        await keep(visit, picture)
    async with clinic.context() as ctx:
        assert await service.pictures_of(ctx, visit.id) == []
    assert [event.type for event in await visit.audited()].count("telemedicine.picture.refused") == 1


async def test_a_yes_is_for_one_picture_and_for_two_minutes(clinic, book):
    visit = await started(clinic, book)
    picture = await asked(visit)
    await answer(visit, picture)
    kept = await keep(visit, picture)
    assert (kept.width, kept.height) == (64, 48)
    again = await keep(visit, picture, jpeg(32, 32))
    assert (again.blob_id, again.width) == (kept.blob_id, 64), "sent twice, kept once"
    later = await asked(visit)
    assert later != picture
    await answer(visit, later)
    async with visit.acting() as (ctx, _, __):
        found = (await ctx.db.execute(select(Snapshot).where(Snapshot.id == later))).scalar_one()
        assert (found.language, found.wording.count("\n"), found.wording_version) == ("en", 4, PICTURE_WORDING)
        found.decided_at -= timedelta(minutes=3)
    with pytest.raises(Conflict):
        await keep(visit, later)
    stale = await asked(visit)
    async with visit.acting() as (ctx, _, __):
        found = (await ctx.db.execute(select(Snapshot).where(Snapshot.id == stale))).scalar_one()
        found.asked_at -= timedelta(minutes=3)
    with pytest.raises(Conflict):
        await answer(visit, stale)


# --- who sees it --------------------------------------------------------------------------------------------------------


async def test_it_is_shown_in_the_chart_to_who_may_and_every_look_is_noted(clinic, other_clinic, book):
    visit = await started(clinic, book)
    picture = await asked(visit)
    await answer(visit, picture)
    doctor = await clinic.client()
    address = f"{visit.href}/pictures/{picture}"
    assert (await doctor.get(address)).status_code == 404
    assert (await doctor.post(address, files={"file": ("x.jpg", b"<svg onload=x()>", "image/jpeg")})).status_code == 422
    sent = await doctor.post(address, files={"file": ("x.jpg", jpeg(), "image/jpeg")})
    assert sent.status_code == 200 and sent.json()["width"] == 64
    for role, status in (("doctor", 200), ("nurse", 200), ("reception", 403), ("administrator", 403)):
        client = await clinic.client(role)
        shown = await client.get(address)
        assert shown.status_code == status, role
        if status == 200:
            assert shown.headers["content-type"] == "image/jpeg" and seen(shown.content) == (64, 48)
            assert "sandbox" in shown.headers["content-security-policy"]
            assert shown.headers["x-content-type-options"] == "nosniff"
    assert (await (await clinic.client("nurse")).post(address, files={"file": ("x.jpg", jpeg())})).status_code == 403
    stranger = await other_clinic.client()
    assert (await stranger.get(address)).status_code == 404
    other = await started(clinic, book)
    assert (await doctor.get(f"{other.href}/pictures/{picture}")).status_code == 404
    assert str(picture) in (await doctor.get(visit.href)).text
    assert str(picture) not in (await doctor.get(other.href)).text
    chart = (await doctor.get(f"/emr/patients/{visit.patient.id}")).text
    assert str(picture) in chart and "From video visits" in chart
    assert "From video visits" not in (await doctor.get(f"/emr/patients/{other.patient.id}")).text
    assert len(await visit.noted("telemedicine.picture.view")) == 2
    sealed = b"".join(path.read_bytes() for path in clinic.assembly.config.state_dir.rglob("*") if path.is_file())
    assert cleaned(jpeg())[0][-200:] not in sealed, "it lies sealed"


async def test_everything_that_was_kept_of_a_patient_stands_on_one_page(clinic, other_clinic, book):
    patient = await clinic.patient()
    first, second = await book(clinic, patient), await started(clinic, book)
    await first.admit()
    for who in ("doctor", "patient"):
        await first.come(who)
    picture, hers = await asked(first), await asked(second)
    for visit, one in ((first, picture), (second, hers)):
        await answer(visit, one)
        await keep(visit, one)
    address = f"/telemedicine/patients/{patient.id}/kept"
    doctor = await clinic.client()
    shown = (await doctor.get(address)).text
    assert str(picture) in shown and str(hers) not in shown
    assert address in (await doctor.get(f"/emr/patients/{patient.id}")).text
    for role in ("reception", "administrator"):
        assert (await (await clinic.client(role)).get(address)).status_code == 403
    assert (await (await other_clinic.client()).get(address)).status_code == 404
    assert [event.type for event in await first.audited()].count("telemedicine.kept.read") == 1


async def test_the_patient_sees_their_own_and_takes_the_consent_back(clinic, other_clinic, book):
    visit, hers = await started(clinic, book), await started(clinic, book)
    picture = await asked(visit)
    await answer(visit, picture)
    await keep(visit, picture)
    portal, other = await clinic.portal(visit.patient), await clinic.portal(hers.patient)
    mine = f"{visit.portal}/pictures/{picture}"
    assert (await portal.get(mine)).status_code == 200
    assert mine in (await portal.get(f"{visit.portal}/recording")).text
    assert (await other.get(mine)).status_code == 404
    assert (await other.post(f"{mine}/take-back")).status_code == 404
    assert (await other.get(f"{hers.portal}/pictures/{picture}")).status_code == 404
    doctor = await clinic.client()
    assert (await doctor.get(f"{visit.href}/pictures/{picture}")).status_code == 200
    for _ in range(2):
        assert (await portal.post(f"{mine}/take-back")).status_code == 303
    assert (await portal.get(mine)).status_code == 404
    assert (await doctor.get(f"{visit.href}/pictures/{picture}")).status_code == 404
    assert str(picture) not in (await doctor.get(f"/emr/patients/{visit.patient.id}")).text
    assert "The consent was taken back." in (await doctor.get(visit.href)).text
    assert len(await visit.noted("telemedicine.picture.taken_back")) == 1


async def test_a_picture_that_was_taken_back_is_destroyed_only_by_decision_and_never_past_a_hold(
    clinic, other_clinic, book
):
    visit = await started(clinic, book)
    picture = await asked(visit)
    await answer(visit, picture)
    await keep(visit, picture)
    admin, home = await clinic.client("administrator"), "/telemedicine/retention"
    address, why = f"{home}/pictures/{picture}/destroy", {"reason": "She asked for it"}
    assert (await admin.post(address, data=why)).status_code == 404, "a consent that stands"
    async with visit.acting("patient") as (ctx, row, person):
        await pictures.take_picture_back(ctx, row, person, picture)
    assert "Pictures whose consent was taken back" in (await admin.get(home)).text
    assert (await (await clinic.client()).post(address, data=why)).status_code == 403
    assert (await (await other_clinic.client("administrator")).post(address, data=why)).status_code == 404
    assert (await admin.post(address, data={"reason": ""})).status_code == 422
    async with clinic.context("administrator") as ctx:
        hold = LegalHold(
            id=new_id(), patient_id=visit.patient.id, recording_id=None, reason="Letter of the court", placed_at=ctx.now,
            placed_by=ctx.actor.id, placed_by_name=ctx.actor.name,
        )  # fmt: skip
        ctx.db.add(hold)
    assert (await admin.post(address, data=why)).status_code == 409
    async with clinic.context("system") as ctx:
        blob_id = (await ctx.db.execute(select(Snapshot.blob_id).where(Snapshot.id == picture))).scalar_one()
        assert (await ctx.blobs.get(ctx, blob_id))[1]
        await retention.release_hold(ctx, hold.id, "The case is closed")
    for _ in range(2):
        assert (await admin.post(address, data=why)).status_code == 303
    await clinic.run_jobs()
    async with clinic.context("system") as ctx:
        with pytest.raises(NotFound):
            await ctx.blobs.get(ctx, blob_id)
    assert not (clinic.assembly.config.state_dir / "blobs" / str(clinic.tenant.id) / str(blob_id)).exists()
    assert "Pictures whose consent was taken back" not in (await admin.get(home)).text
    assert (await (await clinic.client()).get(f"{visit.href}/pictures/{picture}")).status_code == 404
    (noted,) = await visit.noted("telemedicine.picture.destroy")
    assert len(noted["sha256"]) == 64


async def test_a_picture_taken_in_error_stays_marked_and_is_not_shown(clinic, book):
    visit = await started(clinic, book)
    picture = await asked(visit)
    await answer(visit, picture)
    await keep(visit, picture)
    doctor, address = await clinic.client(), f"{visit.href}/pictures/{picture}"
    assert (await (await clinic.client("nurse")).post(f"{address}/void", data={"reason": "blurred"})).status_code == 403
    assert (await doctor.post(f"{address}/void", data={"reason": ""})).status_code == 422
    assert (await doctor.get(address)).status_code == 200
    for _ in range(2):
        assert (await doctor.post(f"{address}/void", data={"reason": "Shows a visitor"})).status_code == 303
    assert (await doctor.get(address)).status_code == 404
    page = (await doctor.get(visit.href)).text
    assert "Taken in error" in page and "Shows a visitor" in page
    assert len(await visit.noted("telemedicine.picture.void")) == 1


async def test_the_question_reaches_only_whom_the_picture_would_show(clinic, book, worker):
    visit = await book(clinic)
    doctor, patient = await call(visit)
    patient.page.send("picture", participant=doctor.peer.name)
    assert (await patient.page.hears("problem", about="picture"))["code"] == "forbidden"
    doctor.page.send("picture", participant=str(uuid.uuid4()))
    assert (await doctor.page.hears("problem", about="picture"))["code"] == "conflict"
    doctor.page.send("picture", participant=patient.peer.name)
    state = await patient.page.sees(lambda state: state["picture"], "the patient is asked")
    assert state["pictures"] == [] and state["picture"]["by"]
    mine = await doctor.page.sees(lambda state: state["pictures"], "the doctor sees that it is open")
    assert mine["picture"] is None and mine["pictures"][0]["decision"] == "open"
    doctor.page.send("picture-answer", id=state["picture"]["id"], decision="given", version=PICTURE_WORDING)
    await doctor.page.hears("problem", about="picture-answer")
    patient.page.send("picture-answer", id=state["picture"]["id"], decision="given", version=PICTURE_WORDING)
    await doctor.page.sees(lambda state: state["pictures"][0]["decision"] == "given", "the doctor's page may take it")
    await patient.page.sees(lambda state: state["picture"] is None, "and the question is gone")
