"""Several patients in the waiting room of one clinician, in real browsers: their order, messages to them, and the second let in first."""

import re

import pytest
from playwright.async_api import Page, expect

from tests.browser.house import BORN, PHONE, House, speak
from tests.journeys import people as p

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="session")]


async def in_the_waiting_room(house: House, desk: Page, given: str, family: str, language: str) -> Page:
    """Registered, booked with the doctor, and waiting on a phone."""
    await p.registers(desk, given, family, BORN)
    await p.chooses_slot(desk, "Dr Nadia Rahmani")
    link = re.sub(r"^https?://[^/]+", "", await p.books_video(desk, "Headache"))
    phone = await house.fresh(language)
    await p.accepts_invitation(phone, link, BORN)
    await speak(phone, language)
    await phone.reload()
    await phone.set_viewport_size(PHONE)
    await p.passes_device_check(phone)
    return phone


async def test_two_wait_both_are_written_to_and_the_second_is_let_in_first(house: House) -> None:
    desk, doctor = await house.page("reception"), await house.page("doctor")
    first = await in_the_waiting_room(house, desk, "Amina", "Idrissi", "ar")
    second = await in_the_waiting_room(house, desk, "Youssef", "Tazi", "en")
    await doctor.goto("/scheduling/day")
    rows = doctor.locator("#telemedicine-waiting li")
    await expect(rows).to_have_count(2)
    await expect(rows.nth(0)).to_contain_text("Idrissi")
    await expect(rows.nth(1)).to_contain_text("Tazi")
    await expect(second.locator("[data-position]")).to_contain_text("1")
    await expect(first.locator("[data-position]")).not_to_contain_text("1")
    # Both are written to at once, and each reads it in their language.
    await doctor.goto("/telemedicine/consultations")
    await doctor.click("details.q-tm-invite:has([action$='/waiting/notices']) > summary")
    await doctor.select_option("#tm-all-phrase", "late")
    await doctor.fill("#tm-all-minutes", "10")
    await doctor.click("form[action$='/waiting/notices'] [type=submit]")
    await expect(doctor.locator(".q-note.ok")).to_contain_text("2")
    for phone, word in ((first, "دقائق"), (second, "minutes")):
        await expect(phone.locator("[data-notices]")).to_contain_text(word)
        await expect(phone.locator("[data-notices]")).to_contain_text("10")
    # Who came second is let in first; who came first keeps waiting, and is next.
    await doctor.goto("/scheduling/day")
    await p.opens_from_the_day(doctor, "Tazi")
    await p.confirms_and_admits(doctor)
    await expect(second.locator('[data-part="call"]')).to_be_visible()
    await expect(second.locator("#telemedicine-call")).to_have_attribute("data-media", "connected")
    await expect(doctor.locator("#telemedicine-call")).to_have_attribute("data-media", "connected")
    await expect(first.locator('[data-part="waiting"]')).to_be_visible()
    await p.sees_and_hears(second)
    # A word to one of them is not the other's.
    await desk.goto("/telemedicine/consultations")
    await desk.locator("tr", has_text="Idrissi").locator("a.btn").click()
    await desk.click("#telemedicine-room details:has(form[action$='/notices']) > summary")
    await desk.select_option("#tm-note-phrase", "own")
    await desk.fill("#tm-note-text", "One moment, please")
    await desk.click("#telemedicine-room form[action$='/notices'] [type=submit]")
    await expect(first.locator("[data-notices]")).to_contain_text("One moment, please")
    assert "One moment" not in await second.content()
    # The first in turn, while the second's visit is over.
    await doctor.click(".q-tm-end summary")
    await doctor.click(".q-tm-end [data-end]")
    await second.wait_for_selector('[data-part="after"]:not([hidden])')
    await doctor.goto("/scheduling/day")
    await expect(rows).to_have_count(1)
    await p.opens_from_the_day(doctor, "Idrissi")
    await p.confirms_and_admits(doctor)
    await expect(first.locator("#telemedicine-call")).to_have_attribute("data-media", "connected")
    await p.sees_and_hears(first)
    assert "Tazi" not in await first.content() and "Idrissi" not in await second.content()
    assert [fault for page in (desk, doctor, first, second) for fault in page.faults] == []
