"""Passkeys: a touch opens one's own door, once a question, at one address — and nobody else's door, ever."""

import copy
import random
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from sqlalchemy import select, update

from qanun.audit import AuditEvent
from qanun.identity import PatientPasskey, SpentChallenge, User, UserPasskey, challenges
from qanun.identity.passkeys import place
from qanun.tenancy import global_session
from qanun.testing.authenticator import PRESENT, SYNCED, Device
from qanun.testing.clinics import PASSWORD
from qanun.web.security import COOKIES

MINE = "/account/passkeys"


async def _make(client: httpx.AsyncClient, device: Device, name="Pocket 7", base=MINE) -> httpx.Response:
    options = await client.post(f"{base}/options", json={})
    assert options.status_code == 200, options.text
    return await client.post(base, json={"name": name, "answer": device.create(options.json())})


async def _enter(client: httpx.AsyncClient, device: Device, base="", **how) -> httpx.Response:
    options = (await client.post(f"{base}/sign-in/passkey/options", json={})).json()
    return await client.post(f"{base}/sign-in/passkey", json={"answer": device.get(options, **how), "next": "/x"})


async def test_a_member_of_staff_makes_a_passkey_and_comes_in_with_a_touch(clinic, other_clinic):
    doctor, phone = await clinic.client("doctor"), Device(flags=SYNCED)
    options = (await doctor.post(f"{MINE}/options", json={})).json()["publicKey"]
    assert options["rp"]["id"] == "clinic.test" and options["attestation"] == "none"
    chosen = options["authenticatorSelection"]
    assert (chosen["residentKey"], chosen["userVerification"]) == ("required", "required")
    assert (await _make(doctor, phone)).status_code == 204
    assert "Pocket 7" in (await doctor.get(MINE)).text and "On all your devices" in (await doctor.get(MINE)).text
    door = clinic.anonymous()
    asked = (await door.post("/sign-in/passkey/options", json={})).json()["publicKey"]
    assert asked["userVerification"] == "required" and not asked.get("allowCredentials"), "names nobody"
    entered = await _enter(door, phone)
    assert entered.json() == {"to": "/x"} and COOKIES["staff"] in door.cookies
    page = await door.get("/account")
    assert page.status_code == 200 and clinic.users["doctor"].name in page.text
    assert (await door.get("/confirm")).status_code == 204, "a touch is as fresh as a password"
    assert (await clinic.client("doctor")).cookies, "and the password keeps working"
    async with clinic.context("system") as ctx:
        events = {event for (event,) in (await ctx.db.execute(select(AuditEvent.type))).all()}
        assert {"core.passkey.register", "core.staff.sign-in"} <= events
    async with other_clinic.context("system") as ctx:
        assert (await ctx.db.execute(select(AuditEvent.type))).all() == []


async def test_a_question_is_answered_once(clinic, assembly):
    doctor, phone, door = await clinic.client("doctor"), Device(), clinic.anonymous()
    options = (await doctor.post(f"{MINE}/options", json={})).json()
    made = {"name": "One", "answer": phone.create(options)}
    assert (await doctor.post(MINE, json=made)).status_code == 204
    twin = Device()
    assert (await doctor.post(MINE, json={"name": "Two", "answer": twin.create(options)})).status_code == 422
    asked = (await door.post("/sign-in/passkey/options", json={})).json()
    answer = {"answer": phone.get(asked)}
    assert (await door.post("/sign-in/passkey", json=answer)).status_code == 200
    thief = clinic.anonymous()
    again = await thief.post("/sign-in/passkey", json=answer)
    assert again.status_code == 422 and COOKIES["staff"] not in thief.cookies
    assert (await thief.post("/sign-in/passkey", json={"answer": phone.get(asked)})).status_code == 422
    async with global_session(assembly.runtime.database) as session:
        mine = (
            await session.execute(select(UserPasskey).where(UserPasskey.credential_id == phone.credential_id))
        ).scalar_one()
        assert mine.failures == 0, "and that is no guess at it"


async def test_a_question_is_good_for_five_minutes_one_purpose_and_one_session(clinic, other_clinic, assembly):
    keys, now = assembly.runtime.keys, datetime.now(UTC)
    made = challenges.make(keys, now, "sign-in", "staff", "")
    assert challenges.good(keys, made, now + timedelta(minutes=4, seconds=59), "sign-in", "staff", "")
    assert not challenges.good(keys, made, now + timedelta(minutes=5, seconds=1), "sign-in", "staff", "")
    assert not challenges.good(keys, made, now, "sign-in", "portal", str(clinic.tenant.id))
    assert not challenges.good(keys, made, now, "confirm", "staff", "")
    later = made[:16] + (int.from_bytes(made[16:24], "big") + 3_600_000).to_bytes(8, "big") + made[24:]
    assert not challenges.good(keys, later, now, "sign-in", "staff", ""), "nobody puts the time off"
    doctor, elsewhere, phone = await clinic.client("doctor"), await clinic.client("doctor"), Device()
    options = (await doctor.post(f"{MINE}/options", json={})).json()
    stolen = await elsewhere.post(MINE, json={"name": "x", "answer": phone.create(options)})
    assert stolen.status_code == 422, "a question to one session is not answered in another"
    await _make(doctor, phone)
    question = (await clinic.anonymous().post("/sign-in/passkey/options", json={})).json()
    assert (await doctor.post("/confirm/passkey", json={"answer": phone.get(question)})).status_code == 422


async def test_answered_questions_are_forgotten_when_they_would_have_expired(clinic, assembly):
    doctor, phone = await clinic.client("doctor"), Device()
    await _make(doctor, phone)
    async with global_session(assembly.runtime.database) as session:
        await session.execute(update(SpentChallenge).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
        await session.commit()
    for _ in range(20):
        await clinic.anonymous().post("/sign-in/passkey/options", json={})
    assert (await _enter(clinic.anonymous(), phone)).status_code == 200
    async with global_session(assembly.runtime.database) as session:
        assert len((await session.execute(select(SpentChallenge.id))).all()) == 1, "asking leaves nothing behind"


@pytest.mark.parametrize(
    "wrong",
    [
        {"origin": "http://clinic.test.evil.example"},
        {"origin": "https://clinic.test"},
        {"rp_id": "evil.example"},
        {"flags": PRESENT},
    ],
    ids=lambda wrong: str(next(iter(wrong.items()))),
)
async def test_another_address_and_an_unverified_person_are_refused(clinic, wrong):
    doctor, phone = await clinic.client("doctor"), Device()
    bad = Device(**wrong)
    assert (await _make(doctor, bad)).status_code == 422
    await _make(doctor, phone)
    for name, value in wrong.items():
        setattr(phone, name, value)
    door = clinic.anonymous()
    assert (await _enter(door, phone)).status_code == 422 and COOKIES["staff"] not in door.cookies


async def test_only_the_key_itself_signs(clinic):
    doctor, phone, door = await clinic.client("doctor"), Device(), clinic.anonymous()
    await _make(doctor, phone)
    for _ in range(5):
        assert (await _enter(door, phone, key=Device().key)).status_code == 422
    rests = await _enter(door, phone)
    assert rests.status_code == 429, "a passkey that somebody guesses at rests, like a password"
    email = clinic.users["doctor"].email
    assert (await door.post("/sign-in", data={"email": email, "password": PASSWORD})).status_code == 303


async def test_wrong_passwords_do_not_lock_out_who_has_a_passkey(clinic):
    doctor, phone, door = await clinic.client("doctor"), Device(), clinic.anonymous()
    await _make(doctor, phone)
    for _ in range(6):
        await door.post("/sign-in", data={"email": clinic.users["doctor"].email, "password": "guess guess guess"})
    assert (await _enter(door, phone)).status_code == 200


async def test_a_counter_that_goes_backwards_closes_the_passkey(clinic):
    doctor, key, door = await clinic.client("doctor"), Device(counter=7), clinic.anonymous()
    await _make(doctor, key)
    copied = copy.copy(key)
    assert (await _enter(door, key)).status_code == 200
    assert (await _enter(clinic.anonymous(), key)).status_code == 200
    told = await _enter(clinic.anonymous(), copied)
    assert told.status_code == 422 and "copied" in told.json()["fields"]["passkey"]
    assert (await _enter(clinic.anonymous(), key)).status_code == 422, "which of the two is the owner's nobody knows"
    assert "copied to another device" in (await doctor.get(MINE)).text


async def test_a_passkey_opens_its_owners_door_and_no_other(clinic, other_clinic):
    doctor, nurse, phone = await clinic.client("doctor"), await clinic.client("nurse"), Device()
    await _make(doctor, phone)
    async with clinic.context("system") as ctx:
        passkey = (
            await ctx.db.execute(select(UserPasskey.id).where(UserPasskey.user_id == clinic.users["doctor"].id))
        ).scalar_one()
    assert "Pocket 7" not in (await nurse.get(MINE)).text
    for act in ("rename", "remove"):
        assert (await nurse.post(f"{MINE}/{passkey}/{act}", data={"name": "Mine now"})).status_code == 404
    theirs = await other_clinic.client("doctor")
    assert (await theirs.post(f"{MINE}/{passkey}/remove")).status_code == 404
    # Somebody else's handle under one's own key: the person named is not the key's.
    other = Device()
    await _make(nurse, other)
    other.handle = phone.handle
    assert (await _enter(clinic.anonymous(), other)).status_code == 422
    slug = clinic.tenant.slug
    asked = (await clinic.anonymous().post(f"/portal/{slug}/sign-in/passkey/options", json={})).json()
    for door in (f"/portal/{slug}/sign-in/passkey", "/sign-in/passkey"):
        assert (await clinic.anonymous().post(door, json={"answer": phone.get(asked)})).status_code == 422


async def test_a_patients_passkey_opens_one_clinics_portal(clinic, other_clinic):
    patient, slug, elsewhere = await clinic.patient(), clinic.tenant.slug, other_clinic.tenant.slug
    neighbour = await clinic.patient()
    portal, phone = await clinic.portal(patient), Device()
    assert (await _make(portal, phone, base=f"/portal/{slug}/passkeys")).status_code == 204
    assert "Pocket 7" in (await portal.get(f"/portal/{slug}/passkeys")).text
    assert "Pocket 7" not in (await (await clinic.portal(neighbour)).get(f"/portal/{slug}/passkeys")).text
    door = clinic.anonymous()
    entered = await _enter(door, phone, base=f"/portal/{slug}")
    assert entered.status_code == 200 and COOKIES["portal"] in door.cookies
    assert (await door.get(f"/portal/{slug}/me")).status_code == 200
    assert patient.mrn in (await door.get(f"/portal/{slug}/me")).text
    for foreign in (f"/portal/{elsewhere}", ""):
        refused = await _enter(other_clinic.anonymous(), phone, base=foreign)
        assert refused.status_code == 422, "another clinic's door and staff's"
    async with other_clinic.context("system") as ctx:
        assert (await ctx.db.execute(select(PatientPasskey))).first() is None
    async with clinic.context("system") as ctx:
        signed = select(AuditEvent.body).where(AuditEvent.type == "core.portal.sign-in").order_by(AuditEvent.seq.desc())
        assert '"method":"passkey"' in (await ctx.db.execute(signed.limit(1))).scalar_one()


async def test_who_was_disabled_comes_in_by_no_passkey(clinic, assembly):
    doctor, phone = await clinic.client("doctor"), Device()
    await _make(doctor, phone)
    async with global_session(assembly.runtime.database) as session:
        mine = update(User).where(User.id == clinic.users["doctor"].id)
        await session.execute(mine.values(disabled_at=datetime.now(UTC)))
        await session.commit()
    assert (await _enter(clinic.anonymous(), phone)).status_code == 422


async def test_a_passkey_confirms_who_one_is_for_the_session_that_asked(clinic):
    doctor, phone = await clinic.client("doctor"), Device()
    await _make(doctor, phone)
    stale = await clinic.client("doctor", fresh=False)
    assert (await stale.post(f"{MINE}/options", json={})).status_code == 403
    asked = (await stale.post("/confirm/passkey/options", json={})).json()
    assert len(asked["publicKey"]["allowCredentials"]) == 1
    other = await clinic.client("doctor", fresh=False)
    assert (await other.post("/confirm/passkey", json={"answer": phone.get(asked)})).status_code == 422
    assert (await stale.post("/confirm/passkey", json={"answer": phone.get(asked)})).status_code == 204
    assert (await stale.post(f"{MINE}/options", json={})).status_code == 200
    nurse, theirs = await clinic.client("nurse"), Device()
    await _make(nurse, theirs)
    again = await clinic.client("doctor", fresh=False)
    asked = (await again.post("/confirm/passkey/options", json={})).json()
    assert (await again.post("/confirm/passkey", json={"answer": theirs.get(asked)})).status_code == 422


async def test_making_and_removing_one_need_a_fresh_sign_in_and_renaming_does_not(clinic):
    doctor, phone = await clinic.client("doctor"), Device()
    await _make(doctor, phone)
    async with clinic.context("system") as ctx:
        id = (
            await ctx.db.execute(select(UserPasskey.id).where(UserPasskey.user_id == clinic.users["doctor"].id))
        ).scalar_one()
    stale = await clinic.client("doctor", fresh=False)
    for path in (f"{MINE}/options", MINE):
        assert (await stale.post(path, json={})).status_code == 403
    assert (await stale.post(f"{MINE}/{id}/remove")).status_code == 403
    assert (await stale.post(f"{MINE}/{id}/rename", data={"name": "  هاتفي   القديم "})).status_code == 303
    assert "هاتفي القديم" in (await stale.get(MINE)).text
    refused = await stale.post(f"{MINE}/{id}/rename", data={"name": "x" * 61})
    assert refused.status_code == 422 and "x" * 61 in refused.text
    assert (await doctor.post(f"{MINE}/{id}/remove")).status_code == 303
    assert (await _enter(clinic.anonymous(), phone)).status_code == 422


async def test_a_device_that_is_there_is_named_to_the_browser_and_twenty_are_enough(clinic):
    doctor = await clinic.client("doctor")
    for number in range(20):
        assert (await _make(doctor, Device(), name=f"Key {number}")).status_code == 204
        if number == 0:
            options = (await doctor.post(f"{MINE}/options", json={})).json()
            assert len(options["publicKey"]["excludeCredentials"]) == 1
    assert (await doctor.post(f"{MINE}/options", json={})).status_code == 409


async def test_what_is_no_answer_is_refused_in_words_and_never_breaks(clinic, assembly):
    doctor, phone, door = await clinic.client("doctor"), Device(), clinic.anonymous()
    await _make(doctor, phone)
    for body in (
        b"",
        b"[]",
        b"{}",
        b'{"answer":null}',
        b'{"answer":{"rawId":"###"}}',
        b"\xff\xfe",
        b'{"answer":{"rawId":7}}',
    ):
        answer = await door.post(
            "/sign-in/passkey", content=body, headers={"content-type": "application/json", "x-qanun-json": "1"}
        )
        assert answer.status_code == 422 and answer.json()["fields"]["passkey"], body
    big = await door.post("/sign-in/passkey", content=b"x" * 70_000)
    assert big.status_code in (413, 422)
    rng = random.Random(7)
    for _ in range(60):
        asked = (await door.post("/sign-in/passkey/options", json={})).json()
        answer = phone.get(asked)
        part = rng.choice(["clientDataJSON", "authenticatorData", "signature", "userHandle", "rawId", "id", "type"])
        place_ = answer if part in answer else answer["response"]
        value = list(place_[part])
        for _ in range(rng.randrange(1, 4)):
            value[rng.randrange(len(value))] = rng.choice("AZaz09-_é\u0000")
        changed = "".join(value) if rng.random() < 0.8 else rng.choice([None, 3, [], {}, "", place_[part][:9]])
        if changed == place_[part]:
            continue
        place_[part] = changed
        async with global_session(assembly.runtime.database) as session:  # or it would rest after the first five
            await session.execute(update(UserPasskey).values(failures=0, locked_until=None))
            await session.commit()
        told = await door.post("/sign-in/passkey", json={"answer": answer})
        # Base64's last letter holds bits that mean nothing, and a credential's kind is told again inside.
        assert told.status_code == 422 or (told.status_code == 200 and part != "signature"), (part, changed)


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("https://clinic.example", "clinic.example"), ("https://Box.lan:8443", "box.lan"), ("http://localhost:8000", "localhost"),
        ("https://192.168.1.20", None), ("https://[fd00::1]", None), ("", None),
    ],
)  # fmt: skip
def test_the_place_of_a_passkey_is_the_servers_configured_name(address, host):
    found = place(address)
    assert (found.rp_id if found else None) == host
