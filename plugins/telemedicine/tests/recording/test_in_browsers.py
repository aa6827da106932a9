"""A recording cut off by a kill plays and seeks in Debian's Chromium and Firefox, served with range requests."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import websockets
from playwright.async_api import async_playwright

from qanun_telemedicine.recording.player import Recording
from qanun_telemedicine.recording.view import View

from .conftest import CONTEXT, KEY, Feed, new_recorder, play_into

pytestmark = [pytest.mark.asyncio, pytest.mark.browser]

CHROMIUM = "/usr/bin/chromium"
FIREFOX = "/usr/bin/firefox-esr"
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]

#: A server may answer with less than was asked for; small enough here that a browser must come back for more.
MOST = 40_000

#: Loads both people, seeks back and forth, plays, and says what it saw.
SCRIPT = """
(async () => {
  const wait = (element, name) => new Promise((done, fail) => {
    element.addEventListener(name, done, {once: true});
    element.addEventListener('error', () => fail(new Error(element.error && element.error.message)), {once: true});
    setTimeout(() => fail(new Error(name + ' did not come')), 20000);
  });
  const seen = {};
  for (const who of ['doctor', 'patient']) {
    const video = document.createElement('video');
    video.muted = true;
    video.src = '/' + who;
    document.body.append(video);
    if (video.readyState < 1) await wait(video, 'loadedmetadata');
    const places = [];
    for (const place of [3.1, 0.4, 2.2]) {
      video.currentTime = place;
      await wait(video, 'seeked');
      places.push([video.currentTime, video.readyState]);
    }
    const canvas = document.createElement('canvas');
    canvas.width = video.videoWidth; canvas.height = video.videoHeight;
    const pen = canvas.getContext('2d');
    pen.drawImage(video, 0, 0);
    const pixels = pen.getImageData(0, 0, canvas.width, canvas.height).data;
    let sum = 0, squares = 0;
    for (let i = 0; i < pixels.length; i += 4) { sum += pixels[i]; squares += pixels[i] * pixels[i]; }
    const count = pixels.length / 4;
    await video.play();
    const patience = Date.now() + 20000;
    while (video.currentTime < 2.4 && Date.now() < patience) await new Promise(done => setTimeout(done, 50));
    const after = video.currentTime;
    video.pause();
    seen[who] = {
      duration: video.duration, width: video.videoWidth, height: video.videoHeight, places, after,
      contrast: Math.sqrt(squares / count - (sum / count) ** 2),
      seekable: video.seekable.length ? video.seekable.end(0) : 0,
    };
  }
  return JSON.stringify(seen);
})()
"""


@contextlib.contextmanager
def served(views: dict[str, View]) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """The views under their names, with range requests, on a port of this machine; and what was asked for."""
    asked: list[tuple[str, str | None]] = []
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name = self.path.strip("/")
            view = views.get(name)
            if view is None:
                body = b"<!doctype html><title>recording</title>"
                self.answer(200 if not name else 404, {"Content-Type": "text/html"}, body)
                return
            wanted = self.headers.get("Range")
            asked.append((name, wanted))
            start, end = 0, view.size
            if wanted:
                found = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)
                assert found
                start, end = int(found[1]), int(found[2]) + 1 if found[2] else view.size
                end = min(end, start + MOST)
            with lock:
                body = view.read(start, end - start)
            headers = {"Content-Type": view.mime, "Accept-Ranges": "bytes"}
            if wanted:
                headers["Content-Range"] = f"bytes {start}-{start + len(body) - 1}/{view.size}"
            self.answer(206 if wanted else 200, headers, body)

        def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            with contextlib.suppress(ConnectionError):  # browsers hang up when they have enough
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", asked
    finally:
        server.shutdown()
        server.server_close()


@contextlib.asynccontextmanager
async def firefox(profile: Path) -> AsyncIterator[Any]:
    """A headless Firefox and a function that sends it WebDriver BiDi commands."""
    (profile / "user.js").write_text(
        "".join(
            f"user_pref({json.dumps(name)}, {json.dumps(value)});\n"
            for name, value in {
                "media.autoplay.default": 0,
                "media.autoplay.blocking_policy": 0,
                "media.cubeb.backend": "null",
                "app.normandy.enabled": False,
                "datareporting.policy.dataSubmissionEnabled": False,
                "network.captive-portal-service.enabled": False,
                "network.connectivity-service.enabled": False,
                "services.settings.server": "data:,#none",
                "browser.safebrowsing.malware.enabled": False,
                "browser.safebrowsing.phishing.enabled": False,
                "browser.region.update.enabled": False,
                "media.gmp-manager.updateEnabled": False,
                "extensions.systemAddon.update.enabled": False,
            }.items()
        )
    )
    arguments = [
        "--headless",
        "--no-remote",
        "--new-instance",
        "--profile",
        str(profile),
        "--remote-debugging-port",
        "0",
    ]
    environment = {**os.environ, "HOME": str(profile), "MOZ_CRASHREPORTER_DISABLE": "1"}
    process = await asyncio.create_subprocess_exec(
        FIREFOX,
        *arguments,
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    try:
        assert process.stderr is not None
        address = ""
        while not address:
            line = (await asyncio.wait_for(process.stderr.readline(), 60)).decode(errors="replace")
            assert line, "Firefox ended before it listened"
            if found := re.search(r"WebDriver BiDi listening on (ws://\S+)", line):
                address = found[1]
        async with websockets.connect(f"{address}/session", max_size=None) as socket:
            numbers = iter(range(1, 1000))

            async def command(method: str, **params: Any) -> dict[str, Any]:
                number = next(numbers)
                await socket.send(json.dumps({"id": number, "method": method, "params": params}))
                while True:
                    answer = json.loads(await asyncio.wait_for(socket.recv(), 90))
                    if answer.get("id") == number:
                        assert answer["type"] == "success", answer
                        return dict(answer["result"])

            await command("session.new", capabilities={})
            yield command
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def check(seen: dict[str, dict[str, Any]], duration_ms: int) -> None:
    assert (seen["doctor"]["width"], seen["doctor"]["height"]) == (176, 144)
    assert (seen["patient"]["width"], seen["patient"]["height"]) == (320, 240)
    for what in seen.values():
        assert what["duration"] == pytest.approx(duration_ms / 1000, abs=0.05)
        assert what["seekable"] == pytest.approx(duration_ms / 1000, abs=0.05)
        assert [place for place, _ in what["places"]] == pytest.approx([3.1, 0.4, 2.2], abs=0.05)
        assert all(ready >= 2 for _, ready in what["places"])
        # A black or grey rectangle has no contrast; a face does.
        assert what["contrast"] > 20
        assert what["after"] > 2.25


@pytest.fixture
def cut_off(tmp_path: Path, doctor: list[Feed], patient: list[Feed]) -> Iterator[Recording]:
    """Both people, in a recording whose file ends in the middle of its end marker."""
    recorder = new_recorder(tmp_path)
    play_into(recorder, doctor + patient)
    recorder.close()
    part = tmp_path / "0001.part"
    part.write_bytes(part.read_bytes()[:-10])
    with Recording(tmp_path, KEY, CONTEXT) as recording:
        assert not recording.complete
        yield recording


@pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="Debian's chromium is not installed")
async def test_chromium_plays_and_seeks_both_people(cut_off: Recording) -> None:
    views = {seat.participant: cut_off.view(seat.participant) for seat in cut_off.seats()}
    with served(views) as (address, asked):
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
            page = await browser.new_page()
            await page.goto(address)
            seen = json.loads(await page.evaluate(SCRIPT))
            await browser.close()
    check(seen, cut_off.duration_ms)
    assert [wanted for _, wanted in asked if wanted and not wanted.startswith("bytes=0-")]


@pytest.mark.skipif(not shutil.which("firefox-esr"), reason="Debian's firefox-esr is not installed")
async def test_firefox_plays_and_seeks_both_people(
    cut_off: Recording, tmp_path_factory: pytest.TempPathFactory
) -> None:
    views = {seat.participant: cut_off.view(seat.participant) for seat in cut_off.seats()}
    with served(views) as (address, _):
        async with firefox(tmp_path_factory.mktemp("firefox")) as command:
            tree = await command("browsingContext.getTree")
            context = tree["contexts"][0]["context"]
            await command("browsingContext.navigate", context=context, url=address, wait="complete")
            answer = await command(
                "script.evaluate",
                expression=SCRIPT,
                target={"context": context},
                awaitPromise=True,
                userActivation=True,
            )
    assert answer["type"] == "success", answer
    check(json.loads(answer["result"]["value"]), cut_off.duration_ms)
