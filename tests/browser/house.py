"""One running appliance with its demonstration clinics, and a browser window for every person and language in it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.journeys import people as p
from tests.journeys.stack import Stack

CHROMIUM = "/usr/bin/chromium"
#: Chromium's own picture and tone for camera and microphone: no file of anybody else's. At ten pictures a second a visit costs
#: little more than half of what it does at thirty.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream=fps=10",
]
DESK, PHONE, SMALLEST = ({"width": 1440, "height": 900}, {"width": 390, "height": 844}, {"width": 320, "height": 640})
CLINIC = "al-razi"
LOGINS = {
    "doctor": "dr.rahmani@al-razi.example",
    "reception": "desk@al-razi.example",
    "administrator": "admin@al-razi.example",
    "patient": "patient@al-razi.example",
}
BORN = "1988-03-14"
#: Nothing is concluded from how long something took: what comes at last on a busy machine has come.
PATIENCE_MS = 60_000


@dataclass
class House:
    """`await house.page(who, language)` is that person's window; `who` is empty for nobody signed in."""

    stack: Stack
    browser: Browser
    windows: dict[tuple[str, str], Page] = field(default_factory=dict)
    #: Addresses that were made once: the demonstration patient's chart, a chart without anything, an invitation.
    found: dict[str, str] = field(default_factory=dict)

    async def page(self, who: str, language: str = "en") -> Page:
        if (who, language) not in self.windows:
            page = await self.fresh(language)
            if who:
                await p.sign_in(page, LOGINS[who], CLINIC if who == "patient" else "")
            else:
                await page.goto("/sign-in")
            await speak(page, language)
            self.windows[who, language] = page
        return self.windows[who, language]

    async def fresh(self, language: str = "en") -> Page:
        """A window of nobody's. `page.faults` collects what goes wrong: errors, refusals of the policy, failed requests."""
        context = await self.browser.new_context(
            base_url=self.stack.base, viewport=DESK, locale=language, reduced_motion="reduce", permissions=["clipboard-write"]
        )  # fmt: skip
        context.set_default_timeout(PATIENCE_MS)
        page = await context.new_page()
        faults: list[str] = []
        page.faults = faults  # type: ignore[attr-defined]
        page.on("pageerror", lambda error: page.faults.append(f"script: {error}"))  # type: ignore[attr-defined]
        page.on("console", lambda line: page.faults.append(f"console: {line.text}") if _is_fault(line) else None)  # type: ignore[attr-defined]
        page.on(
            "requestfailed", lambda request: page.faults.append(f"failed: {request.url}") if _failed(request) else None
        )  # type: ignore[attr-defined]
        page.on(
            "response",
            lambda answer: page.faults.append(f"{answer.status}: {answer.url}") if _refused(answer) else None,
        )  # type: ignore[attr-defined]
        return page

    # --- what is made once ---------------------------------------------------------------------------------------------

    async def chart(self, *, begin: bool = True) -> str:
        """The chart of the demonstration patient, who has problems, medicines, allergies, visits and an open note."""
        if "chart" not in self.found:
            doctor = await self.page("doctor")
            answer = await doctor.request.get(f"{self.stack.base}/search?q=Layla%20Haddad")
            hits = [hit["href"] for group in (await answer.json())["groups"] for hit in group["hits"]]
            self.found["chart"] = next(href for href in hits if "/emr/patients/" in href)
            if begin:
                await post(doctor, f"{self.found['chart']}/encounters")
        return self.found["chart"]

    async def empty_chart(self) -> str:
        await self.registered()
        return self.found["empty"]

    async def registered(self) -> None:
        """Reception registers somebody, books a video visit and has the link in hand."""
        if "invitation" in self.found:
            return
        desk = await self.page("reception")
        await p.registers(desk, "Salma", "Zerhouni", BORN, given_alt="سلمى", family_alt="زرهوني")
        found = re.search(r"patient=([0-9a-f-]{36})", desk.url)
        assert found is not None
        self.found["patient"] = f"/scheduling/desk?patient={found[1]}"
        self.found["empty"] = f"/emr/patients/{found[1]}"
        await p.chooses_slot(desk, "Dr Nadia Rahmani")
        link = await p.books_video(desk, "Headache since Monday")
        self.found["invitation"] = re.sub(r"^https?://[^/]+", "", link)
        self.found["appointment"] = desk.url.removeprefix(self.stack.base)

    async def visit(self) -> str:
        """The demonstration patient's coming video visit."""
        if "visit" not in self.found:
            patient = self.windows.get(("patient", "ar")) or await self.page("patient")
            await patient.goto(f"/portal/{CLINIC}")
            found = await patient.locator(".q-hero a[href*='/visits/']").get_attribute("href")
            assert found
            self.found["visit"] = found
        return self.found["visit"]

    async def consultation(self) -> str:
        return f"/telemedicine/consultations/{(await self.visit()).rsplit('/', 1)[1]}"

    async def admitted(self) -> None:
        """The doctor has confirmed and admitted the demonstration patient, who waited."""
        if "admitted" not in self.found:
            waiting = await self.page("patient")
            await waits(waiting, await self.visit())
            doctor, consultation = await self.page("doctor"), await self.consultation()
            await doctor.goto(await self.chart())
            chips = doctor.locator("#telemedicine-chips")
            await expect(chips).to_contain_text("Waits for the video visit")
            both = {"how-name": "said", "how-birth-date": "shown", "outcome": "confirmed"}
            identifiers = [["identifier", "name"], ["identifier", "birth-date"]]
            await post(doctor, f"{consultation}/identity", [*identifiers, *both.items()])
            await post(doctor, f"{consultation}/admit")
            # The chart that is open says so by itself.
            await expect(chips).to_contain_text("Video visit since")
            await expect(chips).not_to_contain_text("Waits")
            self.found["admitted"] = consultation

    async def guest_link(self, name: str, role: str = "interpreter") -> str:
        """The path of a fresh guest's link to the demonstration patient's visit."""
        doctor, guests = await self.page("doctor"), f"{await self.consultation()}/guests"
        assert await post(doctor, guests, {"name": name, "role": role}) in (0, 200, 303)
        answer = await doctor.request.get(self.stack.base + guests)
        found = re.findall(r'data-copy="[^"]*?(/guest/[^"]+/i/[^"]+)"', await answer.text())
        return str(found[-1])

    async def recorded(self) -> None:
        """Doctor and patient are in the call in their English windows, and agreed to its recording, which runs."""
        if "recorded" in self.found:
            return
        assert "ended" not in self.found, "what is over is not recorded any more"
        await self.admitted()
        doctor, patient = await self.page("doctor"), await self.page("patient")
        await patient.goto(await self.visit())
        await patient.wait_for_selector('[data-part="check"]:not([hidden]), [data-part="call"]:not([hidden])')
        if await patient.locator('[data-part="check"]').is_visible():
            await patient.click('[data-do="enter"]:not([disabled])')
        await expect(patient.locator("#telemedicine-call")).to_have_attribute("data-running", "true")
        await doctor.goto(await self.chart())
        call = doctor.locator("#telemedicine-call")
        await expect(call).to_have_attribute("data-state", "in-progress")
        if await call.get_attribute("data-auto") is None:
            await doctor.click('[data-act="join"]')
        await expect(call).to_have_attribute("data-running", "true")
        await doctor.click('[data-act="record"]')
        for one in (doctor, patient):
            await one.click('[data-consent] [data-answer="given"]')
        for one in (doctor, patient):
            await expect(one.locator('[data-recording="recording"]')).to_be_visible()
        await doctor.wait_for_timeout(4000)
        self.found["recorded"] = "1"

    async def group(self) -> None:
        """Two guests are in the call of the demonstration patient; one asks to speak, one is muted."""
        await self.admitted()
        doctor, consultation = await self.page("doctor"), await self.consultation()
        for number, (name, role) in enumerate((("Nadir Haddad", "relative"), ("Amal Tazi", "interpreter"))):
            if (f"guest-{number}", "en") in self.windows:
                continue
            page = self.windows[f"guest-{number}", "en"] = await self.fresh()
            link = await self.guest_link(name, role)
            await page.goto(link)
            await page.click("main form button.btn-primary")
            await waits(page, page.url)
            admit: list[str] = []
            while not admit:
                shown = await (await doctor.request.get(f"{self.stack.base}{consultation}/guests")).text()
                mine = [line for line in shown.split("<li>") if name in line and "/admit" in line]
                admit = re.findall(r'action="([^"]+/admit)"', "".join(mine))
            await post(doctor, admit[0], {"way": "vouched"})
            await expect(page.locator("#telemedicine-call")).to_have_attribute("data-running", "true")
            # Only who is in the call raises a hand.
            await expect(page.locator("#telemedicine-call")).to_have_attribute("data-media", "connected")
            if "recorded" in self.found:
                await page.click('[data-consent] [data-answer="given"]')
            if number == 0:
                # Shown from three people on, and who comes first is alone.
                await page.evaluate("document.querySelector('[data-group-act=hand]').click()")
            else:
                await page.click('[data-act="mute"]')

    async def question(self) -> str:
        """The id of a question in writing that the demonstration patient asked."""
        if "question" not in self.found:
            patient = self.windows.get(("patient", "ar")) or await self.page("patient")
            await patient.goto(f"/portal/{CLINIC}/written")
            await patient.select_option("#practitioner", index=0)
            await patient.fill("#text", "هل هذا الطفح من الأقراص الجديدة؟")
            await patient.click("main form button.btn-primary")
            await patient.wait_for_url("**/written/*")
            self.found["question"] = patient.url.rsplit("/", 1)[1]
        return self.found["question"]

    async def ended(self) -> None:
        await self.admitted()
        if "ended" not in self.found:
            await post(await self.page("doctor"), f"{await self.consultation()}/end")
            self.found["ended"] = "1"


@asynccontextmanager
async def opened(patients: int, *needed: Path) -> AsyncIterator[House]:
    """An appliance of its own with its demonstration data, and one browser; skips where a program it needs is not installed."""
    for program in (Path(CHROMIUM), *needed):
        if not program.exists():
            pytest.skip(f"{program.name} is not installed")
    stack = Stack()
    try:
        await stack.start(patients=patients)
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            yield House(stack, browser)
            await browser.close()
    finally:
        await stack.stop()


def _is_fault(line: Any) -> bool:
    return (
        line.type == "error" and "Failed to load resource" not in line.text
    )  # what failed is told by the answer itself


def _failed(request: Any) -> bool:
    return "ERR_ABORTED" not in (request.failure or "")  # a page that is left ends what it was loading


def _refused(answer: Any) -> bool:
    return answer.status >= 400 and not answer.request.is_navigation_request()


async def speak(page: Page, language: str) -> None:
    here = re.sub(r"^https?://[^/]+", "", page.url)
    await post(page, "/language", {"language": language, "back": here})


async def post(page: Page, path: str, values: Any = None) -> int:
    """Send a form as the page's own person; the status of the answer, redirects not followed."""
    pairs = list(values.items()) if isinstance(values, dict) else [list(pair) for pair in values or []]
    return int(
        await page.evaluate(
            """async ([path, pairs]) => (await fetch(path, { method: 'POST', body: new URLSearchParams(pairs), redirect: 'manual' })).status""",
            [path, pairs],
        )
    )


async def waits(page: Page, visit: str) -> None:
    """A patient goes through the device check into the waiting room, or is there already."""
    await page.goto(visit)
    await page.wait_for_selector("#visit:not([data-step=''])")
    if await page.locator('[data-part="check"]').is_visible():
        await p.passes_device_check(page)
    await page.wait_for_selector('[data-part="waiting"]:not([hidden])')


async def submit(page: Page, path: str, values: dict[str, str]) -> None:
    """Send a form as the browser itself does: the answer is the page that is shown then."""
    async with page.expect_navigation():
        await page.evaluate(
            """([path, values]) => {
              const form = Object.assign(document.createElement('form'), { method: 'post', action: path });
              for (const [name, value] of Object.entries(values)) form.append(Object.assign(document.createElement('input'), { type: 'hidden', name, value }));
              document.body.append(form);
              form.submit();
            }""",
            [path, values],
        )


async def sends_gravely(page: Page, button: str, goes_on: str) -> None:
    """Press a button that may ask who it is once more, which is so five minutes after the sign-in; then `goes_on` is seen."""
    await page.click(button)
    asked, there = page.locator("dialog#confirm[open]"), page.locator(goes_on).first
    await asked.or_(there).first.wait_for()
    if await asked.is_visible():
        await page.fill("#confirm-password", p.PASSWORD)
        await page.press("#confirm-password", "Enter")
    await there.wait_for()


Opens = Callable[[House, Page], Awaitable[None]]


@dataclass(frozen=True)
class Place:
    """A page in one of its states: who sees it, which route it is of, and how they come there."""

    name: str
    who: str
    #: As the matrix of routes writes it. Empty when a form's answer is shown, which has no address of its own.
    route: str
    open: Opens
    dark: bool = False


def at(name: str, who: str, path: str, route: str = "", *, dark: bool = False) -> Place:
    """A place that is reached by its address alone."""

    async def go(house: House, page: Page) -> None:
        await page.goto(path)

    return Place(name, who, route or re.sub(rf"^/(portal|guest)/{CLINIC}(?=/|$)", r"/\1/{clinic:str}", path), go, dark)
