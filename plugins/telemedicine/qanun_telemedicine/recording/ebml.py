"""The elements of EBML, which Matroska and WebM are made of (RFC 8794, RFC 9559). It knows bytes, not media."""

import struct
from collections.abc import Iterator

EBML = 0x1A45DFA3
SEGMENT = 0x18538067
SEEK_HEAD = 0x114D9B74
INFO = 0x1549A966
TRACKS = 0x1654AE6B
TRACK_ENTRY = 0xAE
CLUSTER = 0x1F43B675
TIMESTAMP = 0xE7
SIMPLE_BLOCK = 0xA3
CUES = 0x1C53BB6B
TAGS = 0x1254C367
TAG = 0x7373
SIMPLE_TAG = 0x67C8
TAG_NAME = 0x45A3
TAG_STRING = 0x4487

#: The size of an element that lasts until the file ends: a recording that is still being written.
UNKNOWN_SIZE = b"\x01" + b"\xff" * 7


class Malformed(ValueError):
    """These bytes are not the element that was expected here."""


def identifier(number: int) -> bytes:
    """An element's id as it stands in the file, 1-4 bytes."""
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def size(length: int, width: int = 0) -> bytes:
    """A length as a variable-size integer; the shortest, or exactly `width` bytes (for sizes that are known later)."""
    for count in range(width or 1, 9):
        if length < (1 << 7 * count) - 1:
            return (length | 1 << 7 * count).to_bytes(count, "big")
    raise ValueError(f"{length} is too long for an EBML element")


def element(number: int, payload: bytes | list[bytes], width: int = 0) -> bytes:
    """A whole element: id, size, payload (a list is joined: the children of a master element)."""
    body = payload if isinstance(payload, bytes) else b"".join(payload)
    return identifier(number) + size(len(body), width) + body


def uint(number: int, value: int, width: int = 0) -> bytes:
    """An unsigned-integer element; exactly `width` bytes of value when given."""
    return element(number, value.to_bytes(width or max(1, (value.bit_length() + 7) // 8), "big"))


def real(number: int, value: float) -> bytes:
    return element(number, struct.pack(">d", value))


def text(number: int, value: str) -> bytes:
    return element(number, value.encode())


def children(data: bytes | memoryview, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int, int]]:
    """The elements in `data[start:end]`, one after another: (id, start of payload, end of payload).

    An element of unknown size is reported as reaching to `end`. Raises `Malformed` for anything else than whole
    elements.
    """
    stop = len(data) if end is None else end
    place = start
    while place < stop:
        number, place = _variable(data, place, stop, keep_marker=True, longest=4)
        length, place = _variable(data, place, stop, keep_marker=False, longest=8)
        finish = stop if length < 0 else place + length
        if finish > stop:
            raise Malformed(f"element {number:X} reaches {finish - stop} bytes past its parent")
        yield number, place, finish
        place = finish


def _variable(data: bytes | memoryview, place: int, stop: int, *, keep_marker: bool, longest: int) -> tuple[int, int]:
    first = data[place] if place < stop else 0
    width = 9 - first.bit_length()
    if width > longest or place + width > stop:
        raise Malformed(f"no EBML number at byte {place}")
    value = int.from_bytes(data[place : place + width], "big")
    if keep_marker:
        return value, place + width
    value ^= 1 << 7 * width
    return (-1 if value == (1 << 7 * width) - 1 else value), place + width
