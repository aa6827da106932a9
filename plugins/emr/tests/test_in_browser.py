"""In Chromium: both texts of a conflict are offered, an entry is taken back from the chart, a phone opens the note."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Error as PlaywrightError
from playwright.async_api import Page, Route, async_playwright, expect

from qanun.web.security import COOKIES
from qanun_emr import service

CHROMIUM = "/usr/bin/chromium"
# Nothing is concluded from how long something took.
expect.set_options(timeout=30_000)
AXE = Path(__file__).parents[3] / "core" / "assets" / "node_modules" / "axe-core" / "axe.min.js"
FINDINGS = "axe.run().then(found => found.violations.map(one => `${one.id}: ${one.nodes[0].html}`))"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="Debian's chromium is not installed"),
]


@pytest_asyncio.fixture(loop_scope="session")
async def open_chart(server: str) -> AsyncIterator[Any]:
    """`await open_chart(clinic, visit)`: that chart, signed in as a doctor. Fails on a script error or a CSP violation."""
    faults: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])

        async def opened(clinic: Any, visit: Any, **window: Any) -> Page:
            context = await browser.new_context(**window)
            token = await clinic.staff_token("doctor")
            await context.add_cookies([{"name": COOKIES["staff"], "value": token, "url": server}])
            page = await context.new_page()
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("console", lambda line: faults.append(line.text) if "Security Policy" in line.text else None)
            await page.goto(f"{server}/emr/patients/{visit.patient.id}")
            return page

        yield opened
        await browser.close()
    assert faults == []


async def test_signing_an_outdated_text_offers_both_and_mine_can_be_kept(clinic, other_clinic, begin, open_chart):
    visit = await begin(clinic)
    page = await open_chart(clinic, visit)
    await visit.save(0, plan="What the colleague wrote.")
    await page.evaluate(
        "document.querySelector('#note-form').autosave.touch = () => {}"
    )  # the draft is not sent before
    await page.fill("#note-plan", "What I typed.")
    await page.click("#ws-note button[type=submit]")
    conflict = page.locator("#note-conflict")
    await expect(conflict).to_contain_text("What the colleague wrote.")
    await expect(page.locator("#note-plan")).to_have_value("What I typed.")
    assert (await visit.stored()).plan == "What the colleague wrote."
    await conflict.get_by_role("button", name="Keep mine").click()
    await expect(conflict).to_be_hidden()
    await expect(page.locator("#ws-note [data-save-text]")).to_contain_text("Saved")
    note = await visit.stored()
    assert (note.plan, note.version, note.signed_at) == ("What I typed.", 2, None)


async def test_theirs_can_be_taken_as_well(clinic, begin, open_chart):
    visit = await begin(clinic)
    page = await open_chart(clinic, visit)
    await visit.save(0, plan="What the colleague wrote.")
    await page.fill("#note-plan", "What I typed.")
    await page.locator("#note-conflict").get_by_role("button", name="Take theirs").click()
    await expect(page.locator("#note-plan")).to_have_value("What the colleague wrote.")
    await expect(page.locator("#ws-note [data-save-text]")).to_contain_text("Saved")
    assert (await visit.stored()).plan == "What the colleague wrote."


async def test_a_wrong_entry_is_taken_back_from_the_chart_with_its_reason(clinic, begin, open_chart):
    visit = await begin(clinic)
    async with clinic.context() as ctx:
        allergy = await service.record_allergy(ctx, visit.patient.id, {"substance": "Latex", "criticality": "high"})
        await service.record_vitals(ctx, visit.patient.id, {"heart_rate": "71"})
    page = await open_chart(clinic, visit)
    await page.click("summary[aria-label='Take back Latex']")
    await page.fill(f"#why-{allergy.id}", "   ")
    await page.click(f"form:has(#why-{allergy.id}) button")
    await expect(page.locator(f"form:has(#why-{allergy.id})")).to_contain_text("Say why this entry is wrong.")
    await page.fill(f"#why-{allergy.id}", "wrong patient")
    await page.click(f"form:has(#why-{allergy.id}) button")
    await expect(page.locator("#allergies")).to_contain_text("No known allergies recorded")
    await page.click(".q-wrong > summary")
    await page.click("summary[aria-label='Take back Heart rate']")
    await page.fill(".q-wrong .q-takeback[open] input", "mistyped")
    await page.click(".q-wrong .q-takeback[open] button")
    await expect(page.locator("#summary")).to_contain_text("No vital signs yet.")


async def test_an_allergy_recorded_while_an_older_summary_is_on_its_way_is_in_the_banner(clinic, begin, open_chart):
    visit = await begin(clinic)
    page = await open_chart(clinic, visit)
    saved, asked = asyncio.Event(), asyncio.Event()

    async def arrives_late(route: Route) -> None:
        if asked.is_set():
            return await route.continue_()
        asked.set()
        answer = await route.fetch()
        await asyncio.wait_for(saved.wait(), 60)
        with contextlib.suppress(PlaywrightError):  # the page may have given it up meanwhile
            await route.fulfill(response=answer)

    await page.route("**/summary", arrives_late)
    await page.evaluate("htmx.trigger('#summary', 'refresh')")
    await asyncio.wait_for(asked.wait(), 30)
    await page.click('.q-wsrail [data-toggle="ws-allergy"]')
    await page.fill("#a-substance", "Ibuprofen")
    await page.click("#ws-allergy button[type=submit]")
    await expect(page.locator("#ws-allergy")).to_contain_text("Saved")
    saved.set()
    await expect(page.locator("#allergies")).to_contain_text("Ibuprofen")
    await expect(page.locator("#summary [aria-labelledby=allergies-title]")).to_contain_text("Ibuprofen")


async def test_a_note_that_somebody_writes_is_not_fetched_anew_whatever_the_chart_was_told_before(clinic, open_chart):
    page = await open_chart(clinic, SimpleNamespace(patient=await clinic.patient()))
    begun, told, fetched = asyncio.Event(), asyncio.Event(), []

    async def answers_late(route: Route) -> None:
        answer = await route.fetch()
        begun.set()
        await asyncio.wait_for(told.wait(), 60)
        await route.fulfill(response=answer)

    await page.route("**/encounters", answers_late)
    page.on("request", lambda request: fetched.append(request.url) if "workspaces/note" in request.url else None)
    await page.click("#ws-note form[action$='/encounters'] button")
    await asyncio.wait_for(begun.wait(), 30)
    await page.evaluate("htmx.trigger('#ws-note', 'refresh')")
    told.set()
    await page.fill("#note-plan", "Typed at once.")
    before = len(fetched)
    await expect(page.locator("#ws-note [data-save-text]")).to_contain_text("Saved")
    assert len(fetched) == before
    await expect(page.locator("#note-plan")).to_have_value("Typed at once.")


async def test_on_a_phone_the_note_opens_over_the_chart_and_nothing_is_wider_than_the_screen(
    other_clinic, begin, open_chart
):
    visit = await begin(other_clinic)
    async with other_clinic.context() as ctx:
        await service.record_allergy(ctx, visit.patient.id, {"substance": "بنسلين", "criticality": "high"})
        await service.record_vitals(ctx, visit.patient.id, {"systolic": "118", "diastolic": "76", "spo2": "98"})
    page = await open_chart(other_clinic, visit, viewport={"width": 320, "height": 700})
    await expect(page.locator("#note-plan")).to_be_hidden()
    await page.click(".q-wsbar [data-sheet=ws-note]")
    await expect(page.locator("#note-plan")).to_be_visible()
    await page.fill("#note-plan", "سوائل وراحة")
    await expect(page.locator("#ws-note [data-save-text]")).to_contain_text("حُفظ")
    assert (await visit.stored()).plan == "سوائل وراحة"
    assert await page.evaluate("document.documentElement.scrollWidth") <= 320


async def test_a_full_chart_hides_none_of_its_lines_and_axe_finds_nothing(clinic, begin, open_chart):
    visit = await begin(clinic)
    async with clinic.context() as ctx:
        await service.record_allergy(ctx, visit.patient.id, {"substance": "Latex", "severity": "mild"})
        await service.record_vitals(ctx, visit.patient.id, {"systolic": "190", "diastolic": "76", "spo2": "98"})
        for number in range(30):
            await service.record_condition(ctx, visit.patient.id, {"text": f"Problem {number}", "onset": "2024"})
            await service.record_medication(ctx, visit.patient.id, {"text": f"Medicine {number}", "strength": "5 mg"})
    page = await open_chart(clinic, visit, viewport={"width": 1280, "height": 720})
    await page.click(".q-wrong > summary")
    await page.click(".q-wsrail [data-toggle=ws-vitals]")
    cut = "[...document.querySelectorAll('#summary .q-panel')].filter(one => one.scrollHeight > one.clientHeight + 1).length"
    assert await page.evaluate(cut) == 0
    if not AXE.exists():
        pytest.skip("the web assets are not built")
    await page.evaluate(AXE.read_text(encoding="utf-8"))
    assert await page.evaluate(FINDINGS) == []
