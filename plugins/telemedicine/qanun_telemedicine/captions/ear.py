"""The tap: passes the sound packets of a call on to the process that writes captions, and holds up nothing.

It runs in the media worker's event loop. What does not go out at once is lost, as on a bad line: a caption may miss a word,
a call may not.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from typing import Any

from qanun_telemedicine.sfu.payloads import CODECS
from qanun_telemedicine.sfu.tap import Track

_AGAIN_NS = 1_000_000_000
#: In a worker's words.
PATH = "qanun_telemedicine.captions.ear:Ear"


def packed(room: str, participant: str, rtp: bytes) -> bytes:
    one, other = room.encode(), participant.encode()
    return bytes((len(one),)) + one + bytes((len(other),)) + other + rtp


def unpacked(data: bytes) -> tuple[str, str, bytes] | None:
    """(room, participant, packet); None for what is not from an `Ear`."""
    try:
        first = data[0]
        second = data[1 + first]
        at = 2 + first + second
        return data[1 : 1 + first].decode(), data[2 + first : at].decode(), data[at:]
    except (IndexError, UnicodeDecodeError):
        return None


class Ear:
    """Options: `socket` (where captions are written) and `room`. Raises OSError when nobody is there."""

    #: It takes no pictures, so nobody has to send in another codec for its sake.
    codecs = frozenset(CODECS)

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._room = str(options["room"])
        self._path = str(options["socket"])
        self._out = self._open()
        self._tried_ns = 0
        self._deaf = False
        self.passed = self.lost = 0

    def _open(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        made.setblocking(False)
        try:
            made.connect(self._path)
        except OSError:
            made.close()
            raise
        return made

    def track_added(self, track: Track) -> None:
        pass

    def track_removed(self, track: Track) -> None:
        pass

    def packet(self, track: Track, rtp: bytes, arrival_ns: int) -> None:
        if self._deaf or track.kind != "audio" or track.codec.lower() != "opus":
            return
        try:
            self._out.send(packed(self._room, track.participant, rtp))
            self.passed += 1
        except BlockingIOError:
            self.lost += 1
        except OSError:
            self.lost += 1
            self._again(arrival_ns)

    def _again(self, now_ns: int) -> None:
        """The other process was started anew: its socket is another one."""
        if now_ns - self._tried_ns < _AGAIN_NS:
            return
        self._tried_ns = now_ns
        with contextlib.suppress(OSError):
            made = self._open()
            self._out.close()
            self._out = made

    def sender_report(self, track: Track, ntp: int, timestamp: int, arrival_ns: int) -> None:
        pass

    def keyframes_wanted(self) -> set[str]:
        return set()

    def pause(self) -> None:
        self._deaf = True

    def resume(self) -> None:
        self._deaf = False

    def status(self) -> dict[str, Any]:
        # Never a `problem`: captions that fail end no recording.
        return {"state": "paused" if self._deaf else "listening", "passed": self.passed, "lost": self.lost}

    def close(self) -> None:
        self._deaf = True
        self._out.close()
