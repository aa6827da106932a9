"""A copy leaves the clinic only with permission and a reason, carries its mark, and is known to the last byte."""

import base64
import hashlib
import io
import json
import zipfile
from datetime import timedelta

import av
import pytest

from plugins.telemedicine.tests.recording.conftest import CONTEXT, KEY, new_recorder, play_into
from plugins.telemedicine.tests.recording.test_retention import recorded, state
from qanun_telemedicine import service
from qanun_telemedicine.commands import verify_certificate
from qanun_telemedicine.recording.bundle import Mark
from qanun_telemedicine.recording.player import Recording
from qanun_telemedicine.service import export

WHY = {"purpose": "patient", "recipient": "Layla Haddad", "reason": "She asked for her own copy in writing."}


def opened(data: bytes):
    return av.open(io.BytesIO(data), format="matroska")


def test_everybodys_tracks_are_kept_in_one_file_that_decodes_and_shows_its_mark(tmp_path, doctor, patient):
    recorder = new_recorder(tmp_path)
    play_into(recorder, doctor + [feed.shifted(1500) for feed in patient])
    recorder.close()
    mark = Mark("Clinic · 7", "Confidential copy for Layla · نسخة", {"EXPORT": "7"})
    with Recording(tmp_path, KEY, CONTEXT) as recording:
        bundle = recording.bundle({"doctor": "Dr Nadia", "patient": "Layla"}, mark)
        data = b"".join(bundle.iterate())
        length = recording.duration_ms
    assert len(data) == bundle.size
    with opened(data) as container:
        kinds = [(stream.type, stream.metadata.get("title")) for stream in container.streams]
        assert kinds == [
            ("video", "Dr Nadia"), ("audio", "Dr Nadia"), ("video", "Layla"), ("audio", "Layla"), ("subtitle", "Clinic · 7"),
        ]  # fmt: skip
        assert container.metadata["title"] == "Clinic · 7" and container.metadata["EXPORT"] == "7"
        assert container.duration == length * 1000
        shown = [packet for packet in container.demux(container.streams[4]) if packet.size]
        marks = [(packet.pts, packet.duration, bytes(packet).decode()) for packet in shown]
    assert [(start, text) for start, _, text in marks] == [(0, mark.line), (5000, mark.line)]
    assert marks[-1][0] + marks[-1][1] >= length - 1, "it is shown to the last moment"
    for number, size in ((0, (176, 144)), (2, (320, 240))):
        with opened(data) as container:
            pictures = list(container.decode(container.streams[number]))
        assert len(pictures) == 120 and {(one.width, one.height) for one in pictures} == {size}
    with opened(data) as container:
        container.seek(2_500_000, backward=True)
        packet = next(packet for packet in container.demux(video=0) if packet.size)
        assert packet.is_keyframe and float(packet.pts * packet.time_base) == pytest.approx(2.0, abs=0.06)


async def test_a_copy_needs_permission_and_a_reason_and_is_known_to_the_last_byte(clinic, other_clinic, book, tmp_path):
    visit, record_id = await recorded(clinic, book)
    exports = f"/telemedicine/recordings/{record_id}/exports"
    for role in ("nurse", "reception", "administrator", "lab-technician"):
        assert (await (await clinic.client(role)).post(exports, data=WHY)).status_code == 403
    assert (await (await other_clinic.client()).post(exports, data=WHY)).status_code == 404
    left = await clinic.client(fresh=False)
    asked = await left.post(exports, data=WHY)
    assert asked.status_code == 403 and WHY["reason"] in asked.text, "who it is comes first; what was typed is kept"
    doctor = await clinic.client()
    for missing in ({"purpose": "fun"}, {"recipient": ""}, {"reason": "because"}):
        refused = await doctor.post(exports, data={**WHY, **missing})
        assert refused.status_code == 422 and "Take a copy out" in refused.text
    async with clinic.context() as ctx:
        assert await export.exports_of(ctx, record_id) == []
    asked = await doctor.post(exports, data=WHY)
    assert asked.status_code == 303
    address = asked.headers["location"]
    assert "Layla Haddad" in (await doctor.get(address)).text
    assert (await visit.noted("telemedicine.export.ask"))[0]["purpose"] == "patient"
    assert await visit.noted("telemedicine.export.fetch") == []

    assert (await left.get(f"{address}/file")).status_code == 403
    answer = await doctor.get(f"{address}/file")
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/zip"
    assert "attachment" in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        video, slip = archive.read("recording.mkv"), archive.read("slip.json")
        assert b"Ed25519" in archive.read("READ-ME.txt")
    saved = tmp_path / "slip.json"
    saved.write_bytes(slip)
    signed = json.loads(slip)
    assert verify_certificate([str(saved), base64.b64decode(signed["public_key"]).hex()]) == 0
    assert verify_certificate([str(saved), "00" * 32]) == 1
    body = json.loads(signed["body"])
    assert body["sha256"] == hashlib.sha256(video).hexdigest() and body["octets"] == len(video)
    assert (body["recipient"], body["reason"]) == (WHY["recipient"], WHY["reason"])
    with opened(video) as container:
        assert (
            WHY["recipient"] in container.metadata["COMMENT"]
            and clinic.users["doctor"].name in container.metadata["COMMENT"]
        )
        assert {stream.type for stream in container.streams} == {"video", "audio", "subtitle"}
    async with clinic.context() as ctx:
        (kept,) = await export.exports_of(ctx, record_id)
        assert (kept.octets, kept.sha256) == (len(video), hashlib.sha256(video).digest())
    (finished,) = await visit.noted("telemedicine.export.finish")
    assert finished["sha256"] == body["sha256"]

    for role in ("nurse", "administrator"):
        client = await clinic.client(role)
        assert (await client.get(address)).status_code == (await client.get(f"{address}/file")).status_code == 403
    stranger = await other_clinic.client()
    assert (await stranger.get(f"{address}/file")).status_code == 404
    _, another = await recorded(clinic, book)
    assert (await doctor.get(f"/telemedicine/recordings/{another}/exports/{kept.id}/file")).status_code == 404
    assert len(await visit.noted("telemedicine.export.fetch")) == 1


async def test_nobody_fetches_it_after_the_half_hour_or_what_somebody_else_asked_for(clinic, book):
    _, record_id = await recorded(clinic, book)
    doctor = await clinic.client()
    address = (await doctor.post(f"/telemedicine/recordings/{record_id}/exports", data=WHY)).headers["location"]
    async with clinic.context() as ctx:
        (made,) = await export.exports_of(ctx, record_id)
        made.expires_at = ctx.now - timedelta(seconds=1)
    assert (await doctor.get(f"{address}/file")).status_code == 409
    assert "Fetch the copy" not in (await doctor.get(address)).text
    async with clinic.context() as ctx:
        (made,) = await export.exports_of(ctx, record_id)
        made.expires_at, made.asked_by = ctx.now + timedelta(minutes=1), clinic.users["nurse"].id
    assert (await doctor.get(f"{address}/file")).status_code == 404


async def test_after_a_withdrawal_only_the_patient_and_a_court_get_a_copy_and_of_what_is_destroyed_nobody(clinic, book):
    visit, record_id = await recorded(clinic, book)
    async with visit.acting("patient") as (ctx, row, person):
        await service.withdraw_afterwards(ctx, row, person)
    doctor = await clinic.client()
    exports = f"/telemedicine/recordings/{record_id}/exports"
    for purpose, status in (("teaching", 422), ("care", 422), ("court", 303), ("patient", 303)):
        assert (await doctor.post(exports, data={**WHY, "purpose": purpose})).status_code == status, purpose
    address = (await doctor.post(exports, data=WHY)).headers["location"]
    async with clinic.context("administrator") as ctx:
        await service.destroy(ctx, await service.recording(ctx, record_id), why="withdrawn")
    assert (await state(clinic, record_id)).state == "deleted"
    assert (await doctor.get(f"{address}/file")).status_code == 409
    assert (await doctor.post(exports, data=WHY)).status_code == 409


async def test_a_damaged_recording_gives_an_error_and_no_half_file(clinic, book):
    visit, record_id = await recorded(clinic, book)
    record = await state(clinic, record_id)
    place = clinic.assembly.config.state_dir / "recordings" / record.directory
    doctor = await clinic.client()
    address = (await doctor.post(f"/telemedicine/recordings/{record_id}/exports", data=WHY)).headers["location"]
    for path in place.iterdir():
        path.unlink()
    assert (await doctor.get(f"{address}/file")).status_code == 503
    assert await visit.noted("telemedicine.export.finish") == []
