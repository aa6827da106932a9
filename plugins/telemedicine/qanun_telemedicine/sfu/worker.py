"""The media worker: a process that serves rooms over one UDP port and takes orders over one Unix socket.

    python -m qanun_telemedicine.sfu.worker --socket PATH --listen [::]:PORT --advertise IP[:PORT][,[IPv6]:PORT]

It keeps calls running when its clients go away, closes rooms that stay empty, and ends with the process that started it.
"""

import argparse
import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from qanun_telemedicine.sfu import protocol as p
from qanun_telemedicine.sfu.addresses import Address, reachable, read_address, shown
from qanun_telemedicine.sfu.busy import Load
from qanun_telemedicine.sfu.codecs import Preferences
from qanun_telemedicine.sfu.control import Control
from qanun_telemedicine.sfu.engine import Engine
from qanun_telemedicine.sfu.engines import CHOICES, open_engine
from qanun_telemedicine.sfu.memory import Departed
from qanun_telemedicine.sfu.native import Unavailable
from qanun_telemedicine.sfu.paths import Paths
from qanun_telemedicine.sfu.protocol import Refused
from qanun_telemedicine.sfu.recordings import Recordings
from qanun_telemedicine.sfu.room import Participant, Rooms
from qanun_telemedicine.sfu.sdp import SdpError

log = logging.getLogger(__name__)

#: A room that nobody is in is closed after this long.
_EMPTY_S = 600.0
_ALLOWED_TAPS = ("qanun_telemedicine.recording", "qanun_telemedicine.captions.ear")
_PR_SET_PDEATHSIG = 1


class MediaWorker:
    """Everything of one worker process; `serve` runs it."""

    def __init__(
        self,
        engine: Engine,
        hosts: Sequence[Address],
        allowed_taps: Sequence[str] = _ALLOWED_TAPS,
        preferences: Preferences | None = None,
    ) -> None:
        self.engine = engine
        self.paths = Paths(hosts)
        self.boot = secrets.token_hex(8)
        self.control = Control(engine, self.paths, self._emit)
        self.rooms = Rooms(engine, self.paths, self, self._told, preferences=preferences)
        self.recordings = Recordings(engine, self.rooms, allowed_taps, self._recording_failed)
        self.rooms.on_left = self._left
        self._departed = Departed()
        self.draining = self._ends = False
        self.load = Load(engine)
        self.finished = asyncio.Event()
        self._clients: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    # -- life ---------------------------------------------------------------------------------------------------------

    async def serve(self, socket: Path) -> None:
        """Serve until drained or cancelled."""
        self.engine.start(self.control)
        self.control.start(self.rooms)
        self._spawn(self.recordings.run(self.control.key_frame_needed))
        self._spawn(self._housekeeping())
        self._spawn(self.paths.look_after())
        socket.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            server = await asyncio.start_unix_server(self._client, socket, limit=p.MAX_LINE)
        finally:
            os.umask(mask)
        try:
            await self.finished.wait()
        finally:
            server.close()
            await self.control.stop()
            await self.recordings.stop_all()
            for room in list(self.rooms):
                await self.rooms.close(room.id)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for writer in list(self._clients):
                writer.close()
            self.engine.close()
            socket.unlink(missing_ok=True)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _housekeeping(self) -> None:
        while True:
            await asyncio.sleep(1)
            now = time.monotonic()
            self.load.look(self.rooms.by_transport)
            for room in list(self.rooms):
                if room.participants:
                    room.empty_since = 0.0
                elif not room.empty_since:
                    room.empty_since = now
                elif now - room.empty_since > _EMPTY_S:
                    await self._close_room(room.id)
            self._departed.look(self._people())
            if self._ends and not self._people():
                self.finished.set()

    def _people(self) -> int:
        return sum(len(room.participants) for room in self.rooms)

    async def _close_room(self, room: str) -> None:
        await self.recordings.stop_room(room)
        await self.rooms.close(room)
        self.control.forget_room(room)

    # -- events -------------------------------------------------------------------------------------------------------

    def _broadcast(self, event: p.Event) -> None:
        line = msgspec.json.encode(event) + b"\n"
        for writer in self._clients:
            if writer.transport.get_write_buffer_size() < 4 * p.MAX_LINE:
                writer.write(line)
            else:
                # It does not read; it will ask again when it connects again.
                writer.transport.abort()

    def _emit(self, name: str, participant: Participant, data: dict[str, object]) -> None:
        self._broadcast(p.Event(name, participant.room.id, participant.id, data))

    def _told(self, participant: Participant) -> None:
        if participant.version:
            self._emit(
                "participant.tracks",
                participant,
                {
                    "tracks": [asdict(one) for one in participant.assignments()],
                    "wanted": participant.wanted,
                    "connection": participant.connection,
                    "revision": participant.revision,
                },
            )

    def _recording_failed(self, room: str, recording: str, problem: str) -> None:
        self._broadcast(p.Event("recording.failed", room, data={"recording": recording, "problem": problem}))

    def transport_connected(self, name: str) -> None:
        participant = self.rooms.by_transport.get(name)
        if participant is None:
            return
        participant.connected = True
        state = self.control.state(name)
        state.leg.heard = time.monotonic()
        self._emit("participant.connected", participant, {})
        for slot in participant.slots.values():
            if slot.kind == "video" and slot.track is not None:
                self.control.key_frame_needed(slot.track.id, "")

    def transport_closed(self, name: str, reason: str) -> None:
        participant = self.rooms.by_transport.get(name)
        if participant is not None:
            participant.connected = False
            self._emit("participant.disconnected", participant, {"reason": reason})
            self._spawn(self._gone(name))

    async def _gone(self, name: str) -> None:
        await self.rooms.gone(name)

    def _left(self, name: str) -> None:
        self.control.forget(name)
        self._departed.left()

    # -- requests -----------------------------------------------------------------------------------------------------

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        decoder = msgspec.json.Decoder(p.AnyRequest)
        try:
            while line := await reader.readline():
                try:
                    request = decoder.decode(line)
                except msgspec.DecodeError as error:
                    log.warning("unreadable request: %s", error)
                    break
                # Each in a task of its own: a slow one holds up nobody.
                self._spawn(self._answer(request, writer))
        except (ConnectionError, ValueError):
            pass
        finally:
            self._clients.discard(writer)
            writer.close()

    async def _answer(self, request: p.AnyRequest, writer: asyncio.StreamWriter) -> None:
        try:
            response = p.Response(request.id, result=await self._do(request))
        except (Refused, SdpError) as error:
            response = p.Response(request.id, error=p.Failure(error.code, str(error)))
        except Exception as error:
            log.exception("request %s failed", type(request).__name__)
            response = p.Response(request.id, error=p.Failure("internal", type(error).__name__))
        with contextlib.suppress(ConnectionError):
            writer.write(msgspec.json.encode(response) + b"\n")
            await writer.drain()

    async def _do(self, request: p.AnyRequest) -> Any:
        match request:
            case p.Hello():
                return self._hello()
            case p.OpenRoom():
                self._not_draining(request.room)
                self.rooms.open(request.room)
                return None
            case p.CloseRoom():
                return await self._close_room(request.room)
            case p.Join():
                self._not_draining(request.room)
                participant, sdp = await self.rooms.join(
                    request.room, request.participant, request.sdp, request.sources
                )
                return self._described(participant, sdp)
            case p.Offer():
                participant, sdp = self.rooms.offer(request.room, request.participant, request.sdp, request.sources)
                return self._described(participant, sdp)
            case p.Leave():
                return await self.rooms.leave(request.room, request.participant)
            case p.KeyFrame():
                for track in self.rooms.participant(request.room, request.participant).tracks.values():
                    if track.kind == "video":
                        self.control.key_frame_needed(track.id, "")
                return None
            case p.StartRecording():
                return await self.recordings.start(
                    request.room, request.recording, request.tap, request.options, request.participants
                )
            case p.StopRecording():
                return await self.recordings.stop(request.recording)
            case p.PauseRecording():
                return self.recordings.pause(request.recording, request.paused)
            case p.RecordingStatus():
                return self.recordings.status(request.recording)
            case p.Stats():
                return self._stats(request.room)
            case p.Drain():
                self.draining, self._ends = request.on, request.on and request.ends
                return None

    def _not_draining(self, room: str) -> None:
        """A room that somebody is in stays whole: who belongs there is let in until it is empty."""
        if self.draining and not any(one.id == room and one.participants for one in self.rooms):
            raise Refused("draining", "this worker is about to end")

    def _hello(self) -> p.Worker:
        return p.Worker(
            p.VERSION,
            self.boot,
            os.getpid(),
            self.engine.address[1],
            [shown(host) for host in self.paths.hosts],
            len(self.rooms),
            self._people(),
            self.draining,
            self.engine.kind,
            self.load.cpu,
            self.load.machine,
            self.load.packets,
            len(asyncio.all_tasks()),
        )

    @staticmethod
    def _described(participant: Participant, sdp: str) -> p.Described:
        tracks = [p.Track(**asdict(one)) for one in participant.assignments()]
        return p.Described(sdp, tracks, participant.wanted, participant.connection, participant.revision)

    def _stats(self, room: str | None) -> dict[str, Any]:
        chosen = [self.rooms.get(room)] if room is not None else list(self.rooms)
        return {
            one.id: {
                participant.id: {
                    "connected": participant.connected,
                    "quality": self.control.quality(participant),
                    "counters": asdict(self.engine.counters(participant.transport.name)),
                    "sends": [
                        {
                            "track": stream.track,
                            "rid": stream.rid,
                            "packets": stream.packets,
                            "octets": stream.octets,
                            "width": stream.width,
                            "lost": stream.report.packets_lost,
                        }
                        for track in participant.tracks.values()
                        for stream in self.engine.streams_of(track.id)
                        if not stream.retransmission
                    ],
                    "receives": [asdict(sender) for sender in self.control.shares.senders(participant)],
                }
                for participant in one.participants.values()
            }
            for one in chosen
        }


def _listen_address(text: str) -> Address:
    try:
        return read_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _advertised(text: str) -> list[str]:
    """What clients are told, still without the port that is ours only once we listen. None where the machine has none yet."""
    hosts = [one for one in text.split(",") if one]
    try:
        for one in hosts:
            reachable(read_address(one, 0)[0])
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return hosts


def told(hosts: Sequence[str], own: Address) -> list[Address]:
    """The addresses that clients are told by a worker that listens at `own`. What its socket cannot hear is no help to them."""
    wanted = [read_address(one, own[1]) for one in hosts]
    heard = wanted if ":" in own[0] else [one for one in wanted if ":" not in one[0]]
    if len(heard) < len(wanted) and heard:
        log.warning("clients are told no IPv6 address: this worker listens at %s", shown(own))
    return heard or wanted


async def _main(options: argparse.Namespace) -> None:
    engine = open_engine(options.engine, options.listen)
    hosts = told(options.advertise, engine.address)
    worker = MediaWorker(engine, hosts, [*_ALLOWED_TAPS, *options.allow_tap], options.codecs)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.finished.set)
    # Not looked through for rubbish again and again: what is there for good, and what lives as long as its room.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    await worker.serve(options.socket)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="qanun-media-worker", description="Forwards the media of consultations.")
    parser.add_argument("--socket", type=Path, required=True, help="Unix socket for requests and events")
    parser.add_argument(
        "--listen", type=_listen_address, required=True, help="IP:PORT for media (UDP); [::]:PORT for IPv4 and IPv6"
    )
    parser.add_argument(
        "--advertise",
        type=_advertised,
        required=True,
        help="addresses that clients are told, IPv4 and IPv6, separated by commas; with a port if it differs",
    )
    parser.add_argument(
        "--engine", choices=CHOICES, default="auto", help="the data plane; auto: C where it is there, else Python"
    )
    parser.add_argument("--allow-tap", action="append", default=[], help="another package that taps may come from")
    parser.add_argument(
        "--codecs",
        type=Preferences.of,
        default=os.environ.get("QANUN_MEDIA_CODECS", ""),
        help="codecs in the order of preference, like vp9,vp8; with red: sound that repairs single losses by itself",
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    for noisy in ("aioice", "aiortc"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    try:
        uvloop.run(_main(options))
    except Unavailable as reason:
        sys.exit(f"no C engine: {reason}")


if __name__ == "__main__":
    main()
