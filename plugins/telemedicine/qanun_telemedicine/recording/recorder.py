"""Records one consultation inside the media worker: RTP in, sealed chunks on the disk out, at least every second.

It satisfies the SFU's tap protocol. The calls come from the worker's event loop and only put things into a queue; a
thread of the recorder's own orders packets, joins them to frames, seals and syncs, so that a slow disk never delays a
call. It does not know tenants, consents or the database: whoever may be recorded has been decided before a track
comes here.

    options = {
        "directory": "/…/spool/<recording>",   # exists, belongs to this recording alone
        "key": "<base64 of the 32-byte data key>",
        "context": "<base64 of the context the recording is bound to>",
    }
"""

import base64
import binascii
import errno
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from qanun.api import Key
from qanun_telemedicine.recording.clock import SenderClock
from qanun_telemedicine.recording.journal import SUFFIX, Block, JournalWriter
from qanun_telemedicine.recording.matroska import CODECS, PICTURES
from qanun_telemedicine.recording.track import Placed, Track, TrackRecorder, mime

log = logging.getLogger(__name__)

#: With what waits for missing packets, this stays under the two seconds that a kill may cost.
_WRITE_NS = 800_000_000
_WAKE_S = 0.2
_MOST_TRACKS = 126
#: Packets that may wait for a disk that hangs; some 2 minutes of two people.
_MOST_QUEUED = 60_000


class OptionsError(ValueError):
    """The recorder was started with options that it cannot work with; the message names the one."""


def options(directory: Path, key: Key, context: bytes) -> dict[str, str]:
    """The options for a `Recorder`, fit to travel as JSON over the worker's private socket."""
    return {
        "directory": str(directory),
        "key": base64.b64encode(key.reveal()).decode(),
        "context": base64.b64encode(context).decode(),
    }


class Recorder:
    """Records every track it is told of until `close`. Its methods never block on the disk, except `close`."""

    #: Pictures in other codecs would be refused: while a room is recorded, everybody is asked to send in these.
    codecs = PICTURES

    def __init__(self, options: Mapping[str, Any]) -> None:
        directory, key, context = _checked(options)
        self._wall_ms = time.time_ns() // 1_000_000
        self._zero_ns = time.monotonic_ns()
        # Numbered, so that a clock that was set back does not change their order.
        path = directory / f"{len(list(directory.glob(f'*{SUFFIX}'))) + 1:04d}{SUFFIX}"
        self._journal = JournalWriter(path, key, context)
        #: Why the recording stopped by itself ("disk-full", "disk-error", "internal"); None while all is well.
        self.problem: str | None = None
        #: Tracks that cannot be recorded, with the codec that is the reason.
        self.refused: dict[str, str] = {}
        self._queue: deque[tuple[Any, ...]] = deque()
        self._wake = threading.Event()
        self._paused = False
        self._closed = False
        self._overrun = False
        self._tracks: dict[str, TrackRecorder] = {}
        self._senders: dict[str, SenderClock] = {}
        self._numbers = 0
        self._blocks: list[Block] = []
        self._written_ns = time.monotonic_ns()
        self._wanted: set[str] = set()
        self._journal.event("started", version=1, wall_ms=self._wall_ms, at=_iso(self._wall_ms))
        self._journal.write([])
        self._thread = threading.Thread(target=self._run, name=f"recorder-{path.stem}", daemon=True)
        self._thread.start()

    # -- called from the event loop ---------------------------------------------------------------------------------

    def track_added(self, track: Track) -> None:
        """From now on packets of this track are recorded."""
        self._queue.append(("added", track, time.monotonic_ns()))

    def track_removed(self, track: Track) -> None:
        self._queue.append(("removed", track.id, time.monotonic_ns()))

    def packet(self, track: Track, rtp: bytes, arrival_ns: int) -> None:
        """One decrypted RTP packet, as the publisher sent it; `arrival_ns` on the monotonic clock."""
        if self._paused or self._closed or self.problem:
            return
        if len(self._queue) > _MOST_QUEUED:
            self._overrun = True
            return
        self._queue.append(("packet", track.id, rtp, arrival_ns))

    def sender_report(self, track: Track, ntp: int, timestamp: int, arrival_ns: int) -> None:
        """An RTCP sender report: 64-bit NTP time and RTP timestamp of one instant. Without any, arrival decides."""
        if not (self._paused or self._closed or self.problem):
            self._queue.append(("report", track.id, ntp, timestamp, arrival_ns))

    def pause(self) -> None:
        """Record nothing from this very call on. What came before is written and stays."""
        if not self._paused:
            self._paused = True
            self._queue.append(("pause", time.monotonic_ns()))
            self._wake.set()

    def resume(self) -> None:
        """Go on. Video comes back with its next key frame; ask for one."""
        if self._paused:
            self._paused = False
            self._queue.append(("resume", time.monotonic_ns()))
            self._wake.set()

    def keyframes_wanted(self) -> set[str]:
        """Ids of video tracks whose publisher should send a key frame now; each is told once. Ask every few 100 ms."""
        wanted, self._wanted = self._wanted, set()
        return wanted

    def status(self) -> dict[str, Any]:
        """For the control plane: state, sealed bytes, seconds since the start, and what went wrong."""
        state = "failed" if self.problem else "closed" if self._closed else "paused" if self._paused else "recording"
        return {
            "state": state,
            "bytes": self._journal.size,
            "seconds": round((time.monotonic_ns() - self._zero_ns) / 1e9, 1),
            "problem": self.problem,
            "refused": dict(self.refused),
        }

    def close(self) -> None:
        """Write everything and the end marker; a second call does nothing. Takes as long as the disk takes."""
        if not self._closed:
            self._closed = True
            self._queue.append(("close", time.monotonic_ns()))
            self._wake.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=10)

    # -- on the recorder's thread -----------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            going = True
            while going:
                self._wake.wait(_WAKE_S)
                self._wake.clear()
                going = self._work()
        except OSError as error:
            self._fail("disk-full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "disk-error", error)
        except Exception as error:  # noqa: BLE001 - the call must go on whatever happens to its recording
            self._fail("internal", error)
        finally:
            try:
                self._journal.close()
            except OSError as error:
                # The end marker is missing then, which readers call incomplete: true enough.
                log.warning("recording could not be ended: %s", error.strerror)

    def _fail(self, problem: str, error: Exception) -> None:
        self.problem = problem
        self._queue.clear()
        log.error("recording stopped: %s", problem, exc_info=error)

    def _work(self) -> bool:
        now = time.monotonic_ns()
        going = True
        while self._queue and going:
            going = self._take(*self._queue.popleft())
        for track in self._tracks.values():
            self._keep(track.release(now))
        self._ask_for_keyframes(now)
        if self._overrun and not self._queue:
            self._overrun = False
            self._journal.event("overrun", at_ms=self._at(now))
        if not going or now - self._written_ns >= _WRITE_NS:
            self._write(now)
        return going

    def _take(self, what: str, *rest: Any) -> bool:
        if what == "packet":
            track = self._tracks.get(rest[0])
            if track is not None:
                self._keep(track.push(rest[1], rest[2]))
        elif what == "report":
            track = self._tracks.get(rest[0])
            if track is not None:
                track.report(rest[1], rest[2], rest[3])
        elif what == "added":
            self._add(rest[0], rest[1])
        elif what == "removed":
            track = self._tracks.pop(rest[0], None)
            if track is not None:
                self._keep(track.flush())
                self._journal.event("removed", number=track.number, at_ms=self._at(rest[1]))
        elif what in ("pause", "resume"):
            for track in self._tracks.values():
                self._keep(track.flush())
                track.interrupt()
            self._write(rest[0])
            self._journal.event(f"{what}d", at_ms=self._at(rest[0]))
            self._write(rest[0])
        elif what == "close":
            for track in self._tracks.values():
                self._keep(track.flush())
            self._journal.event("ended", at_ms=self._at(rest[0]))
            return False
        return True

    def _add(self, track: Track, at_ns: int) -> None:
        codec = mime(track)
        if codec not in CODECS or CODECS[codec].kind != track.kind or self._numbers == _MOST_TRACKS:
            self.refused[track.id] = track.codec
            self._journal.event("refused", track=track.id, participant=track.participant, codec=track.codec)
            return
        if track.id in self._tracks:
            return
        self._numbers += 1
        sender = self._senders.setdefault(track.participant, SenderClock())
        self._tracks[track.id] = TrackRecorder(track, self._numbers, sender, self._zero_ns)
        self._journal.event(
            "added",
            number=self._numbers,
            track=track.id,
            participant=track.participant,
            kind=track.kind,
            codec=codec,
            # What the publisher calls it ("camera", "screen"); a tap need not say.
            source=str(getattr(track, "source", "")),
            at_ms=self._at(at_ns),
        )

    def _keep(self, frames: list[Placed]) -> None:
        for track, time_ms, frame in frames:
            if not track.declared:
                track.declared = True
                name = json.dumps({"participant": track.participant, "track": track.id})
                self._journal.track(
                    track.number, CODECS[track.codec], name=name, width=frame.width, height=frame.height
                )
            self._blocks.append(Block(time_ms, track.number, frame.key, frame.data))

    def _ask_for_keyframes(self, now_ns: int) -> None:
        if self._paused:
            return
        wanted = {track.id for track in self._tracks.values() if track.wants_keyframe((now_ns - self._zero_ns) / 1e6)}
        if wanted:
            self._wanted = self._wanted | wanted

    def _write(self, now_ns: int) -> None:
        blocks, self._blocks = self._blocks, []
        self._journal.write(blocks)
        self._written_ns = now_ns

    def _at(self, at_ns: int) -> int:
        return max(0, (at_ns - self._zero_ns) // 1_000_000)


def _checked(options: Mapping[str, Any]) -> tuple[Path, Key, bytes]:
    missing = [name for name in ("directory", "key", "context") if not isinstance(options.get(name), str)]
    if missing:
        raise OptionsError(f"recorder option {missing[0]!r} is missing or not text")
    directory = Path(options["directory"])
    if not directory.is_dir():
        raise OptionsError("recorder option 'directory' is not a directory")
    try:
        key = Key(base64.b64decode(options["key"], validate=True))
    except (binascii.Error, ValueError):
        raise OptionsError("recorder option 'key' is not the base64 of 32 bytes") from None
    try:
        context = base64.b64decode(options["context"], validate=True)
    except (binascii.Error, ValueError):
        raise OptionsError("recorder option 'context' is not base64") from None
    return directory, key, context


def _iso(wall_ms: int) -> str:
    return datetime.fromtimestamp(wall_ms / 1000, UTC).isoformat(timespec="milliseconds")
