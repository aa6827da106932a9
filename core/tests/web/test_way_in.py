"""The way in: default deny, our own pages only, one clinic, and no hint to a stranger."""

import re
import uuid

import pytest
from litestar import get as plain_get

from qanun.app.web import all_routes
from qanun.crypto import token_hash
from qanun.errors import ConfigurationError
from qanun.identity.signin import invite
from qanun.testing.clinics import PASSWORD
from qanun.web import get
from qanun.web.routing import check_routes
from qanun.web.security import COOKIES


def test_a_route_without_a_permission_does_not_start():
    @plain_get("/open-door")
    async def open_door() -> str:
        return "never"

    with pytest.raises(ConfigurationError, match="/open-door"):
        check_routes([("/open-door", open_door)])
    with pytest.raises(ConfigurationError):
        get("/neither")
    with pytest.raises(ConfigurationError):
        get("/both", permission="core.session:use", public="reason")


async def test_every_route_that_needs_a_permission_sends_a_stranger_to_the_way_in(clinic, application):
    stranger = clinic.anonymous()
    asked = 0
    for path, handler in all_routes(application):
        if handler.opt.get("public") or not hasattr(handler, "http_methods"):
            continue
        url = path.replace("{clinic:str}", clinic.tenant.slug)
        url = re.sub(r"\{\w+:uuid\}", str(uuid.uuid4()), url)
        url = re.sub(r"\{\w+:\w+\}", "1", url)
        for method in sorted(handler.http_methods - {"HEAD", "OPTIONS"}):
            answer = await stranger.request(method, url)
            assert answer.status_code in (303, 401), f"{method} {path} answered {answer.status_code}"
            assert "sign-in" in answer.headers.get("location", "") + answer.headers.get("x-qanun-sign-in", "") or (
                answer.headers.get("location", "").startswith(("/portal", "/guest/"))
            )
            asked += 1
    assert asked > 5


async def test_a_member_of_staff_signs_in_works_and_leaves(clinic):
    browser = clinic.anonymous()
    answer = await browser.post("/sign-in", data={"email": clinic.users["doctor"].email.upper(), "password": PASSWORD})
    assert answer.status_code == 303
    assert "httponly" in answer.headers["set-cookie"].lower() and "samesite=lax" in answer.headers["set-cookie"].lower()
    assert (await browser.get("/account")).status_code == 200
    token = browser.cookies[COOKIES["staff"]]
    assert (await browser.post("/sign-out")).status_code == 303
    stolen = clinic.anonymous()
    stolen.cookies.set(COOKIES["staff"], token)
    assert (await stolen.get("/account")).status_code == 303


async def test_a_wrong_password_and_an_unknown_name_get_the_same_answer_and_keep_what_was_typed(clinic):
    browser = clinic.anonymous()
    wrong = await browser.post("/sign-in", data={"email": clinic.users["doctor"].email, "password": "not it at all"})
    nobody = await browser.post("/sign-in", data={"email": "nobody@clinic.example", "password": "not it at all"})
    assert wrong.status_code == nobody.status_code == 422
    assert clinic.users["doctor"].email in wrong.text
    assert "not it at all" not in wrong.text
    assert wrong.text.replace(clinic.users["doctor"].email, "X") == nobody.text.replace("nobody@clinic.example", "X")
    assert COOKIES["staff"] not in browser.cookies


async def test_after_five_wrong_passwords_the_right_one_rests_and_a_guesser_learns_nothing(clinic, other_clinic):
    browser, email = clinic.anonymous(), clinic.users["nurse"].email
    for _ in range(5):
        assert (
            await browser.post("/sign-in", data={"email": email, "password": "guess guess guess"})
        ).status_code == 422
    assert (await browser.post("/sign-in", data={"email": email, "password": "guess guess guess"})).status_code == 422
    assert (await browser.post("/sign-in", data={"email": email, "password": PASSWORD})).status_code == 429
    fine = await other_clinic.anonymous().post(
        "/sign-in", data={"email": other_clinic.users["nurse"].email, "password": PASSWORD}
    )
    assert fine.status_code == 303


@pytest.mark.parametrize("origin", [None, "https://evil.example", "null", "http://clinic.test.evil.example"])
async def test_a_changing_request_from_another_page_is_refused(clinic, origin):
    browser = await clinic.client("doctor")
    browser.headers.pop("origin")
    headers = {"origin": origin} if origin else {}
    assert (await browser.post("/sign-out", headers=headers)).status_code == 403
    assert (await browser.get("/account")).status_code == 200


async def test_signing_in_leads_only_to_our_own_pages(clinic):
    for target in ("https://evil.example/", "//evil.example", "/\\evil.example"):
        answer = await clinic.anonymous().post(
            "/sign-in", data={"email": clinic.users["doctor"].email, "password": PASSWORD, "next": target}
        )
        assert answer.headers["location"] == "/"


async def test_a_clinic_can_only_be_chosen_by_its_own_staff(clinic, other_clinic):
    browser = await clinic.client("doctor")
    assert other_clinic.tenant.name not in (await browser.get("/clinics")).text
    assert (await browser.post("/clinics", data={"clinic": other_clinic.tenant.slug})).status_code == 404
    assert (await browser.post("/clinics", data={"clinic": clinic.tenant.slug})).status_code == 303


async def test_staff_and_portal_sessions_do_not_open_each_others_doors(clinic, other_clinic):
    patient = await clinic.patient()
    portal_token = await clinic.portal_token(patient)
    staff_token = await clinic.staff_token("doctor")
    crossed = clinic.anonymous()
    crossed.cookies.set(COOKIES["staff"], portal_token)
    crossed.cookies.set(COOKIES["portal"], staff_token)
    assert (await crossed.get("/account")).status_code == 303
    assert (await crossed.get(f"/portal/{clinic.tenant.slug}/live")).status_code == 303
    elsewhere = clinic.anonymous()
    elsewhere.cookies.set(COOKIES["portal"], portal_token)
    answer = await elsewhere.get(f"/portal/{other_clinic.tenant.slug}/live")
    assert answer.headers["location"].startswith(f"/portal/{other_clinic.tenant.slug}/sign-in")


async def test_an_invitation_makes_an_account_once_and_only_for_who_knows_the_birth_date(clinic, other_clinic):
    patient = await clinic.patient()
    slug = clinic.tenant.slug
    async with clinic.context("reception") as ctx:
        token = await invite(ctx, patient.id, f"/portal/{slug}")
    link = f"/portal/{slug}/i/{token}"
    browser = clinic.anonymous()
    shown = await browser.get(link)
    assert shown.status_code == 200
    for private in (patient.family, patient.family_alt, patient.mrn, "1991", patient.phone):
        assert private not in shown.text
    assert (await browser.get(f"/portal/{other_clinic.tenant.slug}/i/{token}")).status_code == 404
    short = await browser.post(link, data={"birth_date": "1991-08-19", "password": "tiny1"})
    assert short.status_code == 422 and "1991-08-19" in short.text and "tiny1" not in short.text
    wrong = await browser.post(link, data={"birth_date": "1990-01-01", "password": "a sentence of mine"})
    assert wrong.status_code == 422 and COOKIES["portal"] not in browser.cookies
    right = await browser.post(link, data={"birth_date": "١٩٩١-٠٨-١٩", "password": "a sentence of mine"})
    assert right.status_code == 303 and COOKIES["portal"] in browser.cookies
    again = await clinic.anonymous().post(link, data={"birth_date": "1991-08-19", "password": "another sentence"})
    assert again.status_code == 404


async def test_five_wrong_birth_dates_end_an_invitation(clinic):
    patient = await clinic.patient()
    async with clinic.context("reception") as ctx:
        token = await invite(ctx, patient.id, f"/portal/{clinic.tenant.slug}")
    link, browser = f"/portal/{clinic.tenant.slug}/i/{token}", clinic.anonymous()
    for day in range(1, 6):
        data = {"birth_date": f"1990-01-0{day}", "password": "a sentence of mine"}
        assert (await browser.post(link, data=data)).status_code == 422
    right = {"birth_date": "1991-08-19", "password": "a sentence of mine"}
    assert (await browser.post(link, data=right)).status_code == 404


async def test_answers_carry_a_policy_without_exceptions_and_are_never_stored(clinic):
    answer = await (await clinic.client("doctor")).get("/account")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "*" not in policy
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["permissions-policy"].startswith("camera=()")


async def test_only_the_hash_of_a_session_token_is_stored(clinic, postgres):
    import psycopg

    token = await clinic.staff_token("doctor")
    with psycopg.connect(postgres.application_url) as connection:
        hashes = [bytes(row[0]) for row in connection.execute("select token_hash from core_session").fetchall()]
        everything = connection.execute("select * from core_session").fetchall()
    assert token_hash(token) in hashes
    assert token not in str(everything)


async def test_the_chosen_language_is_there_at_the_next_sign_in(clinic, other_clinic):
    patient = await clinic.patient(language="")
    neighbour = await clinic.patient(language="")
    browser = await clinic.portal(patient)
    await clinic.portal_token(neighbour)
    answer = await browser.post("/language", data={"language": "ar", "back": f"/portal/{clinic.tenant.slug}"})
    assert answer.status_code == 303
    again = await clinic.portal(patient)  # another device: no cookie of the first one
    page = await again.get(f"/portal/{clinic.tenant.slug}/me")
    assert page.status_code == 200 and '<html lang="ar" dir="rtl"' in page.text
    other = await (await clinic.portal(neighbour)).get(f"/portal/{clinic.tenant.slug}/me")
    assert '<html lang="en"' in other.text, "a choice is one person's"

    doctor = await clinic.client("doctor")
    assert (await doctor.post("/language", data={"language": "ar", "back": "/account"})).status_code == 303
    assert 'dir="rtl"' in (await (await clinic.client("doctor")).get("/account")).text
    assert 'dir="ltr"' in (await (await clinic.client("nurse")).get("/account")).text
    assert (await doctor.post("/language", data={"language": "xx"})).status_code == 422


async def test_a_patient_who_signs_in_at_receptions_screen_leaves_its_language_alone(clinic, other_clinic):
    """One browser, three doors: each remembers its own language, and no session but the chooser's own is changed."""
    patient, slug = await clinic.patient(language=""), clinic.tenant.slug
    screen = await clinic.client("reception")
    screen.cookies.set(COOKIES["portal"], await clinic.portal_token(patient))
    await screen.post("/language", data={"language": "ar", "back": f"/portal/{slug}/me"})
    assert '<html lang="ar"' in (await screen.get(f"/portal/{slug}/me")).text
    assert '<html lang="en"' in (await screen.get("/account")).text
    del screen.cookies[COOKIES["staff"]], screen.cookies[COOKIES["portal"]]
    assert '<html lang="ar"' in (await screen.get(f"/portal/{slug}/sign-in")).text
    assert '<html lang="en"' in (await screen.get("/sign-in")).text
    await screen.post("/language", data={"language": "ar", "back": "/sign-in"})
    await screen.post("/language", data={"language": "en", "back": f"/portal/{slug}/sign-in"})
    assert '<html lang="ar"' in (await screen.get("/sign-in")).text
    assert '<html lang="en"' in (await screen.get(f"/portal/{slug}/sign-in")).text
