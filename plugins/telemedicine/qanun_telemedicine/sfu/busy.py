"""How busy a worker is, for placing rooms: its own processor time, the machine's, and packets a second. Looked at every second."""

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path

from qanun_telemedicine.sfu.engine import Engine

#: How much a new second weighs: a burst of joins does not look like a busy worker, and the end of a call does not linger.
_NEW = 0.4
_STAT = Path("/proc/stat")


class Load:
    """Smoothed figures; nought until something was seen."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.cpu = self.machine = self.packets = 0.0
        self._counted: dict[str, int] = {}
        self._at, self._used, self._ticks = time.monotonic(), time.process_time(), _ticks()

    def look(self, transports: Iterable[str]) -> None:
        at, used, ticks = time.monotonic(), time.process_time(), _ticks()
        passed = at - self._at
        if passed <= 0:
            return
        counted, moved = {}, 0
        for name in transports:
            with contextlib.suppress(KeyError, LookupError):
                counters = self._engine.counters(name)
                counted[name] = counters.received + counters.sent
                moved += max(0, counted[name] - self._counted.get(name, 0))
        self.cpu = _smooth(self.cpu, (used - self._used) / passed)
        self.packets = _smooth(self.packets, moved / passed)
        if ticks[1] > self._ticks[1]:
            self.machine = _smooth(self.machine, (ticks[0] - self._ticks[0]) / (ticks[1] - self._ticks[1]))
        self._at, self._used, self._ticks, self._counted = at, used, ticks, counted


def _smooth(before: float, now: float) -> float:
    return round(before + _NEW * (max(0.0, now) - before), 4)


def _ticks() -> tuple[int, int]:
    """(busy, all) processor ticks of the machine since it started; nought where that is not told."""
    try:
        numbers = [int(word) for word in _STAT.read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return 0, 0
    idle = numbers[3] + numbers[4]
    return sum(numbers) - idle, sum(numbers)
