"""The README's pictures, taken from a running product during a real call.

    python -m tests.browser.pictures appliance/docs/pictures

Starts an appliance with demonstration data and two browsers' worth of people: a doctor and a patient who talk to each other
through the media server. Before the cameras sit two drawn people, the microphones hear Chromium's own tone: nobody's film is in a
picture.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import struct
import sys
import zlib
from datetime import UTC, datetime
from pathlib import Path

import av
import numpy as np
from playwright.async_api import Browser, Page, Playwright, async_playwright, expect

from tests.browser.house import CHROMIUM, CLINIC, FLAGS, PHONE, House, post, waits
from tests.journeys import people as p
from tests.journeys.stack import Stack

_MOST_BYTES = 200_000
_SAYS = (
    ("subjective", "Tired for six weeks, hair shedding. Takes levothyroxine with coffee."),
    ("objective", "On video: pale, comfortable, full sentences."),
    ("assessment", "Hypothyroidism, probably under-replaced. Anaemia to be ruled out."),
    ("plan", "TSH and blood count this week. Tablet on an empty stomach."),
)


_PERSON = """<svg viewBox="-50 -70 420 315" width="640" height="480" xmlns="http://www.w3.org/2000/svg"><defs>
<radialGradient id="wall" cx=".35" cy=".2" r="1.1"><stop offset="0" stop-color="{wall}"/><stop offset="1" stop-color="{shade}"/></radialGradient>
<linearGradient id="body" x1="0" y1="0" x2="0" y2="1"><stop offset="0" stop-color="{ink}" stop-opacity=".72"/><stop offset="1" stop-color="{ink}"/></linearGradient>
</defs><rect x="-160" y="-200" width="640" height="760" fill="url(#wall)"/><g fill="#fff" fill-opacity=".07"><rect x="22" y="20" width="58" height="76" rx="3"/>
<rect x="246" y="36" width="46" height="5" rx="2"/><rect x="246" y="72" width="46" height="5" rx="2"/></g><g fill="url(#body)">{head}
<path d="M68 200c4-40 34-58 68-63 14 12 34 12 48 0 34 5 64 23 68 63v240H68z"/></g></svg>"""
_HEAD = '<path d="M160 46c-24 0-38 17-38 41 0 25 16 47 38 47s38-22 38-47c0-24-14-41-38-41z"/><path d="M146 126h28v24h-28z"/>'
_SCARF = '<path d="M160 38c-30 0-45 22-45 50 0 20 3 32-4 46 14 12 84 12 98 0-7-14-4-26-4-46 0-28-15-50-45-50z"/>'
_PEOPLE = {
    "doctor": {"wall": "#5a8e97", "shade": "#16383f", "ink": "#0c252b", "head": _HEAD},
    "patient": {"wall": "#7b949a", "shade": "#2c4a52", "ink": "#0b2328", "head": _SCARF},
}


async def _before_the_camera(playwright: Playwright, folder: Path, who: str) -> Browser:
    """A browser whose camera shows that drawn person."""
    artist = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
    page = await artist.new_page(viewport={"width": 640, "height": 480})
    await page.set_content(f"<body style='margin:0'>{_PERSON.format(**_PEOPLE[who])}")
    drawing = await page.screenshot(type="png")
    await artist.close()
    film = folder / f"{who}.y4m"
    with av.open(io.BytesIO(drawing)) as container:
        picture = next(container.decode(video=0)).reformat(640, 480, "yuv420p")
    planes = b"".join(
        np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:, : plane.width].tobytes()
        for plane in picture.planes
    )
    film.write_bytes(b"YUV4MPEG2 W640 H480 F25:1 Ip A1:1 C420jpeg\n" + (b"FRAME\n" + planes) * 25)
    return await playwright.chromium.launch(
        executable_path=CHROMIUM, args=[*FLAGS, f"--use-file-for-fake-video-capture={film}"]
    )


async def _shot(page: Page, path: Path) -> None:
    await page.evaluate("() => document.fonts.ready")
    await page.wait_for_timeout(400)
    path.write_bytes(smaller(await page.screenshot(caret="hide", scale="css")))
    size = path.stat().st_size
    assert size < _MOST_BYTES, f"{path.name} has {size} bytes"
    print(f"{path}  {size // 1000} kB")


def smaller(png: bytes) -> bytes:
    """The same picture with the pixel data compressed as far as it goes, and nothing but the picture."""
    head, data, at = b"", b"", 8
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        if kind == b"IHDR":
            head = png[at + 8 : at + 8 + length]
        elif kind == b"IDAT":
            data += png[at + 8 : at + 8 + length]
        at += length + 12
    raw = zlib.decompress(data)
    best = min((zlib.compress(raw, 9), _compress(raw, zlib.Z_FILTERED), _compress(raw, zlib.Z_RLE)), key=len)
    if len(best) > len(data):
        best = data
    return png[:8] + b"".join(_chunk(kind, body) for kind, body in ((b"IHDR", head), (b"IDAT", best), (b"IEND", b"")))


def _compress(raw: bytes, strategy: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 15, 9, strategy)
    return packer.compress(raw) + packer.flush()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


async def take(house: House, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    phone = await house.page("patient", "ar")
    await phone.set_viewport_size(PHONE)
    await phone.goto(f"/portal/{CLINIC}")
    await phone.wait_for_selector(".q-hero")
    await _shot(phone, folder / "home.ar.phone.png")

    await waits(phone, await house.visit())
    await phone.fill("[data-concern]", "التعب لا يزول رغم النوم")
    await phone.wait_for_selector("[data-concern-saved]:not([hidden])")
    day = await house.page("doctor", "ar")
    await day.goto("/scheduling/day")
    await day.wait_for_selector("#telemedicine-waiting li")
    await _shot(day, folder / "day.ar.png")

    doctor = await house.page("doctor", "en")
    await doctor.goto(await house.chart(begin=False))
    await p.confirms_and_admits(doctor)
    for page in (doctor, phone):
        await p.sees_and_hears(page, 60)
    await doctor.click('[data-act="record"]')
    for page in (phone, doctor):
        await page.click('[data-consent]:not([hidden]) [data-answer="given"]')
    for page in (doctor, phone):
        await page.wait_for_selector('[data-recording="recording"]')
    for part, text in _SAYS:
        await p.writes(doctor, part, text)
    await p.saved(doctor)
    await doctor.evaluate("document.activeElement.blur()")
    await expect(doctor.locator("#telemedicine-chips")).not_to_contain_text("Waits")
    await p.sees_and_hears(doctor, 60)
    await _shot(doctor, folder / "chart.png")
    await p.sees_and_hears(phone, 60)
    await _shot(phone, folder / "call.ar.phone.png")
    await post(doctor, f"{await house.consultation()}/end")


class _Morning(Stack):
    """An appliance whose clinics are in a zone where it is ten in the morning, whatever the hour is here."""

    async def qanun(self, *arguments: str) -> str:
        if arguments[:2] != ("demo", "seed"):
            return await super().qanun(*arguments)
        east = (10 - datetime.now(UTC).hour + 12) % 24 - 12
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _SEED, f"Etc/GMT{-east:+d}", *arguments, env=self.environment
        )
        assert await process.wait() == 0
        return ""


_SEED = """
import dataclasses, sys
from qanun.app import demo
zone = sys.argv.pop(1)
demo._CLINICS = tuple(dataclasses.replace(one, timezone=zone) for one in demo._CLINICS)
from qanun.cli import main
sys.exit(main(sys.argv[1:]))
"""


async def main(folder: Path) -> None:
    stack = _Morning()
    try:
        await stack.start()
        async with async_playwright() as playwright:
            here = await _before_the_camera(playwright, stack.folder, "doctor")
            there = await _before_the_camera(playwright, stack.folder, "patient")
            house = House(stack, here)
            house.windows["patient", "ar"] = await House(stack, there).page("patient", "ar")
            await take(house, folder)
            await here.close()
            await there.close()
    finally:
        await stack.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    asyncio.run(main(parser.parse_args().folder))
