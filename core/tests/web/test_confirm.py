"""“Confirm it is you”: a grave act waits for it, loses nothing that was typed, and nobody gets around it."""

import dataclasses
import re

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import select, update

from qanun.access import Core
from qanun.app.web import web_application
from qanun.audit import AuditEvent
from qanun.context import Context
from qanun.crypto import token_hash
from qanun.errors import ConfigurationError
from qanun.identity import SignInSession
from qanun.tenancy import global_session
from qanun.testing.clinics import ORIGIN, PASSWORD
from qanun.web import Form, get, json_response, post
from qanun.web.security import COOKIES

SENT = {"reason": "Asked for “in writing”", "part": ["a", "b"]}


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def grave(assembly):
    """The application with three acts that need a confirmation."""

    @post("/grave", permission=Core.SESSION_USE, fresh=True)
    async def grave(ctx: Context, form: Form) -> object:
        return json_response({name: form.all(name) for name in form})

    @get("/grave/page", permission=Core.SESSION_USE, fresh=True)
    async def look(q: str = "") -> str:
        return f"opened {q}"

    @post("/sometimes", permission=Core.SESSION_USE)
    async def sometimes(ctx: Context, form: Form) -> object:
        if form.flag("grave"):
            ctx.require_fresh()
        return json_response({"done": True})

    @post("/portal/{clinic:str}/grave", permission=Core.PORTAL_USE, audience="portal", fresh=True)
    async def patients(ctx: Context, form: Form, clinic: str) -> object:
        return json_response({"done": form.text("what")})

    routes = [*assembly.plugins.routes, *(("core", handler) for handler in (grave, look, sometimes, patients))]
    plugins = dataclasses.replace(assembly.plugins, routes=routes)
    return web_application(dataclasses.replace(assembly, plugins=plugins))


@pytest.fixture
def browser(grave):
    """A browser with a session of this kind; it follows no redirect by itself."""

    def make(kind: str, token: str) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=grave, raise_app_exceptions=False)
        return httpx.AsyncClient(
            transport=transport, base_url=ORIGIN, cookies={COOKIES[kind]: token}, headers={"origin": ORIGIN}
        )

    return make


async def _stale(clinic, browser, role="doctor"):
    token = await clinic.staff_token(role)
    await clinic.long_ago(token)
    return browser("staff", token)


def _fields(page: str) -> dict[str, list[str]]:
    """What the page's form would send, without what is typed into it."""
    found: dict[str, list[str]] = {}
    for tag in re.findall(r"<input[^>]*type=\"hidden\"[^>]*>", page):
        name, value = re.search(r'name="([^"]*)"', tag)[1], re.search(r'value="([^"]*)"', tag)[1]
        found.setdefault(name, []).append(value)
    return found


async def test_who_has_just_signed_in_is_not_asked(clinic, browser):
    doctor = browser("staff", await clinic.staff_token("doctor"))
    assert (await doctor.post("/grave", data=SENT)).json() == {"reason": [SENT["reason"]], "part": ["a", "b"]}
    assert (await doctor.get("/grave/page?q=1")).text == "opened 1"
    assert (await doctor.get("/confirm")).status_code == 204


async def test_a_form_waits_in_the_page_and_goes_on_by_itself_after_the_password(clinic, browser):
    doctor = await _stale(clinic, browser)
    asked = await doctor.post("/grave", data=SENT)
    assert asked.status_code == 403 and "Confirm it is you" in asked.text and 'action="/confirm"' in asked.text
    fields = _fields(asked.text)
    assert fields["reason"] == [SENT["reason"]] and fields["part"] == ["a", "b"]
    wrong = await doctor.post("/confirm", data={**fields, "qanun_password": "not it at all"})
    assert wrong.status_code == 422 and "not it at all" not in wrong.text
    assert _fields(wrong.text) == fields, "still all there"
    assert (await doctor.post("/grave", data=SENT)).status_code == 403
    sent = {**_fields(wrong.text), "qanun_password": PASSWORD}
    right = await doctor.post("/confirm", data=sent)
    assert (right.status_code, right.headers["location"]) == (307, "/grave"), "the browser sends the same form on"
    done = await doctor.post("/grave", data=sent)
    assert done.json() == {"reason": [SENT["reason"]], "part": ["a", "b"]}, "and the act sees neither password nor way"
    async with clinic.context("system") as ctx:
        events = select(AuditEvent.type).where(AuditEvent.type.like("core.session.%")).order_by(AuditEvent.seq)
        assert list((await ctx.db.execute(events)).scalars()) == [
            "core.session.confirm-refused",
            "core.session.confirm",
        ]


async def test_a_page_is_opened_after_the_password_and_leads_nowhere_else(clinic, browser):
    doctor = await _stale(clinic, browser)
    asked = await doctor.get("/grave/page?q=1")
    assert asked.status_code == 403 and "opened" not in asked.text
    right = await doctor.post("/confirm", data={**_fields(asked.text), "qanun_password": PASSWORD})
    assert (right.status_code, right.headers["location"]) == (303, "/grave/page?q=1")
    for elsewhere in ("https://evil.example/", "//evil.example", "/\\evil.example"):
        led = await doctor.post("/confirm", data={"qanun_to": elsewhere, "qanun_password": PASSWORD})
        assert led.headers["location"] == "/"


async def test_a_part_of_a_page_and_a_program_are_told_where_to_confirm(clinic, browser):
    doctor = await _stale(clinic, browser)
    for headers in ({"hx-request": "true"}, {"x-qanun-json": "1"}, {"accept": "application/json"}):
        told = await doctor.post("/grave", data=SENT, headers=headers)
        assert (told.status_code, told.headers["x-qanun-confirm"]) == (403, "/confirm")
        assert told.json() == {"error": "confirm", "confirm": "/confirm"}
    dialog = await doctor.get("/confirm")
    assert "<dialog" in dialog.text and "<html" not in dialog.text
    json = {"x-qanun-json": "1"}
    wrong = await doctor.post("/confirm", data={"qanun_password": "no"}, headers=json)
    assert wrong.status_code == 422 and wrong.json() == {"fields": {"qanun_password": "The password is not right."}}
    assert (await doctor.post("/confirm", data={"qanun_password": PASSWORD}, headers=json)).status_code == 204
    assert (await doctor.post("/grave", data=SENT, headers=json)).status_code == 200


async def test_an_act_that_only_sometimes_needs_it_asks_only_then(clinic, browser):
    doctor = await _stale(clinic, browser)
    assert (await doctor.post("/sometimes", data={"note": "x"})).status_code == 200
    asked = await doctor.post("/sometimes", data={"grave": "1", "note": "x"})
    assert asked.status_code == 403 and _fields(asked.text)["note"] == ["x"]


async def test_wrong_passwords_count_as_at_the_way_in(clinic, browser):
    doctor = await _stale(clinic, browser)
    for _ in range(5):
        assert (await doctor.post("/confirm", data={"qanun_password": "guess"})).status_code == 422
    rests = await doctor.post("/confirm", data={"qanun_password": PASSWORD, "qanun_to": "/grave"})
    assert rests.status_code == 429 and int(rests.headers["retry-after"]) > 0
    door = await clinic.anonymous().post("/sign-in", data={"email": clinic.users["doctor"].email, "password": PASSWORD})
    assert door.status_code == 429
    assert (await doctor.get("/grave/page")).status_code == 403


async def test_one_session_is_confirmed_and_no_other(clinic, other_clinic, browser):
    doctor, elsewhere = await _stale(clinic, browser), await _stale(clinic, browser)
    theirs = await _stale(other_clinic, browser)
    await doctor.post("/confirm", data={"qanun_password": PASSWORD})
    assert (await doctor.get("/grave/page")).status_code == 200
    assert (await elsewhere.get("/grave/page")).status_code == 403
    assert (await theirs.get("/grave/page")).status_code == 403


async def test_a_confirmation_grows_old_after_five_minutes(clinic, browser, assembly):
    from datetime import UTC, datetime, timedelta

    token = await clinic.staff_token("doctor")
    doctor = browser("staff", token)
    for age, status in ((timedelta(minutes=4, seconds=50), 200), (timedelta(minutes=5, seconds=1), 403)):
        async with global_session(assembly.runtime.database) as session:
            mine = update(SignInSession).where(SignInSession.token_hash == token_hash(token))
            await session.execute(mine.values(confirmed_at=datetime.now(UTC) - age))
            await session.commit()
        assert (await doctor.get("/grave/page")).status_code == status


async def test_a_patient_confirms_at_their_own_clinics_portal(clinic, other_clinic, browser):
    patient, slug = await clinic.patient(), clinic.tenant.slug
    token = await clinic.portal_token(patient)
    await clinic.long_ago(token)
    phone = browser("portal", token)
    asked = await phone.post(f"/portal/{slug}/grave", data={"what": "x"})
    assert asked.status_code == 403 and f'action="/portal/{slug}/confirm"' in asked.text
    assert (await phone.post(f"/portal/{other_clinic.tenant.slug}/confirm", data={})).status_code == 303
    sent = {**_fields(asked.text), "qanun_password": PASSWORD}
    assert (await phone.post(f"/portal/{slug}/confirm", data=sent)).status_code == 307
    assert (await phone.post(f"/portal/{slug}/grave", data=sent)).json() == {"done": "x"}


def test_a_guest_and_a_public_route_cannot_ask_for_it():
    for how in ({"public": "reason"}, {"permission": "x.y:z", "audience": "guest"}):
        with pytest.raises(ConfigurationError):
            post("/x", fresh=True, **how)
