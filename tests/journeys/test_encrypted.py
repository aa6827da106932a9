"""A visit that is encrypted end to end, through the whole appliance: booked so, compared aloud, and never recorded."""

import re

import pytest
from playwright.async_api import Browser, expect

from tests.journeys import people as p
from tests.journeys.stack import Stack

BORN = "1991-07-02"


@pytest.mark.long
async def test_two_people_compare_the_code_of_a_visit_that_the_server_cannot_see(
    near: Browser, far: Browser, stack: Stack
) -> None:
    desk = await p.open_page(near, stack.base)
    await p.sign_in(desk, "desk@al-razi.example")
    await p.registers(desk, "Maryam", "Idrissi", BORN)
    await p.chooses_slot(desk, "Dr Nadia Rahmani")
    link = await p.books_video(desk, "In private", mode="telemedicine.encrypted")
    phone = await p.open_page(far, stack.far_base, phone=True, language="ar")
    await p.accepts_invitation(phone, link, BORN)
    await phone.wait_for_selector('[data-check="encryption"][data-tone="ok"]')
    await p.passes_device_check(phone)
    doctor = await p.open_page(near, stack.base)
    await p.sign_in(doctor, "dr.rahmani@al-razi.example")
    await p.opens_from_the_day(doctor, "Maryam Idrissi")
    await p.confirms_and_admits(doctor)
    for page in (doctor, phone):
        await p.sees_and_hears(page)
    codes = []
    for page in (doctor, phone):
        await page.click('[data-act="safety"]:visible')
        await expect(page.locator("[data-code]")).to_have_text(re.compile(r"^(\d{4} ){4}\d{4}$"))
        codes.append(await page.locator("[data-code]").text_content())
    assert codes[0] == codes[1]
    await phone.click('[data-act="same"]')
    await expect(phone.locator('.q-tm-safe [data-safe="safe-same"]')).to_be_visible()
    await expect(doctor.locator('[data-act="record"]')).to_be_hidden()
    await expect(doctor.locator(".q-tm-shot")).to_be_hidden()
    for page in (desk, phone, doctor):
        assert page.faults == []
