"""Which sockets of this process listen to which room: whoever is slow misses the oldest, and holds up nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

News = TypeVar("News")


class Ears(Generic[News]):
    """`listen(room)` gives a socket what is told of that room; at most `most` wait for each."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._queues: dict[str, set[asyncio.Queue[News]]] = {}

    @contextmanager
    def listen(self, room: str) -> Iterator[asyncio.Queue[News]]:
        queue: asyncio.Queue[News] = asyncio.Queue(self._most)
        self._queues.setdefault(room, set()).add(queue)
        try:
            yield queue
        finally:
            self._queues[room].discard(queue)
            if not self._queues[room]:
                del self._queues[room]

    def tell(self, news: News, room: str | None) -> None:
        """Who listens to `room`; with None, everybody."""
        for each in list(self._queues) if room is None else [room]:
            for queue in self._queues.get(each, ()):
                if queue.full():
                    queue.get_nowait()
                queue.put_nowait(news)
