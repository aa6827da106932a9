"""People without an account: a link that works once, leads to one place, and ends when the clinic says so."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from qanun.api import Invalid, invite_guest, record_views, revoke_guest
from qanun.audit import AuditEvent
from qanun.identity import GuestPass
from qanun.web.security import COOKIES


async def _invited(clinic, **how):
    target = f"/guest/{clinic.tenant.slug}/nowhere"
    async with clinic.context("reception") as ctx:
        id, token = await invite_guest(ctx, "Huda Alami", target, **how)
    return id, f"/guest/{clinic.tenant.slug}/i/{token}", target


async def test_a_guests_link_works_once_and_looking_at_it_does_not_use_it_up(clinic, other_clinic):
    _, link, target = await _invited(clinic)
    phone = clinic.anonymous()
    for _ in range(3):
        shown = await phone.get(link)
        assert shown.status_code == 200 and "Huda" not in shown.text, "messengers look, too"
    assert (await clinic.anonymous().get(link.replace(clinic.tenant.slug, other_clinic.tenant.slug))).status_code == 404
    opened = await phone.post(link)
    assert (opened.status_code, opened.headers["location"]) == (303, target)
    assert COOKIES["guest"] in phone.cookies
    again = await phone.get(link)
    assert (again.status_code, again.headers["location"]) == (303, target), "their own way back"
    stranger = clinic.anonymous()
    for answer in (await stranger.get(link), await stranger.post(link)):
        assert answer.status_code == 404 and "Huda" not in answer.text
    assert COOKIES["guest"] not in stranger.cookies
    async with clinic.context("system") as ctx:
        found = select(AuditEvent.type, AuditEvent.actor_kind).where(AuditEvent.type.like("core.guest.%"))
        assert (await ctx.db.execute(found)).all() == [("core.guest.enter", "system")]
    async with other_clinic.context("system") as ctx:
        assert (await ctx.db.execute(select(GuestPass))).first() is None


async def test_a_guest_is_nobody_at_staffs_and_patients_doors(clinic, other_clinic):
    token = await clinic.guest_token()
    browser = clinic.anonymous()
    for kind in COOKIES:
        browser.cookies.set(COOKIES[kind], token)
    slug = clinic.tenant.slug
    for door in ("/", "/account", "/search", "/live", f"/portal/{slug}/live", "/emr/patients", f"/portal/{slug}"):
        answer = await browser.get(door)
        assert answer.status_code == 303 and "sign-in" in answer.headers["location"], door


async def test_a_revoked_and_an_expired_link_open_nothing_and_end_what_they_had_opened(clinic):
    id, link, _ = await _invited(clinic)
    _, late, _ = await _invited(clinic, life=timedelta(seconds=-1))
    assert (await clinic.anonymous().post(late)).status_code == 404
    phone = clinic.anonymous()
    await phone.post(link)
    for _ in range(2):
        async with clinic.context("reception") as ctx:
            await revoke_guest(ctx, id)
    assert (await phone.get(link)).status_code == 404
    assert (await clinic.anonymous().post(link)).status_code == 404
    async with clinic.context("system") as ctx:
        noted = (await ctx.db.execute(select(AuditEvent).where(AuditEvent.type == "core.guest.revoke"))).all()
    assert len(noted) == 1


async def test_another_clinic_cannot_revoke_a_guest(clinic, other_clinic):
    id, link, _ = await _invited(clinic)
    async with other_clinic.context("reception") as ctx:
        await revoke_guest(ctx, id)
    assert (await clinic.anonymous().get(link)).status_code == 200


@pytest.mark.parametrize("target", ["/portal/x", "https://elsewhere.example", "//elsewhere.example/guest/", "/guest/"])
async def test_a_guest_is_led_only_to_a_guests_page_of_this_clinic(clinic, target):
    with pytest.raises(Invalid):
        async with clinic.context("reception") as ctx:
            await invite_guest(ctx, "Huda Alami", target)


async def test_without_a_session_the_page_says_that_a_link_is_needed(clinic):
    page = await clinic.anonymous().get(f"/guest/{clinic.tenant.slug}")
    assert page.status_code == 200 and "link" in page.text
    assert (await clinic.anonymous().get("/guest/nobody-here")).status_code == 404


async def test_the_trail_of_a_record_names_the_guest_who_was_there(clinic):
    patient = await clinic.patient()
    id, _, _ = await _invited(clinic)
    from qanun.context import Actor

    async with clinic.context(actor=Actor(kind="guest", id=id, name="Huda Alami")) as ctx:
        ctx.audit("core.records.read", patient_id=patient.id)
    async with clinic.context("administrator") as ctx:
        seen = await record_views(ctx, patient.id)
    assert [(entry.actor_kind, entry.name) for entry in seen if entry.actor_kind == "guest"] == [
        ("guest", "Huda Alami")
    ]
