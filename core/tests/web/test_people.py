"""The people of a clinic: let in, given roles, recovered, ended — and always somebody left who can change it back."""

import asyncio
import re
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from qanun.access import people
from qanun.audit import AuditEvent
from qanun.db import new_id
from qanun.errors import Conflict
from qanun.identity import Membership, Practitioner, RecoveryCode, User
from qanun.tenancy import global_session
from qanun.testing.authenticator import Device
from qanun.testing.clinics import PASSWORD
from qanun.web.security import COOKIES

NEW = "a sentence of my own"
CODE = re.compile(r"[2-9A-HJ-NP-Z]{4}(?:-[2-9A-HJ-NP-Z]{4}){3}")


async def _code(admin, user, **data) -> str:
    shown = await admin.post(f"/people/{user.id}/code", data=data)
    assert shown.status_code == 200, shown.text
    return CODE.search(shown.text)[0]


async def _enter(browser, user_email, code, password=NEW):
    return await browser.post("/sign-in/recover", data={"email": user_email, "code": code, "password": password})


async def _events(clinic, like):
    async with clinic.context("system") as ctx:
        found = select(AuditEvent.type).where(AuditEvent.type.like(like)).order_by(AuditEvent.seq)
        return list((await ctx.db.execute(found)).scalars())


async def test_somebody_is_let_in_with_a_code_and_chooses_their_own_password(clinic, other_clinic, assembly):
    admin, email = await clinic.client("administrator"), f"new-{new_id()}@clinic.example"
    data = {
        "name": "Dr  Huda Alami",
        "email": email.upper(),
        "roles": ["doctor"],
        "specialty": "Paediatrics",
        "room": "4",
    }
    shown = await admin.post("/people", data=data)
    assert shown.status_code == 200 and "Dr Huda Alami" in shown.text
    code = CODE.search(shown.text)[0]
    assert code not in (await admin.get("/people")).text
    phone = clinic.anonymous()
    short = await _enter(phone, email, code, "tiny1")
    assert short.status_code == 422 and code in short.text and "tiny1" not in short.text, "what was typed is kept"
    entered = await _enter(phone, email, code.lower().replace("-", " "))
    assert entered.status_code == 303 and COOKIES["staff"] in phone.cookies
    assert (await phone.get("/scheduling/day")).status_code == 200
    assert (await _enter(clinic.anonymous(), email, code)).status_code == 422, "once"
    assert (await clinic.anonymous().post("/sign-in", data={"email": email, "password": NEW})).status_code == 303
    assert 'value="Paediatrics"></option>' in (await admin.get("/people")).text, "usual ones are offered"
    async with clinic.context("system") as ctx:
        doctor = (await ctx.db.execute(select(Practitioner).where(Practitioner.name == "Dr Huda Alami"))).scalar_one()
        assert (doctor.specialty, doctor.room, doctor.active) == ("Paediatrics", "4", True)
    assert await _events(clinic, "core.person.%") == ["core.person.let-in", "core.person.code", "core.person.recovered"]
    assert await _events(other_clinic, "core.person.%") == []
    async with global_session(assembly.runtime.database) as session:
        assert code.replace("-", "") not in str((await session.execute(select(RecoveryCode))).scalars().all())


async def test_what_cannot_be_stored_is_named_and_stays_typed(clinic):
    admin = await clinic.client("administrator")
    refused = await admin.post("/people", data={"name": " ", "email": "nobody", "room": "Room of my own"})
    assert refused.status_code == 422 and "Room of my own" in refused.text and 'value="nobody"' in refused.text
    assert refused.text.count("is-invalid") >= 2 and "Choose at least one role" in refused.text
    again = {"name": "Again", "email": clinic.users["nurse"].email, "roles": ["nurse"]}
    assert (await admin.post("/people", data=again)).status_code == 409
    for roles in (["patient"], ["guest"], ["king"]):
        answer = await admin.post("/people", data={"name": "X", "email": "x@clinic.example", "roles": roles})
        assert answer.status_code == 422, "only roles of staff"


async def test_who_lost_a_device_comes_in_by_a_code_and_the_device_no_more(clinic):
    admin, nurse, lost = await clinic.client("administrator"), await clinic.client("nurse"), Device()
    options = (await nurse.post("/account/passkeys/options", json={})).json()
    await nurse.post("/account/passkeys", json={"name": "Lost", "answer": lost.create(options)})
    first = await _code(admin, clinic.users["nurse"], lost="1")
    code = await _code(admin, clinic.users["nurse"], lost="1")
    email = clinic.users["nurse"].email
    assert (await _enter(clinic.anonymous(), email, first)).status_code == 422, "a new code voids the one before"
    assert (await nurse.get("/account")).status_code == 200
    assert (await _enter(clinic.anonymous(), email, code)).status_code == 303
    assert (await nurse.get("/account")).status_code == 303, "every other session ended"
    door = clinic.anonymous()
    asked = (await door.post("/sign-in/passkey/options", json={})).json()
    assert (await door.post("/sign-in/passkey", json={"answer": lost.get(asked)})).status_code == 422
    assert (await door.post("/sign-in", data={"email": email, "password": PASSWORD})).status_code == 422


async def test_codes_expire_belong_to_one_person_and_guesses_count(clinic, assembly):
    admin = await clinic.client("administrator")
    doctor, nurse = clinic.users["doctor"], clinic.users["nurse"]
    code = await _code(admin, doctor)
    assert (await _enter(clinic.anonymous(), nurse.email, code)).status_code == 422
    nobody = await _enter(clinic.anonymous(), "nobody@clinic.example", code)
    wrong = await _enter(clinic.anonymous(), nurse.email, "AAAA-BBBB-CCCC-DDDD")
    same = [re.sub(r'value="[^"]*"', "", answer.text) for answer in (nobody, wrong)]
    assert same[0] == same[1], "who works here is not told"
    async with global_session(assembly.runtime.database) as session:
        await session.execute(update(RecoveryCode).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
        await session.commit()
    assert (await _enter(clinic.anonymous(), doctor.email, code)).status_code == 422
    for _ in range(5):
        await _enter(clinic.anonymous(), doctor.email, "AAAA-BBBB-CCCC-DDDD")
    fresh = await _code(admin, doctor)
    assert (await _enter(clinic.anonymous(), doctor.email, fresh)).status_code == 429


async def test_one_clinics_administrator_makes_no_code_for_somebody_of_two(clinic, other_clinic, assembly):
    both = clinic.users["doctor"]
    async with global_session(assembly.runtime.database) as session:
        session.add(Membership(id=new_id(), user_id=both.id, tenant_id=other_clinic.tenant.id, roles=["administrator"]))
        await session.commit()
    for house in (clinic, other_clinic):
        admin = await house.client("administrator")
        refused = await admin.post(f"/people/{both.id}/code")
        assert refused.status_code == 403 and not CODE.search(refused.text)
    async with global_session(assembly.runtime.database) as session:
        both_admin = clinic.users["administrator"].id
        session.add(
            Membership(id=new_id(), user_id=both_admin, tenant_id=other_clinic.tenant.id, roles=["administrator"])
        )
        await session.commit()
    admin = await clinic.client("administrator")
    await admin.post("/clinics", data={"clinic": clinic.tenant.slug})
    assert CODE.search((await admin.post(f"/people/{both.id}/code")).text)


async def test_a_role_takes_effect_at_the_next_click_and_is_taken_back_as_fast(clinic, other_clinic):
    admin, desk = await clinic.client("administrator"), await clinic.client("reception")
    who = clinic.users["reception"]
    assert (await desk.get("/emr/patients")).status_code == 403
    await admin.post(f"/people/{who.id}/roles", data={"roles": ["reception", "nurse"]})
    assert (await desk.get("/emr/patients")).status_code == 200
    await admin.post(f"/people/{who.id}/roles", data={"roles": ["reception"]})
    assert (await desk.get("/emr/patients")).status_code == 403
    theirs = await other_clinic.client("administrator")
    for path, data in (("roles", {"roles": ["administrator"]}), ("code", {}), ("end", {})):
        assert (await theirs.post(f"/people/{who.id}/{path}", data=data)).status_code == 404
    assert (await theirs.get(f"/people/{who.id}")).status_code == 404
    assert who.email not in (await theirs.get("/people")).text
    assert await _events(clinic, "core.person.%") == ["core.person.roles", "core.person.roles"]


async def test_the_last_administrator_cannot_be_taken_away_by_anybody(clinic, other_clinic):
    admin, me = await clinic.client("administrator"), clinic.users["administrator"]
    refused = await admin.post(f"/people/{me.id}/roles", data={"roles": ["doctor"]})
    assert refused.status_code == 409 and "Nobody else is an administrator here" in refused.text
    assert (await admin.post(f"/people/{me.id}/end")).status_code == 409
    assert (await admin.get("/people")).status_code == 200
    second = clinic.users["doctor"]
    await admin.post(f"/people/{second.id}/roles", data={"roles": ["doctor", "administrator"]})

    async def resign(user):
        async with clinic.context("administrator") as ctx:
            await people.set_roles(ctx, user.id, ["nurse"])

    results = await asyncio.gather(resign(me), resign(second), return_exceptions=True)
    assert [type(one) for one in results].count(Conflict) == 1, "two who resign at once do not both"
    async with clinic.context("system") as ctx:
        left = [one for one in await people.people(ctx) if "administrator" in one.membership.roles]
    assert len(left) == 1


async def test_who_works_here_no_longer_opens_no_page_of_this_clinic(clinic):
    admin, doctor = await clinic.client("administrator"), await clinic.client("doctor")
    assert (await doctor.get("/scheduling/day")).status_code == 200
    assert (await admin.post(f"/people/{clinic.users['doctor'].id}/end")).status_code == 303
    gone = await doctor.get("/scheduling/day")
    assert gone.status_code == 303 and gone.headers["location"] == "/clinics"
    assert clinic.users["doctor"].email not in (await admin.get("/people")).text
    async with clinic.context("system") as ctx:
        assert not (await ctx.db.execute(select(Practitioner.active))).scalar_one()


async def test_grave_acts_on_people_ask_for_a_fresh_sign_in(clinic):
    stale, nurse = await clinic.client("administrator", fresh=False), clinic.users["nurse"]
    for path in (
        "/people",
        f"/people/{nurse.id}/roles",
        f"/people/{nurse.id}/code",
        f"/people/{nurse.id}/end",
        "/roles/nurse",
    ):
        assert (await stale.post(path, data={"roles": "doctor"})).status_code == 403, path
    assert await _events(clinic, "core.person.%") == []


# --- what a role may do -------------------------------------------------------------------------------------------------


async def test_a_clinic_takes_a_right_from_a_role_and_gives_another_and_its_neighbour_keeps_both(clinic, other_clinic):
    admin, nurse = await clinic.client("administrator"), await clinic.client("nurse")
    theirs = await other_clinic.client("nurse")
    shown = (await admin.get("/roles/nurse")).text
    assert "Open records" in shown and "Work at the reception desk" in shown and "emr.chart:read<" not in shown
    held = re.findall(r'name="permission" value="([^"]+)" checked(?! disabled)', shown)
    assert "emr.chart:read" in held and "core.session:use" not in held
    changed = [one for one in held if one != "emr.chart:read"] + ["scheduling.desk:use"]
    saved = await admin.post("/roles/nurse", data={"permission": changed})
    assert saved.status_code == 200 and saved.text.count("changed here") == 2
    assert (await nurse.get("/emr/patients")).status_code == 403
    assert (await nurse.get("/scheduling/desk")).status_code == 200
    assert (await theirs.get("/emr/patients")).status_code == 200
    assert (await theirs.get("/scheduling/desk")).status_code == 403
    assert (await (await clinic.client("doctor")).get("/emr/patients")).status_code == 200
    back = await admin.post("/roles/nurse", data={"permission": held})
    assert "changed here" not in back.text
    assert (await nurse.get("/emr/patients")).status_code == 200
    assert await _events(clinic, "core.role.%") == ["core.role.change", "core.role.change"]


async def test_what_keeps_the_clinic_open_cannot_be_taken_and_what_is_the_patients_not_given(clinic):
    admin, doctor = await clinic.client("administrator"), await clinic.client("doctor")
    assert (await admin.post("/roles/administrator", data={})).status_code == 200, "everything unticked"
    assert (await admin.get("/people")).status_code == 200
    assert (await admin.post("/roles/doctor", data={})).status_code == 200
    assert (await doctor.get("/account")).status_code == 200 and (await doctor.get("/emr/patients")).status_code == 403
    for permission in ("core.portal:use", "portal.home:read", "core.session:use-more", "x"):
        answer = await admin.post("/roles/doctor", data={"permission": permission})
        assert answer.status_code == 422, permission
    for role in ("patient", "guest", "king"):
        assert (await admin.get(f"/roles/{role}")).status_code == 404
        assert (await admin.post(f"/roles/{role}", data={})).status_code == 404


@pytest.mark.parametrize("role", ["doctor", "nurse", "reception", "lab-technician"])
async def test_nobody_else_gives_themselves_a_right(clinic, role):
    client, me = await clinic.client(role), clinic.users[role]
    for path, data in (
        (f"/people/{me.id}/roles", {"roles": ["administrator"]}),
        (f"/roles/{role}", {"permission": ["core.people:manage"]}),
        ("/people", {"name": "x", "email": "x@y.example", "roles": ["administrator"]}),
        (f"/people/{clinic.users['administrator'].id}/code", {}),
    ):
        assert (await client.post(path, data=data)).status_code == 403
    async with clinic.context("system") as ctx:
        mine = (await ctx.db.execute(select(User).where(User.id == me.id))).scalar_one()
        assert (await people.person(ctx, mine.id)).membership.roles == [role]


# --- a patient who cannot get in -----------------------------------------------------------------------------------------


async def test_a_patient_who_lost_the_phone_comes_in_by_a_new_link_and_the_phone_no_more(clinic, other_clinic):
    patient, neighbour = await clinic.patient(), await clinic.patient()
    slug, phone = clinic.tenant.slug, Device()
    lost, beside = await clinic.portal(patient), await clinic.portal(neighbour)
    options = (await lost.post(f"/portal/{slug}/passkeys/options", json={})).json()
    await lost.post(f"/portal/{slug}/passkeys", json={"name": "Lost", "answer": phone.create(options)})
    desk = await clinic.client("reception")
    shown = await desk.post("/portal-access", data={"mrn": patient.mrn})
    link = re.search(rf"/portal/{slug}/i/[\w-]+", shown.text)[0]
    assert (await lost.get(f"/portal/{slug}/me")).status_code == 200, "until it is used"
    new = clinic.anonymous()
    assert patient.family not in (await new.get(link)).text
    wrong = await new.post(link, data={"birth_date": "1990-01-01", "password": NEW})
    assert wrong.status_code == 422
    right = await new.post(link, data={"birth_date": "1991-08-19", "password": NEW})
    assert right.status_code == 303 and COOKIES["portal"] in new.cookies
    assert (await new.get(f"/portal/{slug}/me")).status_code == 200
    assert (await lost.get(f"/portal/{slug}/me")).status_code == 303
    assert (await beside.get(f"/portal/{slug}/me")).status_code == 200
    asked = (await clinic.anonymous().post(f"/portal/{slug}/sign-in/passkey/options", json={})).json()
    door = await clinic.anonymous().post(f"/portal/{slug}/sign-in/passkey", json={"answer": phone.get(asked)})
    assert door.status_code == 422
    again = await clinic.anonymous().post(link, data={"birth_date": "1991-08-19", "password": "yet another one"})
    assert again.status_code == 404, "once"
    login = clinic.accounts[patient.id]
    for password, status in ((NEW, 303), (PASSWORD, 422)):
        entered = await clinic.anonymous().post(f"/portal/{slug}/sign-in", data={"login": login, "password": password})
        assert entered.status_code == status


async def test_a_new_link_is_made_by_who_may_for_a_patient_of_this_clinic_with_a_fresh_sign_in(clinic, other_clinic):
    patient, theirs = await clinic.patient(), await other_clinic.patient(phone="+962 7 12345678")
    del theirs
    stale = await clinic.client("reception", fresh=False)
    assert (await stale.post("/portal-access", data={"mrn": patient.mrn})).status_code == 403
    for role in ("doctor", "nurse", "lab-technician"):
        assert (await (await clinic.client(role)).post("/portal-access", data={"mrn": patient.mrn})).status_code == 403
    unknown = await (await clinic.client("reception")).post("/portal-access", data={"mrn": "QN-999999"})
    assert unknown.status_code == 422 and 'value="QN-999999"' in unknown.text and "/i/" not in unknown.text
