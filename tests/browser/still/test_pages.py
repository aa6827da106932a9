"""Every page that keeps still, in English and Arabic and every size; and that what is wrong with a page is found."""

from __future__ import annotations

import pytest

from tests.browser import reading
from tests.browser.house import House, Place
from tests.browser.inspection import holds
from tests.browser.still.places import PLACES

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
async def test_a_page_holds_in_both_languages_and_every_size(house: House, place: Place) -> None:
    await holds(house, place)


async def test_a_broken_page_does_not_pass(house: House) -> None:
    """The reading itself is proven: each of its findings is found when it is there."""
    page = await house.page("", "ar")
    await page.goto("/sign-in")
    await page.evaluate(
        """() => document.querySelector('main').insertAdjacentHTML('beforeend',
          '<p id="a">من 3.5-5.0</p><p>النتيجة -1.5</p><p><bdi>09:00</bdi>–<bdi>10:00</bdi></p><p>Records, appointments and no translation</p><img src="/x"><div id="w">.</div>')"""
    )
    assert any("displayed in another order: 3.5-5.0" in one for one in await reading.out_of_order(page))
    assert any("bare" in one and "-1.5" in one for one in await reading.out_of_order(page))
    assert "two values beside a dash: 09:00–10:00" in await reading.out_of_order(page)
    assert any(one.startswith("image-alt") for one in await reading.axe(page))
    sentence = "Records, appointments and no translation"
    assert sentence in reading.untranslated(await reading.words(page), [(sentence, False)], set())
    await page.evaluate("document.getElementById('w').style.cssText = 'inline-size: 3000px; block-size: 5px'")
    assert await reading.too_wide(page)
    await page.goto("/sign-in")
    await reading.faults_of(page)
