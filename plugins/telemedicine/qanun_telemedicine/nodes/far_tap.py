"""The tap of a node's worker: hands packets to the clinic's machine, which records. Nothing is written here, and no key comes here.

It satisfies the SFU's tap protocol. What it sends goes through the agent's local socket into a TLS connection of its own; when that
breaks it is made again, and what waits meanwhile is bounded. If the other side does not know the recording any more (it was
restarted), the tap says so as its problem, and the recording begins a new part.

    options = {"recording": "<id>"}        # and QANUN_NODE_TAPS, the agent's socket, in the environment
"""

import contextlib
import os
import queue
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from qanun_telemedicine.nodes import link
from qanun_telemedicine.recording.matroska import PICTURES
from qanun_telemedicine.sfu.tap import Tap, Track

SOCKET = "QANUN_NODE_TAPS"
#: Packets that may wait for a line that is away: some 20 s of two people.
_MOST_QUEUED = 12_000
_AGAIN_S, _GIVE_UP_S, _ANSWER_S = 0.2, 15.0, 5.0


class FarTap(Tap):
    """One recording's packets on their way to the recorder."""

    codecs = PICTURES

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._recording = str(options["recording"])
        self._path = os.environ.get(SOCKET, "")
        if not self._path:
            raise ValueError("this worker belongs to no node")
        self.problem: str | None = None
        self._paused = False
        self._closed = False
        self._wanted: set[str] = set()
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        # Called in a thread: the recorder is known to listen before anybody is told that the recording runs.
        self._socket = self._connect()
        self._thread = threading.Thread(target=self._send_all, name="far-tap", daemon=True)
        self._thread.start()

    # -- called from the event loop ---------------------------------------------------------------------------------

    def track_added(self, track: Track) -> None:
        self._put(
            "added",
            {
                "id": track.id, "participant": track.participant, "kind": track.kind, "codec": track.codec,
                "clock_rate": track.clock_rate, "payload_type": track.payload_type,
                "source": str(getattr(track, "source", "")),
            },
            time.monotonic_ns(),
        )  # fmt: skip

    def track_removed(self, track: Track) -> None:
        self._put("removed", track.id, time.monotonic_ns())

    def packet(self, track: Track, rtp: bytes, arrival_ns: int) -> None:
        if not (self._paused or self._closed or self.problem):
            self._put("packet", track.id, bytes(rtp), arrival_ns)

    def sender_report(self, track: Track, ntp: int, timestamp: int, arrival_ns: int) -> None:
        if not (self._paused or self._closed or self.problem):
            self._put("report", track.id, ntp, timestamp, arrival_ns)

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False

    def keyframes_wanted(self) -> set[str]:
        wanted, self._wanted = self._wanted, set()
        return wanted

    def status(self) -> dict[str, Any]:
        """What this side knows; the recorder's own figures are asked for on the other."""
        state = "failed" if self.problem else "closed" if self._closed else "paused" if self._paused else "recording"
        return {"state": state, "problem": self.problem}

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._queue.put(link.frame("close", time.monotonic_ns()))
            self._queue.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5)

    def _put(self, what: str, *rest: Any) -> None:
        if self._queue.qsize() < _MOST_QUEUED:
            self._queue.put(link.frame(what, *rest))

    # -- on threads of its own --------------------------------------------------------------------------------------

    def _connect(self) -> socket.socket:
        """A line to the recorder. Raises OSError, and LookupError when there is no such recording."""
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            made.settimeout(_ANSWER_S)
            made.connect(self._path)
            made.sendall(msgspec.json.encode({"recording": self._recording}) + b"\n")
            _welcomed(made)
            made.settimeout(_GIVE_UP_S)
        except BaseException:
            made.close()
            raise
        threading.Thread(target=self._hear, args=(made,), name="far-tap-hears", daemon=True).start()
        return made

    def _send_all(self) -> None:
        while True:
            frame = self._queue.get()
            if frame is None:
                break
            try:
                self._socket.sendall(frame)
            except OSError:
                if not self._again():
                    break
                with contextlib.suppress(OSError):
                    self._socket.sendall(frame)
        self._socket.close()

    def _again(self) -> bool:
        """Make the line anew; False when it stays away or the recording is not known there any more."""
        self._socket.close()
        until = time.monotonic() + (_ANSWER_S if self._closed else _GIVE_UP_S)
        while time.monotonic() < until:
            try:
                self._socket = self._connect()
            except LookupError:
                break
            except (OSError, ValueError):
                time.sleep(_AGAIN_S)
            else:
                return True
        self.problem = self.problem or "lost"
        return False

    def _hear(self, made: socket.socket) -> None:
        """What the recorder wants."""
        with contextlib.suppress(OSError, ValueError, msgspec.DecodeError):
            reader = made.makefile("rb")
            while head := reader.read(4):
                said = msgspec.msgpack.decode(reader.read(int.from_bytes(head, "big")))
                if said[0] == "wanted":
                    self._wanted = self._wanted | set(said[1])
                elif said[0] == "problem":
                    self.problem = str(said[1])


def _welcomed(made: socket.socket) -> None:
    """Read the answer to the first line, one byte at a time: what follows it belongs to whoever reads on."""
    answer = b""
    while not answer.endswith(b"\n"):
        more = made.recv(1)
        if not more:
            raise OSError("no line to the recorder")
        answer += more
    welcome = msgspec.json.decode(answer, type=link.Welcome)
    if welcome.refused:
        raise LookupError(welcome.words)
