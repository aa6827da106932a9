"""Calls that are encrypted end to end, in real browsers: people see and hear each other, and the media server, though it were
told to record, has nothing that can be seen.
"""

import io
from pathlib import Path

import av
import numpy
import pytest
from av.error import FFmpegError
from playwright.async_api import Browser

from qanun.api import Key
from qanun_telemedicine.recording.player import Recording
from qanun_telemedicine.recording.recorder import options

from .conftest import Caller, Clinic, until

pytestmark = [pytest.mark.asyncio, pytest.mark.browser]

RECORDER = "qanun_telemedicine.recording.recorder:Recorder"
KEY, CONTEXT = Key(bytes(range(32))), b"sealed"


async def code(caller: Caller) -> str:
    return str(await until(lambda: caller.page.evaluate("seal.code"), f"{caller.name} has a code"))


async def recorded(clinic: Clinic, room: str, folder: Path) -> None:
    """Some seconds of the room as the media server has them."""
    folder.mkdir()
    await clinic.client.start_recording(room, "r1", RECORDER, options(folder, KEY, CONTEXT))

    async def long_enough() -> bool:
        return float((await clinic.client.recording_status("r1"))["seconds"]) > 3

    await until(long_enough, "three seconds are recorded")
    await clinic.client.stop_recording("r1")


def seen(folder: Path, who: str) -> list[numpy.ndarray]:
    """Every picture that a decoder makes of what was recorded, small and grey."""
    made = []
    with Recording(folder, KEY, CONTEXT) as recording:
        view = recording.view(who)
        with av.open(io.BytesIO(view.read(0, view.size))) as film:
            for packet in film.demux(film.streams.video[0]):
                try:
                    made += [one.reformat(64, 48, "gray").to_ndarray().astype(float) for one in packet.decode()]
                except FFmpegError:
                    continue
    return made


def likeness(one: numpy.ndarray, other: numpy.ndarray) -> float:
    return float(numpy.corrcoef(one.ravel(), other.ravel())[0, 1])


async def test_pictures_and_sound_pass_and_the_server_has_nothing_that_can_be_seen(
    clinic: Clinic, chromium: Browser, tmp_path: Path
) -> None:
    shown = {}
    for room, sealed in (("open-1", False), ("sealed-1", True)):
        doctor, patient = await clinic.caller(chromium, "doctor"), await clinic.caller(chromium, "patient")
        for caller in (doctor, patient):
            await caller.begin(room, sealed=sealed)
        for caller in (doctor, patient):
            await caller.sees_and_hears()
        await recorded(clinic, room, tmp_path / room)
        for caller in (doctor, patient):
            await caller.sees_and_hears(10)
            assert caller.errors == []
        shown[room] = seen(tmp_path / room, "doctor")
        if sealed:
            assert await code(doctor) == await code(patient)
        for caller in (doctor, patient):
            await caller.page.close()
    plain = shown["open-1"]
    assert len(plain) > 20
    face = numpy.mean(plain, axis=0)
    assert likeness(plain[-1], face) > 0.6, "what is recorded of an open call can be seen"
    assert all(abs(likeness(picture, face)) < 0.5 for picture in shown["sealed-1"] if picture.std() > 1)


async def test_who_comes_later_gets_the_new_key_and_who_left_is_given_none(clinic: Clinic, chromium: Browser) -> None:
    pages = [await clinic.caller(chromium, name) for name in ("doctor", "patient")]
    for page in pages:
        await page.begin("nour-1", sealed=True)
    for page in pages:
        await page.sees_and_hears()
    two = await code(pages[0])
    interpreter = await clinic.caller(chromium, "interpreter")
    await interpreter.begin("nour-1", sealed=True)
    await interpreter.sees_and_hears()
    three = await until(lambda: _another(pages[0], two), "the code is another one")
    assert {await code(one) for one in (*pages, interpreter)} == {three}
    before = dict(clinic.bridge.sealed["nour-1", "doctor"])
    assert set(before) == {"patient", "interpreter"}
    await interpreter.page.evaluate("session.close()")
    await until(lambda: set(clinic.bridge.sealed["nour-1", "doctor"]) == {"patient"}, "the next key is not for them")
    assert clinic.bridge.sealed["nour-1", "doctor"]["patient"] != before["patient"]
    for page in pages:
        await page.sees_and_hears(30)
    assert await code(pages[0]) == two


async def _another(page: Caller, before: str) -> str:
    now = str(await page.page.evaluate("seal.code"))
    return now if now != before else ""


async def test_a_server_that_hands_on_false_keys_is_told_by_the_code_and_shows_nobody(
    clinic: Clinic, chromium: Browser
) -> None:
    liar, doctor, patient = [await clinic.caller(chromium, name) for name in ("liar", "doctor", "patient")]
    await liar.begin("elsewhere", sealed=True)
    false = await liar.page.evaluate("seal.publicKey")
    clinic.bridge.false = {("doctor", "patient"): false, ("patient", "doctor"): false}
    for page in (doctor, patient):
        await page.begin("nour-1", sealed=True)
    for page in (doctor, patient):
        await until(lambda page=page: _packets(page), "packets arrive")
    assert await code(doctor) != await code(patient)
    for page in (doctor, patient):
        assert all(video["frames"] == 0 for video in (await page.figures())["videos"]), "nothing is shown"


async def _packets(page: Caller) -> bool:
    return int((await page.figures())["packets"]) > 50
