"""One voice: Opus packets in, utterances out, each from the first sound to the pause after it (16 kHz, 16 bit, mono)."""

from __future__ import annotations

import math
from array import array
from collections import deque

import av
from av.error import FFmpegError

from qanun_telemedicine.sfu import rtp

RATE = 16_000
#: Octets of 20 ms.
_FRAME = RATE // 50 * 2
#: In frames of 20 ms: kept from before the first sound, two must be loud to begin, a pause ends, and no sentence is longer.
_BEFORE, _BEGIN, _PAUSE, _LONGEST, _LEAST = 12, 2, 30, 600, 8
#: Louder than this (of 32768), and than so many times the usual noise, is a voice.
_LOUD, _ABOVE = 250.0, 3.0
#: A microphone that sends nothing while nobody speaks has paused, too.
SILENT_S = 0.7


class Voice:
    """The sound of one person. `take` and `pause` give an utterance when one has ended."""

    def __init__(self) -> None:
        self._decoder = av.CodecContext.create("opus", "r")
        self._resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
        self._rest = b""
        self._before: deque[bytes] = deque(maxlen=_BEFORE)
        self._said: list[bytes] = []
        self._loud = self._quiet = self._voiced = 0
        self._noise = _LOUD
        self._sequence: int | None = None
        self.heard_at = 0.0

    def take(self, data: bytes, now: float) -> list[bytes]:
        """A packet as it was sent; what is malformed, repeated or late is passed over."""
        packet = rtp.parse(data)
        if packet is None or not packet.payload or packet.padding_only():
            return []
        if self._sequence is not None and not rtp.newer(packet.sequence, self._sequence):
            return []
        self._sequence, self.heard_at = packet.sequence, now
        try:
            frames = self._decoder.decode(av.Packet(packet.payload))
            made = [one for frame in frames for one in self._resampler.resample(frame)]
        except (FFmpegError, ValueError):
            return []
        samples = self._rest + b"".join(bytes(one.planes[0])[: one.samples * 2] for one in made)
        whole = len(samples) - len(samples) % _FRAME
        self._rest = samples[whole:]
        return [done for at in range(0, whole, _FRAME) if (done := self._frame(samples[at : at + _FRAME]))]

    def pause(self, now: float) -> bytes | None:
        """What was being said, when nothing more has come for a while."""
        return self._end() if self._said and now - self.heard_at > SILENT_S else None

    def _frame(self, samples: bytes) -> bytes | None:
        values = array("h", samples)
        level = math.sqrt(sum(value * value for value in values) / len(values))
        loud = level > max(_LOUD, self._noise * _ABOVE)
        if not loud:
            # The usual noise is followed slowly, and only while nobody speaks.
            self._noise += (level - self._noise) * 0.05
        if not self._said:
            self._before.append(samples)
            self._loud = self._loud + 1 if loud else 0
            if self._loud >= _BEGIN:
                self._said, self._quiet, self._voiced = list(self._before), 0, self._loud
                self._before.clear()
            return None
        self._said.append(samples)
        self._quiet = 0 if loud else self._quiet + 1
        self._voiced += loud
        return self._end() if self._quiet >= _PAUSE or len(self._said) >= _LONGEST else None

    def _end(self) -> bytes | None:
        said, voiced = self._said, self._voiced
        self._said, self._loud, self._quiet, self._voiced = [], 0, 0, 0
        return b"".join(said) if voiced >= _LEAST else None
