"""A whole recording as one Matroska file, for a copy that leaves the clinic: every lane of everybody as a track of its own,
and a mark that says whose copy it is.

Nothing is decoded or encoded again, so the mark cannot be painted into the pictures: it is a forced, default subtitle that
players show over them from the first second to the last, and it stands in the file's title and tags. Whoever wants to can
strip it; the signed slip beside the file, which holds its SHA-256, tells then that the file is not the one handed out.

Sizes are known beforehand, so the file has its index in front and any player can seek; it is made as it is read.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

from qanun_telemedicine.recording import ebml, matroska
from qanun_telemedicine.recording.index import Index, Lane
from qanun_telemedicine.recording.view import Source

_CLUSTER_MS = 1000
#: How long one showing of the mark lasts; the next follows at once, so that every place in the file has one.
_MARK_MS = 5000
_GROUP_OVERHEAD = 20
_MOST_LANES = 120


@dataclass(frozen=True, slots=True)
class Mark:
    """Whose copy this is: `line` is shown over the pictures, `title` and `tags` stand in the file."""

    title: str
    line: str
    tags: Mapping[str, str]


class Bundle:
    """The file. `size` bytes long; `iterate` gives them in order, `read` any range."""

    mime = "video/x-matroska"

    def __init__(self, index: Index, source: Source, names: Mapping[str, str], mark: Mark) -> None:
        self._source = source
        self._mark = mark
        self._line = mark.line.encode()
        self.duration_ms = index.duration_ms
        self._lanes = sorted(index.lanes, key=lambda lane: (lane.participant, lane.kind == "audio"))[:_MOST_LANES]
        self._names = names
        self._subtitle = len(self._lanes) + 1
        self._lead = next((n for n, lane in enumerate(self._lanes, 1) if lane.kind == "video"), 1)
        self._times, self._tracks, self._places, self._sizes = array("Q"), array("B"), array("Q"), array("I")
        self._keys = array("B")
        for time, track, key, place, size in heapq.merge(
            self._marks(), *(_rows(n, lane) for n, lane in enumerate(self._lanes, 1)), key=lambda row: (row[0], row[1])
        ):
            self._times.append(time)
            self._tracks.append(track)
            self._keys.append(key)
            self._places.append(place)
            self._sizes.append(size)
        self._clusters = list(self._cut())
        self._head = self._header()
        self.size = len(self._head) + sum(size for _, _, size in self._clusters)

    def iterate(self) -> Iterator[bytes]:
        """The whole file, a cluster (about a second) at a time. Raises `Tampered` when a chunk was changed."""
        yield self._head
        for first, count, size in self._clusters:
            yield self._make(first, count, size)

    def _marks(self) -> Iterator[tuple[int, int, int, int, int]]:
        for time in range(0, max(1, self.duration_ms), _MARK_MS):
            yield time, self._subtitle, 1, 0, len(self._line)

    def _cut(self) -> Iterator[tuple[int, int, int]]:
        """(first entry, entries, bytes) of each cluster; one begins at every key frame of the leading picture."""
        first, size = 0, matroska.CLUSTER_OVERHEAD
        for entry, time in enumerate(self._times):
            begins = (
                self._tracks[entry] == self._lead and self._keys[entry] and self._lanes[self._lead - 1].kind == "video"
            )
            if entry > first and (time - self._times[first] >= _CLUSTER_MS or begins):
                yield first, entry - first, size
                first, size = entry, matroska.CLUSTER_OVERHEAD
            over = _GROUP_OVERHEAD if self._tracks[entry] == self._subtitle else matroska.BLOCK_OVERHEAD
            size += self._sizes[entry] + over
        if len(self._times) > first:
            yield first, len(self._times) - first, size

    def _make(self, first: int, count: int, size: int) -> bytes:
        start = self._times[first]
        parts = [matroska.cluster_head(start, size - matroska.CLUSTER_OVERHEAD)]
        for entry in range(first, first + count):
            track, time = self._tracks[entry], self._times[entry]
            if track == self._subtitle:
                length = min(_MARK_MS, max(1, self.duration_ms - time))
                parts.append(matroska.timed_block(track, time - start, length, self._line))
                continue
            place, length = self._places[entry], self._sizes[entry]
            parts.append(matroska.block_head(track, time - start, bool(self._keys[entry]), length))
            parts.append(self._source(place >> 48, place & 0xFFFF_FFFF_FFFF, length))
        return b"".join(parts)

    def _header(self) -> bytes:
        entries = [
            matroska.track_entry(
                n, matroska.CODECS[lane.codec], name=self._names.get(lane.participant, ""), width=lane.width, height=lane.height
            )
            for n, lane in enumerate(self._lanes, 1)
        ]  # fmt: skip
        entries.append(matroska.subtitle_entry(self._subtitle, self._mark.title))
        info = matroska.info(float(self.duration_ms), title=self._mark.title)
        tracks = ebml.element(ebml.TRACKS, entries)
        tags = matroska.tags(self._mark.tags)
        points = self._cue_points()
        width = len(matroska.cues((time, self._lead, 0) for time, _ in points))
        known = (ebml.INFO, ebml.TRACKS, ebml.TAGS, ebml.CUES)
        to_info = len(matroska.seek_head([(number, 0) for number in known]))
        to_tracks = to_info + len(info)
        to_tags = to_tracks + len(tracks)
        to_cues = to_tags + len(tags)
        starts = list(accumulate((size for _, _, size in self._clusters), initial=to_cues + width))
        cues = matroska.cues((time, self._lead, starts[number]) for time, number in points)
        seek = matroska.seek_head(zip(known, (to_info, to_tracks, to_tags, to_cues), strict=True))
        head = matroska.header(live=False, segment_size=starts[-1], document="matroska")
        return head + seek + info + tracks + tags + cues

    def _cue_points(self) -> list[tuple[int, int]]:
        """(time, number of the cluster): where the leading picture can be decoded, or every few seconds without one."""
        points: list[tuple[int, int]] = []
        pictures = bool(self._lanes) and self._lanes[self._lead - 1].kind == "video"
        for number, (first, count, _) in enumerate(self._clusters):
            if not pictures:
                if not points or self._times[first] - points[-1][0] >= _MARK_MS:
                    points.append((self._times[first], number))
                continue
            for entry in range(first, first + count):
                if self._tracks[entry] == self._lead and self._keys[entry]:
                    points.append((self._times[entry], number))
                    break
        return points


def _rows(track: int, lane: Lane) -> Iterator[tuple[int, int, int, int, int]]:
    for time, key, place, size in zip(lane.times, lane.keys, lane.places, lane.sizes, strict=True):
        yield time, track, key if lane.kind == "video" else 1, place, size
