"""Several media workers of one machine as if they were one: each room is placed whole, where least is going on.

The first worker's socket is `media.sock`; others beside it are called `media-2.sock` and so on, and are found while they come
and go. All web processes of the machine agree on who serves a room through one small file beside the sockets, which is
locked for the length of a look: a room that two processes ask for at the same moment gets one worker. A worker that drains gets
no new room and ends when its last one is empty; one that died gets new rooms like any other once it is back.
With a single worker there is nothing to place, and no file.
"""

import asyncio
import contextlib
import fcntl
import json
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from qanun_telemedicine.sfu import protocol as p
from qanun_telemedicine.sfu.client import MediaClient, MediaError, MediaUnavailable, OnEvent

_LOOK_S = 2.0
#: A worker whose connection is just coming up is waited for before its rooms go elsewhere.
_PATIENCE_S = 1.0

T = TypeVar("T")


class MediaPool:
    """`client.MediaClient` over all workers beside `path`; its errors are that one's."""

    def __init__(self, path: Path | str, on_event: OnEvent | None = None, *, timeout: float = 5.0) -> None:
        self.path = Path(path)
        self._on_event = on_event
        self._timeout = timeout
        self._clients: dict[str, MediaClient] = {}
        #: What this process knows of rooms: which worker, and which life of it.
        self._rooms: dict[str, tuple[str, str]] = {}
        self._recordings: dict[str, str] = {}
        self._looking: asyncio.Task[None] | None = None

    # -- life ---------------------------------------------------------------------------------------------------------

    async def start(self, *, wait: float | None = 5.0) -> None:
        """Begin to connect to every worker; with `wait`, give each this long to answer."""
        await self._look(wait)
        self._looking = asyncio.get_running_loop().create_task(self._keep_looking())

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        for client in self._clients.values():
            await client.close()

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            await self._look(None)

    async def _look(self, wait: float | None) -> None:
        others = (one.name for one in self.path.parent.glob(f"{self.path.stem}-*{self.path.suffix}"))
        for name in sorted({self.path.name, *others} - set(self._clients)):
            client = MediaClient(self.path.with_name(name), timeout=self._timeout)
            client._on_event = lambda event, name=name: self._hear(name, event)
            self._clients[name] = client
            await client.start(wait=wait)

    def _hear(self, name: str, event: p.Event) -> Awaitable[None] | None:
        if self._on_event is None:
            return None
        if event.event != "worker.restarted" or len(self._clients) == 1:
            return self._on_event(event)
        # Whoever is at another worker has lost nothing.
        return self._each([room for room, (worker, _) in self._rooms.items() if worker == name])

    async def _each(self, rooms: Sequence[str]) -> None:
        assert self._on_event is not None
        for room in rooms:
            self._rooms.pop(room, None)
            told = self._on_event(p.Event("worker.restarted", room))
            if told is not None:
                await told

    # -- placing ------------------------------------------------------------------------------------------------------

    async def _of(self, room: str, *, new: bool = False) -> MediaClient:
        """The worker that serves a room. Raises MediaUnavailable when there is none; with `new` one is chosen."""
        if len(self._clients) == 1:
            return next(iter(self._clients.values()))
        known = self._rooms.get(room)
        if known is not None and (client := await self._alive(*known)) is not None:
            return client
        written = await asyncio.to_thread(self._read, room)
        if written is not None and (client := await self._alive(*written)) is not None:
            self._rooms[room] = written
            return client
        serving = await self._serving(room)
        if not (new or serving):
            raise MediaError("gone", f"no worker serves room {room!r}: join again")
        offers = [serving] if serving else await self._offers()
        if not offers:
            raise MediaUnavailable("no media worker takes a new room at the moment")
        boots = {name: client.worker.boot for name, client in self._clients.items() if client.worker is not None}
        placed = self._rooms[room] = await asyncio.to_thread(self._place, room, offers[0], written, boots)
        return self._clients[placed[0]]

    async def _serving(self, room: str) -> tuple[str, str] | None:
        """Who has people in this room already: from before there were several workers, say."""
        for name, client in self._clients.items():
            if client.connected and client.worker is not None:
                with contextlib.suppress(MediaError):
                    if (await client.stats(room)).get(room):
                        return name, client.worker.boot
        return None

    async def _alive(self, name: str, boot: str) -> MediaClient | None:
        client = self._clients.get(name)
        if client is None:
            return None
        if not client.connected:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(client._ready.wait(), _PATIENCE_S)
        return client if client.connected and client.worker is not None and client.worker.boot == boot else None

    async def _offers(self) -> list[tuple[str, str]]:
        """(name, boot) of the workers that take rooms, the idlest first."""
        names = [name for name, client in self._clients.items() if client.connected]
        answers = await asyncio.gather(*(self._clients[name].hello() for name in names), return_exceptions=True)
        free = [
            (one.participants, one.rooms, name, one.boot)
            for name, one in zip(names, answers, strict=True)
            if isinstance(one, p.Worker) and not one.draining
        ]
        return [(name, boot) for _, _, name, boot in sorted(free)]

    @property
    def _file(self) -> Path:
        return self.path.with_suffix(".rooms")

    def _read(self, room: str) -> tuple[str, str] | None:
        with contextlib.suppress(OSError, ValueError):
            entry = json.loads(self._file.read_text(encoding="utf-8")).get(room)
            if isinstance(entry, list) and len(entry) == 2:
                return str(entry[0]), str(entry[1])
        return None

    def _place(
        self, room: str, choice: tuple[str, str], dead: tuple[str, str] | None, boots: Mapping[str, str]
    ) -> tuple[str, str]:
        """Write who serves the room, unless another process has done so since it was read (`dead`): that holds."""
        descriptor = os.open(self._file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            written = self._read(room)
            if written is not None and written != dead and boots.get(written[0]) == written[1]:
                return written
            rooms: dict[str, Any] = {}
            with contextlib.suppress(OSError, ValueError):
                rooms = json.loads(self._file.read_text(encoding="utf-8"))
            # What former lives of workers served is nobody's any more.
            rooms = {name: each for name, each in rooms.items() if boots.get(each[0]) == each[1]}
            rooms[room] = list(choice)
            self._write(rooms)
            return choice
        finally:
            os.close(descriptor)

    def _forget(self, room: str) -> None:
        descriptor = os.open(self._file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            with contextlib.suppress(OSError, ValueError):
                rooms = json.loads(self._file.read_text(encoding="utf-8"))
                if rooms.pop(room, None) is not None:
                    self._write(rooms)
        finally:
            os.close(descriptor)

    def _write(self, rooms: Mapping[str, Any]) -> None:
        partial = self._file.with_suffix(".rooms.new")
        partial.write_text(json.dumps(rooms), encoding="utf-8")
        partial.replace(self._file)

    # -- requests -----------------------------------------------------------------------------------------------------

    async def _new(self, room: str, ask: Callable[[MediaClient], Awaitable[T]]) -> T:
        """Ask the room's worker; one that is about to end is asked only while the room is there."""
        try:
            return await ask(await self._of(room, new=True))
        except MediaError as error:
            if error.code != "draining" or len(self._clients) == 1:
                raise
        self._rooms.pop(room, None)
        await asyncio.to_thread(self._forget, room)
        return await ask(await self._of(room, new=True))

    async def open_room(self, room: str) -> None:
        await self._new(room, lambda client: client.open_room(room))

    async def close_room(self, room: str) -> None:
        try:
            client = await self._of(room)
        except MediaError as error:
            if error.code == "gone":
                return  # as closed as it gets
            raise
        await client.close_room(room)
        if len(self._clients) > 1:
            self._rooms.pop(room, None)
            await asyncio.to_thread(self._forget, room)

    async def join(
        self, room: str, participant: str, sdp: str, sources: Mapping[str, str] | None = None
    ) -> p.Described:
        return await self._new(room, lambda client: client.join(room, participant, sdp, sources))

    async def offer(
        self, room: str, participant: str, sdp: str, sources: Mapping[str, str] | None = None
    ) -> p.Described:
        return await (await self._of(room)).offer(room, participant, sdp, sources)

    async def leave(self, room: str, participant: str) -> None:
        await (await self._of(room)).leave(room, participant)

    async def keyframe(self, room: str, participant: str) -> None:
        await (await self._of(room)).keyframe(room, participant)

    async def start_recording(
        self,
        room: str,
        recording: str,
        tap: str,
        options: Mapping[str, Any],
        participants: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        client = await self._of(room, new=True)
        self._recordings[recording] = client.path.name
        return await client.start_recording(room, recording, tap, options, participants)

    async def _recorded(self, recording: str, ask: Callable[[MediaClient], Awaitable[T]]) -> T:
        """Ask whoever runs this recording: known here, or started by another process."""
        first = self._recordings.get(recording, self.path.name)
        names = sorted((name for name, one in self._clients.items() if one.connected), key=lambda name: name != first)
        for name in names[:-1]:
            try:
                return await ask(self._clients[name])
            except MediaError as error:
                if error.code != "no-recording":
                    raise
        return await ask(self._clients[names[-1] if names else first])

    async def stop_recording(self, recording: str) -> dict[str, Any]:
        stopped = await self._recorded(recording, lambda client: client.stop_recording(recording))
        self._recordings.pop(recording, None)
        return stopped

    async def pause_recording(self, recording: str, paused: bool = True) -> dict[str, Any]:
        return await self._recorded(recording, lambda client: client.pause_recording(recording, paused))

    async def recording_status(self, recording: str) -> dict[str, Any]:
        return await self._recorded(recording, lambda client: client.recording_status(recording))

    async def stats(self, room: str | None = None) -> dict[str, Any]:
        if room is not None:
            return await (await self._of(room)).stats(room)
        found: dict[str, Any] = {}
        for client in self._clients.values():
            if client.connected or len(self._clients) == 1:
                found |= await client.stats()
        return found

    async def workers(self) -> list[p.Worker]:
        """Every worker that answers."""
        clients = [client for client in self._clients.values() if client.connected]
        answers = await asyncio.gather(*(client.hello() for client in clients), return_exceptions=True)
        return [one for one in answers if isinstance(one, p.Worker)]
