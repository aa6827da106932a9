"""The control plane's clock among many rooms: nobody is left out, and packets never wait for everybody's turn."""

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from qanun_telemedicine.sfu import control

ROOMS = 40


class Clock(control.Control):
    """Notes whose turn it is and does nothing else."""

    def __init__(self, rooms: Any) -> None:
        engine: Any = SimpleNamespace(receiving=lambda since: set())
        super().__init__(engine, paths=None, emit=lambda *_: None)  # type: ignore[arg-type]
        self.turns: list[str] = []
        self.start(rooms)

    def _tick(self, room: Any, receiving: Any) -> None:
        self.turns.append(room.id)
        if room.id == "room-3":
            raise RuntimeError("what goes wrong in one room is that room's")


class Rooms(list[Any]):
    by_transport: dict[str, Any] = {}


async def _turns(monkeypatch: pytest.MonkeyPatch, rooms: Rooms, wanted: int) -> list[list[str]]:
    """Whose turns followed each other without a break in which anybody else could run."""
    monkeypatch.setattr(control, "TICK_S", 0.008)
    clock = Clock(rooms)
    batches: list[list[str]] = []
    seen = 0
    while seen < wanted:
        await asyncio.sleep(0)
        if new := clock.turns[seen:]:
            batches.append(new)
            seen += len(new)
    await clock.stop()
    return batches


async def test_rooms_come_in_turns_and_each_as_often_as_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    rooms = Rooms(SimpleNamespace(id=f"room-{number}") for number in range(ROOMS))
    batches = await _turns(monkeypatch, rooms, 3 * ROOMS)
    assert max(map(len, batches)) <= ROOMS // 4, "a worker full of rooms would keep packets waiting for all of them"
    assert set(Counter(room for batch in batches for room in batch).values()) == {3}


async def test_a_few_rooms_wait_for_no_turns_that_nobody_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = await _turns(monkeypatch, Rooms([SimpleNamespace(id="room-1")]), 3)
    assert batches == [["room-1"]] * 3
