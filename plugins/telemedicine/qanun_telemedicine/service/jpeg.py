"""What a browser sends as a picture is a picture and nothing else: a JPEG is taken apart and only its own parts are kept.

Nothing is decoded. Comments, EXIF (place, device, time), embedded thumbnails and whatever stands behind the end are left out.
"""

from __future__ import annotations

from qanun.api import N_, Invalid

MOST_OCTETS = 6 * 1024 * 1024
MOST_PIXELS = 4096
_SOI, _EOI, _SOS, _COM = 0xD8, 0xD9, 0xDA, 0xFE
_FRAMES = (0xC0, 0xC1, 0xC2)
#: Quantisation, Huffman, restart interval: what decoding needs.
_TABLES = (0xDB, 0xC4, 0xDD)
_BAD: dict[str, object] = {"file": N_("This is not a picture that can be kept (JPEG).")}


def cleaned(data: bytes) -> tuple[bytes, int, int]:
    """The picture without anything but itself, its width and its height in pixels. Raises Invalid: too large, or no JPEG."""
    if len(data) > MOST_OCTETS:
        raise Invalid({"file": N_("This picture is too large.")})
    if data[:2] != b"\xff\xd8":
        raise Invalid(_BAD)
    kept, place, width, height, scans = [b"\xff\xd8"], 2, 0, 0, 0
    while True:
        if place + 4 > len(data) or data[place] != 0xFF:
            raise Invalid(_BAD)
        marker = data[place + 1]
        if marker == 0xFF:  # fill
            place += 1
            continue
        if marker == _EOI:
            break
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        end = place + 2 + length
        if length < 2 or end > len(data):
            raise Invalid(_BAD)
        segment = data[place:end]
        if marker in _FRAMES:
            if length < 8 or width:
                raise Invalid(_BAD)
            height, width = int.from_bytes(segment[5:7], "big"), int.from_bytes(segment[7:9], "big")
            kept.append(segment)
        elif marker in _TABLES:
            kept.append(segment)
        elif marker == _SOS:
            if not width:
                raise Invalid(_BAD)
            scans += 1
            after = _scan(data, end)
            kept.append(data[place:after])
            end = after
        elif not (0xE0 <= marker <= 0xEF or marker == _COM):
            raise Invalid(_BAD)
        place = end
        if place + 2 == len(data) and data[place : place + 2] == b"\xff\xd9":
            break
    if not scans or not 0 < width <= MOST_PIXELS or not 0 < height <= MOST_PIXELS:
        raise Invalid(_BAD)
    return b"".join([*kept, b"\xff\xd9"]), width, height


def _scan(data: bytes, place: int) -> int:
    """Where the entropy-coded data that begins at `place` ends: at the next marker that is no restart and no stuffing."""
    while True:
        place = data.find(b"\xff", place)
        if place < 0 or place + 1 >= len(data):
            raise Invalid(_BAD)
        if data[place + 1] == 0 or 0xD0 <= data[place + 1] <= 0xD7:
            place += 2
        elif data[place + 1] == 0xFF:
            place += 1
        else:
            return place
