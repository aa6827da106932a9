"""Sealed streams: they read back from any place, and every way of meddling with them is found and named."""

import errno
import io
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanun import crypto

KEY = crypto.Key(bytes(range(32)))
CONTEXT = crypto.bind("tenant", "nour", "recording", 1)
HEADER = 44
chunk_lists = st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=8)


def sealed(chunks: list[bytes], *, context: bytes = CONTEXT, close: bool = True, key: crypto.Key = KEY) -> bytes:
    file = io.BytesIO()
    writer = crypto.SealedWriter(file, key, context=context)
    for chunk in chunks:
        writer.write(chunk)
    if close:
        writer.close()
    return file.getvalue()


def reader(raw: bytes, *, context: bytes = CONTEXT, key: crypto.Key = KEY) -> crypto.SealedReader:
    return crypto.SealedReader(io.BytesIO(raw), key, context=context)


def frames(raw: bytes) -> list[bytes]:
    found, place = [], HEADER
    while place < len(raw):
        size = 4 + (struct.unpack_from(">I", raw, place)[0] & 0x7FFFFFFF)
        found.append(raw[place : place + size])
        place += size
    return found


@given(chunks=chunk_lists, data=st.data())
def test_any_range_reads_back(chunks: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(chunks)
    opened = reader(sealed(chunks))
    assert opened.complete
    assert opened.size == len(whole)
    assert opened.chunks == len(chunks)
    assert list(opened) == chunks
    start = data.draw(st.integers(0, len(whole) + 3))
    size = data.draw(st.integers(0, len(whole) + 3))
    assert opened.read_at(start, size) == whole[start : start + size]


@given(chunks=chunk_lists, data=st.data())
def test_a_stream_cut_anywhere_keeps_its_whole_chunks_and_says_incomplete(
    chunks: list[bytes], data: st.DataObject
) -> None:
    raw = sealed(chunks)
    cut = data.draw(st.integers(HEADER, len(raw) - 1))
    opened = reader(raw[:cut])
    assert not opened.complete
    kept = list(opened)
    assert kept == chunks[: len(kept)]
    assert len(kept) == sum(1 for at in range(1, len(chunks) + 1) if HEADER + sum(map(len, frames(raw)[:at])) <= cut)
    assert (opened.torn == 0) == (cut == HEADER + sum(map(len, frames(raw)[: len(kept)])))


@given(chunks=chunk_lists, data=st.data())
def test_a_flipped_bit_is_refused_and_its_chunk_is_named(chunks: list[bytes], data: st.DataObject) -> None:
    raw = bytearray(sealed(chunks))
    place = data.draw(st.integers(HEADER, len(raw) - 1))
    raw[place] ^= 1 << data.draw(st.integers(0, 7))
    number, start = 0, HEADER
    for number, frame in enumerate(frames(sealed(chunks))):  # noqa: B007 - asked for below
        if place < start + len(frame):
            break
        start += len(frame)
    if place - start < 4:
        # A changed length can also look like a stream that was cut here; then nothing after it is trusted.
        try:
            opened = reader(bytes(raw))
            kept = list(opened)
        except crypto.Tampered:
            return
        assert not opened.complete
        assert kept == chunks[:number]
    else:
        with pytest.raises(crypto.Tampered) as caught:
            list(reader(bytes(raw)))
        assert caught.value.chunk == number


@given(chunks=st.lists(st.binary(min_size=4, max_size=4), min_size=2, max_size=6, unique=True), data=st.data())
def test_dropped_doubled_and_swapped_chunks_are_refused(chunks: list[bytes], data: st.DataObject) -> None:
    raw = sealed(chunks)
    head, parts = raw[:HEADER], frames(raw)
    one = data.draw(st.integers(0, len(chunks) - 1))
    other = data.draw(st.integers(0, len(chunks) - 1).filter(lambda number: number != one))
    swapped = list(parts)
    swapped[one], swapped[other] = swapped[other], swapped[one]
    for wrong in (swapped, parts[:one] + parts[one + 1 :], parts[:one] + parts[one:][:1] + parts[one:]):
        with pytest.raises(crypto.Tampered):
            list(reader(head + b"".join(wrong)))
    with pytest.raises(crypto.Tampered):
        reader(raw + parts[0])


def test_chunks_of_another_stream_under_the_same_key_are_refused() -> None:
    ours, theirs = sealed([b"ours", b"more"]), sealed([b"them", b"also"])
    exchanged = ours[:HEADER] + frames(theirs)[0] + b"".join(frames(ours)[1:])
    with pytest.raises(crypto.Tampered) as caught:
        list(reader(exchanged))
    assert caught.value.chunk == 0
    with pytest.raises(crypto.Tampered):
        reader(theirs[:HEADER] + ours[HEADER:])


def test_an_incomplete_stream_cannot_be_passed_off_as_complete() -> None:
    raw = bytearray(sealed([b"first", b"second"], close=False))
    raw[HEADER + len(frames(bytes(raw))[0])] |= 0x80
    with pytest.raises(crypto.Tampered):
        reader(bytes(raw))


def test_another_clinics_context_and_another_key_open_nothing() -> None:
    raw = sealed([b"consultation"])
    with pytest.raises(crypto.Tampered):
        reader(raw, context=crypto.bind("tenant", "oak", "recording", 1))
    with pytest.raises(crypto.WrongKey):
        reader(raw, key=crypto.Key.generate())
    for junk in (b"", b"QSS", b"\x1aE\xdf\xa3" + bytes(60), b"QSS\x02" + raw[4:]):
        with pytest.raises(crypto.NotSealed):
            reader(junk)


def test_zeros_left_by_a_power_cut_are_a_torn_end_and_not_an_attack() -> None:
    raw = sealed([b"first", b"second"], close=False)
    for damaged in (raw + bytes(100), raw[:-16] + bytes(16)):
        opened = reader(damaged)
        assert not opened.complete
        assert opened.torn > 0
        assert next(iter(opened)) == b"first"


def test_nothing_of_the_plaintext_is_on_the_disk(tmp_path: Path) -> None:
    secret = b"the patient said something private" * 20
    with (tmp_path / "x").open("wb") as file, crypto.SealedWriter(file, KEY, context=CONTEXT, durable=True) as writer:
        writer.write(secret)
        assert len((tmp_path / "x").read_bytes()) > len(secret)
    assert secret[:12] not in (tmp_path / "x").read_bytes()


class FullDisk(io.BytesIO):
    """A file on a disk that takes half of what it is given and then is full."""

    full = False

    def write(self, raw: bytes) -> int:  # type: ignore[override]
        if self.full:
            super().write(raw[: len(raw) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(raw)


def test_a_full_disk_leaves_what_was_written_and_can_go_on_when_there_is_room() -> None:
    file = FullDisk()
    writer = crypto.SealedWriter(file, KEY, context=CONTEXT)
    writer.write(b"first")
    file.full = True
    with pytest.raises(OSError, match="No space"):
        writer.write(b"lost")
    assert list(reader(file.getvalue())) == [b"first"]
    assert reader(file.getvalue()).torn == 0
    file.full = False
    writer.write(b"second")
    writer.close()
    opened = reader(file.getvalue())
    assert opened.complete
    assert list(opened) == [b"first", b"second"]


def test_a_writer_left_by_an_exception_does_not_pretend_to_be_complete() -> None:
    file = io.BytesIO()
    with pytest.raises(RuntimeError), crypto.SealedWriter(file, KEY, context=CONTEXT) as writer:
        writer.write(b"first")
        raise RuntimeError
    assert not reader(file.getvalue()).complete
    with pytest.raises(ValueError, match="a chunk has"):
        crypto.SealedWriter(io.BytesIO(), KEY, context=CONTEXT).write(b"")
    closed = crypto.SealedWriter(io.BytesIO(), KEY, context=CONTEXT)
    closed.close()
    closed.close()
    with pytest.raises(crypto.CryptoError, match="closed"):
        closed.write(b"late")
