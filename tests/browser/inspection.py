"""What must hold of every page that is looked at: both languages, a desk, a phone and the smallest phone.

axe finds nothing, nothing is cut off, values stand in the order they are meant, no sentence is left in English, little script is
loaded, nothing went wrong while it was loaded, and the page is that of the route which its place names.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Page

from tests.browser import reading
from tests.browser.house import DESK, PHONE, SMALLEST, House, Place

KNOWN = reading.catalogue()
DIRECTION = {"en": "ltr", "ar": "rtl"}
SIZES = {"desk": DESK, "phone": PHONE, "smallest": SMALLEST}
#: axe takes longer than everything else together, and what it reads differs little between the languages of one page: each
#: language is read once, the two at the two widths at which pages are laid out differently.
READ_AT = {"en": "desk", "ar": "phone"}


async def holds(house: House, place: Place) -> None:
    faults, words = [], {}
    for language in ("en", "ar"):
        page = await house.page(place.who, language)
        await resize(page, DESK)
        await place.open(house, page)
        if place.route and not re.fullmatch(as_pattern(place.route), urlsplit(page.url).path):
            faults.append(f"{language}: {page.url} is not a page of {place.route}")
        found, words[language] = await look(page, language, dark=place.dark)
        faults += found
    left = reading.untranslated(words["ar"], words["en"], KNOWN)
    faults += [f"not in Arabic: {text}" for text in left]
    assert not faults, "\n".join(["", *faults])


async def resize(page: Page, size: dict[str, int]) -> None:
    if page.viewport_size != size:
        await page.set_viewport_size(size)


def as_pattern(route: str) -> str:
    """A route as the matrix of routes writes it, as a pattern of its addresses."""
    kinds = {"uuid": "[0-9a-f-]{36}", "int": r"\d+", "str": "[^/]+"}
    return re.sub(r"\\\{\w+:(\w+)\\\}", lambda found: kinds[found[1]], re.escape(route))


async def look(page: Page, language: str, *, dark: bool) -> tuple[list[str], Any]:
    """All that is wrong with the page that is open, and its words."""
    faults: list[str] = []

    def note(what: str, found: list[str]) -> None:
        faults.extend(f"{language} {what}: {one}" for one in found)

    where = await page.evaluate("[document.documentElement.lang, document.documentElement.dir]")
    if where != [language, DIRECTION[language]]:
        faults.append(f"{language}: the page says {where}")
    words = await reading.words(page)
    for name, size in SIZES.items():
        await resize(page, size)
        note(f"{name} width", await reading.too_wide(page))
        if language == "ar" and size is not SMALLEST:
            note(f"{name} values", await reading.out_of_order(page))
        if name == READ_AT[language]:
            note(f"{name} axe", await reading.axe(page))
            if dark:
                note(f"{name} dark axe", await in_the_dark(page))
    scripts = await reading.script_bytes(page)
    assert scripts, "a page without scripts is not one of ours"
    if sum(scripts.values()) > reading.FIRST_LOAD_LIMIT:
        faults.append(f"{sum(scripts.values())} bytes of script: {scripts}")
    await resize(page, DESK)
    note("log", await reading.faults_of(page))
    return faults, words


async def in_the_dark(page: Page) -> list[str]:
    """What axe finds when the page is dark: only colours are others then."""
    await page.emulate_media(color_scheme="dark")
    await page.wait_for_function("() => document.documentElement.dataset.bsTheme === 'dark'")
    found = await reading.axe(page, only=reading.COLOURS)
    await page.emulate_media(color_scheme="light")
    await page.wait_for_function("() => document.documentElement.dataset.bsTheme === 'light'")
    return found


async def refuses(page: Page, language: str, status: int) -> None:
    """The open page is an error page as good as any other page."""
    shown = await page.evaluate("performance.getEntriesByType('navigation')[0].responseStatus")
    assert shown == status
    assert await page.evaluate("document.documentElement.lang") == language
    assert await page.locator("h1").inner_text()
    faults = []
    for name, size in SIZES.items():
        await resize(page, size)
        faults += await reading.too_wide(page)
        if name == READ_AT[language]:
            faults += await reading.axe(page)
    if language == "ar":
        faults += await reading.out_of_order(page)
        faults += reading.untranslated(await reading.words(page), [], KNOWN)
    await resize(page, DESK)
    assert faults + await reading.faults_of(page) == []
