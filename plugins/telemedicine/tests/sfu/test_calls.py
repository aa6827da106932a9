"""Two and more people in real browsers: they see and hear each other, and go on doing so whatever happens in between."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from .conftest import Caller, Clinic, next_port, own_address, until
from .wire import Wire

pytestmark = [pytest.mark.asyncio, pytest.mark.browser]
#: The calls that use most of an engine, on each of them; the others run on the one that a worker chooses. That both engines do
#: the same with the same packets is held by `test_engines_agree.py`; a browser shows it of the one at every push for one call.
on_both_engines = pytest.mark.parametrize("engine", ["python", "auto"])
on_the_other_when_long = pytest.mark.parametrize("engine", [pytest.param("python", marks=pytest.mark.long), "auto"])


@on_both_engines
async def test_doctor_and_patient_see_and_hear_each_other(clinic: Clinic, chromium: Browser) -> None:
    doctor, patient = await clinic.caller(chromium, "doctor"), await clinic.caller(chromium, "patient")
    await doctor.begin("nour-1")
    await patient.begin("nour-1")
    for caller, other in ((doctor, "patient"), (patient, "doctor")):
        figures = await caller.sees_and_hears()
        # The IANA name; browsers before Chromium 150 put SRTP_ before it.
        assert figures["srtp"].removeprefix("SRTP_") == "AEAD_AES_256_GCM"
        assert await caller.remote() == [other]
        assert caller.errors == []
    assert clinic.events("participant.media", "doctor") and clinic.events("participant.media", "patient")
    stats = await clinic.client.stats("nour-1")
    assert all(
        one["counters"]["failures"] == 0 and one["counters"]["rejected"] == 0 for one in stats["nour-1"].values()
    )


async def test_two_clinics_calls_do_not_meet(clinic: Clinic, chromium: Browser) -> None:
    pages = {name: await clinic.caller(chromium, name) for name in ("a", "b", "c", "d")}
    for name, room in (("a", "nour-1"), ("b", "nour-1"), ("c", "shifa-1"), ("d", "shifa-1")):
        await pages[name].begin(room)
    for page in pages.values():
        await page.sees_and_hears(10)
    # Somebody may be coming back just now on a busy machine; somebody of the other clinic is never there.
    for name, other in (("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")):
        seen: set[str] = set()

        async def meets(page: Caller = pages[name], other: str = other, seen: set[str] = seen) -> bool:
            seen.update(await page.remote())
            return other in seen

        await until(meets, f"{name} meets {other}")
        assert seen == {other}
    stats = await clinic.client.stats()
    for room, members in (("nour-1", {"a", "b"}), ("shifa-1", {"c", "d"})):
        assert set(stats[room]) == members
        for one in stats[room].values():
            assert all(section["track"].startswith(room + "/") for section in one["receives"] if section["track"])


async def test_an_interpreter_joins_later_without_anybody_doing_anything(clinic: Clinic, chromium: Browser) -> None:
    pages = [await clinic.caller(chromium, name) for name in ("doctor", "patient", "interpreter", "daughter")]
    # One spare section each: the third and fourth person make the pages offer more.
    for page in pages:
        await page.begin("nour-1", spares=1)
    for page in pages:
        await until(lambda page=page: _all_three(page), f"{page.name} receives three pictures")
        assert page.errors == []
    await clinic.client.leave("nour-1", "interpreter")
    await until(lambda: _remote_is(pages[0], ["daughter", "patient"]), "the interpreter is gone")
    await pages[0].sees_and_hears()


async def _all_three(page) -> bool:
    return len([one for one in (await page.figures())["videos"] if one["frames"] > 5]) == 3


async def _remote_is(page, names: list[str]) -> bool:
    return await page.remote() == names


async def test_a_worker_that_is_killed_is_back_and_so_is_the_picture(clinic: Clinic, chromium: Browser) -> None:
    doctor, patient = await clinic.caller(chromium, "doctor"), await clinic.caller(chromium, "patient")
    await doctor.begin("nour-1")
    await patient.begin("nour-1")
    await doctor.sees_and_hears()
    first = clinic.supervisor.pid()
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: clinic.events("worker.restarted"), "the restart is announced")
    for caller in (doctor, patient):
        await caller.sees_and_hears()
        assert any(what[0] == "rejoin" for _, what in await caller.log())
    assert clinic.supervisor.pid() not in (None, first)


PAINTED = """() => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 640, height: 360 });
  const pen = canvas.getContext("2d");
  let hue = 0;
  setInterval(() => {
    pen.fillStyle = `hsl(${(hue += 37)} 80% 50%)`;
    pen.fillRect(0, 0, 640, 360);
  }, 100);
  return canvas.captureStream(10);
}"""


async def test_a_screen_is_shown_beside_the_camera_outlives_the_worker_and_goes(
    clinic: Clinic, chromium: Browser
) -> None:
    doctor, patient = await clinic.caller(chromium, "doctor"), await clinic.caller(chromium, "patient")
    await doctor.begin("nour-1")
    await patient.begin("nour-1")
    await patient.sees_and_hears()
    shown = "session.participants.get('doctor')?.screen?.getVideoTracks().length ?? 0"

    async def both() -> bool:
        moving = [one for one in (await patient.figures())["videos"] if one["frames"] > 5]
        return await patient.page.evaluate(shown) == 1 and len(moving) == 2

    await doctor.page.evaluate(f"window.shown = ({PAINTED})(); session.shareScreen(window.shown)")
    await until(both, "the patient sees camera and screen")
    first = clinic.supervisor.pid()
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: clinic.events("worker.restarted"), "the restart is announced")
    await patient.sees_and_hears()
    await until(both, "and sees both again")
    await doctor.page.evaluate("session.stopScreen()")
    await until(lambda: patient.page.evaluate(f"({shown}) === 0"), "the screen is gone")
    assert await doctor.page.evaluate("window.shown.getVideoTracks()[0].readyState") == "ended"
    # Another camera, without a new word between page and server.
    said = "session.peerConnection.localDescription.sdp"
    before = await doctor.page.evaluate(said)
    await doctor.page.evaluate(f"session.replaceTrack('video', ({PAINTED})().getVideoTracks()[0])")
    await patient.sees_and_hears()
    assert await doctor.page.evaluate(said) == before
    assert await patient.remote() == ["doctor"] and doctor.errors == patient.errors == []


@on_the_other_when_long
async def test_an_answer_that_is_overtaken_by_news_does_not_undo_it(clinic: Clinic, chromium: Browser) -> None:
    """After a killed worker everybody joins at once: the second one's tracks are announced before the first has its answer."""
    doctor, patient = await clinic.caller(chromium, "doctor"), await clinic.caller(chromium, "patient")
    clinic.bridge.held["doctor"] = asyncio.Event()
    await doctor.begin("nour-1")
    await until(
        lambda: clinic.events("participant.tracks", "doctor") or _joined(clinic, "doctor"), "the doctor is there"
    )
    await patient.begin("nour-1")
    await until(lambda: clinic.events("participant.tracks", "doctor"), "the doctor is told of the patient")
    clinic.bridge.held["doctor"].set()
    await doctor.sees_and_hears()
    await patient.sees_and_hears()
    assert await doctor.remote() == ["patient"]
    # What another connection was told concerns nobody any more.
    await doctor.page.evaluate(
        "session.receive({type: 'tracks', tracks: [], wanted: {}, connection: 'other', revision: 99})"
    )
    assert await doctor.remote() == ["patient"]
    await clinic.client.leave("nour-1", "patient")
    await until(lambda: _remote_is(doctor, []), "what is newer holds")


async def _joined(clinic: Clinic, participant: str) -> bool:
    return participant in (await clinic.client.stats()).get("nour-1", {})


async def test_a_participant_who_joins_again_keeps_the_id_and_replaces_the_old_connection(
    clinic: Clinic, chromium: Browser
) -> None:
    doctor, patient = await clinic.caller(chromium, "doctor"), await clinic.caller(chromium, "patient")
    await doctor.begin("nour-1")
    await patient.begin("nour-1")
    await doctor.sees_and_hears()
    await patient.page.reload()
    await patient.page.wait_for_function("window.ready")
    await patient.begin("nour-1")
    await patient.sees_and_hears()
    await doctor.sees_and_hears()
    assert await doctor.remote() == ["patient"]
    assert set((await clinic.client.stats("nour-1"))["nour-1"]) == {"doctor", "patient"}


@pytest_asyncio.fixture
async def wired(tmp_path: Path, engine: str):
    clinic = Clinic(tmp_path, engine)
    port = next_port()
    await clinic.start([f"{own_address()}:{port}"])
    wire = Wire(("127.0.0.1", clinic.port))
    await wire.start(port)
    yield clinic, wire
    wire.stop()
    await clinic.stop()


async def test_five_seconds_without_network_heal_without_a_click(wired, chromium: Browser) -> None:
    clinic, wire = wired
    doctor, patient = await clinic.caller(chromium, "doctor"), await clinic.caller(chromium, "patient")
    await doctor.begin("nour-1")
    await patient.begin("nour-1")
    await doctor.sees_and_hears()
    await patient.sees_and_hears()
    wire.cut = True
    await asyncio.sleep(5)
    wire.cut = False
    await doctor.sees_and_hears()
    await patient.sees_and_hears()
    assert not clinic.events("participant.disconnected")


@on_the_other_when_long
async def test_lost_packets_are_sent_again(wired, chromium: Browser) -> None:
    clinic, wire = wired
    doctor, patient = await clinic.caller(chromium, "doctor"), await clinic.caller(chromium, "patient")
    await doctor.begin("nour-1")
    await patient.begin("nour-1")
    await doctor.sees_and_hears()
    wire.loss, wire.delay = 0.04, 0.02
    figures = await patient.sees_and_hears(150)
    stats = (await clinic.client.stats("nour-1"))["nour-1"]
    assert sum(one["retransmitted"] for one in stats["patient"]["receives"]) > 0
    assert figures["videos"][0]["nack"] > 0
    assert wire.lost > 0
    # Without retransmission every lost packet would end in a frozen picture until the next key frame.
    assert figures["videos"][0]["pli"] < wire.lost / 5


@on_the_other_when_long
async def test_layers_are_sent_when_somebody_needs_them_and_not_before(
    wired: tuple[Clinic, Wire], chromium: Browser
) -> None:
    clinic, wire = wired
    doctor, patient = await clinic.caller(chromium, "doctor"), await clinic.caller(chromium, "patient")
    await doctor.begin("nour-1", simulcast=True)
    await patient.begin("nour-1")
    await patient.sees_and_hears()
    assert await _received(clinic, "patient") == {"f"}, "for one receiver there is one picture, made to measure"
    assert await _sent(clinic) == {"f"}
    interpreter = await clinic.caller(chromium, "interpreter")
    await interpreter.begin("nour-1", media=False)
    wire.delay, wire.down = 0.02, 400_000
    await until(lambda: _gets_less(clinic, "patient", "interpreter"), "both narrow lines get a smaller layer")
    # What was sent before is still in the narrow line.
    await until(lambda: _narrower(patient, 640), "the smaller picture is the one that is shown")
    await patient.sees_and_hears(10)
    assert doctor.errors == []
    assert not clinic.events("participant.disconnected")


async def _narrower(page: Caller, width: int) -> bool:
    return 0 < (await page.figures())["videos"][0]["width"] < width


async def _sent(clinic: Clinic) -> set[str]:
    stats = (await clinic.client.stats("nour-1"))["nour-1"]
    return {one["rid"] for one in stats["doctor"]["sends"] if one["rid"]}


async def _received(clinic: Clinic, participant: str) -> set[str]:
    stats = (await clinic.client.stats("nour-1"))["nour-1"]
    return {one["rid"] for one in stats.get(participant, {"receives": []})["receives"] if one["rid"]}


async def _gets_less(clinic: Clinic, *participants: str) -> bool:
    return all([await _received(clinic, one) == {"h"} for one in participants])


async def test_another_address_of_the_client_is_followed(wired, chromium: Browser) -> None:
    clinic, wire = wired
    doctor, patient = await clinic.caller(chromium, "doctor"), await clinic.caller(chromium, "patient")
    await doctor.begin("nour-1")
    await patient.begin("nour-1")
    await doctor.sees_and_hears()
    wire.change_address()
    await doctor.sees_and_hears()
    await patient.sees_and_hears()
    assert not clinic.events("participant.disconnected")


async def test_an_ice_restart_changes_the_path_under_the_same_encryption(wired, chromium: Browser) -> None:
    clinic, _ = wired
    doctor, patient = await clinic.caller(chromium, "doctor"), await clinic.caller(chromium, "patient")
    await doctor.begin("nour-1")
    await patient.begin("nour-1")
    await doctor.sees_and_hears()
    before = await doctor.page.evaluate("session.peerConnection.localDescription.sdp.match(/ice-ufrag:(\\S+)/)[1]")
    await doctor.page.evaluate("window.dispatchEvent(new Event('online'))")

    async def changed() -> bool:
        now = await doctor.page.evaluate(
            "session.peerConnection.currentLocalDescription.sdp.match(/ice-ufrag:(\\S+)/)[1]"
        )
        return now != before

    await until(changed, "the page has new ICE credentials")
    await doctor.sees_and_hears(60)
    await patient.sees_and_hears(60)
    assert not clinic.events("participant.disconnected")
    assert not any(what[0] == "rejoin" for _, what in await doctor.log())


async def test_a_narrow_way_costs_sharpness_and_a_very_narrow_one_the_picture_but_never_the_sound(
    wired: tuple[Clinic, Wire], chromium: Browser
) -> None:
    clinic, wire = wired
    doctor, patient = await clinic.caller(chromium, "doctor"), await clinic.caller(chromium, "patient")
    await doctor.begin("nour-1")
    await patient.begin("nour-1")
    await doctor.sees_and_hears()
    wire.delay = 0.02
    wire.down = 350_000

    async def fits() -> bool:
        stats = (await clinic.client.stats("nour-1"))["nour-1"]
        return all(one["quality"]["budget"] < 450_000 for one in stats.values())

    await until(fits, "the bottleneck is noticed")
    await doctor.sees_and_hears(60)
    await patient.sees_and_hears(60)
    assert not clinic.events("participant.disconnected")
    await until(lambda: _said(clinic) not in ("", "audio-only"), "a picture still fits")
    wire.down = 85_000
    await until(lambda: _said(clinic) == "audio-only", "the page is told that only sound remains")
    await until(lambda: _quality_is(patient, "audio-only"), "the page shows it")
    before = await patient.figures()
    after = await until(lambda: _played(patient, before["played"] + 3 * 48_000), "three seconds pass in the page")
    heard, passed = after["samples"] - before["samples"], after["played"] - before["played"]
    assert heard / passed > 0.7, "the sound goes on; the rest was made up"
    assert wire.lost < 2500, "repetitions do not crowd out what is new"
    wire.down = 0
    await doctor.sees_and_hears()
    await patient.sees_and_hears()
    await until(lambda: _quality_is(patient, "good"), "all is well again")


def _said(clinic: Clinic) -> str:
    """What the patient's page was told last."""
    told = [event.data["state"] for event in clinic.events("participant.quality", "patient")]
    return str(told[-1]) if told else ""


async def _played(page: Caller, samples: int) -> dict[str, Any] | None:
    """The page's figures once it has played that many samples, heard or made up."""
    figures = await page.figures()
    return figures if figures["played"] >= samples else None


async def _quality_is(page: Caller, state: str) -> bool:
    return (await page.figures())["quality"] == state
