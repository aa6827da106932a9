"""What is said, kept on request, in real browsers with a real ear: the question, what everybody sees while it is kept, the way to
stop it, and the document in the chart. Only the clinic's speech server is a twin, which understands the same in every sound."""

import json
import threading
from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.browser.house import PHONE, House, opened, speak

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="session")]
SAID = "My head aches since Monday"


class SpeechServer(BaseHTTPRequestHandler):
    """OpenAI's audio API, as whisper.cpp speaks it."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps({"text": SAID}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest_asyncio.fixture(loop_scope="session")
async def listening_house(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    """An appliance whose clinic has a speech server of its own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), SpeechServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("QANUN_CAPTIONS", f"http://127.0.0.1:{server.server_port}/v1")
    try:
        async with opened(5) as house:
            yield house
    finally:
        server.shutdown()


async def on_top(page: Page, selector: str) -> bool:
    """Whether it is seen, and nothing lies over it."""
    await expect(page.locator(selector)).to_be_visible()
    return bool(
        await page.locator(selector).evaluate(
            """(one) => {
              const { left, top, width, height } = one.getBoundingClientRect();
              const inside = left >= 0 && top >= 0 && left + width <= innerWidth && top + height <= innerHeight;
              return inside && [0.1, 0.5, 0.9].every((part) => one.contains(document.elementFromPoint(left + width * part, top + height / 2)));
            }"""
        )
    )


async def test_what_is_said_is_kept_where_everybody_sees_it_and_is_read_in_the_chart(listening_house: House) -> None:
    house = listening_house
    await house.admitted()
    doctor, patient = await house.page("doctor"), await house.page("patient")
    await speak(patient, "ar")
    await patient.goto(await house.visit())
    await patient.wait_for_selector('[data-part="check"]:not([hidden]), [data-part="call"]:not([hidden])')
    if await patient.locator('[data-part="check"]').is_visible():
        await patient.click('[data-do="enter"]:not([disabled])')
    await expect(patient.locator("#telemedicine-call")).to_have_attribute("data-media", "connected")
    await doctor.goto(await house.chart())
    if await doctor.locator("#telemedicine-call").get_attribute("data-auto") is None:
        await doctor.click('[data-act="join"]')
    await expect(doctor.locator("#telemedicine-call")).to_have_attribute("data-media", "connected")
    await patient.set_viewport_size(PHONE)
    await doctor.click('[data-act="transcript"]')
    assert await on_top(patient, '[data-transcript-answer="refused"]')
    await expect(doctor.locator("[data-transcript]")).to_contain_text("once everybody has agreed")
    await expect(patient.locator("[data-caption] p")).to_have_count(0)
    await patient.click('[data-transcript-answer="given"]')
    # Both see that it is kept, and how to stop it, also under the lines of what is said.
    for page in (doctor, patient):
        await expect(page.locator("[data-caption] p").first).to_contain_text(SAID)
        for selector in ("[data-transcript]", "[data-transcript-stop]", "[data-captions-mine]"):
            assert await on_top(page, f"#telemedicine-call {selector}"), selector
    for button in await doctor.locator("#telemedicine-call .q-ctl button:visible").all():
        fits = "(one) => { const box = one.closest('.q-call').getBoundingClientRect(), me = one.getBoundingClientRect(); return me.right <= box.right && me.left >= box.left && one.scrollWidth <= one.clientWidth; }"
        assert await button.evaluate(fits), await button.inner_text()
    await doctor.click('[data-act="transcript"]')
    await expect(patient.locator("[data-transcript]")).to_be_hidden()
    await house.ended()
    # The chart that is open goes to its state afterwards by itself.
    await expect(doctor.locator("#telemedicine-call")).to_have_count(0)
    await doctor.locator("a[href*='/transcripts/']").first.click()
    await expect(doctor.locator("main")).to_contain_text(SAID)
    await patient.goto(await house.visit() + "/recording")
    await patient.locator("a[href*='/transcripts/']").first.click()
    await expect(patient.locator("main")).to_contain_text(SAID)
    assert [fault for page in (doctor, patient) for fault in page.faults] == []
