"""What each person of a journey does with the screen, in their own words; and what can be measured of a call from outside."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

from playwright.async_api import Browser, Page

PASSWORD = "open sesame demo"
PATIENCE_S = 45.0

_FIGURES = """async () => {
  const call = document.getElementById('telemedicine-call')?.call ?? document.getElementById('visit')?.call;
  const session = call?.session;
  const out = { frames: 0, frozen: 0, samples: 0, energy: 0, state: session?.state ?? 'none', pair: null };
  const report = await session?.peerConnection?.getStats();
  const all = new Map();
  report?.forEach((one) => all.set(one.id, one));
  for (const one of all.values()) {
    if (one.type === 'inbound-rtp' && one.kind === 'video') { out.frames += one.framesDecoded ?? 0; out.frozen += one.totalFreezesDuration ?? 0; }
    if (one.type === 'inbound-rtp' && one.kind === 'audio') { out.samples += (one.totalSamplesReceived ?? 0) - (one.concealedSamples ?? 0); out.energy += one.totalAudioEnergy ?? 0; }
    if (one.type === 'transport' && one.selectedCandidatePairId) {
      const local = all.get(all.get(one.selectedCandidatePairId)?.localCandidateId);
      out.pair = local ? { type: local.candidateType, way: local.relayProtocol ?? local.protocol } : null;
    }
  }
  return out;
}"""


def only(way: str) -> str:
    """Leaves a browser the relay by this way alone (`udp` or `tcp`), as a network does that lets nothing else through."""
    return """{
  const Real = RTCPeerConnection;
  globalThis.RTCPeerConnection = class extends Real {
    constructor(settings = {}) {
      const servers = (settings.iceServers ?? []).map((one) => ({ ...one, urls: [one.urls].flat().filter((url) => url.includes('transport=WAY')) }));
      super({ ...settings, iceServers: servers });
    }
  };
}""".replace("WAY", way)


async def until(condition: Callable[[], Awaitable[Any]], what: str, patience: float = PATIENCE_S) -> Any:
    """Wait until `condition` gives something true; fails with `what` when it never does."""
    deadline = asyncio.get_running_loop().time() + patience
    while True:
        value = await condition()
        if value:
            return value
        assert asyncio.get_running_loop().time() < deadline, f"waited in vain: {what}"
        await asyncio.sleep(0.2)


async def open_page(browser: Browser, base: str, *, phone: bool = False, language: str = "en") -> Page:
    """A page of a person's own: nothing is shared with anybody else's. `page.faults` collects what went wrong in it."""
    size = {"width": 390, "height": 844} if phone else {"width": 1440, "height": 900}
    context = await browser.new_context(base_url=base, viewport=size, locale=language, has_touch=phone)
    context.set_default_timeout(PATIENCE_S * 1000)
    page = await context.new_page()
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on(
        "console",
        lambda message: page.faults.append(message.text) if "Content Security Policy" in message.text else None,
    )
    return page


async def sign_in(page: Page, login: str, clinic: str = "") -> None:
    """Staff at the way in; with `clinic`, a patient at its portal."""
    await page.goto(f"/portal/{clinic}/sign-in" if clinic else "/sign-in")
    await page.fill("[name=login]" if clinic else "[name=email]", login)
    await page.fill("[name=password]", PASSWORD)
    await page.press("[name=password]", "Enter")
    await page.wait_for_url(lambda url: "sign-in" not in url)


# --- reception ---------------------------------------------------------------------------------------------------------


async def registers(desk: Page, given: str, family: str, born: str, **more: str) -> None:
    await desk.goto("/scheduling/desk")
    await desk.click("details.q-sc-register > summary")
    for name, text in {"given": given, "family": family, "birth_date": born, **more}.items():
        await desk.fill(f"#register [name={name}]", text)
    await desk.select_option("#register [name=sex]", "female")
    await desk.select_option("#register [name=language]", "ar")
    await desk.click("#register button[type=submit]")
    await desk.wait_for_url(re.compile(r"patient=[0-9a-f-]{36}"))


async def chooses_slot(desk: Page, doctor: str) -> str:
    """The first free slot of `doctor`, today or, late in the day, tomorrow."""
    for _ in range(3):
        free = desk.locator(f'input[name=slot][data-slot-text^="{doctor}"]')
        if await free.count():
            await free.first.check(force=True)
            return str(await free.first.input_value())
        current = desk.locator("table.q-week td.on + td a").first
        await current.click()
        await desk.wait_for_load_state("networkidle")
    raise AssertionError(f"{doctor} has no free slot")


async def books_video(desk: Page, reason: str, *, mode: str = "telemedicine.video") -> str:
    """Books what is chosen as a video visit; returns the patient's link."""
    await desk.check(f'#book [name=visit_mode][value="{mode}"]', force=True)
    await desk.fill("#book [name=reason]", reason)
    await desk.click("#book button[type=submit]")
    link = desk.locator("[id^=tm-link-]")
    await link.wait_for()
    return str(await link.input_value())


# --- the patient -------------------------------------------------------------------------------------------------------


async def accepts_invitation(phone: Page, link: str, born: str) -> None:
    await phone.goto(re.sub(r"^https?://[^/]+", "", link))
    await phone.fill("[name=birth_date]", born)
    await phone.fill("[name=password]", PASSWORD)
    await phone.press("[name=password]", "Enter")
    await phone.wait_for_selector('[data-part="check"]:not([hidden])')


async def passes_device_check(phone: Page) -> None:
    await phone.wait_for_selector('[data-check="camera"][data-tone="ok"]')
    await phone.wait_for_selector('[data-check="microphone"][data-tone="ok"]')
    await phone.wait_for_selector('[data-check="network"][data-tone="ok"]')
    await phone.click('[data-do="enter"]:not([disabled])')
    await phone.wait_for_selector('[data-part="waiting"]:not([hidden])')


# --- the doctor --------------------------------------------------------------------------------------------------------


async def opens_from_the_day(doctor: Page, name: str) -> None:
    """The day says by itself who waits; from there into the chart."""
    row = doctor.locator("#telemedicine-waiting li", has_text=name)
    await row.locator("a").click(timeout=PATIENCE_S * 1000)
    await doctor.wait_for_selector("#telemedicine-call")


async def confirms_and_admits(doctor: Page) -> None:
    for identifier in ("name", "birth-date"):
        await doctor.check(f'[name=identifier][value="{identifier}"]')
    await doctor.click("[name=outcome][value=confirmed]")
    await doctor.click("form[data-admit] button")


async def writes(doctor: Page, part: str, text: str) -> None:
    await doctor.fill(f"#note-{part}", text)


async def saved(doctor: Page) -> None:
    await doctor.wait_for_selector('#note-form[data-save-state="saved"]', timeout=PATIENCE_S * 1000)


# --- the call ----------------------------------------------------------------------------------------------------------


async def figures(page: Page) -> dict[str, Any]:
    return dict(await page.evaluate(_FIGURES))


async def sees_and_hears(page: Page, frames: int = 30) -> dict[str, Any]:
    """Wait until so many more pictures are decoded and sound with energy in it arrives."""
    before = await figures(page)

    async def grown() -> dict[str, Any] | None:
        now = await figures(page)
        # A connection made anew counts from zero.
        base = before if now["frames"] >= before["frames"] else {"frames": 0, "samples": 0, "energy": 0}
        more = now["frames"] >= base["frames"] + frames and now["samples"] > base["samples"] + 9600
        return now if more and now["energy"] > base["energy"] else None

    try:
        return dict(await until(grown, "pictures and sound arrive"))
    except AssertionError:
        print(page.url, before, await figures(page), page.faults, flush=True)
        raise


async def says(page: Page, text: str) -> None:
    if await page.locator("[data-chat]").is_hidden():
        await page.click('[data-act="chat"]:visible')
    await page.fill("[data-say] [name=text]", text)
    await page.press("[data-say] [name=text]", "Enter")


async def reads(page: Page, text: str) -> None:
    await page.wait_for_function(
        "text => document.querySelector('[data-log]')?.textContent.includes(text)", arg=text, timeout=PATIENCE_S * 1000
    )
