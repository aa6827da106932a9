"""What a panel is told while it is being fetched anew is not lost with the panel that the answer replaces."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import Request, Route

from tests.browser.house import House
from tests.journeys import people as p

pytestmark = pytest.mark.browser
LIST = "**/scheduling/day/list?*"


async def test_a_booking_announced_while_the_days_list_is_on_its_way_asks_for_the_list_once_more(house: House) -> None:
    doctor, desk = await house.page("doctor"), await house.page("reception")
    await p.registers(desk, "Hind", "Othman", "1970-01-02")
    await p.chooses_slot(desk, "Dr Nadia Rahmani")
    await doctor.goto("/scheduling/day")
    asked, told, answered = asyncio.Event(), asyncio.Event(), []

    async def arrives_late(route: Route) -> None:
        if asked.is_set():
            return await route.continue_()
        asked.set()
        answer = await route.fetch()
        await asyncio.wait_for(told.wait(), 60)
        await route.fulfill(response=answer)

    def finished(request: Request) -> None:
        if "/scheduling/day/list?" in request.url:
            answered.append(request.url)

    await doctor.route(LIST, arrives_late)
    doctor.on("requestfinished", finished)
    await doctor.evaluate("document.querySelector('#scheduling-day').was = 'here'")
    await doctor.evaluate(
        "document.body.addEventListener('live:scheduling.appointment', () => { globalThis.heard = true; })"
    )
    await doctor.evaluate(
        """() => {
          const panel = document.querySelector('#scheduling-day');
          htmx.ajax('GET', panel.getAttribute('hx-get'), { source: panel, swap: 'outerHTML' });
        }"""
    )
    await asyncio.wait_for(asked.wait(), 30)
    await p.books_video(desk, "Announced while the list is on its way")
    await doctor.wait_for_function("globalThis.heard === true")
    assert await doctor.evaluate("document.querySelector('#scheduling-day').was") == "here"
    told.set()
    await p.until(lambda: _several(answered), "the list is asked for once more")
    doctor.remove_listener("requestfinished", finished)
    await doctor.unroute(LIST)


async def test_an_answer_that_finds_its_place_taken_is_not_lost_the_panel_asks_once_more(house: House) -> None:
    doctor = await house.page("doctor")
    await doctor.goto("/scheduling/day")
    second, first_over, asked = asyncio.Event(), asyncio.Event(), []

    async def the_second_arrives_late(route: Route) -> None:
        asked.append(route.request.url)
        if len(asked) == 2:
            second.set()
            await asyncio.wait_for(first_over.wait(), 60)
        await route.continue_()

    await doctor.route(LIST, the_second_arrives_late)
    await doctor.evaluate(
        """() => {
          const panel = document.querySelector('#scheduling-day');
          panel.was = 'here';
          const path = panel.getAttribute('hx-get');
          htmx.ajax('GET', path, { source: panel, swap: 'outerHTML' });
          htmx.ajax('GET', path, { source: document.body, target: panel, swap: 'outerHTML' });
        }"""
    )
    await asyncio.wait_for(second.wait(), 30)
    await doctor.wait_for_function("document.querySelector('#scheduling-day').was !== 'here'")
    assert len(asked) == 2
    first_over.set()
    await p.until(lambda: _several(asked[1:]), "the list is asked for once more")
    await doctor.unroute(LIST)


async def _several(answered: list[str]) -> bool:
    return len(answered) > 1
