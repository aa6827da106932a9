"""Puts the timestamps of several RTP streams on one timeline, in milliseconds since the recording began.

The timeline is that of arrival here. The least delayed packets of a window say where a stream lies on it; sender
reports, if there are any, tie the streams of one participant together exactly. Corrections are made slowly, so that
nobody hears them.
"""

import math

#: A correction up to this size is spread out, at `_SLEW` ms per ms; a larger one is a new beginning and made at once.
_STEP_MS = 400.0
_SLEW = 0.02
_WINDOW_MS = 2000.0
_TRUSTED_MS = 1500.0


class _Lowest:
    """The smallest value of the last one to two windows."""

    def __init__(self) -> None:
        self._now = self._before = math.inf
        self._since: float | None = None

    def push(self, value: float, at_ms: float) -> float:
        if self._since is None or at_ms - self._since > _WINDOW_MS:
            self._before, self._now, self._since = self._now, math.inf, at_ms
        self._now = min(self._now, value)
        return min(self._now, self._before)


class SenderClock:
    """The wall clock of one participant's device against our timeline, from the sender reports of all its streams."""

    def __init__(self) -> None:
        self._transit = _Lowest()
        #: Our time minus theirs, in ms, over the fastest way seen lately; None before the first report.
        self.offset: float | None = None

    def report(self, ntp_ms: float, arrival_ms: float) -> None:
        self.offset = self._transit.push(arrival_ms - ntp_ms, arrival_ms)


class TrackClock:
    """RTP timestamps of one stream → ms on the timeline."""

    def __init__(self, rate: int, sender: SenderClock) -> None:
        self._rate = rate
        self._sender = sender
        self.restart()

    def restart(self) -> None:
        """The stream begins anew (another SSRC): its timestamps have nothing to do with those before."""
        self._last: int | None = None
        self._transit = _Lowest()
        self._offset: float | None = None
        self._to_sender: float | None = None
        self._moved_ms = 0.0

    def report(self, ntp: int, timestamp: int, arrival_ms: float) -> None:
        """A sender report: 64-bit NTP time and the RTP timestamp of the same instant."""
        if self._last is None:
            return
        ntp_ms = ntp * 1000 / (1 << 32)
        self._sender.report(ntp_ms, arrival_ms)
        self._to_sender = ntp_ms - self._unwrap(timestamp) * 1000 / self._rate

    def time(self, timestamp: int, arrival_ms: float) -> float:
        """Where the frame with this RTP timestamp belongs."""
        self._last = self._unwrap(timestamp)
        media_ms = self._last * 1000 / self._rate
        target = self._transit.push(arrival_ms - media_ms, arrival_ms)
        if self._to_sender is not None and self._sender.offset is not None:
            told = self._sender.offset + self._to_sender
            # Reports come from the publisher's device: nobody can move a stream further than the network could.
            if abs(told - target) < _TRUSTED_MS:
                target = told
        if self._offset is None or abs(target - self._offset) > _STEP_MS:
            self._offset = target
        else:
            most = max(0.0, media_ms - self._moved_ms) * _SLEW
            self._offset += max(-most, min(most, target - self._offset))
        self._moved_ms = max(self._moved_ms, media_ms)
        return media_ms + self._offset

    def _unwrap(self, timestamp: int) -> int:
        if self._last is None:
            return timestamp
        step = (timestamp - self._last) & 0xFFFFFFFF
        return self._last + (step if step < 0x80000000 else step - 0x100000000)
