"""The parts of Matroska that a recording needs: headers, track entries, clusters, cues. Which frames go where is
decided by the journal (while recording) and the view (while playing)."""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from qanun_telemedicine.recording import ebml

Kind = Literal["audio", "video"]

WRITER = "Qanun"
#: Bytes of a SimpleBlock beside its frame, and of a Cluster beside its blocks. Sizes are always written four bytes
#: long, so that the length of a file can be told before any of it is made.
BLOCK_OVERHEAD = 9
CLUSTER_OVERHEAD = 14
#: What a decoder should hear before a seek target, in nanoseconds (RFC 7845 §4.6).
_OPUS_PREROLL = 80_000_000

_BLOCK = struct.Struct(">BIBhB")
_CLUSTER = struct.Struct(">IIBBI")


@dataclass(frozen=True, slots=True)
class Codec:
    """How Matroska calls what WebRTC calls by its mime type."""

    mime: str
    kind: Kind
    matroska: str
    #: The name in the `codecs` parameter of a media type.
    parameter: str


CODECS = {
    codec.mime: codec
    for codec in (
        Codec("video/vp8", "video", "V_VP8", "vp8"),
        Codec("audio/opus", "audio", "A_OPUS", "opus"),
    )
}


#: Pictures that can be recorded, by the names that the SFU gives to codecs.
PICTURES = frozenset(codec.parameter for codec in CODECS.values() if codec.kind == "video")


def header(*, live: bool, segment_size: int = 0, document: str = "") -> bytes:
    """EBML header and the opening of the Segment, of unknown size when `live`. `document`: "webm" or "matroska"."""
    head = ebml.element(
        ebml.EBML,
        [
            ebml.uint(0x4286, 1),  # EBMLVersion
            ebml.uint(0x42F7, 1),  # EBMLReadVersion
            ebml.uint(0x42F2, 4),  # EBMLMaxIDLength
            ebml.uint(0x42F3, 8),  # EBMLMaxSizeLength
            ebml.text(0x4282, document or ("matroska" if live else "webm")),
            ebml.uint(0x4287, 4),  # DocTypeVersion
            ebml.uint(0x4285, 2),  # DocTypeReadVersion
        ],
    )
    return head + ebml.identifier(ebml.SEGMENT) + (ebml.UNKNOWN_SIZE if live else ebml.size(segment_size, 8))


def info(duration_ms: float | None = None, *, title: str = "") -> bytes:
    """Segment information: a tick is a millisecond."""
    parts = [ebml.uint(0x2AD7B1, 1_000_000), ebml.text(0x4D80, WRITER), ebml.text(0x5741, WRITER)]
    if duration_ms is not None:
        parts.append(ebml.real(0x4489, duration_ms))
    if title:
        parts.append(ebml.text(0x7BA9, title))
    return ebml.element(ebml.INFO, parts)


def track_entry(
    number: int, codec: Codec, *, name: str = "", width: int = 0, height: int = 0, channels: int = 2
) -> bytes:
    """One TrackEntry; `width` and `height` in pixels for video, `channels` for audio."""
    parts = [
        ebml.uint(0xD7, number),
        ebml.uint(0x73C5, number),  # TrackUID
        ebml.uint(0x83, 1 if codec.kind == "video" else 2),
        ebml.uint(0x9C, 0),  # FlagLacing
        ebml.text(0x86, codec.matroska),
    ]
    if name:
        parts.append(ebml.text(0x536E, name))
    if codec.kind == "video":
        parts.append(ebml.element(0xE0, [ebml.uint(0xB0, width), ebml.uint(0xBA, height)]))
    else:
        opus_head = b"OpusHead" + struct.pack("<BBHIhB", 1, channels, 0, 48000, 0, 0)
        parts += [
            ebml.element(0x63A2, opus_head),  # CodecPrivate
            ebml.uint(0x56BB, _OPUS_PREROLL),  # SeekPreRoll
            ebml.element(0xE1, [ebml.real(0xB5, 48000.0), ebml.uint(0x9F, channels)]),
        ]
    return ebml.element(ebml.TRACK_ENTRY, parts)


def subtitle_entry(number: int, name: str) -> bytes:
    """The TrackEntry of plain-text subtitles that a player shows without being asked."""
    parts = [
        ebml.uint(0xD7, number),
        ebml.uint(0x73C5, number),  # TrackUID
        ebml.uint(0x83, 17),  # TrackType: subtitle
        ebml.uint(0x9C, 0),  # FlagLacing
        ebml.uint(0x88, 1),  # FlagDefault
        ebml.uint(0x55AA, 1),  # FlagForced
        ebml.text(0x22B59C, "und"),  # Language
        ebml.text(0x86, "S_TEXT/UTF8"),
        ebml.text(0x536E, name),
    ]
    return ebml.element(ebml.TRACK_ENTRY, parts)


def timed_block(track: int, relative_ms: int, length_ms: int, data: bytes) -> bytes:
    """A BlockGroup whose block is shown for `length_ms`; 20 bytes longer than `data`."""
    block = _BLOCK.pack(0xA1, 0x1000_0000 | (len(data) + 4), 0x80 | track, relative_ms, 0) + data
    return ebml.element(0xA0, [block, ebml.uint(0x9B, length_ms, 4)], 4)


def tags(values: Mapping[str, str]) -> bytes:
    """Tags about the whole file, by name."""
    simple = [
        ebml.element(ebml.SIMPLE_TAG, [ebml.text(ebml.TAG_NAME, name), ebml.text(ebml.TAG_STRING, value)])
        for name, value in values.items()
    ]
    return ebml.element(ebml.TAGS, ebml.element(ebml.TAG, [ebml.element(0x63C0, b""), *simple]))


def block_head(track: int, relative_ms: int, key: bool, length: int) -> bytes:
    """What stands before the frame in a SimpleBlock; `length` is that of the frame."""
    return _BLOCK.pack(ebml.SIMPLE_BLOCK, 0x1000_0000 | (length + 4), 0x80 | track, relative_ms, 0x80 if key else 0)


def cluster_head(timestamp_ms: int, length: int) -> bytes:
    """What stands before the blocks of a Cluster; `length` is that of all its blocks."""
    return _CLUSTER.pack(ebml.CLUSTER, 0x1000_0000 | (length + 6), ebml.TIMESTAMP, 0x84, timestamp_ms)


def cues(points: Iterable[tuple[int, int, int]]) -> bytes:
    """The index for seeking: (time in ms, track, byte position of the cluster inside the Segment). As long for any
    positions as for zeros."""
    return ebml.element(
        ebml.CUES,
        [
            ebml.element(
                0xBB,
                [
                    ebml.uint(0xB3, time, 4),
                    ebml.element(0xB7, [ebml.uint(0xF7, track, 1), ebml.uint(0xF1, position, 8)]),
                ],
            )
            for time, track, position in points
        ],
        8,
    )


def seek_head(places: Iterable[tuple[int, int]]) -> bytes:
    """Where the other parts of the Segment stand: (element id, position). As long for any positions as for zeros."""
    return ebml.element(
        ebml.SEEK_HEAD,
        [
            ebml.element(0x4DBB, [ebml.element(0x53AB, ebml.identifier(number)), ebml.uint(0x53AC, position, 8)])
            for number, position in places
        ],
        8,
    )
