"""An ICE restart: both ways are kept until media takes the new one, and a dead old one is left at once. On both engines."""

import asyncio

import pytest
from aioice import stun

from qanun_telemedicine.sfu.paths import heard

from .conftest import until
from .peer import Peer
from .test_worker import Inside, inside, pair, talk  # noqa: F401  (a fixture)


def ways(inside: Inside, peer: Peer) -> int:  # noqa: F811
    return len(inside.worker.rooms.participant("nour", peer.name).transport.path.connections)


async def test_media_stays_on_the_old_way_until_the_client_sends_over_the_new_one(inside: Inside) -> None:  # noqa: F811
    doctor, patient = await pair(inside.client, "nour")
    await talk(doctor, patient)
    talking = asyncio.create_task(_talks(patient))
    way = await patient.restart(inside.client, "nour")
    await asyncio.sleep(1)
    await talk(doctor, patient)
    assert way.arrived == 0 and ways(inside, patient) == 2, "the new way stands, and is not used without a reason"
    way.take()
    heard = doctor.heard()

    async def moved() -> bool:
        await patient.speak()
        await doctor.speak()
        return way.arrived > 20 and doctor.heard() > heard + 20

    await until(moved, "media goes where media comes from", 20)
    await until(lambda: ways(inside, patient) == 1, "the old way is dropped")
    assert not inside.names("participant.disconnected")
    talking.cancel()
    way.end()


async def _talks(peer: Peer) -> None:
    while True:
        await peer.speak()


async def test_an_old_way_that_fell_silent_is_left_without_waiting_for_media(inside: Inside) -> None:  # noqa: F811
    doctor, patient = await pair(inside.client, "nour")
    await talk(doctor, patient)
    way = await patient.restart(inside.client, "nour")
    await way.break_old()

    async def moved() -> bool:
        await doctor.speak()
        return way.arrived > 20

    await until(moved, "the server sends over the only way there is", 10)
    assert not inside.names("participant.disconnected")
    way.end()


async def test_a_second_restart_replaces_a_first_that_was_never_used(inside: Inside) -> None:  # noqa: F811
    doctor, patient = await pair(inside.client, "nour")
    await talk(doctor, patient)
    first = await patient.restart(inside.client, "nour")
    second = await patient.restart(inside.client, "nour")
    await until(lambda: ways(inside, patient) == 2, "the unused one is gone")
    second.take()

    async def moved() -> bool:
        await patient.speak()
        await doctor.speak()
        return second.arrived > 20

    await until(moved, "the second one is used", 20)
    await until(lambda: ways(inside, patient) == 1, "and is the only one left")
    assert not inside.names("participant.disconnected")
    for way in (first, second):
        way.end()


async def test_anothers_room_never_learns_of_it(inside: Inside) -> None:  # noqa: F811
    doctor, patient = await pair(inside.client, "nour")
    others = await pair(inside.client, "shifa")
    await talk(doctor, patient)
    await talk(*others)
    before = [-1, -1]
    while before != [other.heard() for other in others]:  # what was said to them is still on its way
        before = [other.heard() for other in others]
        await asyncio.sleep(0.3)
    way = await patient.restart(inside.client, "nour")
    way.take()
    await patient.speak(30)
    assert [other.heard() for other in others] == before
    way.end()


@pytest.mark.parametrize("address", [("192.0.2.7", 50_000), ("2001:db8::7", 9)])
def test_the_short_answer_to_a_repeated_check_is_what_a_client_expects(address: tuple[str, int]) -> None:
    asked = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    answer = stun.parse_message(heard(asked.transaction_id, address, b"secret"))  # a wrong fingerprint is refused here
    assert answer.transaction_id == asked.transaction_id
    assert (answer.message_method, answer.message_class) == (stun.Method.BINDING, stun.Class.RESPONSE)
    assert answer.attributes["XOR-MAPPED-ADDRESS"] == address
    assert answer.check_message_integrity(b"secret")
    assert not answer.check_message_integrity(b"another")
