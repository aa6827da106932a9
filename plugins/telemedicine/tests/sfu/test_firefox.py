"""Firefox with Chromium and with itself: other payload types, extension ids and SDP habits, the same call."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from .conftest import ROOT, Caller, Clinic, _load, until

pytestmark = [pytest.mark.asyncio, pytest.mark.browser]


@pytest_asyncio.fixture
async def firefox() -> AsyncIterator[Any]:
    module = _load("browser_firefox", ROOT / "tests" / "browser" / "firefox.py")
    if not Path(module.BINARY).exists():
        pytest.skip("firefox-esr is not installed")
    async with module.Firefox() as browser:
        yield browser


async def caller(clinic: Clinic, firefox: Any, name: str, media_files: Any) -> Caller:
    clinic.bridge.files["/face.webm"] = media_files.face_webm
    page = await firefox.page(f"http://127.0.0.1:{clinic.bridge.port}/")
    await page.wait_for_function("window.ready")
    return Caller(page, name)


async def test_firefox_and_chromium_see_each_other(
    clinic: Clinic, chromium: Browser, firefox: Any, media_files: Any
) -> None:
    patient = await caller(clinic, firefox, "patient", media_files)
    doctor = await clinic.caller(chromium, "doctor")
    await patient.begin("nour-1", source="/face.webm")
    await doctor.begin("nour-1")
    seen = await doctor.sees_and_hears()
    assert seen["videos"][0]["width"] > 100
    await _sees(patient)
    assert await patient.remote() == ["doctor"]
    stats = (await clinic.client.stats("nour-1"))["nour-1"]
    assert all(one["counters"]["failures"] == 0 for one in stats.values())


@pytest.mark.long
async def test_two_firefoxes_see_each_other(clinic: Clinic, firefox: Any, media_files: Any) -> None:
    pages = [await caller(clinic, firefox, name, media_files) for name in ("doctor", "patient")]
    for page in pages:
        await page.begin("nour-1", source="/face.webm")
    for page in pages:
        await _sees(page)


async def test_firefox_simulcast_is_forwarded_to_chromium(
    clinic: Clinic, chromium: Browser, firefox: Any, media_files: Any
) -> None:
    patient = await caller(clinic, firefox, "patient", media_files)
    doctor = await clinic.caller(chromium, "doctor")
    await patient.begin("nour-1", source="/face.webm", simulcast=True)
    await doctor.begin("nour-1")
    await doctor.sees_and_hears()

    async def the_widest_alone() -> bool:
        return await _layers(clinic) == {"f"}

    await until(the_widest_alone, "for one receiver Firefox sends the widest alone")
    mid = "[...session.peerConnection.getTransceivers()].find((one) => one.sender.track?.kind === 'video').mid"
    connection = clinic.events("participant.tracks", "patient")[-1].data["connection"]
    layers = f"{{[{mid}]: ['h', 'f']}}"
    await patient.page.evaluate(f"session.receive({{type: 'layers', connection: '{connection}', layers: {layers}}})")

    async def both() -> bool:
        return await _layers(clinic) == {"h", "f"}

    await until(both, "Firefox sends what it is asked for")
    await doctor.sees_and_hears()


async def _layers(clinic: Clinic) -> set[str]:
    stats = (await clinic.client.stats("nour-1"))["nour-1"]
    return {one["rid"] for one in stats["patient"]["sends"] if one["rid"]}


async def _sees(page: Caller) -> None:
    """Firefox without a sound device plays no sound, so its energy stays at nothing; packets must come all the same."""
    before = await page.figures()

    async def grown() -> bool:
        now = await page.figures()
        return now["frames"] > before["frames"] + 20

    try:
        await until(grown, f"{page.name} sees")
    except BaseException:
        print(await page.figures(), await page.log())
        raise


async def test_a_call_that_is_encrypted_end_to_end_between_firefox_and_chromium(
    clinic: Clinic, chromium: Browser, firefox: Any, media_files: Any
) -> None:
    patient = await caller(clinic, firefox, "patient", media_files)
    doctor = await clinic.caller(chromium, "doctor")
    await patient.begin("nour-1", source="/face.webm", sealed=True)
    await doctor.begin("nour-1", sealed=True)
    await doctor.sees_and_hears()
    await _sees(patient)
    code = await until(lambda: doctor.page.evaluate("seal.code"), "there is a code")
    assert code == await patient.page.evaluate("seal.code")
