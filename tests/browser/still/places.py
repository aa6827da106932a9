"""Pages that keep still: they need the demonstration clinic, or a few rows that they make themselves, and nobody else's call."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from playwright.async_api import Page, expect

from tests.browser.house import CLINIC, House, Opens, Place, at, post, sends_gravely

PORTAL = "/portal/{clinic:str}"
CHART = "/emr/patients/{patient_id:uuid}"


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


async def retention_refused(house: House, page: Page) -> None:
    await page.goto("/telemedicine/retention?preset=fr")
    await page.fill("[name=basis]", "-")
    await page.click("form[method=post] [type=submit].btn-primary")
    await expect(page.locator(".invalid-feedback").first).to_be_visible()


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


def machine(page_name: str) -> Opens:
    async def go(house: House, page: Page) -> None:
        reported(house)
        await page.goto(f"/appliance/{page_name}")

    return go


async def person_code(house: House, page: Page) -> None:
    """A one-time code that was just made; somebody's whom no other place signs in."""
    await page.goto("/people")
    await page.locator(".q-person", has_text="lab@").click()
    await sends_gravely(page, "[aria-labelledby=locked] form button", ".q-bigcode")


async def _let_in_again(page: Page, mrn: str, goes_on: str) -> None:
    await page.goto("/portal-access")
    await page.fill("#mrn", mrn)
    await sends_gravely(page, "main form .btn-primary", goes_on)


async def portal_access_refused(house: House, page: Page) -> None:
    await _let_in_again(page, "X-0000", ".invalid-feedback")


async def portal_access_link(house: House, page: Page) -> None:
    await _let_in_again(page, await record_number(house, "empty"), ".q-wraplink")


async def record_number(house: House, whose: str) -> str:
    """The number of the record that reception registered, or of the demonstration patient's."""
    await house.registered()
    desk = await house.page("reception")
    href = house.found["empty"] if whose == "empty" else await house.chart()
    await desk.goto(f"/scheduling/desk?patient={href.rsplit('/', 1)[1]}")
    way = await desk.locator("a[href^='/portal-access?mrn=']").get_attribute("href")
    return str(way).rsplit("=", 1)[1]


async def hours_refused(house: House, page: Page) -> None:
    await page.goto("/scheduling/hours")
    await page.fill("#slot_minutes", "0")
    await page.click("form[action*='/hours/week/'] .btn-primary")
    await page.wait_for_selector(".invalid-feedback")


async def hours_differ(house: House, page: Page) -> None:
    await page.goto("/scheduling/hours")
    await page.click("details.q-letin > summary")


async def clinic_writes(house: House, page: Page) -> None:
    await page.goto(f"/telemedicine/patients/{(await house.chart()).rsplit('/', 1)[1]}/write")
    await page.wait_for_selector("#text")


async def promise_refused(house: House, page: Page) -> None:
    await page.goto("/telemedicine/consultations")
    await page.click("details.q-tm-invite > summary")
    await page.fill("#tm-hours", "0")
    await page.click("details.q-tm-invite button[type=submit]")
    await page.wait_for_selector("#tm-hours-error")


async def privacy(house: House, page: Page) -> None:
    await page.goto("/privacy")
    await page.click(".q-letin > summary")


async def privacy_refused(house: House, page: Page) -> None:
    await privacy(house, page)
    await page.fill("#mrn", "X-0000")
    await page.fill("#reason", "?")
    await sends_gravely(page, "form[action='/privacy/closed'] .btn-primary", ".invalid-feedback")


async def closed(house: House) -> str:
    """The chart of somebody whose record the officer closed to everybody but themselves."""
    if "closed" not in house.found:
        officer, number = await house.page("administrator"), await record_number(house, "empty")
        await privacy(house, officer)
        await officer.fill("#mrn", number)
        await officer.fill("#reason", "A colleague of ours, at her own wish")
        await officer.locator("[name=people]").first.check(force=True)
        await sends_gravely(officer, "form[action='/privacy/closed'] .btn-primary", "form[action$='/open']")
        house.found["closed"] = house.found["empty"]
    return house.found["closed"]


async def closed_record(house: House, page: Page) -> None:
    await page.goto(await closed(house))
    await page.wait_for_selector("form[action^='/privacy/glass/']")


async def closed_record_refused(house: House, page: Page) -> None:
    """Without a reason the glass stays whole."""
    await closed_record(house, page)
    await page.fill("#reason", "?")
    await sends_gravely(page, "form[action^='/privacy/glass/'] .btn-danger", ".invalid-feedback")


async def broken_glass(house: House, page: Page) -> None:
    if "broken" not in house.found:
        doctor = await house.page("doctor")
        await closed_record(house, doctor)
        await doctor.fill("#reason", "Unconscious in room 2, allergies needed")
        await sends_gravely(doctor, "form[action^='/privacy/glass/'] .btn-danger", ".q-wsrail")
        house.found["broken"] = "1"
    await privacy(house, page)
    await page.wait_for_selector("form[action^='/privacy/glasses/']")


#: Closed records come last: a record that is closed opens for no place after it.
PLACES = [
    at("sign-in", "", "/sign-in", dark=True),
    at("portal-start", "", "/portal"),
    at("portal-sign-in", "", f"/portal/{CLINIC}/sign-in"),
    Place("portal-activate", "", PORTAL + "/i/{token:str}", activate),
    at("recover", "", "/sign-in/recover"),
    at("guest-closed", "", f"/guest/{CLINIC}"),
    at("clinics", "doctor", "/clinics"),
    at("account", "doctor", "/account"),
    at("passkeys", "doctor", "/account/passkeys"),
    Place("people", "administrator", "/people", people),
    Place("person", "administrator", "/people/{user_id:uuid}", person),
    Place("person-code", "administrator", "", person_code),
    at("role", "administrator", "/roles/nurse", "/roles/{role:str}", dark=True),
    at("gallery", "administrator", "/gallery", dark=True),
    at("portal-home", "patient", f"/portal/{CLINIC}", dark=True),
    at("portal-visits", "patient", f"/portal/{CLINIC}/visits"),
    Place("portal-record", "patient", PORTAL + "/record", portal_record),
    at("portal-me", "patient", f"/portal/{CLINIC}/me"),
    at("portal-passkeys", "patient", f"/portal/{CLINIC}/passkeys"),
    Place("portal-encounter", "patient", PORTAL + "/encounters/{encounter_id:uuid}", portal_encounter),
    at("desk", "reception", "/scheduling/desk", dark=True),
    Place("desk-found", "reception", "/scheduling/desk", desk_found),
    Place("desk-patient-chosen", "reception", "/scheduling/desk", desk_chosen),
    Place("desk-appointment", "reception", "/scheduling/desk", desk_appointment),
    Place("desk-register-error", "reception", "", desk_error),
    Place("desk-duplicates", "reception", "", desk_duplicates),
    at("hours", "reception", "/scheduling/hours"),
    Place("hours-differ", "administrator", "/scheduling/hours", hours_differ),
    Place("hours-refused", "reception", "", hours_refused),
    at("portal-access", "reception", "/portal-access"),
    Place("portal-access-refused", "reception", "/portal-access", portal_access_refused),
    Place("portal-access-link", "reception", "/portal-access", portal_access_link),
    at("patients", "doctor", "/emr/patients"),
    Place("chart-empty", "doctor", CHART, chart_empty),
    Place("chart-full", "doctor", CHART, chart_full),
    Place("visits", "doctor", CHART + "/encounters", visits),
    Place("visit", "doctor", CHART + "/encounters/{encounter_id:uuid}", visit),
    at("day", "doctor", "/scheduling/day"),
    at("calls", "doctor", "/telemedicine/consultations"),
    at("calls-of-reception", "reception", "/telemedicine/consultations"),
    Place("promise-refused", "administrator", "", promise_refused),
    Place("patient-asks", "patient", PORTAL + "/written", patient_asks),
    Place("patient-question", "patient", PORTAL + "/written/{consultation_id:uuid}", patient_question),
    Place("question-waits", "doctor", "/telemedicine/written/{consultation_id:uuid}", question_waits),
    Place("question-answered", "doctor", "/telemedicine/written/{consultation_id:uuid}", question_answered),
    Place("clinic-writes", "doctor", "/telemedicine/patients/{patient_id:uuid}/write", clinic_writes),
    Place("recordings-rule-refused", "administrator", "", retention_refused),
    Place("machine-health", "administrator", "/appliance/health", machine("health"), dark=True),
    Place("machine-backups", "administrator", "/appliance/backups", machine("backups")),
    Place("machine-releases", "administrator", "/appliance/updates", machine("updates")),
    Place("privacy", "administrator", "/privacy", privacy),
    Place("privacy-refused", "administrator", "", privacy_refused),
    Place("closed-record", "doctor", CHART, closed_record),
    Place("closed-record-refused", "doctor", "", closed_record_refused),
    Place("broken-glass", "administrator", "/privacy", broken_glass),
]
