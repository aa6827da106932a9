"""The appliance with its demonstration data, once for all tests of this folder, and one browser."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import async_playwright, expect

from tests.browser.house import CHROMIUM, FLAGS, PATIENCE_MS, House
from tests.browser.reading import AXE
from tests.journeys.stack import Stack

expect.set_options(timeout=PATIENCE_MS)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def house() -> AsyncIterator[House]:
    for needed in (Path(CHROMIUM), AXE):
        if not needed.exists():
            pytest.skip(f"{needed.name} is not installed")
    stack = Stack()
    try:
        await stack.start(patients=25)
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            yield House(stack, browser)
            await browser.close()
    finally:
        await stack.stop()
