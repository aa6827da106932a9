"""A story in order: a patient waits, is let in, talks, is recorded, and the record of it is kept, copied and deleted.

Every place depends on how far the one call of the demonstration patient is. It makes what it needs when it is run alone, and goes
no further back: what is over does not begin again.
"""

from __future__ import annotations

import base64
import json

from playwright.async_api import Page, expect

from tests.browser.house import House, Place, post, sends_gravely, waits

PORTAL_VISIT = "/portal/{clinic:str}/visits/{consultation_id:uuid}"
GUEST_VISIT = "/guest/{clinic:str}/visits/{consultation_id:uuid}"
CHART = "/emr/patients/{patient_id:uuid}"
CALLS = "/telemedicine/consultations"
CALL = "/telemedicine/consultations/{consultation_id:uuid}"
RECORDING = "/telemedicine/recordings/{recording_id:uuid}"


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
    await page.wait_for_selector('[data-check="network"][data-tone="bad"]', timeout=60_000)
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
    await expect(call).to_have_attribute("data-running", "true")


async def patient_in_call(house: House, page: Page) -> None:
    await house.admitted()
    await page.goto(await house.visit())
    await page.wait_for_selector("#visit:not([data-step=''])")
    await page.wait_for_selector('[data-part="check"]:not([hidden]), [data-part="call"]:not([hidden])')
    if await page.locator('[data-part="check"]').is_visible():
        await page.click('[data-do="enter"]:not([disabled])')
    await expect(page.locator("#telemedicine-call")).to_have_attribute("data-running", "true")


async def guest_enters(house: House, page: Page) -> None:
    await page.goto(await house.guest_link("Karim Idrissi", "relative"))


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
    await expect(page.locator("#telemedicine-call")).to_have_attribute("data-running", "true")
    await expect(page.locator('#telemedicine-call [data-recording="recording"]')).to_be_visible()
    await expect(page.locator('[data-act="pause"]')).to_be_visible()


async def picture_asked(house: House, page: Page) -> None:
    """The patient reads the question; it is asked anew for every language, and left open here."""
    await house.recorded()
    # The doctor's other window leaves the call, in which a person is once.
    await (await house.page("doctor", "ar")).goto("/clinics")
    await page.goto(await house.visit())
    await expect(page.locator("#telemedicine-call")).to_have_attribute("data-running", "true")
    doctor = await house.page("doctor")
    await doctor.goto(await house.chart())
    await doctor.click("[data-remote] [data-picture-of]")
    await expect(page.locator("[data-picture]")).to_be_visible()


async def chart_picture(house: House, page: Page) -> None:
    if "picture" not in house.found:
        patient, doctor = await house.page("patient"), await house.page("doctor")
        await picture_asked(house, patient)
        await patient.click("[data-picture-answer=given]")
        await expect(doctor.locator("[data-notice]")).to_have_text("The picture is in the chart.")
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


PLACES = [
    Place("device-check", "patient", PORTAL_VISIT, device_check),
    Place("device-check-blocked", "patient", PORTAL_VISIT, device_check_blocked),
    Place("waiting-room", "patient", PORTAL_VISIT, waiting_room),
    Place("waiting-room-written-to", "patient", PORTAL_VISIT, waiting_room_written_to),
    Place("waiting-room-placed", "patient", PORTAL_VISIT, waiting_room_placed),
    Place("calls-somebody-waits", "reception", CALLS, calls_somebody_waits),
    Place("patients-somebody-waits", "doctor", "/emr/patients", chart_summoned),
    Place("day-somebody-waits", "doctor", "/scheduling/day", day_waiting),
    Place("chart-docked", "doctor", CHART, chart_docked, dark=True),
    Place("consultation", "doctor", CALL, consultation),
    Place("guest-enters", "", "/guest/{clinic:str}/i/{token:str}", guest_enters),
    Place("guest-device-check", "", GUEST_VISIT, guest_checks),
    Place("guest-waits", "", GUEST_VISIT, guest_waits),
    Place("chart-with-guests", "doctor", CHART, chart_with_guests, dark=True),
    Place("chart-in-call", "doctor", CHART, chart_in_call),
    Place("patient-in-call", "patient", PORTAL_VISIT, patient_in_call),
    Place("chart-recording", "doctor", CHART, chart_recording, dark=True),
    Place("patient-sends-a-photo", "patient", PORTAL_VISIT, patient_sends_a_photo),
    Place("connections", "administrator", "/telemedicine/quality", connections),
    Place("picture-asked", "patient", PORTAL_VISIT, picture_asked),
    Place("chart-with-picture", "doctor", CHART, chart_picture),
    Place("patient-in-group", "patient", PORTAL_VISIT, patient_in_group),
    Place("chart-in-group", "doctor", CHART, chart_in_group),
    Place("patient-after", "patient", PORTAL_VISIT, patient_after),
    Place("recording", "doctor", RECORDING, recording),
    Place("recordings-of-a-patient", "doctor", "/telemedicine/patients/{patient_id:uuid}/kept", kept),
    Place("recording-copy", "doctor", RECORDING + "/exports/{export_id:uuid}", copy_of_recording),
    Place("recording-copy-refused", "doctor", "", recording_refused),
    Place("patient-recording", "patient", PORTAL_VISIT + "/recording", patient_recording),
    Place("recordings-kept", "administrator", "/telemedicine/retention", retention),
    Place("deletion-certificate", "administrator", "/telemedicine/certificates/{certificate_id:uuid}", certificate),
    Place("consultation-after", "doctor", CALL, consultation_after),
]
