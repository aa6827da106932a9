"""The kept inputs of the fuzzers: text files in `fuzz/corpus`, one a target, one input a line in hexadecimal.

`python -m sfu.fuzz_corpus` (from the folder of the tests) writes the first part of each anew; what a fuzzer found is added
below the line that says so, and stays.
"""

from collections.abc import Iterator
from pathlib import Path

from qanun_telemedicine.sfu import rtcp, rtp

from .pictures import IDR, INTER, PPS, Mode, descriptor, fragments, red_payload, sps, stap, vp9_payload
from .test_packets import vp8_payload

FOLDER = Path(__file__).with_name("fuzz")
CORPUS = FOLDER / "corpus"
_FOUND = "# found by a fuzzer"
_WIDTHS = (160, 320, 640)


def inputs(target: str) -> list[bytes]:
    """What is kept for a target."""
    lines = (CORPUS / f"{target}.txt").read_text().splitlines()
    return [bytes.fromhex(line) for line in lines if not line.startswith("#")]


def targets() -> list[str]:
    return sorted(path.stem for path in CORPUS.glob("*.txt"))


def _packets() -> Iterator[bytes]:
    short = [(1, b"\x85"), (3, b"\x01\x02"), (4, b"1")]
    wide = [(12, bytes(40)), (13, b""), (1, b"x")]
    for pairs, form in (([], False), (short, False), (wide, True)):
        for payload, padding in ((b"", False), (b"picture", False), (b"pic\0\0\x03", True), (b"\x01", True)):
            made = rtp.Packet(96, 65535, 0xFFFFFFFF, 7, payload, True, padding)
            yield rtp.serialise(made, rtp.extension_block(pairs, wide=form))
    yield b"\x82\x60" + bytes(10) + bytes(8) + b"behind two sources"


def _vp9() -> Iterator[bytes]:
    for layer in (None, (0, 0), (2, 1)):
        for flexible in (False, True):
            for predicted in (False, True):
                widths = () if predicted else _WIDTHS
                yield vp9_payload(layer, 300, predicted=predicted, flexible=flexible, widths=widths, short=flexible)


def _descriptors() -> Iterator[bytes]:
    for mode in (Mode(1, 1), Mode(1, 3), Mode(3, 1), Mode(3, 3), Mode(3, 3, key_only=True)):
        many = len(mode.layers())
        for chains in {0, 1, many}:
            first = descriptor(mode, (0, 0), 9, key=True, widths=_WIDTHS[: mode.spatial], chains=chains, offset=60)
            for more in ({}, {"active": 1}, {"custom": [1] * many}):
                layer = mode.layers()[-1]
                yield bytes((len(first),)) + first + descriptor(mode, layer, 10, key=False, offset=60, **more)  # type: ignore[arg-type]


def _sequences() -> Iterator[bytes]:
    def datagrams(*pieces: bytes) -> bytes:
        return b"".join(bytes((0, len(piece) >> 8, len(piece) & 255)) + piece for piece in pieces)

    def packet(codec: int, number: int, payload: bytes, extension: bytes = b"") -> bytes:
        block = rtp.extension_block([(12, extension)], wide=True) if extension else b""
        return rtp.serialise(rtp.Packet(96 + codec, number, number * 3000, 7 + codec, payload, True), block)

    order = bytes((203, 0, 0))
    mode = Mode(2, 2)
    yield datagrams(packet(0, 1, b"sound"), b"\x80\xc9\0\1\0\0\0\1") + order
    yield datagrams(*(packet(1, n, vp8_payload(key=n == 1, picture=n)) for n in (1, 2, 4, 3))) + order
    vp9 = [vp9_payload(layer, n // 2, predicted=n > 1, up=True) for n, layer in enumerate([(0, 0), (1, 0)] * 3)]
    yield datagrams(*(packet(2, n, one) for n, one in enumerate(vp9))) + order + datagrams(packet(2, 9, vp9[-1]))
    av1 = [
        packet(3, n, b"\x08obu", descriptor(mode, layer, n, key=n < 2, widths=_WIDTHS[:2] if not n else None))
        for n, layer in enumerate([(0, 0), (1, 0)] * 3)
    ]
    yield datagrams(*av1) + order + datagrams(*av1)
    h264 = [stap(sps(640, 360), PPS), *fragments(IDR, 5), INTER]
    yield datagrams(*(packet(4, n, one) for n, one in enumerate(h264))) + order
    red = rtp.serialise(rtp.Packet(63, 5, 5, 7, red_payload(96, b"newest", [b"older"]), True))
    yield datagrams(packet(0, 4, b"sound"), red)
    yield datagrams(b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12), b"\x16\xfe\xff" + bytes(10), b"\x80", b"")


def _rtcp() -> Iterator[bytes]:
    block = rtcp.Report(7, 12, -5, 70_000, 99, 0x12345678, 65536)
    yield rtcp.receiver_report(1, [block, block])
    yield rtcp.sender_report(rtcp.SenderReport(9, 1 << 60, 1000, 20, 3000), "slot0") + rtcp.picture_loss(1, 7)
    yield rtcp.nack(1, 5, [1, 2, 3, 65535, 40])
    yield rtcp.remb(1, 500_000, [7, 8])
    yield from rtcp.transport_feedback(1, 2, 250, [(n, n * 1_000_000 * (1 + n % 3)) for n in range(60)])[0]
    yield b"\x84\xce\0\4" + bytes(8) + b"\0\0\0\x4e\3\0\0\0"


MADE = {
    "packet": _packets,
    "vp8": lambda: (vp8_payload(key=key, picture=p) for key in (True, False) for p in (0, 127, 32767)),
    "vp9": _vp9,
    "av1": lambda: iter((b"\x08key", b"\x88rest", b"\x00other", b"")),
    "h264": lambda: iter(
        (sps(322, 178), sps(1280, 720, high=True), stap(PPS, sps(640, 360), IDR), *fragments(sps(64, 48) * 2, 8), INTER)
    ),
    "red": lambda: iter((red_payload(111, b"new", [b"older", b"old"]), red_payload(111, b""), b"\x80", b"\xff" * 9)),
    "dependency": _descriptors,
    "demux": _sequences,
    "rtcp": _rtcp,
}


def write() -> None:
    CORPUS.mkdir(parents=True, exist_ok=True)
    for target, make in MADE.items():
        path = CORPUS / f"{target}.txt"
        before = path.read_text() if path.exists() else ""
        found = before[before.index(_FOUND) :] if _FOUND in before else _FOUND + "\n"
        path.write_text("".join(f"{one.hex()}\n" for one in dict.fromkeys(make())) + found)


if __name__ == "__main__":
    write()
