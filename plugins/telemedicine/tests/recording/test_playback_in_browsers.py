"""A doctor plays and seeks a recording on the product's own page, in Debian's Chromium and Firefox, and everybody's view follows."""

import json
import shutil
from pathlib import Path

import pytest
from playwright.async_api import async_playwright

from plugins.telemedicine.tests.recording.conftest import audio_feed, play_into, video_feed
from plugins.telemedicine.tests.recording.test_consent import agreed, stop
from plugins.telemedicine.tests.recording.test_in_browsers import CHROMIUM, QUIET, firefox
from qanun.testing.clinics import PASSWORD
from qanun_telemedicine import service
from qanun_telemedicine.recording.recorder import Recorder, options
from qanun_telemedicine.service.recording import binding, folder

pytestmark = pytest.mark.browser

#: Seeks the first view to several places, plays, and says where every view stands and whether it shows a picture.
SCRIPT = """
(async () => {
  const views = [...document.querySelectorAll('[data-views] video')];
  const wait = (view, name) => new Promise((done, fail) => {
    view.addEventListener(name, done, {once: true});
    setTimeout(() => fail(new Error(name + ' did not come')), 20000);
  });
  for (const view of views) { view.muted = true; if (view.readyState < 1) await wait(view, 'loadedmetadata'); }
  const places = [];
  for (const place of [4.2, 0.5, 2.7]) {
    const all = views.map((view) => wait(view, 'seeked'));
    views[0].currentTime = place;
    await Promise.all(all);
    places.push(views.map((view) => view.currentTime));
  }
  const shows = views.map((view) => {
    const canvas = document.createElement('canvas');
    canvas.width = view.videoWidth; canvas.height = view.videoHeight;
    const pen = canvas.getContext('2d');
    pen.drawImage(view, 0, 0);
    const pixels = pen.getImageData(0, 0, canvas.width, canvas.height).data;
    let sum = 0, squares = 0;
    for (let i = 0; i < pixels.length; i += 4) { sum += pixels[i]; squares += pixels[i] * pixels[i]; }
    const count = pixels.length / 4;
    return Math.sqrt(squares / count - (sum / count) ** 2);
  });
  await views[0].play();
  const patience = Date.now() + 20000;
  const together = () => views[0].currentTime > 3.2 && Math.abs(views[0].currentTime - views[1].currentTime) < 0.4;
  while (!together() && !views[0].ended && Date.now() < patience) await new Promise((done) => setTimeout(done, 50));
  const playing = views.map((view) => [view.paused, view.currentTime]);
  views[0].pause();
  return JSON.stringify({durations: views.map((view) => view.duration), places, shows, playing});
})()
"""


def signing_in(clinic):
    """The script that signs the doctor in; it gives the type of the answer, which redirects."""
    who = json.dumps({"email": clinic.users["doctor"].email, "password": PASSWORD})
    return f"fetch('/sign-in', {{method: 'POST', body: new URLSearchParams({who}), redirect: 'manual'}}).then((r) => r.type)"


def check(seen):
    assert len(seen["durations"]) == 2 and all(duration == pytest.approx(5, abs=0.3) for duration in seen["durations"])
    for wanted, both in zip([4.2, 0.5, 2.7], seen["places"], strict=True):
        assert both == pytest.approx([wanted, wanted], abs=0.1), "every view goes along"
    assert all(contrast > 20 for contrast in seen["shows"]), "and shows a person"
    (_, first), (paused, second) = seen["playing"]
    assert first > 3.0 and not paused and abs(first - second) < 0.4


@pytest.fixture
async def watched(clinic, book):
    """The address of a recording of two people, five seconds long."""
    visit = await book(clinic)
    record_id = await agreed(visit)
    async with visit.acting() as (ctx, _, __):
        record = await service.recording(ctx, record_id)
        recorder = Recorder(
            options(folder(ctx, record), await service.recording_key(ctx, record), binding(ctx, record))
        )
        feeds = [
            video_feed("one", 5),
            audio_feed("one", 5),
            video_feed("two", 5, size=(320, 240)),
            audio_feed("two", 5),
        ]
        play_into(recorder, feeds)
        recorder.close()
    await stop(visit)
    return f"/telemedicine/recordings/{record_id}"


@pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="Debian's chromium is not installed")
async def test_chromium_seeks_and_both_views_stay_together(clinic, watched, server):
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = await browser.new_page(base_url=server)
        await page.goto("/sign-in")
        assert await page.evaluate(signing_in(clinic)) == "opaqueredirect"
        await page.goto(watched)
        seen = json.loads(await page.evaluate(SCRIPT))
        await browser.close()
    check(seen)


@pytest.mark.skipif(not shutil.which("firefox-esr"), reason="Debian's firefox-esr is not installed")
async def test_firefox_seeks_and_both_views_stay_together(clinic, watched, server, tmp_path_factory):
    async with firefox(tmp_path_factory.mktemp("firefox")) as command:
        context = (await command("browsingContext.getTree"))["contexts"][0]["context"]

        async def run(expression):
            answer = await command(
                "script.evaluate", expression=expression, target={"context": context}, awaitPromise=True, userActivation=True
            )  # fmt: skip
            assert answer["type"] == "success", answer
            return answer["result"].get("value")

        await command("browsingContext.navigate", context=context, url=f"{server}/sign-in", wait="complete")
        assert await run(signing_in(clinic)) == "opaqueredirect"
        await command("browsingContext.navigate", context=context, url=f"{server}{watched}", wait="complete")
        seen = json.loads(await run(SCRIPT))
    check(seen)
