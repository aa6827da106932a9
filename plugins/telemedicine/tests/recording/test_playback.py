"""A browser asks for a recording in hundreds of pieces: they fit together, cost little, and a lost file is noticed."""

import time

from plugins.telemedicine.tests.recording.test_retention import recorded, state


async def address_of(client, record_id) -> str:
    """The first view's address on the recording's page."""
    page = (await client.get(f"/telemedicine/recordings/{record_id}")).text
    return page.split(' src="/telemedicine/recordings/')[1].split('"')[0].join(("/telemedicine/recordings/", ""))


async def test_pieces_fit_together_and_only_the_first_lays_the_recording_out(clinic, book, monkeypatch):
    _, record_id = await recorded(clinic, book)
    doctor = await clinic.client()
    address = await address_of(doctor, record_id)
    whole = (await doctor.get(address)).content
    assert len(whole) > 10_000

    def never(*_):
        raise AssertionError("it is laid out already")

    monkeypatch.setattr("qanun_telemedicine.recording.view._merge", never)
    pieces, began = b"", time.perf_counter()
    while len(pieces) < len(whole):
        wanted = f"bytes={len(pieces)}-{len(pieces) + 4999}"
        answer = await doctor.get(address, headers={"range": wanted})
        assert answer.status_code == 206
        assert answer.headers["content-range"].startswith(f"bytes {len(pieces)}-")
        pieces += answer.content
    assert pieces == whole
    assert time.perf_counter() - began < 30
    beyond = await doctor.get(address, headers={"range": f"bytes={len(whole)}-"})
    assert beyond.status_code == 416 and beyond.headers["content-range"] == f"bytes */{len(whole)}"


async def test_a_file_that_is_lost_or_changed_after_it_was_laid_out_is_noticed(clinic, book):
    _, record_id = await recorded(clinic, book)
    doctor = await clinic.client()
    address = await address_of(doctor, record_id)
    assert (await doctor.get(address)).status_code == 200
    record = await state(clinic, record_id)
    part = clinic.assembly.config.state_dir / "recordings" / record.directory / "0001.part"
    kept = part.read_bytes()
    changed = bytearray(kept)
    changed[len(kept) // 2] ^= 1
    part.write_bytes(bytes(changed))
    last = f"bytes={len((await doctor.get(address, headers={'range': 'bytes=0-0'})).content)}-"
    assert (await doctor.get(address, headers={"range": last})).status_code == 503
    part.unlink()
    assert (await doctor.get(address, headers={"range": last})).status_code == 503
    part.write_bytes(kept)
    assert (await doctor.get(address, headers={"range": last})).status_code == 206
