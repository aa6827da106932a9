"""Sealed streams: data of any length, written piece by piece, readable from any place, every chunk authenticated.

    header: magic 3 | version 1 | key id 8 | salt 32
    frame:  bit 31 = last, bits 0-30 = length of what follows (4 bytes, big endian) | ciphertext | tag 16

The key of a stream is derived from the caller's key, the random salt and the context (HKDF-SHA256), so chunks of two
streams can't be exchanged even under one key. The nonce is the chunk's number and the last flag (the STREAM
construction), so chunks can't be reordered, dropped or doubled. A stream without its last chunk was cut off: by a crash
or by somebody. Nothing inside it can tell the two apart, so it stays readable and says `complete == False`.

Works on seekable binary files; it opens, names and deletes none itself. One writer or reader is for one thread.
"""

import io
import os
import secrets
import struct
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from types import TracebackType
from typing import BinaryIO, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from qanun.crypto.errors import CryptoError, NotSealed, Tampered, WrongKey
from qanun.crypto.keys import Key

#: Largest plaintext of one chunk, in bytes. A reader refuses more, so a damaged length can't make it ask for gigabytes.
MAX_CHUNK = 16 * 1024 * 1024

_MAGIC = b"QSS\x01"
_HEADER = 44
_FRAME = struct.Struct(">I")
_NONCE = struct.Struct(">Q3xB")
_LAST = 0x8000_0000
_TAG = 16


def _cipher(key: Key, header: bytes, context: bytes) -> AESGCM:
    derived = HKDF(SHA256(), 32, salt=header[12:], info=b"qanun sealed stream 1\0" + context).derive(key.reveal())
    return AESGCM(derived)


class SealedWriter:
    """Appends chunks to `file`, an empty binary file. With `durable`, a chunk is on the disk when `write` returns."""

    def __init__(self, file: BinaryIO, key: Key, *, context: bytes, durable: bool = False) -> None:
        self._file = file
        self._durable = durable
        self._header = _MAGIC + key.id + secrets.token_bytes(32)
        self._cipher = _cipher(key, self._header, context)
        self._length = 0
        self._put(self._header)
        #: Chunks written so far.
        self.chunks = 0
        #: Plaintext bytes written so far.
        self.size = 0
        self.closed = False

    def write(self, plaintext: bytes) -> None:
        """Seal `plaintext` (1 byte … `MAX_CHUNK`) as the next chunk.

        Raises `OSError` when it can't be stored (disk full); the file then still ends after the chunk before, and the
        writer may be tried again or closed.
        """
        if not 0 < len(plaintext) <= MAX_CHUNK:
            raise ValueError(f"a chunk has 1 to {MAX_CHUNK} bytes, not {len(plaintext)}")
        self._seal(plaintext, last=False)

    def close(self) -> None:
        """Write the end marker. The file itself is left open."""
        if not self.closed:
            self._seal(b"", last=True)
            self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After an exception the stream stays without its end marker, which is what it is: incomplete.
        if kind is None:
            self.close()

    def _seal(self, plaintext: bytes, *, last: bool) -> None:
        if self.closed:
            raise CryptoError("the sealed stream is closed")
        frame = _FRAME.pack(len(plaintext) + _TAG | (_LAST if last else 0))
        body = self._cipher.encrypt(_NONCE.pack(self.chunks, last), plaintext, self._header[:12] + frame)
        self._put(frame + body)
        self.chunks += 1
        self.size += len(plaintext)

    def _put(self, raw: bytes) -> None:
        try:
            self._file.write(raw)
            self._file.flush()
            if self._durable:
                os.fsync(self._file.fileno())
        except OSError:
            # Half a chunk in the middle would make everything after it unreadable. A buffered file may hold its share
            # back and fail again here: what then remains is a torn tail, which readers cope with.
            try:
                self._file.seek(self._length)
                self._file.truncate(self._length)
            except OSError:
                self.closed = True
            raise
        self._length += len(raw)


class SealedReader:
    """Reads a sealed stream from `file` (seekable, binary), the whole of it or any range.

    Opening reads the frame lengths and authenticates the final chunk; every other chunk is authenticated when read.
    Raises `NotSealed`, `WrongKey` and `Tampered`.
    """

    def __init__(self, file: BinaryIO, key: Key, *, context: bytes) -> None:
        self._file = file
        file.seek(0)
        self._header = file.read(_HEADER)
        if self._header[:4] != _MAGIC or len(self._header) < _HEADER:
            raise NotSealed("not a sealed stream of a version that is known here")
        if self._header[4:12] != key.id:
            raise WrongKey(self._header[4:12].hex(), key.id.hex())
        self._cipher = _cipher(key, self._header, context)
        #: Whether the end marker is there and genuine. False: cut off by a crash, or by somebody.
        self.complete = False
        #: Bytes at the end that are less than a chunk: the rest of an interrupted write.
        self.torn = 0
        self._frames: list[tuple[int, int]] = []
        self._scan()
        sizes = [(frame & ~_LAST) - _TAG for _, frame in self._frames]
        self._starts = [0, *accumulate(sizes)]
        #: Plaintext bytes in all chunks.
        self.size = self._starts[-1]
        self._held = -1
        self._plain = b""
        if self._frames:
            self.chunk(len(self._frames) - 1)

    @property
    def chunks(self) -> int:
        """How many chunks there are, the end marker not counted."""
        return len(self._frames) - self.complete

    def chunk(self, number: int) -> bytes:
        """The plaintext of one chunk. `Tampered` names it when it is not what was written there."""
        if number == self._held:
            return self._plain
        place, frame = self._frames[number]
        self._file.seek(place + _FRAME.size)
        body = self._file.read(frame & ~_LAST)
        nonce = _NONCE.pack(number, bool(frame & _LAST))
        try:
            plain = self._cipher.decrypt(nonce, body, self._header[:12] + _FRAME.pack(frame))
        except InvalidTag:
            raise Tampered(
                f"chunk {number} of {len(self._frames)} was changed, moved, or belongs to another stream", number
            ) from None
        self._held, self._plain = number, plain
        return plain

    def read_at(self, offset: int, size: int) -> bytes:
        """Up to `size` plaintext bytes from `offset`; fewer only at the end of the stream."""
        if offset < 0 or size < 0:
            raise ValueError("offset and size are not negative")
        end = min(offset + size, self.size)
        parts = []
        while offset < end:
            number = bisect_right(self._starts, offset) - 1
            start = self._starts[number]
            part = self.chunk(number)[offset - start : end - start]
            parts.append(part)
            offset += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def __iter__(self) -> Iterator[bytes]:
        """The plaintext chunk by chunk, each authenticated before it is handed out."""
        for number in range(self.chunks):
            yield self.chunk(number)

    def _scan(self) -> None:
        end = self._file.seek(0, io.SEEK_END)
        place = _HEADER
        while place < end:
            self._file.seek(place)
            head = self._file.read(_FRAME.size)
            if len(head) < _FRAME.size or not any(head):
                self.torn = end - place
                return
            (frame,) = _FRAME.unpack(head)
            length = frame & ~_LAST
            if not _TAG <= length <= MAX_CHUNK + _TAG:
                raise Tampered(f"chunk {len(self._frames)} has an impossible length", len(self._frames))
            following = place + _FRAME.size + length
            if following > end or (following == end and self._never_written(following)):
                self.torn = end - place
                return
            self._frames.append((place, frame))
            place = following
            if frame & _LAST:
                if place < end:
                    raise Tampered("there are bytes after the end of the sealed stream", len(self._frames))
                self.complete = True

    def _never_written(self, end: int) -> bool:
        # After a power cut a file can have its new length and zeros in place of its last bytes. A tag of zeros does not
        # occur otherwise (one in 2**128), and taking such a chunk for torn is no more than anybody could do by cutting.
        self._file.seek(end - _TAG)
        return not any(self._file.read(_TAG))
