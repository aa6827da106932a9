"""By keyboard alone: Tab reaches everything and shows where it is, the palette finds what is permitted, keys rest in fields."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.browser import reading
from tests.browser.house import CLINIC, DESK, House

pytestmark = pytest.mark.browser


async def _walk(page: Page, path: str) -> None:
    await page.set_viewport_size(DESK)
    await page.goto(path)
    walk = await reading.focus_walk(page)
    assert walk == {"dull": [], "missed": []}, "\n".join(["", *walk["dull"], "missed:", *walk["missed"]])


@pytest.mark.parametrize("language", ["en", "ar"])
async def test_tab_reaches_everything_on_the_day_and_shows_where_it_is(house: House, language: str) -> None:
    await _walk(await house.page("doctor", language), "/scheduling/day")


@pytest.mark.parametrize("language", ["en", "ar"])
async def test_tab_reaches_everything_on_the_chart_and_shows_where_it_is(house: House, language: str) -> None:
    await _walk(await house.page("doctor", language), await house.chart())


async def test_tab_reaches_everything_at_the_desk_and_on_a_patients_page(house: House) -> None:
    await house.registered()
    await _walk(await house.page("reception"), house.found["patient"])
    await _walk(await house.page("patient"), f"/portal/{CLINIC}")


async def _palette(page: Page, text: str) -> list[tuple[str, str]]:
    """What the palette lists for somebody's name: (title, address)."""
    await page.keyboard.press("Control+k")
    await expect(page.locator("#palette")).to_be_visible()
    async with page.expect_response(lambda answer: "/search?q=" in answer.url and text[-3:] in answer.url):
        await page.keyboard.type(text)
    await expect(page.locator("#palette-hits a .t", has_text=text).first).to_be_visible()
    return [
        tuple(one)
        for one in await page.eval_on_selector_all(
            "#palette-hits a", "all => all.map(a => [a.querySelector('.t').textContent, a.getAttribute('href')])"
        )
    ]


async def test_the_palette_finds_a_patient_and_enter_opens_the_chart(house: House) -> None:
    chart = await house.chart()
    page = await house.page("doctor")
    await page.goto("/scheduling/day")
    assert any(href == chart for _, href in await _palette(page, "Layla Haddad"))
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"**{chart}")


async def test_the_palette_lists_for_reception_only_what_reception_may_open(house: House) -> None:
    page = await house.page("reception")
    await page.goto("/scheduling/desk")
    found = await _palette(page, "Layla Haddad")
    assert any("Layla" in title for title, _ in found)
    pages = await page.evaluate("fetch('/search?q=').then(answer => answer.json())")
    hrefs = {href for _, href in found} | {hit["href"] for group in pages["groups"] for hit in group["hits"]}
    assert hrefs and not any(href.startswith(("/emr/", "/scheduling/day")) for href in hrefs), hrefs
    for href in sorted(hrefs):
        assert (await page.request.get(house.stack.base + href)).status == 200, href
    await page.keyboard.press("Escape")
    await expect(page.locator("#palette")).to_be_hidden()


@pytest.mark.parametrize("language", ["en", "ar"])
async def test_a_question_mark_lists_the_keys_and_escape_closes_the_list(house: House, language: str) -> None:
    page = await house.page("doctor", language)
    await page.goto(await house.chart())
    await page.keyboard.press("?")
    sheet = page.locator("#shortcuts")
    await expect(sheet).to_be_visible()
    assert await sheet.locator("[data-shortcuts=page] li").count() >= 3
    assert await sheet.locator("[data-shortcuts=go] li").count() >= 3
    assert await reading.axe(page) == []
    if language == "ar":
        assert reading.untranslated(await reading.words(page), [], reading.catalogue()) == []
    await page.keyboard.press("Escape")
    await expect(sheet).to_be_hidden()


async def test_single_letters_are_typed_in_fields_and_act_elsewhere(house: House) -> None:
    chart = await house.chart()
    page = await house.page("doctor")
    await page.goto(chart)
    await expect(page.locator("#ws-allergy")).to_be_hidden()
    note = page.locator("#note-plan")
    await note.focus()
    before = await note.input_value()
    await page.keyboard.type("a?g p")
    assert await note.input_value() == before + "a?g p"
    await expect(page.locator("#ws-allergy")).to_be_hidden()
    await expect(page.locator("#shortcuts")).to_be_hidden()
    assert page.url.endswith(chart)
    await page.evaluate("document.activeElement.blur()")
    await page.keyboard.press("a")
    await expect(page.locator("#ws-allergy")).to_be_visible()
    await expect(page.locator("#a-substance")).to_be_focused()
    await page.evaluate("document.activeElement.blur()")
    await page.keyboard.press("g")
    await page.keyboard.press("d")
    await page.wait_for_url("**/scheduling/day*")
    # What was begun stays: the draft is on the server.
    await page.goto(chart)
    await expect(page.locator("#note-plan")).to_have_value(before + "a?g p")


async def test_nothing_went_wrong_in_any_window(house: House) -> None:
    assert {key: page.faults for key, page in house.windows.items() if page.faults} == {}
