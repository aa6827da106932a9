"""One worker of a node as a local socket: what web processes here see is a worker like any other, one that lives elsewhere.

Requests are passed on under numbers of our own, answers and events come back; recordings are kept on this side (`records`). When the
node is silent the socket goes away, and with it everybody's connection: rooms are placed anew.
"""

import asyncio
import contextlib
import itertools
import logging
import os
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import msgspec

from qanun_telemedicine.nodes import link
from qanun_telemedicine.nodes.records import Records
from qanun_telemedicine.nodes.registry import Node, Refusal
from qanun_telemedicine.sfu import protocol as p
from qanun_telemedicine.sfu.addresses import read_address
from qanun_telemedicine.sfu.protocol import Refused

log = logging.getLogger(__name__)

FAR_TAP = "qanun_telemedicine.nodes.far_tap:FarTap"
#: A line that breaks is waited for so long before its rooms go elsewhere.
GRACE_S = 1.5
_ANSWER_S = 20.0


class Seat:
    """The local end of one worker."""

    def __init__(self, node: Node, number: int, path: Path, records: Records) -> None:
        self.node, self.number, self.path = node, number, path
        #: The worker's newest word about itself; None while it is away.
        self.worker: p.Worker | None = None
        self._records = records
        self._boot = ""
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[p.Message]] = {}
        self._line: asyncio.StreamWriter | None = None
        self._ready = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._leaving: asyncio.TimerHandle | None = None

    # -- the node's side ----------------------------------------------------------------------------------------------

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Be this worker's line until it ends or falls silent. Raises Refusal for a worker that must not serve."""
        if self._line is not None:
            self._line.transport.abort()
        self._cancel_leaving()
        self._line = writer
        hearing = asyncio.ensure_future(self._hear(reader))
        pinging = asyncio.ensure_future(self._ping())
        try:
            await self._introduce()
            await asyncio.wait((hearing, pinging), return_when=asyncio.FIRST_COMPLETED)
        except (OSError, TimeoutError, ValueError) as error:
            log.warning("node %s, worker %d: %s", self.node.name, self.number, type(error).__name__)
        finally:
            for task in (hearing, pinging):
                task.cancel()
            await asyncio.gather(hearing, pinging, return_exceptions=True)
            writer.transport.abort()
            if self._line is writer:
                self._lost()

    async def _introduce(self) -> None:
        worker = await self._hello()
        if worker.version != p.VERSION:
            raise Refusal("version", "the node's worker speaks another version: bring both to the same release")
        strange = {_host(one) for one in worker.hosts} - set(self.node.addresses)
        if strange:
            raise Refusal(
                "address", f"the node offers {', '.join(sorted(strange))}, which its invitation does not name"
            )
        if worker.boot != self._boot:
            if self._boot:
                # Everything the former one had is gone; who asks again hears from the new one.
                self._drop_clients()
                await self._records.end_of(self)
            self._boot = worker.boot
        self.worker = worker
        # Said either way: before this machine stopped it may have had the node drain, and that is over now.
        await self.ask(p.Drain(0, self.node.draining, False))
        await self._open()
        self._ready.set()

    async def drain(self, on: bool) -> None:
        """Take no new room, or take rooms again. Raises ConnectionError while the worker is away: it is told when it is back."""
        await self.ask(p.Drain(0, on, False))
        self.worker = await self._hello()

    async def _hello(self) -> p.Worker:
        return msgspec.convert((await self.ask(p.Hello(0))).result, p.Worker)

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(link.PING_S)
            self.worker = await self._hello()

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        decoder = msgspec.json.Decoder(p.Message)
        while True:
            async with asyncio.timeout(link.SILENT_S):
                line = await reader.readline()
            if not line:
                return
            message = decoder.decode(line)
            if message.event is not None:
                self._event(message)
            elif message.id is not None:
                waiting = self._waiting.pop(message.id, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(message)

    def _event(self, message: p.Message) -> None:
        name, data = str(message.event), message.data
        if name == "recording.failed" and data.get("problem") == "lost":
            # The node's tap could not go on, or does not know us any more: to be begun anew, not given up.
            self._spawn(self._recording_lost(str(data.get("recording", ""))))
            name = "recording.lost"
        self.broadcast(p.Event(name, message.room, message.participant, data))

    async def _recording_lost(self, recording: str) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            await self.ask(p.StopRecording(0, recording))
        with contextlib.suppress(Refused):
            await self._records.end(self._records.of(self, recording))

    async def ask(self, request: p.Request) -> p.Message:
        """The worker's answer. Raises ConnectionError while it is away."""
        if self._line is None:
            raise ConnectionError("the node is away")
        number = next(self._ids)
        waiting: asyncio.Future[p.Message] = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiting
        self._line.write(msgspec.json.encode(msgspec.structs.replace(request, id=number)) + b"\n")
        try:
            return await asyncio.wait_for(waiting, _ANSWER_S)
        finally:
            self._waiting.pop(number, None)

    def _lost(self) -> None:
        self._line = None
        self.worker = None
        self._ready.clear()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ConnectionError("the node went away"))
        self._waiting.clear()
        self._drop_clients()
        self._leaving = asyncio.get_running_loop().call_later(GRACE_S, lambda: self._spawn(self.close()))

    def _cancel_leaving(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    async def close(self) -> None:
        """Not a worker any more: its socket is gone, and its recordings are closed as they are."""
        self._cancel_leaving()
        if self._line is not None:
            self._line.transport.abort()
        server, self._server = self._server, None
        if server is not None:
            server.close()
            self.path.unlink(missing_ok=True)
        self._drop_clients()
        self._boot = ""
        await self._records.end_of(self)

    # -- this machine's side ------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        if self._server is not None:
            return
        self.path.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._client, self.path, limit=p.MAX_LINE)
        finally:
            os.umask(mask)

    def broadcast(self, event: p.Event) -> None:
        line = msgspec.json.encode(event) + b"\n"
        for writer in self._clients:
            if writer.transport.get_write_buffer_size() < 4 * p.MAX_LINE:
                writer.write(line)
            else:
                writer.transport.abort()

    def _drop_clients(self) -> None:
        for writer in list(self._clients):
            writer.transport.abort()
        self._clients.clear()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder = msgspec.json.Decoder(p.AnyRequest)
        try:
            # While the line is made anew nobody is answered, and nobody is sent away.
            await asyncio.wait_for(self._ready.wait(), _ANSWER_S)
            self._clients.add(writer)
            while line := await reader.readline():
                self._spawn(self._answer(decoder.decode(line), writer))
        except (OSError, ValueError, TimeoutError, msgspec.DecodeError):
            pass
        finally:
            self._clients.discard(writer)
            writer.close()

    async def _answer(self, request: p.AnyRequest, writer: asyncio.StreamWriter) -> None:
        try:
            response = await self._do(request)
        except Refused as error:
            response = p.Response(request.id, error=p.Failure(error.code, str(error)))
        except (OSError, TimeoutError):
            response = p.Response(request.id, error=p.Failure("unavailable", "the media node does not answer"))
        except Exception as error:
            log.exception("request %s failed", type(request).__name__)
            response = p.Response(request.id, error=p.Failure("internal", type(error).__name__))
        with contextlib.suppress(OSError):
            writer.write(msgspec.json.encode(response) + b"\n")
            await writer.drain()

    async def _do(self, request: p.AnyRequest) -> p.Response:
        match request:
            case p.StartRecording():
                return p.Response(request.id, await self._start(request))
            case p.StopRecording():
                return p.Response(request.id, await self._stop(request.recording))
            case p.PauseRecording():
                return p.Response(request.id, await self._pause(request))
            case p.RecordingStatus():
                return p.Response(request.id, self._records.of(self, request.recording).tap.status())
            case p.Drain():
                # Of all workers, before this machine stops. A node's worker never ends by it, and one whose node drains goes on so.
                await self.drain(request.on or self.node.draining)
                return p.Response(request.id)
        answer = await self.ask(request)
        return p.Response(request.id, answer.result, answer.error)

    async def _start(self, request: p.StartRecording) -> dict[str, Any]:
        record = await self._records.begin(self, request.room, request.recording, request.tap, request.options)
        # Neither the folder nor the key goes to the node.
        far = msgspec.structs.replace(request, tap=FAR_TAP, options={"recording": request.recording})
        try:
            answer = await self.ask(far)
        except BaseException:
            await self._records.end(record)
            raise
        if answer.error is not None:
            await self._records.end(record)
            raise Refused(answer.error.code, answer.error.message)
        return record.tap.status()

    async def _stop(self, name: str) -> dict[str, Any]:
        # The recorder first: nothing that comes after this very moment is kept, whenever the node hears of it.
        status = await self._records.end(self._records.of(self, name))
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(self.ask(p.StopRecording(0, name)), 5.0)
        return status

    async def _pause(self, request: p.PauseRecording) -> dict[str, Any]:
        record = self._records.of(self, request.recording)
        (record.tap.pause if request.paused else record.tap.resume)()
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(self.ask(request), 5.0)
        return record.tap.status()

    def _spawn(self, work: Awaitable[Any]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _host(text: str) -> str:
    """Of an address with a port, as a worker tells it; nonsense stays what it is, and is in no invitation."""
    try:
        return read_address(text)[0]
    except ValueError:
        return text
