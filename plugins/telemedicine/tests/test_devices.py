"""Devices that show their picture in a call: a token made by the clinician, WHIP as the standard says, and nothing beyond."""

import asyncio
import re
import uuid
from datetime import timedelta

import pytest
import pytest_asyncio
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription, VideoStreamTrack
from granian.constants import Interfaces
from granian.server.embed import Server
from httpx import ASGITransport, AsyncClient
from sqlalchemy import select

from plugins.telemedicine.tests.conftest import until
from plugins.telemedicine.tests.sfu.peer import Peer
from plugins.telemedicine.tests.test_sockets import call, consent, in_state
from qanun.api import Conflict, Invalid
from qanun.testing.plugin import free_port
from qanun_telemedicine.models import Device
from qanun_telemedicine.recording import player
from qanun_telemedicine.service import devices, recording_key
from qanun_telemedicine.service.recording import binding, folder, running

SDP, FRAGMENT = "application/sdp", "application/trickle-ice-sdpfrag"


@pytest_asyncio.fixture
async def outside(application):
    """Whoever has no session, no cookie and no page of ours: a device."""
    async with AsyncClient(transport=ASGITransport(application), base_url="http://clinic.test") as client:
        yield client


class Scope:
    """A device with what was typed into it."""

    def __init__(self, client, visit, made: Device, token: str) -> None:
        self.client, self.token, self.id = client, token, str(made.id)
        self.url = f"/telemedicine/whip/{visit.clinic.tenant.slug}/{made.id}"
        self.peer = Peer(self.id)

    def headers(self, kind: str, **more: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}", "content-type": kind, **more}

    async def post(self, offer: str | None = None, **more: str):
        text = await self.peer.offer() if offer is None else offer
        return await self.client.post(self.url, content=text, headers=self.headers(SDP, **more))

    async def comes(self):
        answer = await self.post()
        assert answer.status_code == 201, answer.text
        self.session, self.etag = answer.headers["location"], answer.headers["etag"]
        self.peer.answer = answer.text
        await self.peer.connect()
        return answer


async def made(visit, client, name: str = "Otoscope") -> Scope:
    async with visit.acting() as (ctx, row, _):
        device, token = await devices.make(ctx, row, name)
    return Scope(client, visit, device, token)


def shown(state: dict, name: str = "Otoscope") -> dict:
    return next((one for one in state["devices"] if one["name"] == name), {})


async def test_a_device_comes_by_its_token_is_seen_by_name_and_goes(clinic, other_clinic, book, worker, outside):
    visit, theirs = await book(clinic), await book(other_clinic)
    doctor, patient = await call(visit)
    await theirs.admit()
    elsewhere = await theirs.page()
    scope = await made(visit, outside)
    answer = await scope.comes()
    assert answer.headers["content-type"].startswith(SDP)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "set-cookie" not in answer.headers
    for one in (doctor, patient):
        await one.page.sees(lambda state: shown(state).get("connected"), "everybody reads its name")
    assert [one["name"] for one in doctor.page.said("state")[-1]["people"]].count("Otoscope") == 0, "it is nobody"

    # These pages have one place each for others' pictures, which they use for each other: they are told to make another.
    await until(
        lambda: any(told["wanted"]["video"] for told in patient.page.said("tracks")), "its picture gets a place"
    )
    gone = await outside.delete(scope.session, headers=scope.headers(SDP))
    assert gone.status_code == 200
    await patient.page.sees(lambda state: not shown(state).get("connected"), "it is gone")
    assert (await outside.delete(scope.session, headers=scope.headers(SDP))).status_code == 404
    await elsewhere.hears("welcome")
    assert "Otoscope" not in str(elsewhere.heard)
    noted = [event.type.removeprefix("telemedicine.device.") for event in await visit.audited()
             if event.type.startswith("telemedicine.device.")]  # fmt: skip
    assert noted == ["invite", "join", "leave"]


async def test_nothing_but_the_right_token_opens_and_nobody_learns_what_there_is(
    clinic, other_clinic, book, worker, outside
):
    visit, theirs = await book(clinic), await book(other_clinic)
    scope = await made(visit, outside)
    before = await scope.post()
    assert (before.status_code, "no call" in before.text) == (409, True)
    await call(visit)
    right = scope.token
    answers = []
    for token in ("", "x", right[:-1], right + "a"):
        scope.token = token
        answers.append(await scope.post())
    scope.token = right
    unknown = scope.url.rpartition("/")[0] + f"/{uuid.uuid4()}"
    foreign = unknown.replace(clinic.tenant.slug, other_clinic.tenant.slug).rpartition("/")[0] + f"/{scope.id}"
    nowhere = scope.url.replace(clinic.tenant.slug, "no-such-clinic")
    answers += [
        await outside.post(url, content="v=0", headers=scope.headers(SDP)) for url in (unknown, foreign, nowhere)
    ]
    assert {(one.status_code, one.text) for one in answers} == {(401, answers[0].text)}
    assert answers[0].headers["www-authenticate"] == "Bearer"
    staff = await clinic.client("doctor")
    cookie_only = await staff.post(scope.url, content="v=0", headers={"content-type": SDP})
    assert cookie_only.status_code == 401, "a session is no token"
    async with visit.acting() as (ctx, row, _):
        (await devices.device(ctx, row, uuid.UUID(scope.id))).expires_at = ctx.now - timedelta(seconds=1)
    assert (await scope.post()).status_code == 403
    async with theirs.acting() as (ctx, _, _):
        assert (await ctx.db.execute(select(Device))).first() is None
    async with visit.acting() as (ctx, _, _):
        kept = (await ctx.db.execute(select(Device))).scalar_one()
    assert right.encode() not in kept.token_hash


async def test_what_is_sent_wrong_is_refused_as_the_standard_says(clinic, book, worker, outside):
    visit = await book(clinic)
    await call(visit)
    scope = await made(visit, outside)
    assert (await outside.post(scope.url, content="v=0", headers=scope.headers("text/plain"))).status_code == 415
    assert (await scope.post("rubbish")).status_code in (400, 422)
    large = await scope.post("v=0\r\n" + "a=x\r\n" * 40_000)
    assert large.status_code == 413, large.text
    assert (await outside.get(scope.url, headers=scope.headers(SDP))).status_code == 405
    asked = await outside.options(scope.url, headers={"origin": "https://camera.example"})
    assert asked.status_code == 204
    assert asked.headers["accept-post"] == SDP
    assert "Authorization" in asked.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in asked.headers
    await scope.comes()
    twice = await scope.post(await Peer(scope.id).offer(), origin="https://camera.example")
    assert twice.status_code == 409
    assert "retry-after" in twice.headers
    patch = lambda body, **more: outside.patch(scope.session, content=body, headers=scope.headers(FRAGMENT, **more))  # noqa: E731
    candidate = "a=mid:0\r\na=candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host\r\n"
    assert (await patch(candidate)).status_code == 428
    assert (await patch(candidate, **{"if-match": '"other"'})).status_code == 412
    assert (await patch(candidate, **{"if-match": scope.etag})).status_code == 204
    wrong = await outside.patch(
        scope.session, content=candidate, headers=scope.headers(SDP, **{"if-match": scope.etag})
    )
    assert wrong.status_code == 415
    other = scope.session.rpartition("/")[0] + f"/{uuid.uuid4()}"
    assert (await outside.patch(other, content="", headers=scope.headers(FRAGMENT))).status_code == 404
    assert (await outside.delete(other, headers=scope.headers(SDP))).status_code == 404


async def test_ice_restarts_under_new_credentials_and_the_old_name_of_the_session_is_over(
    clinic, book, worker, outside
):
    visit = await book(clinic)
    await call(visit)
    scope = await made(visit, outside)
    await scope.comes()
    new = "a=ice-ufrag:abcdEFGH\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n"
    answer = await outside.patch(scope.session, content=new, headers=scope.headers(FRAGMENT, **{"if-match": "*"}))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith(FRAGMENT)
    assert answer.headers["etag"] != scope.etag
    assert re.search(r"a=ice-ufrag:\S+\r\n", answer.text)
    assert answer.text.count("m=") == 1
    assert "a=candidate" in answer.text
    late = await outside.patch(scope.session, content="", headers=scope.headers(FRAGMENT, **{"if-match": scope.etag}))
    assert late.status_code == 412


async def test_a_device_is_recorded_only_while_everybody_agrees(clinic, book, worker, outside):
    visit = await book(clinic)
    doctor, patient = await call(visit)
    scope = await made(visit, outside, "Dermatoscope")
    await scope.comes()
    doctor.page.send("record", on=True)
    await consent(doctor, "given")
    await scope.peer.speak(20)
    async with visit.acting() as (ctx, row, _):
        assert await running(ctx, row.id) is None, "the patient was not heard yet"
    await consent(patient, "given")
    await in_state(visit, "recording")

    for _ in range(12):
        await scope.peer.speak(20)
    patient.page.send("consent", decision="withdrawn", version=patient.page.said("state")[-1]["recording"]["wording"])
    record = await in_state(visit, "stopped")
    await scope.peer.speak(20)
    async with clinic.context() as ctx:
        key = await recording_key(ctx, record)
        with player.Recording(folder(ctx, record), key, binding(ctx, record)) as opened:
            seats = {seat.participant for seat in opened.seats()}
        names = await devices.names(ctx, record.consultation_id)
    assert scope.id in seats
    assert names[scope.id] == "Dermatoscope"


async def test_whoever_holds_the_visit_makes_places_and_takes_devices_out_at_once(
    clinic, other_clinic, book, worker, outside
):
    visit = await book(clinic)
    doctor, _ = await call(visit)
    staff = await clinic.client("doctor")
    base = f"{visit.href}/devices"
    htmx = {"hx-request": "true"}
    page = await staff.post(base, data={"device": "Otoscope"}, headers=htmx)
    assert page.status_code == 200
    url = re.search(r'value="(\S+/telemedicine/whip/\S+)"', page.text)[1]
    token = re.search(r'id="tm-device-token"[^>]* value="(\S+)"', page.text)[1]
    assert "data:image/svg+xml" in page.text
    again = (await staff.get(base, headers=htmx)).text
    assert "Otoscope" in again
    assert token not in again, "a token is shown once"
    empty = await staff.post(base, data={"device": "x"}, headers=htmx)
    assert (empty.status_code, 'value="x"' in empty.text) == (422, True)
    async with visit.acting() as (ctx, row, _):
        await devices.make(ctx, row, "Second")
        with pytest.raises(Invalid):
            await devices.make(ctx, row, "Third")
        device = await devices.device(ctx, row, uuid.UUID(url.rpartition("/")[2]))
    scope = Scope(outside, visit, device, token)
    await scope.comes()
    await doctor.page.sees(lambda state: shown(state).get("connected"), "it is there")
    for role in ("nurse", "reception", "administrator"):
        assert (await (await clinic.client(role)).post(f"{base}/{scope.id}/remove")).status_code == 403
    assert (await (await other_clinic.client("doctor")).post(f"{base}/{scope.id}/remove")).status_code == 404
    assert (await staff.post(f"{base}/{scope.id}/remove", headers=htmx)).status_code == 200
    await doctor.page.sees(lambda state: not shown(state), "it is out")
    room = (await visit.row()).room
    there = (await worker.clients[0].stats(room))[room]
    assert scope.id not in there
    assert (await scope.post(await Peer(scope.id).offer())).status_code == 401


async def test_an_encrypted_visit_takes_no_device_and_one_that_is_over_none_either(clinic, book, worker, outside):
    visit = await book(clinic)
    scope = await made(visit, outside)
    async with visit.acting() as (_, row, _):
        row.encrypted = True
    async with visit.acting() as (ctx, row, _):
        with pytest.raises(Conflict):
            await devices.make(ctx, row, "Otoscope")
    await visit.admit()
    assert (await scope.post()).status_code == 409
    async with visit.acting() as (_, row, _):
        row.encrypted = False
    staff = await clinic.client("doctor")
    await staff.post(f"{visit.href}/end")
    assert (await scope.post(await Peer(scope.id).offer())).status_code == 409


async def test_a_client_with_an_encoder_of_its_own_shows_its_picture_over_http(
    clinic, book, worker, application, outside
):
    """aiortc's whole peer connection: a real encoder, candidates in the offer, a real server, DELETE at the end."""
    visit = await book(clinic)
    doctor, patient = await call(visit)
    scope = await made(visit, outside)
    port = free_port()
    web = Server(application, address="127.0.0.1", port=port, interface=Interfaces.ASGINL)
    serving = asyncio.create_task(web.serve())
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    connection.addTransceiver(VideoStreamTrack(), direction="sendonly")
    await connection.setLocalDescription(await connection.createOffer())
    try:
        async with AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            answer = await client.post(scope.url, content=connection.localDescription.sdp, headers=scope.headers(SDP))
            assert answer.status_code == 201, answer.text
            await connection.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
            await doctor.page.sees(lambda state: shown(state).get("connected"), "the device is there")
            room = (await visit.row()).room

            async def flows() -> bool:
                there = (await worker.clients[0].stats(room))[room].get(scope.id, {})
                return sum(one["packets"] for one in there.get("sends", ())) > 30

            await until(flows, "its packets arrive")
            await patient.page.sees(lambda state: shown(state).get("connected"), "and the patient reads its name")
            gone = await client.delete(answer.headers["location"], headers=scope.headers(SDP))
            assert gone.status_code == 200
            await doctor.page.sees(lambda state: not shown(state).get("connected"), "it said goodbye")
    finally:
        await connection.close()
        web.stop()
        await asyncio.gather(serving, return_exceptions=True)


async def test_a_device_that_falls_silent_is_gone_for_everybody_and_may_come_again(clinic, book, worker, outside):
    visit = await book(clinic)
    doctor, _ = await call(visit)
    scope = await made(visit, outside)
    await scope.comes()
    await doctor.page.sees(lambda state: shown(state).get("connected"), "it is there")
    await scope.peer.leave()
    await doctor.page.sees(lambda state: not shown(state).get("connected"), "it is gone")
    scope.peer = Peer(scope.id)
    await scope.comes()
    await doctor.page.sees(lambda state: shown(state).get("connected"), "it is back")
