"""Opens a recording: tells what is in it, who is in it, whether it is whole, and gives a seekable file per participant.

It knows no HTTP, no permissions and no audit: whoever serves these bytes has asked and noted that before.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from qanun.api import CryptoError, Key, NotSealed, SealedReader, SealedWriter, Tampered, bind
from qanun_telemedicine.recording import index as indexing
from qanun_telemedicine.recording.bundle import Bundle, Mark
from qanun_telemedicine.recording.index import Index, Lane, Pause
from qanun_telemedicine.recording.journal import SUFFIX, JournalReader
from qanun_telemedicine.recording.view import Source, View

_INDEX = "index"


class Damaged(Exception):
    """A file of the recording was changed after it was written. `part` is the file's name, `chunk` the number of the
    sealed chunk in it (about one a second), or None."""

    def __init__(self, part: str, chunk: int | None, reason: str) -> None:
        super().__init__(f"{part}: {reason}")
        self.part = part
        self.chunk = chunk


class Empty(Exception):
    """There is nothing in this recording."""


@dataclass(frozen=True, slots=True)
class Seat:
    """One view that a page can offer: what one participant showed and said. `number` counts a participant's pictures:
    0 is the first (the camera), 1 a shared screen, and so on. Times in ms since the recording began."""

    participant: str
    number: int
    has_video: bool
    has_audio: bool
    width: int
    height: int
    starts_ms: int
    ends_ms: int
    #: What its picture is of: "camera", "screen", or empty when nobody said.
    source: str = ""


class Recording:
    """A recording in `directory`, opened with its data key and the context it was bound to. Close it, or use `with`.

    A recording that was cut off by a crash, or is still being made, opens too and plays up to its last whole chunk.
    Raises `Damaged`, `Empty`, and `WrongKey`. One instance is for one thread at a time.
    """

    def __init__(self, directory: Path, key: Key, context: bytes) -> None:
        self._directory = directory
        self._key = key
        self._context = context
        self._parts: list[JournalReader] = []
        try:
            self._open_parts()
            self._index = self._stored_index() or self._built_index()
        except BaseException:
            self.close()
            raise

    @property
    def started_ms(self) -> int:
        """When it began: Unix time in ms."""
        return self._index.started_ms

    @property
    def duration_ms(self) -> int:
        return self._index.duration_ms

    @property
    def complete(self) -> bool:
        """False when the last part has no end: it was cut off, or is still being written."""
        return self._index.complete

    @property
    def pauses(self) -> list[Pause]:
        return list(self._index.pauses)

    @property
    def parts(self) -> dict[str, int]:
        """File names and plaintext sizes; to be kept when the recording ends, so that a missing part is noticed
        later."""
        return dict(self._index.parts)

    def seats(self) -> list[Seat]:
        """The views there are, in the order in which people came."""
        seats = []
        for participant in dict.fromkeys(lane.participant for lane in self._index.lanes):
            video, audio = self._lanes(participant, "video"), self._lanes(participant, "audio")
            for number in range(max(1, len(video), len(audio))):
                lanes = [lane[number] for lane in (video, audio) if number < len(lane)]
                picture = video[number] if number < len(video) else None
                seats.append(
                    Seat(
                        participant,
                        number,
                        picture is not None,
                        number < len(audio),
                        picture.width if picture else 0,
                        picture.height if picture else 0,
                        min(lane.starts_ms for lane in lanes),
                        max(lane.ends_ms for lane in lanes),
                        picture.source if picture else "",
                    )
                )
        return seats

    def view(self, participant: str, number: int = 0) -> View:
        """The file for one seat. `KeyError` when there is none such."""
        video, audio = self._lanes(participant, "video"), self._lanes(participant, "audio")
        if not 0 <= number < max(len(video), len(audio)):
            raise KeyError((participant, number))
        picture = video[number] if number < len(video) else None
        sound = audio[number] if number < len(audio) else None
        return View(self._index, picture, sound, self._read)

    def bundle(self, names: Mapping[str, str], mark: Mark) -> Bundle:
        """Everything in one file, for a copy that leaves the clinic; `names` by participant."""
        return Bundle(self._index, self._read, names, mark)

    def finish(self) -> None:
        """Keep the index sealed beside the parts, so that opening costs no reading of everything. For when the
        recording has ended, and for a crashed one when it is first played."""
        draft = self._directory / f"{_INDEX}.draft"
        draft.unlink(missing_ok=True)
        data = self._index.to_bytes()
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with (
            os.fdopen(descriptor, "wb") as file,
            SealedWriter(file, self._key, context=bind(self._context, _INDEX), durable=True) as sealed,
        ):
            for start in range(0, len(data), 1 << 20):
                sealed.write(data[start : start + (1 << 20)])
        draft.replace(self._directory / _INDEX)

    def verify(self) -> None:
        """Authenticate every byte of every part; `Damaged` names the first that is wrong."""
        for part in self._parts:
            with _named(part.path.name):
                for _ in part.sealed:
                    pass

    def close(self) -> None:
        for part in self._parts:
            part.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _lanes(self, participant: str, kind: str) -> list[Lane]:
        found = [lane for lane in self._index.lanes if lane.participant == participant and lane.kind == kind]
        # The camera is number 0 and has the sound, also when a screen was shared before it.
        return sorted(found, key=lambda lane: lane.source == "screen")

    def _open_parts(self) -> None:
        self._parts.extend(_parts(self._directory, self._key, self._context))

    def _stored_index(self) -> Index | None:
        """The kept index, when it fits the parts. An unreadable one is no loss: it is made again from the parts."""
        try:
            with (self._directory / _INDEX).open("rb") as file:
                sealed = SealedReader(file, self._key, context=bind(self._context, _INDEX))
                stored = Index.from_bytes(b"".join(sealed)) if sealed.complete else None
        except (FileNotFoundError, CryptoError):
            return None
        sizes = {part.path.name: part.sealed.size for part in self._parts}
        ended = not self._parts or self._parts[-1].sealed.complete
        return stored if stored and stored.parts == sizes and stored.complete == ended else None

    def _built_index(self) -> Index:
        def named() -> Iterator[JournalReader]:
            for part in self._parts:
                current.name = part.path.name
                yield part

        current = _named("")
        with current:
            built = indexing.build(named())
        if built is None:
            raise Empty("nothing was recorded")
        return built

    def _read(self, part: int, offset: int, size: int) -> bytes:
        return _read(self._parts, part, offset, size)


@contextlib.contextmanager
def frames_of(directory: Path, key: Key, context: bytes) -> Iterator[Source]:
    """Only the frames, for a view that was laid out before. Raises what opening a `Recording` raises."""
    parts = list(_parts(directory, key, context))
    try:
        yield partial(_read, parts)
    finally:
        for part in parts:
            part.close()


def _parts(directory: Path, key: Key, context: bytes) -> Iterator[JournalReader]:
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        with _named(path.name):
            try:
                yield JournalReader(path, key, context)
            except NotSealed:
                # A worker that was killed while it created the file leaves less than a header.
                if path.stat().st_size >= 44:
                    raise


def _read(parts: Sequence[JournalReader], part: int, offset: int, size: int) -> bytes:
    if part >= len(parts):
        raise Damaged(f"{part + 1:04d}{SUFFIX}", None, "it is missing")
    with _named(parts[part].path.name):
        return parts[part].sealed.read_at(offset, size)


class _named(contextlib.AbstractContextManager["_named"]):  # noqa: N801 - used as a statement
    """Says in which file something was found changed."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Tampered):
            raise Damaged(self.name, error.chunk, str(error)) from error
        if isinstance(error, NotSealed):
            raise Damaged(self.name, None, str(error)) from error
