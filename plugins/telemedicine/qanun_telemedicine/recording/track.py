"""One track on its way from packets to frames with a place on the timeline. Writing them down is the recorder's
work."""

from typing import Any, NamedTuple, Protocol

from qanun_telemedicine.recording.clock import SenderClock, TrackClock
from qanun_telemedicine.recording.frames import ASSEMBLERS, Frame
from qanun_telemedicine.recording.rtp import Reorder, parse

#: How long a missing packet is waited for.
_WAIT_MS = {"audio": 250, "video": 400}
#: After this long without a key frame, pictures with faults are better than none.
_GIVE_UP_MS = 5000.0
#: Seeking starts at key frames, which WebRTC only sends on request.
_KEYFRAME_EVERY_MS = 10_000.0


class Track(Protocol):
    """What the recorder needs to know of a published track."""

    @property
    def id(self) -> str: ...
    @property
    def participant(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def codec(self) -> str: ...
    @property
    def clock_rate(self) -> int: ...
    @property
    def payload_type(self) -> int: ...


def mime(track: Track) -> str:
    """The mime type of what a track carries, in lower case, whether `codec` says "vp8" or "video/VP8"."""
    codec = track.codec.lower()
    return codec if "/" in codec else f"{track.kind}/{codec}"


class Placed(NamedTuple):
    """A frame that can be written."""

    track: "TrackRecorder"
    time_ms: int
    frame: Frame


class TrackRecorder:
    """One track on its way from packets to frames with a time."""

    def __init__(self, track: Track, number: int, sender: SenderClock, zero_ns: int) -> None:
        self.id = track.id
        self.participant = track.participant
        self.codec = mime(track)
        self.number = number
        self.declared = False
        self._video = track.kind == "video"
        self._payload_type = track.payload_type
        self._zero_ns = zero_ns
        self._clock = TrackClock(track.clock_rate, sender)
        self._last_ms = -1
        self._asked_ms = 0.0
        self._key_ms = 0.0
        self._ssrc: int | None = None
        self._flowing = False
        self.interrupt()

    def interrupt(self) -> None:
        """Packets will be missing on purpose: start afresh with the next one, and with a key frame."""
        self._reorder = Reorder(_WAIT_MS["video" if self._video else "audio"])
        self._assembler = ASSEMBLERS[self.codec]()
        self._needs_key: float | None = None if not self._video else -1.0
        self._never_had_key = True

    def push(self, rtp: bytes, arrival_ns: int) -> list[Placed]:
        packet = parse(rtp, arrival_ns)
        if packet is None or packet.payload_type != self._payload_type:
            return []
        frames: list[Placed] = []
        if packet.ssrc != self._ssrc:
            if self._ssrc is not None:
                frames = self.flush()
                self.interrupt()
                self._clock.restart()
            self._ssrc = packet.ssrc
        self._flowing = True
        return frames + self._frames(self._reorder.push(packet))

    def report(self, ntp: int, timestamp: int, arrival_ns: int) -> None:
        self._clock.report(ntp, timestamp, (arrival_ns - self._zero_ns) / 1e6)

    def release(self, now_ns: int) -> list[Placed]:
        return self._frames(self._reorder.release(now_ns))

    def flush(self) -> list[Placed]:
        return self._frames(self._reorder.flush())

    def wants_keyframe(self, now_ms: float) -> bool:
        """Once a second while one is needed, and regularly for seeking, as long as packets come at all."""
        if not self._video or not self._flowing or now_ms - self._asked_ms < 1000:
            return False
        if self._needs_key is None and now_ms - max(self._key_ms, self._asked_ms) < _KEYFRAME_EVERY_MS:
            return False
        self._asked_ms = now_ms
        self._flowing = False
        return True

    def _frames(self, packets: list[tuple[Any, bool]]) -> list[Placed]:
        placed = []
        for packet, lost in packets:
            frame = self._assembler.push(packet, lost)
            if frame is None:
                continue
            at_ms = self._clock.time(frame.timestamp, (frame.arrival_ns - self._zero_ns) / 1e6)
            if self._video and not self._decodable(frame, at_ms):
                continue
            # Two frames may fall on one millisecond after rounding; time never runs backwards for a player.
            self._last_ms = max(self._last_ms + 1, round(at_ms))
            placed.append(Placed(self, self._last_ms, frame))
        return placed

    def _decodable(self, frame: Frame, at_ms: float) -> bool:
        if frame.key:
            self._needs_key = None
            self._never_had_key = False
            self._key_ms = at_ms
            return True
        if frame.lost and self._needs_key is None:
            self._needs_key = at_ms
        if self._needs_key is None:
            return True
        return not self._never_had_key and at_ms - self._needs_key > _GIVE_UP_MS
