"""What a recorder writes: a live Matroska stream, in sealed chunks, that can end anywhere between two chunks.

One file is one *part*: what one media worker recorded without being restarted. Its plaintext is a Segment of unknown
size whose children are, in any order, Tracks (one TrackEntry each, when its first frame comes), Clusters, and Tags
that tell what happened (a JSON object per event). Everything that the player needs is in there; the database only
keeps the key and who may see it.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qanun.api import Key, SealedReader, SealedWriter
from qanun_telemedicine.recording import ebml, matroska

SUFFIX = ".part"
_EVENT = "QANUN"
#: A cluster's blocks have 16-bit times, and seeking is no finer than clusters.
_CLUSTER_MS = 1000
_WRITE_BYTES = 4 * 1024 * 1024


@dataclass(slots=True)
class Block:
    """One frame with its place on the timeline of its part."""

    time_ms: int
    track: int
    key: bool
    data: bytes


@dataclass(slots=True)
class StoredBlock:
    """One frame as it lies in a part: `offset` and `size` of the frame in the part's plaintext, in bytes."""

    time_ms: int
    track: int
    key: bool
    offset: int
    size: int
    first: bytes = field(repr=False)


class JournalWriter:
    """Appends to a new part. Every `write` is on the disk when it returns. `OSError` when there is no room."""

    def __init__(self, path: Path, key: Key, context: bytes) -> None:
        # Created exclusively: a part is never continued or overwritten.
        self._file = os.fdopen(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb", buffering=0
        )
        try:
            self._sealed = SealedWriter(self._file, key, context=context, durable=True)
            self._pending: list[bytes] = [matroska.header(live=True), matroska.info()]
            directory = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except BaseException:
            self._file.close()
            raise

    @property
    def size(self) -> int:
        """Plaintext bytes written."""
        return self._sealed.size

    def event(self, event: str, /, **details: Any) -> None:
        """Note that something happened; written with the next `write`."""
        content = json.dumps({"event": event, **details}, separators=(",", ":"), ensure_ascii=False)
        simple = ebml.element(ebml.SIMPLE_TAG, [ebml.text(ebml.TAG_NAME, _EVENT), ebml.text(ebml.TAG_STRING, content)])
        self._pending.append(ebml.element(ebml.TAGS, ebml.element(ebml.TAG, [ebml.element(0x63C0, b""), simple])))

    def track(self, number: int, codec: matroska.Codec, *, name: str, width: int = 0, height: int = 0) -> None:
        """Declare a track, before its first block."""
        entry = matroska.track_entry(number, codec, name=name, width=width, height=height)
        self._pending.append(ebml.element(ebml.TRACKS, entry))

    def write(self, blocks: list[Block]) -> None:
        """Seal what was noted, and these blocks in the order of their times."""
        group: list[Block] = []
        for block in sorted(blocks, key=lambda block: block.time_ms):
            if group and block.time_ms - group[0].time_ms >= _CLUSTER_MS:
                self._cluster(group)
                group = []
            group.append(block)
        if group:
            self._cluster(group)
        self._flush(_WRITE_BYTES, everything=True)

    def close(self) -> None:
        try:
            self.write([])
            self._sealed.close()
            os.fsync(self._file.fileno())
        finally:
            self._file.close()

    def _cluster(self, blocks: list[Block]) -> None:
        start = blocks[0].time_ms
        body = [
            part
            for block in blocks
            for part in (
                matroska.block_head(block.track, block.time_ms - start, block.key, len(block.data)),
                block.data,
            )
        ]
        self._pending += [matroska.cluster_head(start, sum(map(len, body))) + b"".join(body)]
        self._flush(_WRITE_BYTES, everything=False)

    def _flush(self, limit: int, *, everything: bool) -> None:
        if self._pending and (everything or sum(map(len, self._pending)) > limit):
            # Forgotten also when it fails: closing must then not try the same again.
            pending, self._pending = b"".join(self._pending), []
            self._sealed.write(pending)


class JournalReader:
    """Reads a part back, also one that is still being written or was cut off."""

    def __init__(self, path: Path, key: Key, context: bytes) -> None:
        self.path = path
        self._file = path.open("rb")
        try:
            self.sealed = SealedReader(self._file, key, context=context)
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        self._file.close()

    def read(self) -> Iterator[StoredBlock | dict[str, Any]]:
        """Every block and every event, in the order of writing. Track entries are left out: events say the same.

        Raises `Tampered` naming the chunk, and `ebml.Malformed` (which only a programming error can cause,
        everything here being authenticated).
        """
        offset = 0
        for chunk in self.sealed:
            data = chunk
            for number, start, end in self._top(data, offset):
                if number == ebml.CLUSTER:
                    yield from _blocks(data, start, end, offset)
                elif number == ebml.TAGS:
                    yield from _events(data, start, end)
            offset += len(chunk)

    @staticmethod
    def _top(data: bytes, offset: int) -> Iterator[tuple[int, int, int]]:
        if offset:
            yield from ebml.children(data)
            return
        for number, start, end in ebml.children(data):
            if number == ebml.SEGMENT:
                yield from ebml.children(data, start, end)


def _blocks(data: bytes, start: int, end: int, offset: int) -> Iterator[StoredBlock]:
    base = 0
    for number, first, last in ebml.children(data, start, end):
        if number == ebml.TIMESTAMP:
            base = int.from_bytes(data[first:last], "big")
        elif number == ebml.SIMPLE_BLOCK:
            relative = int.from_bytes(data[first + 1 : first + 3], "big", signed=True)
            begin = first + 4
            yield StoredBlock(
                base + relative,
                data[first] & 0x7F,
                bool(data[first + 3] & 0x80),
                offset + begin,
                last - begin,
                data[begin : min(last, begin + 10)],
            )


def _events(data: bytes, start: int, end: int) -> Iterator[dict[str, Any]]:
    for _, tag, tag_end in ebml.children(data, start, end):
        for number, simple, simple_end in ebml.children(data, tag, tag_end):
            if number != ebml.SIMPLE_TAG:
                continue
            fields = {
                kind: bytes(data[first:last]).decode() for kind, first, last in ebml.children(data, simple, simple_end)
            }
            if fields.get(ebml.TAG_NAME) == _EVENT:
                with contextlib.suppress(ValueError):
                    yield json.loads(fields[ebml.TAG_STRING])
