"""How good each participant's connection is, what it can carry, and what follows: layers, audio only, a word to the page.

Pure arithmetic over reports, with the time given from outside, so that tests can run a bad afternoon in a moment.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from qanun_telemedicine.sfu.bandwidth import Estimator

GOOD, WEAK, AUDIO_ONLY, RECONNECTING = "good", "weak", "audio-only", "reconnecting"

#: Below this there is no picture worth having, and the sound needs what there is.
AUDIO_ONLY_BELOW = 100_000
#: Below this even the sound is asked to take less, and above the other to take what it likes.
_SOUND_BELOW, _SOUND_ABOVE = 75_000, 110_000
#: For so long at first (s), and the longer the sooner it was too much again.
_SOUND_LEAST_S, _SOUND_MOST_S = 10.0, 60.0
#: Sound in full that a way does not carry is noticed within this (s).
_SOUND_TRIED_S = 5.0
#: The picture is tried again with so much, and grows from there if it is carried.
_TRIED_WITH = 120_000
#: A call's first seconds say nothing: estimators start low.
_GRACE_S = 6.0
#: An attempt to show the picture again that the way does not carry is given up after this: the sound suffers from it.
_RETRY_S = 2.0
_SILENT_S = 3.5
_GOOD_REPORTS = 3
#: Whoever goes to and fro between two ways is judged by both together.
_TO_AND_FRO_S = 10.0


@dataclass(frozen=True)
class Layer:
    rid: str
    width: int
    bitrate: int


class Leg:
    """One participant's connection."""

    def __init__(self, now: float) -> None:
        self.since = now
        self.heard = now
        self.rtt_ms = 0.0
        self.jitter_ms = 0.0
        #: Shares lost of the last interval, towards the participant and from them.
        self.loss_down = 0.0
        self.loss_up = 0.0
        self.paused = False
        #: Whether the way carries sound at its usual rate no more.
        self.tight = False
        self._tight_until = 0.0
        self._tight_for = _SOUND_LEAST_S
        self.state = GOOD
        self.estimator = Estimator()
        self._good_reports = 0
        self._resume_at = 0.0
        self._resume_wait = 8.0
        self._resumed = -1e9
        self._weak_reports = 0
        #: Packets received when last looked: more mean that the participant is there.
        self.received = 0

    def report(self, fraction_lost: float, jitter_ms: float, rtt_ms: float | None, now: float) -> None:
        """What the participant says about what arrives at them."""
        self.loss_down = fraction_lost
        self.jitter_ms = jitter_ms
        if rtt_ms is not None:
            self.rtt_ms = rtt_ms if not self.rtt_ms else self.rtt_ms * 0.7 + rtt_ms * 0.3
        self._good_reports = self._good_reports + 1 if fraction_lost < 0.02 else 0
        self.estimator.loss_report(fraction_lost, int(now * 1e9))

    def moved(self, now: float) -> None:
        """Media takes another way: what the one before carried, and lost as it ended, says nothing of this one."""
        if now - self.since > _TO_AND_FRO_S:
            self.since = now
            self.paused = self.tight = False
            self._resume_wait = 8.0
            self.loss_down = self.loss_up = self.rtt_ms = 0.0
            self.estimator = Estimator(int(now * 1e9))

    def budget(self) -> int:
        """Bits per second that the way to the participant carries, as far as known."""
        return int(self.estimator.rate)

    def narrowed(self, now: float, *, has_video: bool) -> None:
        """What the way does not carry it is not given from now on: sound in full, pictures."""
        self._tighten(now)
        tried = max(self.since + _GRACE_S, self._resumed + _RETRY_S)
        if self.paused or not has_video or self.budget() >= AUDIO_ONLY_BELOW or now <= tried:
            return
        self.paused = True
        self._wait_longer(now)

    def _wait_longer(self, now: float) -> None:
        self._good_reports = 0
        self._resume_at = now + self._resume_wait
        # Each failed attempt to show the picture again makes the next one wait longer.
        self._resume_wait = min(60.0, self._resume_wait * 2)

    def _tighten(self, now: float) -> None:
        budget = self.budget()
        if budget < _SOUND_BELOW and now > self.since + _GRACE_S:
            if not self.tight:
                soon = now - self._tight_until < _SOUND_MOST_S
                self._tight_for = min(_SOUND_MOST_S, 2 * self._tight_for) if soon else _SOUND_LEAST_S
                if self.paused:
                    self._wait_longer(now)
            self.tight, self._tight_until = True, now + self._tight_for
        elif self.tight and not self.paused and budget > _SOUND_ABOVE and now >= self._tight_until:
            self.tight = False

    def decide(self, now: float, *, has_video: bool) -> str:
        """Once a second: pause or resume video, and the state that the page shows."""
        if now - self.heard > _SILENT_S:
            self.state = RECONNECTING
            return self.state
        self.narrowed(now, has_video=has_video)
        if self.paused and self._good_reports >= _GOOD_REPORTS and now >= self._resume_at:
            if self.tight:
                # The sound in full comes first, and the picture if that was carried.
                self.tight, self._tight_until, self._resume_at = False, now, now + _SOUND_TRIED_S
            else:
                self.paused = False
                self._resumed = now
                self.estimator.resume(_TRIED_WITH)
        if not self.paused and now - self._resumed > 60:
            self._resume_wait = 8.0
        bad = self.loss_down > 0.06 or self.loss_up > 0.06 or self.rtt_ms > 450
        self._weak_reports = min(6, self._weak_reports + 1) if bad else max(0, self._weak_reports - 1)
        if self.paused:
            self.state = AUDIO_ONLY
        elif self._weak_reports >= 2 or (self.state == WEAK and self._weak_reports > 0):
            self.state = WEAK
        else:
            self.state = GOOD
        return self.state


class LayerChoice:
    """Which simulcast layer one subscriber gets of one track: down at once, up after three good decisions.

    A step up that the way did not carry makes the next one wait longer. `probe` is the rate that the way should be shown to
    carry before the next step, in bits per second; 0 while no step is near.
    """

    _QUICK, _STABLE, _MOST_WAIT = 10, 60, 30

    def __init__(self) -> None:
        self.rid: str | None = None
        self.probe = 0
        self._up = 0
        self._wait = _GOOD_REPORTS
        #: Decisions since the last step up.
        self._since_up = self._STABLE

    def lower(self, layers: Sequence[Layer], budget: int) -> str | None:
        """Between two decisions: a layer that does not fit any more is left."""
        costs = next((layer.bitrate for layer in layers if layer.rid == self.rid), 0)
        return self.choose(layers, budget) if costs > budget else self.rid

    def choose(self, layers: Sequence[Layer], budget: int) -> str | None:
        ordered = sorted(layers, key=lambda layer: (layer.width, layer.bitrate))
        self.probe = 0
        self._since_up += 1
        if self._since_up > self._STABLE:
            self._wait = _GOOD_REPORTS
        if not ordered:
            return None
        best = 0
        for index, layer in enumerate(ordered):
            if layer.bitrate <= budget:
                best = index
        current = next((index for index, layer in enumerate(ordered) if layer.rid == self.rid), None)
        if current is None or best < current:
            if current is not None and self._since_up < self._QUICK:
                self._wait = min(self._MOST_WAIT, self._wait * 2)
            self._up = 0
            self.rid = ordered[best].rid
        elif best > current:
            self._up += 1
            if self._up >= self._wait:
                self._up = self._since_up = 0
                self.rid = ordered[current + 1].rid
            elif self._up == self._wait - 1:
                self.probe = ordered[current + 1].bitrate
        else:
            self._up = 0
        return self.rid


class ActiveSpeaker:
    """Who speaks, from loudness; changes only after a moment, so that a cough does not move the pictures."""

    _LOUD = 60
    _HOLD_S = 0.8

    def __init__(self) -> None:
        self.current: str | None = None
        self._candidate: str | None = None
        self._since = 0.0

    def hear(self, levels: Sequence[tuple[str, int]], now: float) -> bool:
        """Take the levels of all; True when somebody else speaks now."""
        loudest = max(levels, key=lambda item: item[1], default=None)
        who = loudest[0] if loudest is not None and loudest[1] >= self._LOUD else None
        if who is None or who == self.current:
            self._candidate = None
            return False
        if who != self._candidate:
            self._candidate, self._since = who, now
            return False
        if now - self._since < self._HOLD_S:
            return False
        self.current, self._candidate = who, None
        return True
