"""Several media workers as if they were one: each room is placed whole, where least is going on.

The first worker's socket is `media.sock`; others beside it are called `media-2.sock` and so on, and are found while they come
and go. Workers of media nodes have a socket here too (`media-node-NAME-1.sock`, made by `nodes.gateway`), which goes away with
them: their rooms are placed anew, and whoever was in one is told to join again. All web processes of the machine agree on who serves a room through one small file beside the sockets, which is
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

_LOOK_S = 0.5
#: A worker whose connection is just coming up is waited for before its rooms go elsewhere.
_PATIENCE_S = 1.0
#: A worker that is busier than this gets a new room only when all are; sharper than this nobody is compared by load.
_CROWDED, _STEP = 0.85, 0.1

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
        #: Since when a worker is away, on the loop's clock.
        self._away: dict[str, float] = {}
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
            await self._miss()

    async def _look(self, wait: float | None) -> None:
        others = (one.name for one in self.path.parent.glob(f"{self.path.stem}-*{self.path.suffix}"))
        for name in sorted({self.path.name, *others} - set(self._clients)):
            client = MediaClient(self.path.with_name(name), timeout=self._timeout)
            client._on_event = lambda event, name=name: self._hear(name, event)
            self._clients[name] = client
            await client.start(wait=wait)

    async def _miss(self) -> None:
        """Rooms of a worker that stays away go elsewhere; a node whose socket is gone is forgotten."""
        now = asyncio.get_running_loop().time()
        for name, client in list(self._clients.items()):
            if client.connected:
                self._away.pop(name, None)
                continue
            away = now - self._away.setdefault(name, now)
            gone = self._is_node(name) and not client.path.exists()
            if len(self._clients) > 1 and (gone or away >= _PATIENCE_S) and self._on_event is not None:
                await self._each([room for room, (worker, _) in self._rooms.items() if worker == name])
            if gone:
                del self._clients[name], self._away[name]
                await client.close()

    def _is_node(self, name: str) -> bool:
        return name.startswith(f"{self.path.stem}-node-")

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
            since = self._away.get(name)
            patience = _PATIENCE_S if since is None else _PATIENCE_S - (asyncio.get_running_loop().time() - since)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(client._ready.wait(), max(0.0, patience))
        return client if client.connected and client.worker is not None and client.worker.boot == boot else None

    async def _offers(self) -> list[tuple[str, str]]:
        """(name, boot) of the workers that take rooms, the idlest first.

        The load is compared in steps: rooms that are opened in the same second do not show in it yet, people in them do.
        """
        free = []
        for name, one in (await self._asked()).items():
            if not one.draining:
                busy = max(one.cpu, one.machine)
                free.append(
                    (busy > _CROWDED, int(busy / _STEP), one.participants, one.packets, one.rooms, name, one.boot)
                )
        return [(name, boot) for *_, name, boot in sorted(free)]

    async def _asked(self) -> dict[str, p.Worker]:
        names = [name for name, client in self._clients.items() if client.connected]
        answers = await asyncio.gather(*(self._clients[name].hello() for name in names), return_exceptions=True)
        return {name: one for name, one in zip(names, answers, strict=True) if isinstance(one, p.Worker)}

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
        first = first if first in self._clients else self.path.name
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
        return list((await self._asked()).values())

    async def servers(self) -> dict[str, p.Worker | None]:
        """Every worker by the name of its socket, None for one that does not answer; nodes have a list of their own."""
        asked = await self._asked()
        return {name: asked.get(name) for name in sorted(self._clients) if not self._is_node(name)}
