"""The pages of one call from its waiting room to its deletion, in English and Arabic and every size."""

from __future__ import annotations

import pytest

from tests.browser.house import House, Place, submit
from tests.browser.inspection import holds, refuses
from tests.browser.story.places import PLACES

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
async def test_a_page_holds_in_both_languages_and_every_size(house: House, place: Place) -> None:
    await holds(house, place)


@pytest.mark.parametrize("language", ["en", "ar"])
async def test_what_changed_meanwhile(house: House, language: str) -> None:
    """The visit is over: nobody is confirmed in it any more."""
    await house.ended()
    page = await house.page("doctor", language)
    await page.goto(await house.consultation())
    both = {"identifier": "name", "outcome": "mismatch", "note": "Another face."}
    await submit(page, f"{await house.consultation()}/identity", both)
    await refuses(page, language, 409)
