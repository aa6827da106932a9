"""How the web process talks to a media worker: requests with time limits, events, and connecting again by itself.

    client = MediaClient(path, on_event)
    await client.start()
    described = await client.join("room", "doctor", sdp)

When the worker behind the socket turns out to be another process than before, the event `worker.restarted` is given to
`on_event`: everything the old one had is gone, and pages should join again.
"""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from qanun_telemedicine.sfu import protocol as p

log = logging.getLogger(__name__)

_TIMEOUT_S = 5.0
_CONNECT_S = 2.0
_RETRY_S = 0.05
_MOST_RETRY_S = 1.0

T = TypeVar("T")
OnEvent = Callable[[p.Event], Awaitable[None] | None]


class MediaError(Exception):
    """The worker refused or failed; `code` says how ("gone": join again, "no-room", "full", "draining", SDP codes …)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class MediaUnavailable(MediaError):
    """No worker answers at the moment."""

    def __init__(self, message: str) -> None:
        super().__init__("unavailable", message)


class MediaClient:
    """A connection to one worker, kept up until `close`."""

    def __init__(self, path: Path | str, on_event: OnEvent | None = None, *, timeout: float = _TIMEOUT_S) -> None:
        self.path = Path(path)
        self.worker: p.Worker | None = None
        self._on_event = on_event
        self._timeout = timeout
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[p.Message]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._events: asyncio.Queue[p.Event] = asyncio.Queue(maxsize=10_000)
        self._pump: asyncio.Task[None] | None = None

    # -- life ---------------------------------------------------------------------------------------------------------

    async def start(self, *, wait: float | None = 5.0) -> None:
        """Begin to connect; with `wait`, give the worker this long to answer."""
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._run())
        self._pump = loop.create_task(self._deliver())
        if wait is not None:
            try:
                await asyncio.wait_for(self._ready.wait(), wait)
            except TimeoutError:
                raise MediaUnavailable(f"no media worker at {self.path}") from None

    async def close(self) -> None:
        for task in (self._task, self._pump):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        self._lost()

    @property
    def connected(self) -> bool:
        return self._ready.is_set()

    async def _run(self) -> None:
        delay = _RETRY_S
        while True:
            try:
                async with asyncio.timeout(_CONNECT_S):
                    reader, self._writer = await asyncio.open_unix_connection(self.path, limit=p.MAX_LINE)
                listening = asyncio.ensure_future(self._listen(reader))
                try:
                    await self._greet()
                    delay = _RETRY_S
                    await listening
                finally:
                    listening.cancel()
                    await asyncio.gather(listening, return_exceptions=True)
            except (OSError, TimeoutError, MediaError, ValueError):
                pass
            finally:
                self._lost()
            await asyncio.sleep(delay)
            delay = min(_MOST_RETRY_S, delay * 2)

    async def _greet(self) -> None:
        worker = msgspec.convert(await self._ask(p.Hello(next(self._ids)), self._timeout), p.Worker)
        before, self.worker = self.worker, worker
        self._ready.set()
        if before is not None and before.boot != worker.boot:
            self._hear(p.Event("worker.restarted", ""))

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        decoder = msgspec.json.Decoder(p.Message)
        while line := await reader.readline():
            message = decoder.decode(line)
            if message.event is not None:
                self._hear(p.Event(message.event, message.room, message.participant, message.data))
            elif message.id is not None:
                waiting = self._waiting.pop(message.id, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(message)

    def _lost(self) -> None:
        self._ready.clear()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(MediaUnavailable("the media worker went away"))
        self._waiting.clear()

    def _hear(self, event: p.Event) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            self._events.put_nowait(event)

    async def _deliver(self) -> None:
        while True:
            event = await self._events.get()
            if self._on_event is None:
                continue
            try:
                result = self._on_event(event)
                if result is not None:
                    await result
            except Exception:
                log.exception("media event %s could not be handled", event.event)

    async def _ask(self, request: p.Request, timeout: float) -> Any:
        if self._writer is None:
            raise MediaUnavailable(f"no media worker at {self.path}")
        waiting: asyncio.Future[p.Message] = asyncio.get_running_loop().create_future()
        self._waiting[request.id] = waiting
        self._writer.write(msgspec.json.encode(request) + b"\n")
        try:
            message = await asyncio.wait_for(waiting, timeout)
        except TimeoutError:
            raise MediaUnavailable("the media worker did not answer in time") from None
        finally:
            self._waiting.pop(request.id, None)
        if message.error is not None:
            raise MediaError(message.error.code, message.error.message)
        return message.result

    async def _request(self, request: p.Request, timeout: float | None = None) -> Any:
        limit = timeout or self._timeout
        try:
            # A worker that has just been killed is back in less than a second: worth waiting for.
            await asyncio.wait_for(self._ready.wait(), limit)
        except TimeoutError:
            raise MediaUnavailable(f"no media worker at {self.path}") from None
        return await self._ask(request, limit)

    # -- requests -----------------------------------------------------------------------------------------------------

    async def open_room(self, room: str) -> None:
        await self._request(p.OpenRoom(next(self._ids), room))

    async def close_room(self, room: str) -> None:
        await self._request(p.CloseRoom(next(self._ids), room), 15.0)

    async def join(
        self, room: str, participant: str, sdp: str, sources: Mapping[str, str] | None = None
    ) -> p.Described:
        """Open the room if need be, connect the participant and give the answer to the offer."""
        await self.open_room(room)
        request = p.Join(next(self._ids), room, participant, sdp, dict(sources or {}))
        return msgspec.convert(await self._request(request), p.Described)

    async def offer(
        self, room: str, participant: str, sdp: str, sources: Mapping[str, str] | None = None
    ) -> p.Described:
        request = p.Offer(next(self._ids), room, participant, sdp, dict(sources or {}))
        return msgspec.convert(await self._request(request), p.Described)

    async def leave(self, room: str, participant: str) -> None:
        await self._request(p.Leave(next(self._ids), room, participant))

    async def keyframe(self, room: str, participant: str) -> None:
        await self._request(p.KeyFrame(next(self._ids), room, participant))

    async def start_recording(
        self,
        room: str,
        recording: str,
        tap: str,
        options: Mapping[str, Any],
        participants: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        chosen = list(participants) if participants is not None else None
        request = p.StartRecording(next(self._ids), room, recording, tap, dict(options), chosen)
        return dict(await self._request(request))

    async def stop_recording(self, recording: str) -> dict[str, Any]:
        return dict(await self._request(p.StopRecording(next(self._ids), recording), 15.0))

    async def pause_recording(self, recording: str, paused: bool = True) -> dict[str, Any]:
        return dict(await self._request(p.PauseRecording(next(self._ids), recording, paused)))

    async def recording_status(self, recording: str) -> dict[str, Any]:
        return dict(await self._request(p.RecordingStatus(next(self._ids), recording)))

    async def stats(self, room: str | None = None) -> dict[str, Any]:
        return dict(await self._request(p.Stats(next(self._ids), room)))

    async def hello(self) -> p.Worker:
        return msgspec.convert(await self._request(p.Hello(next(self._ids))), p.Worker)

    async def drain(self, on: bool = True, *, ends: bool = True) -> None:
        await self._request(p.Drain(next(self._ids), on, ends))
