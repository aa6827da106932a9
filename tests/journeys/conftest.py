"""The people of a journey: browsers with a talking face before the camera, on both ends of a cable that can be cut."""

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Playwright, async_playwright, expect

from tests.browser import media
from tests.journeys import people as p
from tests.journeys.stack import Cable, Stack

CHROMIUM = "/usr/bin/chromium"
# What is expected comes when it comes on a busy machine: nothing is concluded from how long it took.
expect.set_options(timeout=p.PATIENCE_S * 1000)


@pytest.fixture(scope="session")
def media_files() -> Any:
    return media.prepare()


@pytest.fixture(scope="session")
def cable() -> Any:
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("network namespaces need root and iproute2")
    laid = Cable()
    laid.lay()
    yield laid
    laid.remove()


@pytest_asyncio.fixture(scope="session")
async def stack(cable: Cable) -> AsyncIterator[Stack]:
    """The appliance, once for all journeys: they use patients of their own."""
    running = Stack(cable=cable)
    try:
        await running.start()
        yield running
    finally:
        await running.stop()


@pytest_asyncio.fixture(scope="session")
async def playwright() -> AsyncIterator[Playwright]:
    async with async_playwright() as running:
        yield running


@pytest_asyncio.fixture
async def near(playwright: Playwright, media_files: Any) -> AsyncIterator[Browser]:
    """The clinic's own browser."""
    browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=media.chromium_flags(media_files))
    yield browser
    await browser.close()


@pytest_asyncio.fixture
async def far(
    playwright: Playwright, media_files: Any, cable: Cable, stack: Stack, tmp_path: Path
) -> AsyncIterator[Browser]:
    """The patient's, on the other end of the cable. Its address is not HTTPS, so it is told to trust it with a camera."""
    flags = [
        *media.chromium_flags(media_files, film=True),
        f"--unsafely-treat-insecure-origin-as-secure={stack.far_base}",
    ]
    browser = await playwright.chromium.launch(executable_path=str(cable.browser(tmp_path)), args=flags)
    yield browser
    await browser.close()
