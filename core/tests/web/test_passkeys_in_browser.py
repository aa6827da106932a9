"""In Chromium, with an authenticator of its own: made, used, confirmed with, removed — by touch alone, in both frames.

The authenticator is the browser's (CDP `WebAuthn.addVirtualAuthenticator`); everything between it and the database is real.
"""

from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Page, async_playwright, expect

from qanun.testing.clinics import PASSWORD
from qanun.web.security import COOKIES, LANGUAGE_COOKIES

CHROMIUM = "/usr/bin/chromium"
# Nothing is concluded from how long something took.
expect.set_options(timeout=30_000)
AXE = Path(__file__).parents[3] / "core" / "assets" / "node_modules" / "axe-core" / "axe.min.js"
FINDINGS = "axe.run().then(found => found.violations.map(one => `${one.id}: ${one.nodes[0].html}`))"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="Debian's chromium is not installed"),
    pytest.mark.skipif(not AXE.exists(), reason="the web assets are not built"),
]
PHONE = {
    "protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True,
    "isUserVerified": True, "automaticPresenceSimulation": True,
}  # fmt: skip


@pytest_asyncio.fixture(loop_scope="session")
async def chromium():
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


async def _window(chromium, server, language="en", cookies=None, size=(390, 844), offered=False):
    """A browser with a device that can hold passkeys; (page, its authenticator, what went wrong)."""
    context = await chromium.new_context(
        base_url=server, viewport={"width": size[0], "height": size[1]}, locale=language
    )
    jar = {LANGUAGE_COOKIES["staff"]: language, LANGUAGE_COOKIES["portal"]: language, **(cookies or {})}
    await context.add_cookies([{"name": name, "value": value, "url": server} for name, value in jar.items()])
    # The browser's device presses by itself; what is offered while a field is filled has a test of its own.
    if not offered:
        await context.add_init_script("delete PublicKeyCredential.isConditionalMediationAvailable")
    page = await context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if "Content Security" in line.text else None)
    cdp = await context.new_cdp_session(page)
    await cdp.send("WebAuthn.enable")
    added = await cdp.send("WebAuthn.addVirtualAuthenticator", {"options": PHONE})
    return page, (cdp, added["authenticatorId"]), faults


async def _held(device) -> list[dict]:
    cdp, id = device
    return (await cdp.send("WebAuthn.getCredentials", {"authenticatorId": id}))["credentials"]


async def _good(page: Page, direction: str) -> None:
    assert await page.evaluate("document.documentElement.dir") == direction
    assert await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    await page.evaluate(AXE.read_text(encoding="utf-8"))
    assert await page.evaluate(FINDINGS) == []


async def _touches_in(page: Page) -> None:
    await page.locator("[data-passkey]").click()


async def test_staff_make_a_passkey_and_from_then_on_touch(clinic, other_clinic, server, chromium):
    await _staff_touch(clinic, "doctor", server, chromium, "en", "ltr")
    await _staff_touch(clinic, "nurse", server, chromium, "ar", "rtl")
    await _under_another_name(clinic, server, chromium)
    await _offered_while_typing(clinic, server, chromium)


async def _staff_touch(clinic, role, server, chromium, language, direction):
    page, device, faults = await _window(chromium, server, language)
    await page.goto("/sign-in")
    await _good(page, direction)
    await page.fill("[name=email]", clinic.users[role].email)
    await page.fill("[name=password]", PASSWORD)
    await page.press("[name=password]", "Enter")
    await page.wait_for_url(lambda url: "sign-in" not in url)
    await page.goto("/account/passkeys")
    await page.fill("#new-passkey", "هاتفي")
    await page.click("form[data-passkey-register] [type=submit]")
    await expect(page.locator(".q-passkey b")).to_have_text("هاتفي")
    await _good(page, direction)
    [held] = await _held(device)
    assert held["rpId"] == "localhost" and held["isResidentCredential"]
    # The same device once more: the browser refuses, and the page says so.
    await page.fill("#new-passkey", "Again")
    await page.click("form[data-passkey-register] [type=submit]")
    await expect(page.locator("[data-passkey-register] [data-passkey-error]")).to_be_visible()
    assert await page.input_value("#new-passkey") == "Again", "nothing typed is lost"
    await page.goto("/account")
    await page.click("form[action='/sign-out'] button")
    await page.wait_for_url("**/sign-in")
    await page.goto("/sign-in?next=/account/passkeys")
    await _touches_in(page)
    await page.wait_for_url("**/account/passkeys")
    assert faults == []


async def test_a_grave_act_is_confirmed_by_touch_or_password_with_scripts_and_without(
    clinic, other_clinic, server, chromium
):
    await _over_the_page(clinic, server, chromium)
    await _without_scripts(clinic, server, chromium)
    await _on_the_page(clinic, server, chromium)


async def _over_the_page(clinic, server, chromium):
    token = await clinic.staff_token("doctor")
    page, device, faults = await _window(chromium, server, cookies={COOKIES["staff"]: token}, size=(1280, 800))
    await page.goto("/account/passkeys")
    await page.fill("#new-passkey", "Laptop")
    await page.click("form[data-passkey-register] [type=submit]")
    await page.locator(".q-passkey").wait_for()
    await clinic.long_ago(token)
    # By password: a wrong one is told in the dialog, the right one lets the act go on.
    await page.fill("#new-passkey", "Second")
    await page.click("form[data-passkey-register] [type=submit]")
    dialog = page.locator("dialog#confirm")
    await expect(dialog).to_be_visible()
    await _good(page, "ltr")
    await page.fill("#confirm-password", "not it")
    await page.press("#confirm-password", "Enter")
    await expect(dialog.locator("[data-confirm-error]")).to_be_visible()
    await dialog.locator("[data-close]").click()
    await expect(dialog).to_have_count(0)
    assert await page.input_value("#new-passkey") == "Second"
    # By touch, before a form leaves the page.
    await page.locator(".q-passkey summary").click()
    await page.locator("form[data-fresh] button").click()
    await dialog.locator("[data-passkey-confirm]").click()
    await expect(page.locator(".q-passkey")).to_have_count(0)
    assert len(await _held(device)) == 1, "the device keeps its half; the server knows it no longer"
    assert faults == []


async def _without_scripts(clinic, server, chromium):
    from qanun.testing.authenticator import Device

    token = await clinic.staff_token("doctor")
    client = clinic.anonymous()
    client.cookies.set(COOKIES["staff"], token)
    device = Device()
    options = (await client.post("/account/passkeys/options", json={})).json()
    assert (
        await client.post("/account/passkeys", json={"name": "Old", "answer": device.create(options)})
    ).status_code == 204
    await clinic.long_ago(token)
    context = await chromium.new_context(
        base_url=server, java_script_enabled=False, viewport={"width": 390, "height": 844}
    )
    await context.add_cookies([{"name": COOKIES["staff"], "value": token, "url": server}])
    page = await context.new_page()
    await page.goto("/account/passkeys")
    await page.locator(".q-passkey summary").click()
    await page.locator("form[data-fresh] button").click()
    await expect(page.locator("h1")).to_have_text("Confirm it is you")
    await page.fill("[name=qanun_password]", "not it")
    await page.press("[name=qanun_password]", "Enter")
    await expect(page.locator(".invalid-feedback:visible")).to_have_text("The password is not right.")
    await page.fill("[name=qanun_password]", PASSWORD)
    await page.press("[name=qanun_password]", "Enter")
    await page.wait_for_url("**/account/passkeys")
    await expect(page.locator(".q-passkey")).to_have_count(0)


async def _on_the_page(clinic, server, chromium):
    token = await clinic.staff_token("doctor")
    page, _, faults = await _window(chromium, server, "ar", cookies={COOKIES["staff"]: token})
    await page.goto("/account/passkeys")
    await page.fill("#new-passkey", "Laptop")
    await page.click("form[data-passkey-register] [type=submit]")
    await page.locator(".q-passkey").wait_for()
    await clinic.long_ago(token)
    await page.locator(".q-passkey summary").click()
    await page.evaluate("document.querySelector('form[data-fresh]').submit()")  # as if shell.js had not come
    await page.locator("form[data-confirm-page]").wait_for()
    await _good(page, "rtl")
    await page.locator("[data-passkey-confirm]").click()
    await page.wait_for_url("**/account/passkeys")
    await expect(page.locator(".q-passkey")).to_have_count(0)
    assert faults == []


async def _offered_while_typing(clinic, server, chromium):
    token = await clinic.staff_token("reception")
    page, _, faults = await _window(chromium, server, cookies={COOKIES["staff"]: token}, offered=True)
    await page.goto("/account/passkeys")
    await page.fill("#new-passkey", "Laptop")
    await page.click("form[data-passkey-register] [type=submit]")
    await page.locator(".q-passkey").wait_for()
    await page.context.clear_cookies()
    await page.goto("/sign-in?next=/account/passkeys")
    await page.wait_for_url("**/account/passkeys")  # chosen from the field's list, which the device does at once
    assert faults == []


async def test_a_patient_touches_into_their_own_clinics_portal(clinic, other_clinic, server, chromium):
    for language, direction in (("en", "ltr"), ("ar", "rtl")):
        await _patient_touches(clinic, other_clinic, server, chromium, language, direction)


async def _patient_touches(clinic, other_clinic, server, chromium, language, direction):
    patient, slug = await clinic.patient(), clinic.tenant.slug
    token = await clinic.portal_token(patient)
    page, device, faults = await _window(chromium, server, language, {COOKIES["portal"]: token}, size=(320, 640))
    await page.goto(f"/portal/{slug}/me")
    await page.click(f"a[href='/portal/{slug}/passkeys']")
    await page.fill("#new-passkey", "Phone")
    await page.click("form[data-passkey-register] [type=submit]")
    await page.locator(".q-passkey").wait_for()
    await page.locator(".q-passkey summary").click()
    await _good(page, direction)
    await page.context.clear_cookies()
    await page.goto(f"/portal/{other_clinic.tenant.slug}/sign-in")
    await _touches_in(page)
    await expect(page.locator("[data-passkey-error]")).to_be_visible()
    assert not [one for one in await page.context.cookies() if one["name"] == COOKIES["portal"]]
    await page.goto(f"/portal/{slug}/sign-in")
    await _good(page, direction)
    await _touches_in(page)
    await page.wait_for_url(f"**/portal/{slug}")
    assert len(await _held(device)) == 1 and faults == []


async def _under_another_name(clinic, server, chromium):
    elsewhere = server.replace("localhost", "127.0.0.1")
    page, _, _ = await _window(chromium, elsewhere, cookies={COOKIES["staff"]: await clinic.staff_token("doctor")})
    await page.goto("/account/passkeys")
    await expect(page.locator("[data-passkey-unable]")).to_contain_text("http://localhost")
    await expect(page.locator("form[data-passkey-register]")).to_be_hidden()
    await page.goto("/sign-in")
    await expect(page.locator("[data-passkey]")).to_be_hidden()
