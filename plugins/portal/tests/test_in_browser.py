"""In Chromium on the smallest phone, in both directions: nothing is cut off, axe finds nothing, the policy is kept."""

from pathlib import Path
from uuid import UUID

import pytest
from playwright.async_api import async_playwright

from qanun.web.security import COOKIES, LANGUAGE_COOKIES

CHROMIUM = "/usr/bin/chromium"
AXE = Path(__file__).parents[3] / "core" / "assets" / "node_modules" / "axe-core" / "axe.min.js"
FINDINGS = "axe.run().then(found => found.violations.map(one => `${one.id}: ${one.nodes[0].html}`))"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="Debian's chromium is not installed"),
    pytest.mark.skipif(not AXE.exists(), reason="the web assets are not built"),
]


async def test_every_page_fits_the_smallest_phone_in_both_directions(clinic, other_clinic, server):
    patient = await clinic.patient(
        given="Abdelrahmane-Mohammed", family="Bensouda El Alaoui", email=f"{'l' * 40}@example.org"
    )
    async with clinic.context() as ctx:
        made = await ctx.records.create(
            "Encounter",
            {"subject": {"reference": f"Patient/{patient.id}"}, "reasonCode": [{"text": "Blood pressure review " * 4}]},
        )
        ctx.audit("emr.chart.read", patient_id=patient.id)
    async with clinic.context() as ctx:
        await ctx.records.update("Encounter", UUID(made["id"]), {"status": "finished"})
    faults: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for language, direction in (("en", "ltr"), ("ar", "rtl")):
            context = await browser.new_context(viewport={"width": 320, "height": 640})
            token = await clinic.portal_token(patient)
            await context.add_cookies(
                [
                    {"name": COOKIES["portal"], "value": token, "url": server},
                    {"name": LANGUAGE_COOKIES["portal"], "value": language, "url": server},
                ]
            )
            page = await context.new_page()
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
            for path in ("", "/visits", "/record", "/me", f"/encounters/{made['id']}"):
                await page.goto(f"{server}/portal/{clinic.tenant.slug}{path}")
                assert await page.evaluate("document.documentElement.dir") == direction
                assert await page.evaluate("document.documentElement.scrollWidth") <= 320, (language, path)
                await page.evaluate(AXE.read_text(encoding="utf-8"))
                assert await page.evaluate(FINDINGS) == [], (language, path)
        await browser.close()
    assert faults == []
