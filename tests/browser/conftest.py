"""The appliance with its demonstration data, once for all tests of this folder, and one browser."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import expect

from tests.browser.house import PATIENCE_MS, House, opened
from tests.browser.reading import AXE

expect.set_options(timeout=PATIENCE_MS)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def house() -> AsyncIterator[House]:
    async with opened(25, AXE) as house:
        yield house
