"""A WebM file that does not exist: one picture lane and one sound lane of a recording, made piece by piece as it is
read.

Every size is known beforehand, so any range can be made without what stands before it, and a browser can seek. The
sound lane is filled with silence from the beginning to the end of the recording: all views of a recording are equally
long and lie on one timeline, so that two players started together stay together, and pauses stay as long as they
were.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass
from itertools import accumulate

from qanun_telemedicine.recording import ebml, matroska
from qanun_telemedicine.recording.index import Index, Lane

_VIDEO, _AUDIO = 1, 2
_CLUSTER_MS = 1000
#: An Opus packet of 20 ms that says nothing, the one WebRTC itself sends.
_SILENCE = b"\xf8\xff\xfe"
_SILENCE_MS = 20
#: Shorter holes are left to the decoder, which conceals a lost packet better than silence would.
_HOLE_MS = 60
_CUE_MS = 5000
_NOWHERE = (1 << 64) - 1

#: Reads `size` bytes at `offset` of the plaintext of a part: (part, offset, size).
Source = Callable[[int, int, int], bytes]


@dataclass(frozen=True, slots=True)
class _Cluster:
    time_ms: int
    first: int
    count: int
    size: int


class View:
    """A seekable file for one participant. `size` bytes long, of type `mime`."""

    def __init__(self, index: Index, video: Lane | None, audio: Lane | None, source: Source) -> None:
        self._source = source
        self.duration_ms = index.duration_ms
        codecs = [matroska.CODECS[lane.codec].parameter for lane in (video,) if lane] + ["opus"]
        self.mime = f'{"video" if video else "audio"}/webm; codecs="{",".join(codecs)}"'
        self._times, self._places, self._sizes, self._flags = _merge(index.duration_ms, video, audio)
        self._clusters = list(_clusters(self._times, self._sizes, self._flags))
        self._head = self._header(video)
        self._starts = [len(self._head), *accumulate((c.size for c in self._clusters), initial=len(self._head))][1:]
        self.size = self._starts[-1]
        stamp = repr(
            (index.started_ms, sorted(index.parts.items()), self.size, video and video.tracks, audio and audio.tracks)
        )
        #: Changes whenever the bytes do; for HTTP's ETag.
        self.etag = hashlib.sha256(stamp.encode()).hexdigest()[:32]

    def reading(self, source: Source) -> View:
        """The same file, read from `source`: laying out an hour takes most of a second, so it is done once."""
        twin = copy(self)
        twin._source = source
        return twin

    def read(self, start: int, size: int) -> bytes:
        """Up to `size` bytes from `start`; fewer only at the end. Raises `Tampered` when a chunk was
        changed."""
        if start < 0 or size < 0:
            raise ValueError("start and size are not negative")
        end = min(start + size, self.size)
        parts = [self._head[start:end]]
        place = max(start, len(self._head))
        while place < end:
            number = bisect_right(self._starts, place) - 1
            cluster = self._make(self._clusters[number])
            begin = self._starts[number]
            parts.append(cluster[place - begin : end - begin])
            place = begin + len(cluster)
        return b"".join(parts)

    def iterate(self, start: int = 0, end: int | None = None, step: int = 256 * 1024) -> Iterator[bytes]:
        """The bytes from `start` up to, not including, `end`, in pieces that fit a streamed answer."""
        stop = self.size if end is None else min(end, self.size)
        while start < stop:
            piece = self.read(start, min(step, stop - start))
            yield piece
            start += len(piece)

    def _make(self, cluster: _Cluster) -> bytes:
        parts = [matroska.cluster_head(cluster.time_ms, cluster.size - matroska.CLUSTER_OVERHEAD)]
        for entry in range(cluster.first, cluster.first + cluster.count):
            place, size, flags = self._places[entry], self._sizes[entry], self._flags[entry]
            parts.append(matroska.block_head(flags & 3, self._times[entry] - cluster.time_ms, bool(flags & 4), size))
            parts.append(_SILENCE if place == _NOWHERE else self._source(place >> 48, place & 0xFFFF_FFFF_FFFF, size))
        return b"".join(parts)

    def _header(self, video: Lane | None) -> bytes:
        entries = [matroska.track_entry(_AUDIO, matroska.CODECS["audio/opus"])]
        if video:
            codec = matroska.CODECS[video.codec]
            entries.insert(0, matroska.track_entry(_VIDEO, codec, width=video.width, height=video.height))
        info = matroska.info(float(self.duration_ms))
        tracks = ebml.element(ebml.TRACKS, entries)
        points = self._cue_points(bool(video))
        width = len(matroska.cues((time, track, 0) for time, track, _ in points))
        seek = matroska.seek_head([(number, 0) for number in (ebml.INFO, ebml.TRACKS, ebml.CUES)])
        # Positions count from the beginning of the Segment's payload.
        to_info = len(seek)
        to_tracks = to_info + len(info)
        to_cues = to_tracks + len(tracks)
        first = to_cues + width
        starts = list(accumulate((cluster.size for cluster in self._clusters), initial=first))
        cues = matroska.cues((time, track, starts[number]) for time, track, number in points)
        seek = matroska.seek_head([(ebml.INFO, to_info), (ebml.TRACKS, to_tracks), (ebml.CUES, to_cues)])
        return matroska.header(live=False, segment_size=starts[-1]) + seek + info + tracks + cues

    def _cue_points(self, has_video: bool) -> list[tuple[int, int, int]]:
        """(time, track, number of the cluster). Clusters begin at key frames, so a cue is where a picture decodes."""
        points: list[tuple[int, int, int]] = []
        for number, cluster in enumerate(self._clusters):
            if not has_video:
                if not points or cluster.time_ms - points[-1][0] >= _CUE_MS:
                    points.append((cluster.time_ms, _AUDIO, number))
                continue
            entries = range(cluster.first, cluster.first + cluster.count)
            key = next((entry for entry in entries if self._flags[entry] == _VIDEO | 4), None)
            if key is not None:
                points.append((self._times[key], _VIDEO, number))
        return points


def _merge(
    duration_ms: int, video: Lane | None, audio: Lane | None
) -> tuple[array[int], array[int], array[int], array[int]]:
    """Both lanes and the silence between, in the order of time: times, places, sizes, and flags (track, 4 = key
    frame)."""
    rows: list[tuple[int, int, int, int]] = []
    if video:
        for time, place, size, key in zip(video.times, video.places, video.sizes, video.keys, strict=True):
            rows.append((time, _VIDEO | 4 if key else _VIDEO, place, size))
    heard = 0

    def be_silent(until: int) -> None:
        if until - heard >= _HOLE_MS:
            rows.extend((time, _AUDIO | 4, _NOWHERE, len(_SILENCE)) for time in range(heard, until - 10, _SILENCE_MS))

    if audio:
        for time, place, size in zip(audio.times, audio.places, audio.sizes, strict=True):
            be_silent(time)
            rows.append((time, _AUDIO | 4, place, size))
            heard = time + _SILENCE_MS
    be_silent(duration_ms)
    # A key frame goes before the sound of the same millisecond, so that its cluster begins with it.
    rows.sort(key=lambda row: (row[0], row[1] & 3))
    return (
        array("Q", (row[0] for row in rows)),
        array("Q", (row[2] for row in rows)),
        array("I", (row[3] for row in rows)),
        array("B", (row[1] for row in rows)),
    )


def _clusters(times: array[int], sizes: array[int], flags: array[int]) -> Iterator[_Cluster]:
    first, size = 0, matroska.CLUSTER_OVERHEAD
    for entry, time in enumerate(times):
        if entry > first and (time - times[first] >= _CLUSTER_MS or flags[entry] == _VIDEO | 4):
            yield _Cluster(times[first], first, entry - first, size)
            first, size = entry, matroska.CLUSTER_OVERHEAD
        size += sizes[entry] + matroska.BLOCK_OVERHEAD
    if len(times) > first:
        yield _Cluster(times[first], first, len(times) - first, size)
