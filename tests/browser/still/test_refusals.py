"""What a page says when it does not: unknown, forbidden, wrong, too often, and the records gone.

Each is a real answer of the running product to a browser, in both languages. The last test stops the database.
"""

from __future__ import annotations

import uuid

import httpx
import pytest

from tests.browser import reading
from tests.browser.house import House, submit
from tests.browser.inspection import refuses
from tests.journeys.people import PASSWORD

pytestmark = pytest.mark.browser


@pytest.fixture(params=["en", "ar"])
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_what_is_not_there(house: House, language: str) -> None:
    page = await house.page("doctor", language)
    await page.goto(f"/emr/patients/{uuid.uuid4()}")
    await refuses(page, language, 404)
    stranger = await house.page("", language)
    await stranger.goto("/nothing/of/the/kind")
    await refuses(stranger, language, 404)
    await stranger.goto("/portal/no-such-clinic/sign-in")
    await refuses(stranger, language, 404)


async def test_what_somebody_may_not(house: House, language: str) -> None:
    chart = await house.chart()
    page = await house.page("reception", language)
    await page.goto(chart)
    await refuses(page, language, 403)
    assert "Layla" not in await page.content(), "a closed door does not say who is behind it"


async def test_what_cannot_be_understood(house: House, language: str) -> None:
    page = await house.page("doctor", language)
    await page.goto("/account")
    await submit(page, "/language", {"language": "xx"})
    await refuses(page, language, 422)


async def test_what_was_tried_too_often(house: House, language: str) -> None:
    email = {"en": "lab@al-razi.example", "ar": "lab@ibn-sina.example"}[language]
    async with httpx.AsyncClient(base_url=house.stack.base, headers={"origin": house.stack.base}) as guesser:
        for _ in range(5):
            wrong = await guesser.post("/sign-in", data={"email": email, "password": "not this one"})
            assert wrong.status_code == 422
    page = await house.page("", language)
    await page.goto("/sign-in")
    await page.fill("[name=email]", email)
    await page.fill("[name=password]", PASSWORD)
    async with page.expect_navigation():
        await page.press("[name=password]", "Enter")
    await refuses(page, language, 429)
    assert await page.input_value("[name=email]") == email
    assert await page.input_value("[name=password]") == ""


async def test_the_records_are_gone(house: House) -> None:
    windows = {language: await house.page("doctor", language) for language in ("en", "ar")}
    for page in windows.values():
        await page.goto("/clinics")  # holds no live stream that would be lost
        await reading.faults_of(page)
    house.stack.postgres.halt()
    try:
        for language, page in windows.items():
            await page.goto("/scheduling/day")
            # Who asks is known by the records only: without them a cookie remembers the language.
            await refuses(page, language, 503)
    finally:
        house.stack.postgres.start()
    await house.stack.ready()
    await windows["en"].goto("/scheduling/day")
    assert await windows["en"].locator("#scheduling-day").count() == 1
