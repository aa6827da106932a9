"""The recordings of nodes' rooms, on the clinic's machine: the recorder and its key stay here, packets come in over a tap's line.

Pausing and stopping hold from the moment that they are asked for here, whatever the node still sends. A node that is lost ends
its recordings as they are; what arrived is sealed and whole.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qanun_telemedicine.nodes import link
from qanun_telemedicine.sfu.protocol import Refused
from qanun_telemedicine.sfu.tap import Tap, TapRefused, load

log = logging.getLogger(__name__)

#: Where recorders, and who writes along for captions, may come from: the same places as on a local worker.
ALLOWED = ("qanun_telemedicine.recording", "qanun_telemedicine.captions.ear")
_ASK_S = 0.3


@dataclass(frozen=True)
class FarTrack:
    """A track of a node's room, as the recorder is told of it."""

    id: str
    participant: str
    kind: str
    codec: str
    clock_rate: int
    payload_type: int
    source: str = ""


@dataclass
class Record:
    """One recording that runs."""

    id: str
    room: str
    seat: object
    tap: Tap
    tracks: dict[str, FarTrack] = field(default_factory=dict)
    writer: asyncio.StreamWriter | None = None
    #: The node says that nothing more comes.
    ended: bool = False
    over: bool = False
    failed: bool = False
    #: What to add to the node's monotonic clock to have ours: the least that was seen, because a way only adds to it.
    offset: int | None = None

    def ours(self, theirs_ns: int) -> int:
        now = time.monotonic_ns()
        seen = now - theirs_ns
        if self.offset is None or seen < self.offset:
            self.offset = seen
        return theirs_ns + self.offset


#: (seat, event name, room, data): a recorder stopped by itself.
Failed = Callable[[object, str, str, dict[str, Any]], None]


class Records:
    """All recordings of all nodes."""

    def __init__(self, failed: Failed) -> None:
        self._failed = failed
        self._running: dict[str, Record] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._running

    async def begin(self, seat: object, room: str, name: str, path: str, options: Mapping[str, Any]) -> Record:
        """Open the recorder, before the node is told to send."""
        if name in self._running:
            raise Refused("exists", f"recording {name!r} runs already")
        try:
            tap = await asyncio.to_thread(load, path, options, ALLOWED)
        except (TapRefused, ValueError, OSError) as error:
            raise Refused("tap", str(error)) from error
        record = self._running[name] = Record(name, room, seat, tap)
        return record

    def of(self, seat: object, name: str) -> Record:
        record = self._running.get(name)
        if record is None or record.seat is not seat:
            raise Refused("no-recording", f"recording {name!r} does not run")
        return record

    async def end(self, record: Record) -> dict[str, Any]:
        """Close the recorder. What still comes over the line goes nowhere."""
        record.over = True
        if self._running.get(record.id) is record:
            del self._running[record.id]
        if record.writer is not None:
            record.writer.close()
        await asyncio.to_thread(record.tap.close)
        return record.tap.status()

    async def end_of(self, seat: object) -> None:
        """The worker behind this seat is gone, or is another one now."""
        for record in [record for record in self._running.values() if record.seat is seat]:
            await self.end(record)

    async def end_all(self) -> None:
        for record in list(self._running.values()):
            await self.end(record)

    async def carry(self, name: str, node: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A tap's line, until it ends. The caller has seen that the recording runs at this node."""
        record = self._running[name]
        if record.writer is not None:
            record.writer.close()
        record.writer, record.offset = writer, None
        try:
            while not record.over:
                self._take(record, await link.read_frame(reader))
        except (asyncio.IncompleteReadError, OSError):
            pass
        except (ValueError, TypeError, KeyError, IndexError) as error:
            log.warning("node %s sent what is no frame: %s", node, type(error).__name__)
        finally:
            if record.writer is writer:
                record.writer = None

    @staticmethod
    def _take(record: Record, frame: Sequence[Any]) -> None:
        what, tap = frame[0], record.tap
        if record.over:
            return
        if what == "packet":
            track = record.tracks.get(frame[1])
            if track is not None:
                tap.packet(track, frame[2], record.ours(frame[3]))
        elif what == "report":
            track = record.tracks.get(frame[1])
            if track is not None:
                tap.sender_report(track, frame[2], frame[3], record.ours(frame[4]))
        elif what == "added":
            track = FarTrack(**{name: frame[1][name] for name in FarTrack.__dataclass_fields__})
            if track.id not in record.tracks and len(record.tracks) < 256:
                record.tracks[track.id] = track
                tap.track_added(track)
        elif what == "removed":
            track = record.tracks.pop(frame[1], None)
            if track is not None:
                tap.track_removed(track)
        elif what == "close":
            record.ended = True

    async def run(self) -> None:
        """Pass wishes for key frames on, and notice when a recorder stops by itself."""
        while True:
            await asyncio.sleep(_ASK_S)
            for record in list(self._running.values()):
                wanted = record.tap.keyframes_wanted()
                if record.ended:
                    # The node closed the room by itself; nobody asked for the end.
                    await self.end(record)
                    continue
                problem = record.tap.status().get("problem")
                with contextlib.suppress(OSError):
                    if wanted and record.writer is not None:
                        record.writer.write(link.frame("wanted", sorted(wanted)))
                    if problem and not record.failed and record.writer is not None:
                        record.writer.write(link.frame("problem", problem))
                if problem and not record.failed:
                    record.failed = True
                    self._failed(
                        record.seat, "recording.failed", record.room, {"recording": record.id, "problem": str(problem)}
                    )
