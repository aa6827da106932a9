"""A patient whose way out carries the sound alone: they are told, the doctor is told that the picture stands still, both end by
themselves. How narrow the way is, is said for the browser here; a truly narrow one is in the tests of the media server."""

import os
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.browser.house import House
from tests.browser.test_waiting import in_the_waiting_room
from tests.journeys import people as p

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="session")]

#: `room`: what the way out would carry, in bits per second, instead of what the browser reckons.
_SAID = """() => {
const real = RTCPeerConnection.prototype.getStats;
RTCPeerConnection.prototype.getStats = async function (...which) {
  const report = await real.apply(this, which);
  if (!window.room) return report;
  const said = (one) => (one.type === "candidate-pair" ? { ...one, availableOutgoingBitrate: window.room } : one);
  return new Map([...report].map(([id, one]) => [id, said(one)]));
};
}"""


async def test_who_is_heard_and_not_seen_is_told_so_and_so_is_who_looks_at_them(house: House) -> None:
    desk, doctor = await house.page("reception"), await house.page("doctor")
    phone = await in_the_waiting_room(house, desk, "Hind", "Bennani", "ar")
    await phone.evaluate(_SAID)
    await doctor.goto("/scheduling/day")
    await p.opens_from_the_day(doctor, "Bennani")
    await p.confirms_and_admits(doctor)
    for page in (phone, doctor):
        await expect(page.locator("#telemedicine-call")).to_have_attribute("data-media", "connected")
    await p.sees_and_hears(phone)
    await p.sees_and_hears(doctor)
    notice, still = phone.locator("[data-notice]"), doctor.locator(".q-tm-tile .still")
    await expect(notice).to_be_hidden()
    await expect(still).to_have_count(0)
    await phone.evaluate("window.room = 50000")
    await expect(notice).to_contain_text("يسمعونك", timeout=15_000)
    await expect(still).to_have_text("The picture stands still", timeout=15_000)
    if folder := os.environ.get("QANUN_PICTURES"):
        await phone.screenshot(path=Path(folder) / "narrow-phone.png")
        await doctor.screenshot(path=Path(folder) / "narrow-doctor.png")
    await phone.evaluate("window.room = 2000000")
    await expect(notice).to_be_hidden(timeout=30_000)
    await expect(still).to_have_count(0, timeout=30_000)
    assert [fault for page in (desk, doctor, phone) for fault in page.faults] == []
