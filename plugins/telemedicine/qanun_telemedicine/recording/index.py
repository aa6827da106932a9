"""Which frame of whom lies where: read once from the parts of a recording, kept sealed beside them, needed for every
view.

A *lane* is what one <video> or <audio> can play through: the tracks of one participant, of one kind and codec, one
after the other (somebody who left and came back has several). Tracks that run at the same time (camera and shared
screen) get lanes of their own.
"""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from qanun_telemedicine.recording.frames import opus_ticks
from qanun_telemedicine.recording.journal import JournalReader, StoredBlock
from qanun_telemedicine.recording.matroska import CODECS, Kind

_VERSION = 2


@dataclass(slots=True)
class Lane:
    """Frames in the order of time. Four columns, one entry per frame: milliseconds since the recording began; the
    part and the offset in its plaintext, packed as part << 48 | offset; size in bytes; whether a decoder can begin
    there."""

    participant: str
    kind: Kind
    codec: str
    tracks: list[str] = field(default_factory=list)
    #: What the publisher called it: "microphone", "camera", "screen"; empty when it was not told.
    source: str = ""
    width: int = 0
    height: int = 0
    ends_ms: int = 0
    times: array[int] = field(default_factory=lambda: array("Q"))
    places: array[int] = field(default_factory=lambda: array("Q"))
    sizes: array[int] = field(default_factory=lambda: array("I"))
    keys: array[int] = field(default_factory=lambda: array("B"))

    @property
    def starts_ms(self) -> int:
        return self.times[0] if self.times else 0


@dataclass(frozen=True, slots=True)
class Pause:
    """A stretch in which nothing was recorded, in ms since the recording began: `reason` is "paused" (somebody asked
    for it) or "interrupted" (the media worker died and another went on)."""

    starts_ms: int
    ends_ms: int
    reason: str


@dataclass(slots=True)
class Index:
    """Everything about a recording but the frames themselves."""

    started_ms: int
    duration_ms: int
    #: Whether the last part was ended, and not cut off.
    complete: bool
    #: Plaintext bytes of each part, by file name: tells whether an index still fits.
    parts: dict[str, int]
    lanes: list[Lane]
    pauses: list[Pause]

    def to_bytes(self) -> bytes:
        columns = b"".join(
            column.tobytes() for lane in self.lanes for column in (lane.times, lane.places, lane.sizes, lane.keys)
        )
        head = {
            "version": _VERSION,
            "started_ms": self.started_ms,
            "duration_ms": self.duration_ms,
            "complete": self.complete,
            "parts": self.parts,
            "pauses": [asdict(pause) for pause in self.pauses],
            "lanes": [
                {name: getattr(lane, name) for name in _LANE_FIELDS} | {"frames": len(lane.times)}
                for lane in self.lanes
            ],
        }
        packed = json.dumps(head).encode()
        return struct.pack(">I", len(packed)) + packed + columns

    @classmethod
    def from_bytes(cls, data: bytes) -> Index | None:
        """The index in `data`, or None when another version of Qanun wrote it (it is then made again)."""
        (length,) = struct.unpack_from(">I", data)
        head = json.loads(data[4 : 4 + length])
        if head["version"] != _VERSION:
            return None
        place = 4 + length
        lanes = []
        for fields in head["lanes"]:
            lane = Lane(**{name: fields[name] for name in _LANE_FIELDS})
            for column in (lane.times, lane.places, lane.sizes, lane.keys):
                end = place + fields["frames"] * column.itemsize
                column.frombytes(data[place:end])
                place = end
            lanes.append(lane)
        return cls(
            head["started_ms"],
            head["duration_ms"],
            head["complete"],
            head["parts"],
            lanes,
            [Pause(**pause) for pause in head["pauses"]],
        )


_LANE_FIELDS = ("participant", "kind", "codec", "tracks", "source", "width", "height", "ends_ms")


def build(parts: Iterable[JournalReader]) -> Index | None:
    """Read all parts, oldest first. None when they hold nothing at all. Raises what `JournalReader.read` raises."""
    builder = _Builder()
    for number, part in enumerate(parts):
        builder.part(number, part)
    return builder.index()


class _Builder:
    def __init__(self) -> None:
        self._started: int | None = None
        self._zero = 0
        self._end = 0
        self._complete = False
        self._sizes: dict[str, int] = {}
        self._pauses: list[Pause] = []
        self._tracks: list[tuple[int, dict[str, Any], Lane]] = []

    def part(self, number: int, part: JournalReader) -> None:
        self._sizes[part.path.name] = part.sealed.size
        self._complete = part.sealed.complete
        here: dict[int, Lane] = {}
        paused: int | None = None
        first = True
        for item in part.read():
            if isinstance(item, StoredBlock):
                lane = here.get(item.track)
                if lane is not None:
                    self._block(number, lane, item)
                continue
            kind = item["event"]
            if kind == "started":
                if self._started is None:
                    self._started = item["wall_ms"]
                # Parts are laid on one timeline by the wall clock; a clock that was set back can't make them overlap.
                self._zero = max(self._end, item["wall_ms"] - self._started)
                if not first or self._end:
                    self._pauses.append(Pause(self._end, self._zero, "interrupted"))
                first = False
            elif kind == "added":
                lane = Lane(item["participant"], item["kind"], item["codec"], [item["track"]], item.get("source", ""))
                here[item["number"]] = lane
                self._tracks.append((len(self._tracks), item, lane))
            elif kind == "paused":
                paused = self._zero + item["at_ms"]
            elif kind == "resumed" and paused is not None:
                self._pauses.append(Pause(paused, self._zero + item["at_ms"], "paused"))
                paused = None
            if "at_ms" in item:
                self._end = max(self._end, self._zero + item["at_ms"])
        if paused is not None and paused < self._end:
            self._pauses.append(Pause(paused, self._end, "paused"))

    def _block(self, part: int, lane: Lane, block: StoredBlock) -> None:
        time = self._zero + block.time_ms
        if lane.kind == "video":
            if block.key:
                width, height = struct.unpack("<HH", block.first[6:10])
                lane.width, lane.height = max(lane.width, width & 0x3FFF), max(lane.height, height & 0x3FFF)
            length = 33
        else:
            length = opus_ticks(block.first) // 48
        lane.times.append(time)
        lane.places.append(part << 48 | block.offset)
        lane.sizes.append(block.size)
        lane.keys.append(block.key)
        lane.ends_ms = max(lane.ends_ms, time + length)
        self._end = max(self._end, lane.ends_ms)

    def index(self) -> Index | None:
        if self._started is None:
            return None
        lanes: list[Lane] = []
        for _, _, track in sorted(
            (entry for entry in self._tracks if entry[2].times), key=lambda entry: (entry[2].starts_ms, entry[0])
        ):
            for lane in lanes:
                same = (lane.participant, lane.codec, lane.source) == (track.participant, track.codec, track.source)
                if same and lane.ends_ms <= track.starts_ms:
                    _join(lane, track)
                    break
            else:
                lanes.append(track)
        return Index(self._started, self._end, self._complete, self._sizes, lanes, self._pauses)


def _join(lane: Lane, track: Lane) -> None:
    assert CODECS[lane.codec] is CODECS[track.codec]
    lane.tracks += track.tracks
    lane.times.extend(track.times)
    lane.places.extend(track.places)
    lane.sizes.extend(track.sizes)
    lane.keys.extend(track.keys)
    lane.width, lane.height = max(lane.width, track.width), max(lane.height, track.height)
    lane.ends_ms = max(lane.ends_ms, track.ends_ms)
