"""Real browsers send and show each codec through the worker, and get the layers that were chosen for them."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from qanun_telemedicine.sfu import engine_python, payloads
from qanun_telemedicine.sfu.codecs import Preferences
from qanun_telemedicine.sfu.quality import LayerChoice
from qanun_telemedicine.sfu.worker import MediaWorker

from .bridge import Bridge
from .conftest import Caller, next_port, until
from .engines import needs_c
from .test_worker import Inside

pytestmark = [pytest.mark.asyncio, pytest.mark.browser]

_SHOWN = """async () => {
  const report = await session.peerConnection.getStats(), found = [];
  report.forEach((one) => { if (one.type === "inbound-rtp" && one.kind === "video" && one.framesDecoded)
    found.push({ codec: report.get(one.codecId).mimeType, width: one.frameWidth, frames: one.framesDecoded,
      fps: one.framesPerSecond ?? 0, nack: one.nackCount, lost: one.packetsLost, pli: one.pliCount }); });
  return found;
}"""


class Clinic:
    """A worker in this process, so that its choices can be made for it, and the page."""

    def __init__(self, inside: Inside) -> None:
        self.inside, self.bridge = inside, Bridge()

    async def start(self, order: str) -> None:
        inside = self.inside
        self.bridge.client = inside.client
        inside.client._on_event = lambda event: self.bridge.hear(inside.client, event)
        await inside.start()
        inside.worker.rooms.preferences = Preferences.of(order)
        await self.bridge.start(next_port())

    async def stop(self) -> None:
        await self.inside.stop()
        await self.bridge.stop()

    async def caller(self, browser: Browser, name: str) -> Caller:
        caller = Caller(await browser.new_page(), name)
        await caller.page.goto(f"http://127.0.0.1:{self.bridge.port}/")
        await caller.page.wait_for_function("window.ready")
        return caller

    @property
    def worker(self) -> MediaWorker:
        return self.inside.worker


Opened = Callable[[str], Any]


#: What each codec is to an engine is compared packet by packet elsewhere; here it is about the browsers.
_ENGINES = [pytest.param("c", marks=needs_c), pytest.param("python", marks=pytest.mark.long)]


@pytest_asyncio.fixture(params=_ENGINES)
async def opened(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Opened]:
    made: list[Clinic] = []

    async def start(order: str) -> Clinic:
        made.append(Clinic(Inside(tmp_path, request.param)))
        await made[-1].start(order)
        return made[-1]

    yield start
    for clinic in made:
        await clinic.stop()


async def shows(caller: Caller, codec: str, width: Callable[[int], bool] = bool, more: int = 15) -> dict[str, Any]:
    """Wait until so many more pictures of this codec and size are shown."""
    before: list[int] = []

    async def shown() -> dict[str, Any] | None:
        for one in await caller.page.evaluate(_SHOWN):
            if one["codec"] == f"video/{codec}" and width(one["width"]):
                before.append(one["frames"])
                if one["frames"] >= before[0] + more:
                    return dict(one)
        return None

    try:
        return dict(await until(shown, f"{caller.name} sees {codec}"))
    except BaseException:
        print(caller.name, await caller.page.evaluate(_SHOWN), await caller.log(), caller.errors)
        raise


@pytest.mark.parametrize(("order", "codec"), [("h264,vp8", "H264")])
async def test_each_codec_is_sent_and_shown(opened: Opened, chromium: Browser, order: str, codec: str) -> None:
    clinic = await opened(order)
    callers = [await clinic.caller(chromium, name) for name in ("doctor", "patient")]
    for caller in callers:
        await caller.begin("nour-1")
    for caller in callers:
        await shows(caller, codec)
    await callers[0].sees_and_hears(5)
    stats = (await clinic.inside.client.stats("nour-1"))["nour-1"]
    assert all(one["counters"]["failures"] == one["counters"]["rejected"] == 0 for one in stats.values())
    assert all(max(sent["width"] for sent in one["sends"]) > 100 for one in stats.values())


@pytest.mark.parametrize(("order", "codec"), [("vp9", "VP9"), pytest.param("av1", "AV1", marks=pytest.mark.long)])
async def test_a_picture_in_layers_is_shown_as_large_as_was_chosen(
    opened: Opened, chromium: Browser, monkeypatch: pytest.MonkeyPatch, order: str, codec: str
) -> None:
    wanted = {"rid": "S3T3"}

    def choose(self: LayerChoice, *_: Any) -> str:
        self.rid = wanted["rid"]
        return self.rid

    monkeypatch.setattr(LayerChoice, "choose", choose)
    clinic = await opened(order)
    doctor, patient = await clinic.caller(chromium, "doctor"), await clinic.caller(chromium, "patient")
    await doctor.begin("nour-1", scalability="L3T3_KEY")
    await patient.begin("nour-1", scalability="L3T3_KEY")
    full = (await shows(patient, codec, lambda width: width > 500))["width"]
    wanted["rid"] = "S0T2"
    least = (await shows(patient, codec, lambda width: 0 < width < full))["width"]
    wanted["rid"] = "S1T0"
    await shows(patient, codec, lambda width: width == 2 * least, 8)
    wanted["rid"] = "S2T2"
    print(codec, await shows(patient, codec, lambda width: width == full))
    (leg,) = [one for one in clinic.worker.rooms.get("nour-1").participants.values() if one.id == "doctor"]
    camera = next(one.id for one in leg.tracks.values() if one.kind == "video")
    (state,) = [one for one in clinic.inside.engine.streams_of(camera) if not one.retransmission]
    # A browser leaves layers out that would be too small.
    assert len({one.spatial for one in state.layers}) in (2, 3) and len({one.temporal for one in state.layers}) == 3


async def test_who_comes_later_and_knows_less_is_seen_and_sees(opened: Opened, chromium: Browser) -> None:
    clinic = await opened("vp9,vp8")
    doctor, patient, guest = [await clinic.caller(chromium, name) for name in ("doctor", "patient", "guest")]
    await doctor.begin("nour-1")
    await patient.begin("nour-1")
    await shows(patient, "VP9")
    # A browser that has VP8 only: the others must send that from now on, without a click.
    await guest.page.evaluate(
        """() => {
          const original = RTCPeerConnection.prototype.addTransceiver;
          RTCPeerConnection.prototype.addTransceiver = function (...given) {
            const made = original.apply(this, given);
            const kind = typeof given[0] === "string" ? given[0] : given[0].kind;
            if (kind === "video") made.setCodecPreferences(
              RTCRtpReceiver.getCapabilities("video").codecs.filter(({ mimeType }) => /VP8|rtx/i.test(mimeType)));
            return made;
          };
        }"""
    )
    await guest.begin("nour-1")
    for caller in (guest, doctor, patient):
        await shows(caller, "VP8")
    happened = [*await doctor.log(), *await patient.log()]
    assert not any(what[0] == "rejoin" for _, what in happened)


@pytest.mark.parametrize("opened", ["python"], indirect=True)
async def test_sound_that_repairs_itself_is_heard(
    opened: Opened, chromium: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    carried: list[int | None] = []

    def primary(payload: bytes) -> int | None:
        carried.append(found := payloads.red_primary(payload))
        return found

    monkeypatch.setattr(engine_python, "payloads", SimpleNamespace(red_primary=primary))
    clinic = await opened("vp8,red")
    doctor, patient = await clinic.caller(chromium, "doctor"), await clinic.caller(chromium, "patient")
    await doctor.begin("nour-1")
    await patient.begin("nour-1")
    await doctor.sees_and_hears()
    await patient.sees_and_hears()
    assert len(carried) > 100 and None not in carried
    assert max(found for found in carried if found is not None) > 20, "older sound travels along"
