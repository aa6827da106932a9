"""The device check in Firefox, which does not say what a way would carry: a camera in the dark is no weak network."""

import asyncio
import json
import re
from pathlib import Path

import pytest

from tests.browser.firefox import BINARY, Firefox
from tests.browser.house import BORN, House
from tests.journeys import people as p

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="session")]

#: Before the page's own scripts: whoever asks for a camera gets one that sees nothing.
_DARK = """() => {
  const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (wanted) => {
    const stream = await real(wanted);
    for (const track of stream.getVideoTracks()) {
      const canvas = Object.assign(document.createElement("canvas"), { width: 640, height: 360 });
      const brush = canvas.getContext("2d");
      setInterval(() => brush.fillRect(0, 0, 640, 360), 100);
      stream.removeTrack(track);
      track.stop();
      stream.addTrack(canvas.captureStream(10).getVideoTracks()[0]);
    }
    return stream;
  };
}"""
_ACCEPT = """([born, password]) => {
  document.querySelector("[name=birth_date]").value = born;
  document.querySelector("[name=password]").value = password;
  document.querySelector("[name=password]").form.requestSubmit();
}"""


async def test_a_camera_in_the_dark_is_not_called_a_weak_network(house: House) -> None:
    if not Path(BINARY).exists():
        pytest.skip("firefox-esr is not installed")
    desk = await house.page("reception")
    await p.registers(desk, "Salma", "Bennani", BORN)
    await p.chooses_slot(desk, "Dr Nadia Rahmani")
    link = re.sub(r"^https?://[^/]+", "", await p.books_video(desk, "Headache"))
    async with Firefox() as firefox:
        await firefox.command("script.addPreloadScript", functionDeclaration=_DARK)
        phone = await firefox.page(f"{house.stack.base}{link}")
        await phone.evaluate(_ACCEPT, [BORN, p.PASSWORD])
        async with asyncio.timeout(60):
            while await phone.evaluate("document.querySelector('[data-check=network]')?.dataset.tone ?? 'ask'") in {
                "ask",
                "",
            }:
                await asyncio.sleep(0.3)
        trip = json.loads(await phone.evaluate("document.querySelector('[data-trip]').dataset.trip"))
        assert trip["kbit"] < 150 < trip["room"], trip
        assert await phone.evaluate("document.querySelector('[data-check=network]').dataset.tone") == "ok"
        # What was tried with is not what the page shows: the preview has its own camera still.
        assert await phone.evaluate("document.querySelector('[data-preview]').srcObject.getVideoTracks().length") == 1
        live = "document.querySelector('[data-preview]').srcObject.getVideoTracks()[0].readyState"
        assert await phone.evaluate(live) == "live"
