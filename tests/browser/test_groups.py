"""A group in real browsers: two patients with a chart each, who read of each other the name that each one chose."""

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.browser.house import BORN, DESK, PHONE, House, post, speak
from tests.journeys import people as p

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="session")]


async def looked_at(page: Page, name: str) -> None:
    """With QANUN_PICTURES, pictures in both languages and widths for a person to look at."""
    where = os.environ.get("QANUN_PICTURES")
    if not where:
        return
    for language in ("ar", "en"):
        if page.url.endswith(("/visits", "#")) or await page.locator('[data-running="true"]').count() == 0:
            await speak(page, language)
            await page.reload()
        for width, size in (("desk", DESK), ("phone", PHONE)):
            await page.set_viewport_size(size)
            await page.wait_for_timeout(500)
            await page.screenshot(path=Path(where) / f"{name}-{language}-{width}.png", full_page=True)
    await page.set_viewport_size(DESK)


async def test_a_group_is_planned_joined_and_led_with_a_chart_for_each(house: House) -> None:
    desk, doctor = await house.page("reception"), await house.page("doctor")
    for given, family in (("Amina", "Idrissi"), ("Youssef", "Tazi")):
        await p.registers(desk, given, family, BORN)
    await desk.goto("/telemedicine/groups/new")
    await desk.fill("[name=title]", "Living with diabetes")
    await desk.select_option("[name=practitioner]", label="Dr Nadia Rahmani")
    await looked_at(desk, "new-group")
    await desk.goto("/telemedicine/groups/new")
    await desk.fill("[name=title]", "Living with diabetes")
    await desk.select_option("[name=practitioner]", label="Dr Nadia Rahmani")
    # On a day on which the demonstration has nobody booked.
    day = (datetime.now(UTC) + timedelta(days=6)).date().isoformat()
    await desk.fill("[name=date]", day)
    await desk.click("main form button.btn-primary")
    await desk.wait_for_url(re.compile(r"/telemedicine/groups/[0-9a-f-]{36}$"))
    group = desk.url.removeprefix(house.stack.base)
    for given, family in (("Amina", "Idrissi"), ("Youssef", "Tazi")):
        await desk.fill("main [name=q]", f"{given} {family}")
        await desk.press("main [name=q]", "Enter")
        await desk.click("main form[action$='/patients'] button")
        await expect(desk.locator("#telemedicine-members")).to_contain_text(family)
    links = [
        re.sub(r"^https?://[^/]+", "", await one.input_value())
        for one in await desk.locator("[id^=tm-member-]").all()
    ]  # fmt: skip
    assert len(links) == 2
    await looked_at(desk, "group-planned")
    for page, path in ((desk, "/scheduling/desk"), (doctor, "/scheduling/day")):
        await page.goto(f"{path}?date={day}")
        await expect(page.locator('main a[href^="/telemedicine/appointments/"]')).to_have_text(
            re.compile("Living with")
        )
        await looked_at(page, path.rsplit("/", 1)[-1])
    phones = []
    for link, name, language in zip(links, ("Sunflower", "Y."), ("en", "ar"), strict=True):
        phone = await house.fresh(language)
        await p.accepts_invitation(phone, link, BORN)
        await speak(phone, language)
        await phone.reload()
        await phone.wait_for_selector('[data-check="network"][data-tone="ok"]')
        await expect(phone.locator('[data-do="enter"]')).to_be_disabled()
        if not phones:
            await looked_at(phone, "asked")
        await phone.fill("#shown-as", name)
        await phone.click("[data-together-form] button[type=submit]")
        await expect(phone.locator("[data-together-yes]")).to_be_visible()
        await p.passes_device_check(phone)
        await phone.set_viewport_size(PHONE)
        phones.append(phone)
    await doctor.goto(group)
    await expect(doctor.locator("#telemedicine-members .q-chip.warn")).to_have_count(2)
    await looked_at(doctor, "group-waiting")
    await doctor.goto(group)
    await doctor.click("form[action$='/begin'] button")
    call = doctor.locator("#telemedicine-call")
    for family, phone in (("Idrissi", phones[0]), ("Tazi", phones[1])):
        await doctor.goto(group)
        row = doctor.locator("#telemedicine-members li", has_text=family)
        await row.locator("a.btn").click()
        await doctor.wait_for_url("**/emr/patients/**")
        if await call.get_attribute("data-running") != "true" and await call.get_attribute("data-auto") is None:
            await doctor.click('[data-act="join"]')
        await p.confirms_and_admits(doctor)
        await expect(phone.locator("#telemedicine-call")).to_have_attribute("data-media", "connected", timeout=30_000)
        await expect(call).to_have_attribute("data-media", "connected", timeout=30_000)
    await expect(doctor.locator("[data-roster]")).to_contain_text("Amina Idrissi (Sunflower)")
    for phone, other in ((phones[0], "Y."), (phones[1], "Sunflower")):
        await expect(phone.locator(".q-tm-tile")).to_have_count(2, timeout=30_000)
        await expect(phone.locator(".q-tm-tile .name", has_text=other)).to_be_visible()
        text = await phone.content()
        assert not any(name in text for name in ({"Y.": ("Tazi", "Youssef"), "Sunflower": ("Idrissi", "Amina")}[other]))
        await p.sees_and_hears(phone)
    await looked_at(phones[0], "in-group")
    await looked_at(phones[1], "in-group-second")
    await looked_at(doctor, "chart-in-group")
    # From the call into the other one's chart: the call goes on there.
    await doctor.locator("[data-roster] a", has_text=re.compile(".")).first.click()
    await doctor.wait_for_url("**/emr/patients/**")
    await expect(call).to_have_attribute("data-media", "connected", timeout=30_000)
    await expect(doctor.locator('[data-act="record"]')).to_be_hidden()
    await doctor.goto(group)
    await expect(call).to_have_attribute("data-media", "connected", timeout=30_000)
    await looked_at(doctor, "group-running")
    # One picture, into the record of whom it shows.
    tile = doctor.locator(".q-tm-tile", has_text="Youssef")
    await tile.hover()
    await tile.locator(".q-tm-shot").click()
    await phones[1].click('[data-picture-answer="given"]')
    await expect(doctor.locator("#telemedicine-call [data-notice]")).to_contain_text("in the chart", timeout=20_000)
    # One goes, the others go on; then the end for everybody.
    first = await doctor.locator("#telemedicine-members li", has_text="Amina").locator("a.btn").get_attribute("href")
    await doctor.goto(str(first))
    await doctor.click(".q-tm-end summary")
    await doctor.click(".q-tm-end [data-end]")
    await doctor.wait_for_url(f"**{group}")
    await phones[0].wait_for_selector('[data-part="after"]:not([hidden])')
    await expect(phones[1].locator('[data-part="call"]')).to_be_visible()
    await expect(phones[1].locator(".q-tm-tile")).to_have_count(1, timeout=30_000)
    assert await post(doctor, f"{group}/end") == 0  # a redirection that is not followed
    await phones[1].wait_for_selector('[data-part="after"]:not([hidden])')
    # The page of the group goes to its end by itself.
    await expect(doctor.locator("#telemedicine-members .q-chip.ok")).to_have_count(2, timeout=20_000)
    await looked_at(doctor, "group-over")
    faults = [fault for page in (desk, doctor, *phones) for fault in page.faults]
    assert faults == []
