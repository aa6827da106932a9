"""Every page in English and Arabic, on a desk, a phone and the smallest phone: axe finds nothing, nothing is cut off, values
stand in the order they are meant, no sentence is left in English, and little script is loaded.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser import reading
from tests.browser.house import CLINIC, DESK, PHONE, SMALLEST, House, Place, at, post, waits
from tests.journeys.people import PASSWORD

pytestmark = pytest.mark.browser
KNOWN = reading.catalogue()
DIRECTION = {"en": "ltr", "ar": "rtl"}


# --- how one comes there -----------------------------------------------------------------------------------------------


async def activate(house: House, page: Page) -> None:
    await house.registered()
    await page.goto(house.found["invitation"])
    await page.wait_for_selector("[name=birth_date]")


async def people(house: House, page: Page) -> None:
    await page.goto("/people")
    await page.click(".q-letin > summary")


async def person(house: House, page: Page) -> None:
    await page.goto("/people")
    await page.locator(".q-person", has_text="nurse@").click()
    await page.wait_for_selector("#locked")


async def desk_chosen(house: House, page: Page) -> None:
    await house.registered()
    await page.goto(house.found["patient"])


async def desk_appointment(house: House, page: Page) -> None:
    await house.registered()
    await page.goto(house.found["appointment"])
    await page.wait_for_selector("[id^=tm-link-]")


async def _fill(page: Page, birth_date: str) -> None:
    await page.goto("/scheduling/desk")
    await page.click("details.q-sc-register > summary")
    values = {"given": "Salma", "family": "Zerhouni", "birth_date": birth_date, "phone": "+212 612345678"}
    for name, text in values.items():
        await page.fill(f"#register [name={name}]", text)
    await page.click("#register button[type=submit]")


async def desk_error(house: House, page: Page) -> None:
    await _fill(page, "31-12-1988")
    await expect(page.locator("#register .invalid-feedback").first).to_be_visible()
    await expect(page.locator("#register [name=family]")).to_have_value("Zerhouni")


async def desk_duplicates(house: House, page: Page) -> None:
    await house.registered()
    await _fill(page, "1988-03-14")
    await page.wait_for_selector(".q-dup")


async def desk_found(house: House, page: Page) -> None:
    await page.goto("/scheduling/desk?q=Haddad")
    await page.wait_for_selector("#scheduling-found li")


async def chart_empty(house: House, page: Page) -> None:
    await page.goto(await house.empty_chart())


async def chart_full(house: House, page: Page) -> None:
    await page.goto(await house.chart())
    await page.wait_for_selector("#note-form")
    for panel in ("ws-vitals", "ws-allergy", "ws-condition", "ws-medication"):
        await page.click(f".q-wsrail [data-toggle={panel}]")


async def visits(house: House, page: Page) -> None:
    await page.goto(f"{await house.chart()}/encounters")


async def visit(house: House, page: Page) -> None:
    await visits(house, page)
    # The last one is signed; the first is the open one.
    await page.goto(str(await page.locator("main a[href*='/encounters/']").last.get_attribute("href")))


async def portal_encounter(house: House, page: Page) -> None:
    await page.goto(f"/portal/{CLINIC}/visits")
    await page.goto(str(await page.locator("main a[href*='/encounters/']").first.get_attribute("href")))


async def portal_record(house: House, page: Page) -> None:
    await house.chart()  # somebody opened it
    await page.goto(f"/portal/{CLINIC}/record")
    await page.wait_for_selector(".q-access")


async def device_check(house: House, page: Page) -> None:
    await page.goto(await house.visit())
    for what in ("camera", "microphone", "network"):
        await page.wait_for_selector(f'[data-check="{what}"][data-tone="ok"]')
    trip = json.loads(str(await page.get_attribute("#visit", "data-trip")))
    assert trip["ok"] and trip["audio"] and trip["video"] and trip["kbit"] > 50, trip


async def device_check_blocked(house: House, page: Page) -> None:
    """A network that lets no media through: the page says so in plain words and names the phone."""
    await page.add_init_script(
        "if (location.search === '?blocked') { const old = RTCPeerConnection.prototype.setRemoteDescription;"
        " RTCPeerConnection.prototype.setRemoteDescription = function (told) {"
        " return old.call(this, { type: told.type, sdp: told.sdp.replace(/a=candidate.*\\r\\n/g, '') }); }; }"
    )
    await page.goto(f"{await house.visit()}?blocked")
    await page.wait_for_selector('[data-check="network"][data-tone="bad"]', timeout=30_000)
    await expect(page.locator("[data-help] a[href^='tel:']")).to_be_visible()


async def waiting_room(house: House, page: Page) -> None:
    await waits(page, await house.visit())


async def chart_docked(house: House, page: Page) -> None:
    await waits(await house.page("patient"), await house.visit())
    await page.goto(await house.chart())
    await page.wait_for_selector("#telemedicine-lobby [name=identifier]")
    await expect(page.locator("#telemedicine-chips .tele")).to_be_visible()


async def waiting_room_written_to(house: House, page: Page) -> None:
    await waits(page, await house.visit())
    await post(
        await house.page("reception"), f"{await house.consultation()}/notices", {"phrase": "late", "minutes": "10"}
    )
    await page.wait_for_selector("[data-notices] > div")


async def chart_summoned(house: House, page: Page) -> None:
    """Somebody waits while the doctor is on another page."""
    await page.goto("/emr/patients")
    await page.wait_for_function("() => document.querySelector('[data-connection] .ok')")
    consultation = (await house.consultation()).rsplit("/", 1)[1]
    await page.evaluate(
        "id => document.body.dispatchEvent(new CustomEvent('live:telemedicine.waiting', { detail: { consultation: id } }))",
        consultation,
    )
    await page.wait_for_selector(".q-tm-summons")


async def calls_somebody_waits(house: House, page: Page) -> None:
    await waits(await house.page("patient"), await house.visit())
    await page.goto("/telemedicine/consultations")
    await page.click("details.q-tm-invite > summary")


async def waiting_room_placed(house: House, page: Page) -> None:
    await waits(page, await house.visit())
    await page.fill("#place", "12 Rue des Orangers, Rabat")
    await page.select_option("#country", "MA")
    await page.click("[data-place] button")
    await page.wait_for_selector("[data-placed]:not([hidden])")


async def day_waiting(house: House, page: Page) -> None:
    await waits(await house.page("patient"), await house.visit())
    await page.goto("/scheduling/day")
    await page.wait_for_selector("#telemedicine-waiting li")


async def consultation(house: House, page: Page) -> None:
    await page.goto(await house.consultation())


async def chart_in_call(house: House, page: Page) -> None:
    await house.admitted()
    await page.goto(await house.chart())
    call = page.locator("#telemedicine-call")
    await expect(call).to_have_attribute("data-state", "in-progress")
    # Who was in the call comes back by itself; somebody new presses the button.
    if await call.get_attribute("data-auto") is None:
        await page.click('[data-act="join"]')
    await expect(call).to_have_attribute("data-running", "true", timeout=20_000)


async def patient_in_call(house: House, page: Page) -> None:
    await house.admitted()
    await page.goto(await house.visit())
    await page.wait_for_selector("#visit:not([data-step=''])")
    await page.wait_for_selector('[data-part="check"]:not([hidden]), [data-part="call"]:not([hidden])')
    if await page.locator('[data-part="check"]').is_visible():
        await page.click('[data-do="enter"]:not([disabled])')
    await expect(page.locator("#telemedicine-call")).to_have_attribute("data-running", "true", timeout=20_000)


async def guest_enters(house: House, page: Page) -> None:
    await page.goto(await house.guest_link("Karim Idrissi", "relative"))


async def guest_closed(house: House, page: Page) -> None:
    await page.goto(f"/guest/{CLINIC}")


async def guest_waits(house: House, page: Page) -> None:
    await page.goto(await house.guest_link("Huda Alami"))
    await page.click("main form button.btn-primary")
    await waits(page, page.url)


async def guest_checks(house: House, page: Page) -> None:
    await page.goto(await house.guest_link("Omar Berrada", "colleague"))
    await page.click("main form button.btn-primary")
    for what in ("camera", "microphone", "network"):
        await page.wait_for_selector(f'[data-check="{what}"][data-tone="ok"]')


async def chart_with_guests(house: House, page: Page) -> None:
    await guest_waits(house, await house.page("", "ar"))
    await house.admitted()
    await page.goto(await house.chart())
    await page.wait_for_selector("#telemedicine-guests [name=way]")
    await page.click(".q-tm-invite > summary")


async def chart_in_group(house: House, page: Page) -> None:
    await house.group()
    await chart_in_call(house, page)
    await page.wait_for_selector("[data-roster] li:nth-child(3)")
    await page.wait_for_selector("[data-roster] .q-tm-mark.hand")


async def patient_sends_a_photo(house: House, page: Page) -> None:
    """In the chat, and the doctor's chart shows it."""
    await patient_in_call(house, page)
    await page.click('[data-act="chat"]')
    drawn = await page.evaluate(
        """() => { const c = document.createElement('canvas'); c.width = c.height = 64; c.getContext('2d').fillRect(8, 8, 40, 40);
          return c.toDataURL('image/png').split(',')[1]; }"""
    )
    await page.set_input_files(
        "[data-file]", {"name": "arm.png", "mimeType": "image/png", "buffer": base64.b64decode(drawn)}
    )
    await page.wait_for_selector("[data-log] img")
    await page.wait_for_function(
        "() => [...document.querySelectorAll('[data-log] img')].every(one => one.naturalWidth)"
    )


async def patient_question(house: House, page: Page) -> None:
    await page.goto(f"/portal/{CLINIC}/written/{await house.question()}")
    await page.wait_for_selector(".q-tm-thread")


async def patient_asks(house: House, page: Page) -> None:
    await house.question()
    await page.goto(f"/portal/{CLINIC}/written")


async def question_waits(house: House, page: Page) -> None:
    await page.goto(f"/telemedicine/written/{await house.question()}")


async def question_answered(house: House, page: Page) -> None:
    address = f"/telemedicine/written/{await house.question()}"
    await post(page, f"{address}/take-up", {"known": "1"})
    await page.goto(address)
    await page.wait_for_selector("#text")


async def patient_in_group(house: House, page: Page) -> None:
    await house.group()
    await patient_in_call(house, page)
    await page.wait_for_selector('[data-group-act="hand"]:not([hidden])')
    await page.wait_for_selector("[data-remote] > div:nth-child(2)")


async def connections(house: House, page: Page) -> None:
    """The live view has somebody in it, and the report a line, once the first figures are in."""
    await house.admitted()
    if await (await house.page("patient")).locator("#telemedicine-call[data-running=true]").count() == 0:
        await patient_in_call(house, await house.page("patient"))
    await page.goto("/telemedicine/quality")
    await page.wait_for_selector("#telemedicine-legs li")


async def patient_after(house: House, page: Page) -> None:
    await house.ended()
    await page.goto(await house.visit())
    await page.wait_for_selector('[data-part="after"]:not([hidden])')


async def chart_recording(house: House, page: Page) -> None:
    await house.recorded()
    await page.goto(await house.chart())
    await expect(page.locator("#telemedicine-call")).to_have_attribute("data-running", "true", timeout=20_000)
    await expect(page.locator('#telemedicine-call [data-recording="recording"]')).to_be_visible(timeout=20_000)
    await expect(page.locator('[data-act="pause"]')).to_be_visible()


async def picture_asked(house: House, page: Page) -> None:
    """The patient reads the question; it is asked anew for every language, and left open here."""
    await house.recorded()
    await page.goto(await house.visit())
    await expect(page.locator("#telemedicine-call")).to_have_attribute("data-running", "true", timeout=20_000)
    doctor = await house.page("doctor")
    await doctor.goto(await house.chart())
    await doctor.click("[data-remote] [data-picture-of]", timeout=20_000)
    await expect(page.locator("[data-picture]")).to_be_visible(timeout=20_000)


async def chart_picture(house: House, page: Page) -> None:
    if "picture" not in house.found:
        patient, doctor = await house.page("patient"), await house.page("doctor")
        await picture_asked(house, patient)
        await patient.click("[data-picture-answer=given]")
        await expect(doctor.locator("[data-notice]")).to_have_text("The picture is in the chart.", timeout=20_000)
        house.found["picture"] = "1"
    await page.goto(await house.chart())
    picture = page.locator(".q-tm-shots img").first
    await picture.scroll_into_view_if_needed()
    await expect(picture).to_have_js_property("complete", True)
    assert await picture.evaluate("(one) => one.naturalWidth") > 100


async def kept(house: House, page: Page) -> None:
    await house.recorded()
    await house.ended()
    await page.goto(await house.chart())
    await page.click("a[href$='/kept']")
    await page.wait_for_url("**/kept")


async def recording(house: House, page: Page) -> None:
    await house.recorded()
    await house.ended()
    await page.goto(await house.consultation())
    await page.goto(str(await page.locator("a[href^='/telemedicine/recordings/']").first.get_attribute("href")))
    views = page.locator("[data-views] video")
    # Doctor and patient, and whoever was in the group and agreed.
    recorded = 4 if ("guest-0", "en") in house.windows else 2
    assert await views.count() == recorded
    for number in range(recorded):
        await expect(views.nth(number)).to_have_js_property("error", None)
        await page.wait_for_function(
            "(number) => document.querySelectorAll('[data-views] video')[number].readyState >= 1", arg=number
        )


async def sends_gravely(page: Page, button: str, goes_on: str) -> None:
    """Press a button that may ask who it is once more, which is so five minutes after the sign-in; then `goes_on` is seen."""
    await page.click(button)
    asked, there = page.locator("dialog#confirm[open]"), page.locator(goes_on).first
    await asked.or_(there).first.wait_for()
    if await asked.is_visible():
        await page.fill("#confirm-password", PASSWORD)
        await page.press("#confirm-password", "Enter")
    await there.wait_for()


async def copy_of_recording(house: House, page: Page) -> None:
    await recording(house, page)
    await page.click("details.q-tm-more > summary")
    await page.select_option("[name=purpose]", "patient")
    await page.fill("[name=recipient]", "Layla Haddad")
    await page.fill("[name=reason]", "She asked for it in writing on Monday.")
    await sends_gravely(page, ".q-tm-act [type=submit]", "a[download]")
    assert "/exports/" in page.url
    async with page.expect_download() as begun:
        await page.click("a[download]")
    assert (await (await begun.value).path()).stat().st_size > 10_000


async def recording_refused(house: House, page: Page) -> None:
    await recording(house, page)
    await page.click("details.q-tm-more > summary")
    await page.fill("[name=recipient]", "Layla Haddad")
    await page.fill("[name=reason]", "?")
    await sends_gravely(page, ".q-tm-act [type=submit]", ".q-tm-act .invalid-feedback")


async def retention(house: House, page: Page) -> None:
    await house.recorded()
    await house.ended()
    if "withdrawn" not in house.found:
        patient = await house.page("patient")
        await patient.goto(f"{await house.visit()}/recording")
        if picture := await patient.locator("form[action*='/pictures/'] button").all():
            await picture[0].click()
        await post(patient, f"{await house.visit()}/recording/withdraw")
        house.found["withdrawn"] = "1"
    await page.goto("/telemedicine/retention")
    await page.wait_for_selector(".q-tm-review")
    await page.evaluate("for (const one of document.querySelectorAll('main details')) one.open = true")


async def retention_refused(house: House, page: Page) -> None:
    await page.goto("/telemedicine/retention?preset=fr")
    await page.fill("[name=basis]", "-")
    await page.click("form[method=post] [type=submit].btn-primary")
    await expect(page.locator(".invalid-feedback").first).to_be_visible()


async def certificate(house: House, page: Page) -> None:
    if "certificate" not in house.found:
        await retention(house, page)
        await page.fill(".q-tm-review [name=note]", "The patient asked for it")
        await page.click(".q-tm-review [value=delete]")
        await page.wait_for_url("**/telemedicine/certificates/*")
        house.found["certificate"] = page.url
    await page.goto(house.found["certificate"])


async def patient_recording(house: House, page: Page) -> None:
    await house.ended()
    await page.goto(f"{await house.visit()}/recording")


async def consultation_after(house: House, page: Page) -> None:
    await house.ended()
    await page.goto(await house.consultation())


def reported(house: House) -> None:
    """What root's programs would have found on a machine, put where the pages look for it."""
    folder = house.stack.state / "reports"
    folder.mkdir(exist_ok=True)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    found = {
        "ports.open": ("crit", {"ports": "tcp/5432"}), "secrets.open": ("crit", {"path": "/var/lib/qanun/secrets/turn"}),
        "backup.old": ("warn", {"hours": 40}), "key.unverified": ("warn", {}), "disk.well": ("ok", {"free": "60.7", "total": "271"}),
    }  # fmt: skip
    findings = [{"code": code, "level": level, "values": values} for code, (level, values) in found.items()]
    release = {"version": "1.1.0", "at": now, "state": "left", "why": "502"}
    space = {"used": 8e9, "free": 4e10, "total": 1e11, "sets": 3, "oldest": "20261101T020000Z"}
    reports: dict[str, dict[str, Any]] = {
        "doctor": {"at": now, "version": "1.0.0", "findings": findings},
        "backup": {"well": True, "last_well": now, "rows": 48112, "files": 37, "seconds": 12.5, **space},
        "drill": {"well": True, "last_well": now, "rows": 48112},
        "log": {"well": True, "last_well": now},
        "update": {"running": "1.0.0", "other": "1.1.0", "last": release, "history": [release], "interrupted": True},
    }
    for name, report in reports.items():
        (folder / f"{name}.json").write_text(json.dumps(report), encoding="utf-8")


def machine(page_name: str) -> Any:
    async def go(house: House, page: Page) -> None:
        reported(house)
        await page.goto(f"/appliance/{page_name}")

    return go


#: In the order of a day: what comes later needs what came before, and makes it when it is run alone.
PLACES = [
    Place("sign-in", "", at("/sign-in"), dark=True),
    Place("portal-start", "", at("/portal")),
    Place("portal-sign-in", "", at(f"/portal/{CLINIC}/sign-in")),
    Place("portal-activate", "", activate),
    Place("clinics", "doctor", at("/clinics")),
    Place("account", "doctor", at("/account")),
    Place("passkeys", "doctor", at("/account/passkeys")),
    Place("recover", "", at("/sign-in/recover")),
    Place("people", "administrator", people),
    Place("person", "administrator", person),
    Place("role", "administrator", at("/roles/nurse"), dark=True),
    Place("gallery", "administrator", at("/gallery"), dark=True),
    Place("portal-home", "patient", at(f"/portal/{CLINIC}"), dark=True),
    Place("portal-visits", "patient", at(f"/portal/{CLINIC}/visits")),
    Place("portal-record", "patient", portal_record),
    Place("portal-me", "patient", at(f"/portal/{CLINIC}/me")),
    Place("portal-encounter", "patient", portal_encounter),
    Place("desk", "reception", at("/scheduling/desk"), dark=True),
    Place("desk-found", "reception", desk_found),
    Place("desk-patient-chosen", "reception", desk_chosen),
    Place("desk-appointment", "reception", desk_appointment),
    Place("desk-register-error", "reception", desk_error),
    Place("desk-duplicates", "reception", desk_duplicates),
    Place("patients", "doctor", at("/emr/patients")),
    Place("chart-empty", "doctor", chart_empty),
    Place("chart-full", "doctor", chart_full),
    Place("visits", "doctor", visits),
    Place("visit", "doctor", visit),
    Place("day", "doctor", at("/scheduling/day")),
    Place("calls", "doctor", at("/telemedicine/consultations")),
    Place("calls-of-reception", "reception", at("/telemedicine/consultations")),
    Place("device-check", "patient", device_check),
    Place("device-check-blocked", "patient", device_check_blocked),
    Place("waiting-room", "patient", waiting_room),
    Place("waiting-room-written-to", "patient", waiting_room_written_to),
    Place("waiting-room-placed", "patient", waiting_room_placed),
    Place("calls-somebody-waits", "reception", calls_somebody_waits),
    Place("patients-somebody-waits", "doctor", chart_summoned),
    Place("day-somebody-waits", "doctor", day_waiting),
    Place("chart-docked", "doctor", chart_docked, dark=True),
    Place("consultation", "doctor", consultation),
    Place("guest-enters", "", guest_enters),
    Place("guest-closed", "", guest_closed),
    Place("guest-device-check", "", guest_checks),
    Place("guest-waits", "", guest_waits),
    Place("chart-with-guests", "doctor", chart_with_guests, dark=True),
    Place("chart-in-call", "doctor", chart_in_call),
    Place("patient-in-call", "patient", patient_in_call),
    Place("chart-recording", "doctor", chart_recording, dark=True),
    Place("patient-sends-a-photo", "patient", patient_sends_a_photo),
    Place("connections", "administrator", connections),
    Place("patient-asks", "patient", patient_asks),
    Place("patient-question", "patient", patient_question),
    Place("question-waits", "doctor", question_waits),
    Place("question-answered", "doctor", question_answered),
    Place("picture-asked", "patient", picture_asked),
    Place("chart-with-picture", "doctor", chart_picture),
    Place("patient-in-group", "patient", patient_in_group),
    Place("chart-in-group", "doctor", chart_in_group),
    Place("patient-after", "patient", patient_after),
    Place("recording", "doctor", recording),
    Place("recordings-of-a-patient", "doctor", kept),
    Place("recording-copy", "doctor", copy_of_recording),
    Place("recording-copy-refused", "doctor", recording_refused),
    Place("patient-recording", "patient", patient_recording),
    Place("recordings-kept", "administrator", retention),
    Place("recordings-rule-refused", "administrator", retention_refused),
    Place("deletion-certificate", "administrator", certificate),
    Place("consultation-after", "doctor", consultation_after),
    Place("machine-health", "administrator", machine("health"), dark=True),
    Place("machine-backups", "administrator", machine("backups")),
    Place("machine-releases", "administrator", machine("updates")),
]


# --- the test ----------------------------------------------------------------------------------------------------------


async def look(page: Page, language: str, *, dark: bool) -> tuple[list[str], Any]:
    """All that is wrong with the page that is open, and its words."""
    faults: list[str] = []

    def note(what: str, found: list[str]) -> None:
        faults.extend(f"{language} {what}: {one}" for one in found)

    where = await page.evaluate("[document.documentElement.lang, document.documentElement.dir]")
    if where != [language, DIRECTION[language]]:
        faults.append(f"{language}: the page says {where}")
    note("desk axe", await reading.axe(page))
    if dark:
        await page.emulate_media(color_scheme="dark")
        await page.wait_for_function("() => document.documentElement.dataset.bsTheme === 'dark'")
        note("dark axe", await reading.axe(page))
        await page.emulate_media(color_scheme="light")
        await page.wait_for_function("() => document.documentElement.dataset.bsTheme === 'light'")
    words = await reading.words(page)
    if language == "ar":
        note("desk values", await reading.out_of_order(page))
    await page.set_viewport_size(PHONE)
    note("phone axe", await reading.axe(page))
    note("phone width", await reading.too_wide(page))
    if language == "ar":
        note("phone values", await reading.out_of_order(page))
    await page.set_viewport_size(SMALLEST)
    note("smallest width", await reading.too_wide(page))
    scripts = await reading.script_bytes(page)
    assert scripts, "a page without scripts is not one of ours"
    if sum(scripts.values()) > reading.FIRST_LOAD_LIMIT:
        faults.append(f"{sum(scripts.values())} bytes of script: {scripts}")
    await page.set_viewport_size(DESK)
    note("log", await reading.faults_of(page))
    return faults, words


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
async def test_a_page_holds_in_both_languages_and_every_size(house: House, place: Place) -> None:
    faults, words = [], {}
    for language in ("en", "ar"):
        page = await house.page(place.who, language)
        await page.set_viewport_size(DESK)
        await place.open(house, page)
        found, words[language] = await look(page, language, dark=place.dark)
        faults += found
    left = reading.untranslated(words["ar"], words["en"], KNOWN)
    faults += [f"not in Arabic: {text}" for text in left]
    assert not faults, "\n".join(["", *faults])


async def test_a_broken_page_does_not_pass(house: House) -> None:
    """The reading itself is proven: each of its findings is found when it is there."""
    page = await house.page("", "ar")
    await page.goto("/sign-in")
    await page.evaluate(
        """() => document.querySelector('main').insertAdjacentHTML('beforeend',
          '<p id="a">من 3.5-5.0</p><p>النتيجة -1.5</p><p><bdi>09:00</bdi>–<bdi>10:00</bdi></p><p>Records, appointments and no translation</p><img src="/x"><div id="w">.</div>')"""
    )
    assert any("displayed in another order: 3.5-5.0" in one for one in await reading.out_of_order(page))
    assert any("bare" in one and "-1.5" in one for one in await reading.out_of_order(page))
    assert "two values beside a dash: 09:00–10:00" in await reading.out_of_order(page)
    assert any(one.startswith("image-alt") for one in await reading.axe(page))
    sentence = "Records, appointments and no translation"
    assert sentence in reading.untranslated(await reading.words(page), [(sentence, False)], set())
    await page.evaluate("document.getElementById('w').style.cssText = 'inline-size: 3000px; block-size: 5px'")
    assert await reading.too_wide(page)
    await page.goto("/sign-in")
    await reading.faults_of(page)
