"""Whoever has left a worker, in whatever way, is forgotten by every part of it."""

import pytest

from .conftest import until
from .peer import Peer
from .test_worker import Inside, inside, pair  # noqa: F401 - the fixture

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("way", ["told", "again", "closed", "polite"])
async def test_nothing_is_remembered_of_who_has_left(inside: Inside, way: str) -> None:  # noqa: F811
    await inside.client.open_room("nour")
    await inside.client.open_room("shifa")
    staying = await pair(inside.client, "shifa")
    going = await pair(inside.client, "nour")
    control, worker = inside.worker.control, inside.worker
    for peer in (*staying, *going):
        await peer.speak(3)
    # Once a second something is remembered of everybody.
    await until(lambda: len(control._states) == 4, "all four are remembered")
    match way:
        case "told":
            for peer in going:
                await inside.client.leave("nour", peer.name)
        case "again":
            before = set(control._states)
            second = Peer("nour-doctor")
            await second.join(inside.client, "nour")
            await second.connect()
            await until(lambda: len(before - set(control._states)) == 1, "the former connection is forgotten")
            await inside.client.close_room("nour")
            going = (*going, second)
        case "closed":
            await inside.client.close_room("nour")
        case "polite":
            for peer in going:
                await peer.leave()
    await until(lambda: len(control._states) == 2, "those who left are forgotten")
    kept = {one.transport.name for room in worker.rooms for one in room.participants.values()}
    assert set(control._states) == set(worker.rooms.by_transport) == kept, "and nobody else"
    assert len(kept) == 2 and all(name.startswith("shifa/") for name in kept)
    assert {track.split("/")[0] for track in worker.rooms.by_track} == {"shifa"}
    paths = worker.paths
    assert len({path.name for path in paths.by_address.values()}) == 2
    for peer in staying:
        await peer.leave()
    if way != "polite":
        for peer in going:
            peer.vanish()
