"""The first hour, for real: the pages over HTTPS in Chromium, root's part beside them, and at the same address afterwards the
clinic, in which the administrator signs in with what was just chosen."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from playwright.async_api import async_playwright, expect

from appliance.tests.test_wizard import Machine
from qanun.app import SystemService
from qanun.app.build import gather
from qanun.config import Config
from qanun.db.migrations import upgrade
from qanun.testing.plugin import free_port
from qanun.testing.postgres import ScratchPostgres
from qanun_appliance.apply import apply
from qanun_appliance.founding import found, password_of
from qanun_appliance.render import Machine as Size
from qanun_appliance.wizard import work
from tests.browser.house import CHROMIUM, FLAGS
from tests.browser.reading import AXE, axe, too_wide

pytestmark = pytest.mark.browser
# Nothing is concluded from how long something took.
expect.set_options(timeout=30_000)
PHRASE = "seven quiet camels"
#: Where pictures of every page are put, for eyes; usually nowhere.
PICTURES = os.environ.get("QANUN_PICTURES")


class Root:
    """Root's part without systemd: the same `apply` into a tree, a real database, the true application at the end."""

    def __init__(self, machine, port):
        self.machine, self.port = machine, port
        self.postgres = ScratchPostgres()
        self.process = None
        self.clinic_process = None

    def pages(self):
        environment = {**os.environ, "QANUN_SETUP_DIR": str(self.machine.desk.folder)}
        self.process = self._granian("qanun_appliance.wizard.app:create", self.machine.desk.folder, environment)

    def _granian(self, target, folder, environment):
        words = (
            "from granian import Granian; from pathlib import Path; "
            f"f = Path({str(folder)!r}); Granian({target!r}, factory=True, address='127.0.0.1', port={self.port}, interface='asgi', http='1', "
            "workers=1, ssl_cert=f / 'server.crt', ssl_key=f / 'server.key', log_access=False).serve()"
        )
        return subprocess.Popen([sys.executable, "-c", words], env=environment)

    def follow(self):
        """What the path unit does."""
        while not (self.machine.desk.folder / "go").exists():
            time.sleep(0.05)
        work.run(self.machine.places, self.machine.desk, self)

    def disk(self, choice):
        """No disk is chosen here."""

    def apply(self, site):
        services = gather()[0].all(SystemService)
        size = Size(memory_mb=2048, cores=2, postgres_bin="/usr/lib/postgresql/17/bin")
        apply(site, self.machine.places, services, size, ["127.0.0.1"], start=False)

    def database(self):
        self.postgres.start()
        upgrade(self.postgres.owner_url, gather()[1].lineages())

    def clinic(self):
        places = self.machine.places
        config = Config(
            database_url=self.postgres.application_url, owner_database_url=self.postgres.owner_url, state_dir=places.data, master_key_file=places.keys / "master.key",
            base_url=f"https://localhost:{self.port}", locale_dir=Path(os.environ["QANUN_LOCALE_DIR"]) if os.environ.get("QANUN_LOCALE_DIR") else None,
        )  # fmt: skip
        from qanun_appliance.site import load_site

        assert found(load_site(places.site), places, password_of(places.secrets / "administrator"), config) == "made"

    def start(self):
        pass

    def over(self, site):
        time.sleep(2.5)  # long enough for the page to have seen it
        self.process.terminate()
        self.process.wait(20)
        places = self.machine.places
        environment = {
            **os.environ, "QANUN_DATABASE_URL": self.postgres.application_url, "QANUN_OWNER_DATABASE_URL": self.postgres.owner_url, "QANUN_STATE_DIR": str(places.data),
            "QANUN_MASTER_KEY_FILE": str(places.keys / "master.key"), "QANUN_BASE_URL": f"https://localhost:{self.port}",
        }  # fmt: skip
        self.clinic_process = self._granian("qanun.app.asgi:create", places.tls, environment)

    def stop(self):
        for process in (self.process, self.clinic_process):
            if process is not None and process.poll() is None:
                process.terminate()
                process.wait(20)
        self.postgres.stop()


async def _answers(port):
    async with httpx.AsyncClient(verify=False) as client:
        for _ in range(1200):
            try:
                await client.get(f"https://localhost:{port}/setup")
                return
            except httpx.TransportError:
                await asyncio.sleep(0.05)
    raise AssertionError("the pages do not answer")


async def _seen(page, name):
    assert (await axe(page), await too_wide(page)) == ([], []), name
    cut = "all => all.filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.textContent)"
    assert await page.eval_on_selector_all(".q-setup-key", cut) == [], f"{name}: a key that is not seen whole"
    if PICTURES:
        size = page.viewport_size
        for kind, width, height in (("desktop", 1280, 900), ("phone", 390, 844)):
            await page.set_viewport_size({"width": width, "height": height})
            await page.screenshot(path=f"{PICTURES}/{name}.{kind}.png", full_page=True)
        await page.set_viewport_size(size)


@asynccontextmanager
async def _opened(root, language, width):
    """A page of a browser, with the set-up's pages answering; all of it ends with the block."""
    for needed in (Path(CHROMIUM), AXE):
        if not needed.exists():
            pytest.skip(f"{needed.name} is not installed")
    root.pages()
    try:
        await _answers(root.port)
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            context = await browser.new_context(
                ignore_https_errors=True, locale=language, viewport={"width": width, "height": 844}
            )
            yield await context.new_page()
            await browser.close()
    finally:
        root.stop()


@pytest.mark.parametrize(("language", "width"), [pytest.param("en", 1280, marks=pytest.mark.long), ("ar", 390)])
async def test_a_machine_is_set_up_in_a_browser_and_ends_at_its_own_sign_in(tmp_path, language, width):
    machine = Machine(tmp_path)
    root = Root(machine, free_port())
    threading.Thread(target=root.follow, daemon=True).start()
    async with _opened(root, language, width) as page:
        await _walk(page, machine, f"https://localhost:{root.port}", language)
    assert not (machine.places.secrets / "administrator").exists()


@pytest.mark.parametrize(("language", "width"), [pytest.param("en", 1280, marks=pytest.mark.long), ("ar", 390)])
async def test_a_clinic_that_comes_back_is_followed_to_where_it_will_be(tmp_path, language, width):
    """The sheet, a key that opens nothing, and a page that learns on its way which addresses it may ask."""
    machine = Machine(tmp_path)
    root = Root(machine, free_port())
    desk = machine.desk

    def tell(**state):
        desk.write("progress", state, 0o644)

    async with _opened(root, language, width) as page:
        base = f"https://localhost:{root.port}"
        await page.goto(base)
        await page.fill("#code", machine.code)
        await page.keyboard.press("Enter")
        await page.locator('a[href="/setup/return"]').click()
        await expect(page).to_have_url(f"{base}/setup/return")
        await _seen(page, f"{language}.20-return")
        await page.fill("#key", "abcde fghjk")
        await page.press("#key", "Enter")
        # No disk with files is plugged into what tries this, or none was chosen; and the disk's own key was not typed.
        await expect(page.locator("#typed_disk-error")).to_be_visible()
        assert await page.input_value("#key") == "abcde fghjk"
        await _seen(page, f"{language}.21-return-wrong")
        # From here on as root tells it.
        desk.write("return", {"network": "before"})
        desk.begin("return")
        tell(at="examine", state="working")
        await page.goto(base)
        await expect(page.locator(".q-setup-work li.working")).to_have_count(1)
        await _seen(page, f"{language}.22-progress")
        tell(at="examine", state="failed", code="wrong-key", why="restic: 12")
        await expect(page.locator(".q-note.crit")).to_be_visible()
        await _seen(page, f"{language}.23-failed")
        await page.locator('form[action="/setup/again"] button').click()
        await expect(page).to_have_url(f"{base}/setup/return")
        assert await page.input_value("#key") == "abcde fghjk"
        desk.begin("return")
        desk.write("backup", {"until": (datetime.now(UTC) - timedelta(days=40)).isoformat()}, 0o644)
        tell(at="place", state="working")
        await page.goto(base)
        await expect(page.locator(".q-note.warn")).to_be_visible()
        await _seen(page, f"{language}.23-old")
        desk.write("backup", {"until": (datetime.now(UTC) - timedelta(hours=9)).isoformat()}, 0o644)
        await expect(page.locator(".q-note.warn")).to_have_count(0)
        await _seen(page, f"{language}.23-place")
        desk.write("hosts", {"names": ["clinic.lan", "192.168.7.10"]}, 0o644)
        await expect(page.locator("[data-setup-progress]")).to_have_attribute("data-hosts", "clinic.lan 192.168.7.10")
        tell(at="over", state="working")
        await expect(page.locator('a[href="https://clinic.lan/sign-in"]')).to_be_visible()
        await _seen(page, f"{language}.24-over")


async def _walk(page, machine, base, language):
    async def on():
        await page.locator('button[name="go"][value="next"]').click()

    await page.goto(base)
    await _seen(page, f"{language}.0-code")
    await page.fill("#code", machine.code)
    await page.keyboard.press("Enter")
    await page.check('input[name="language"][value="ar"]')
    await page.select_option("#country", "MA")
    await _seen(page, f"{language}.1-language")
    await on()
    await page.fill("#name", "عيادة الرازي")
    await page.fill("#slug", "al-razi")
    assert await page.input_value("#timezone") == "Africa/Casablanca" and await page.input_value("#currency") == "MAD"
    await _seen(page, f"{language}.2-clinic")
    await page.press("#slug", "Enter")  # which goes on, as people expect, and not back
    await expect(page).to_have_url(f"{base}/setup/network")
    # Whether this machine has an address or not, the page that is typed into stays.
    await page.check('input[name="mode"][value="static"]')
    await page.fill("#address", "10.0.0.300/24")
    await page.fill("#host", "localhost")
    await on()
    await expect(page.locator("#address-error")).to_be_visible()
    assert await page.input_value("#host") == "localhost"
    await _seen(page, f"{language}.3-network")
    await page.check('input[name="mode"][value="dhcp"]')
    await expect(page.locator("#address")).to_be_hidden()
    await on()
    if await page.locator('[name="all_the_same"]').count():
        await page.check('input[name="all_the_same"]')
        await on()
    await page.fill("#admin_name", "سلمى الإدريسي")
    await page.fill("#admin_email", "salma@al-razi.example")
    await page.fill("#password", PHRASE)
    await page.fill("#again", PHRASE)
    await _seen(page, f"{language}.4-administrator")
    await on()
    await page.fill("#target", "/mnt/backup")
    await on()
    await expect(page.locator("#target-error")).to_be_visible()
    await _seen(page, f"{language}.5-backup")
    await page.check('input[name="all_the_same"]')
    await on()
    await _seen(page, f"{language}.6-key")
    await page.fill("#typed", machine.key.rsplit("-", 1)[-1])
    await page.fill("#typed_disk", "jklnrtuv")
    await page.locator('button[value="back"]').click()
    await expect(page).to_have_url(f"{base}/setup/backup")
    await page.goto(f"{base}/setup/paper")
    await _seen(page, f"{language}.6-paper")
    await page.goto(f"{base}/setup/key")
    assert await page.input_value("#typed_disk") == "jklnrtuv"
    await on()
    await page.fill("#servers", "")
    await _seen(page, f"{language}.7-time")
    await on()
    await _seen(page, f"{language}.8-certificate")
    await on()
    await expect(page).to_have_url(f"{base}/setup/summary")
    await _seen(page, f"{language}.9-summary")
    await on()
    await expect(page.locator(".q-setup-work li").first).to_be_visible()
    await _seen(page, f"{language}.10-progress")
    # The pages end, another program answers at the address, and this page finds out by itself.
    await expect(page).to_have_url(f"{base}/sign-in", timeout=60_000)
    await page.fill("#email", "salma@al-razi.example")
    await page.fill("#password", PHRASE)
    await page.keyboard.press("Enter")
    await expect(page.locator("main")).to_be_visible()
    await expect(page).not_to_have_url(f"{base}/sign-in")
    # The set-up is gone.
    answer = await page.request.get(f"{base}/setup")
    assert answer.status == 404
