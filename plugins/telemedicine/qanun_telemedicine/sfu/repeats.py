"""Which lost packets are sent again, and which not any more.

Behind a full queue a subscriber asks for the same packets over and over. Answering every time would fill the queue with
repetitions until the sound is lost in them. So a packet is not repeated before the last repetition could have arrived, nor
more than a few times, and repetitions get a share of what the way carries and no more. Where a line narrowed so suddenly that more
was lost than its share repairs soon, a picture would stand still for as long as that takes: then a new key frame is cheaper,
and what was lost before it is not repeated any more.
Time is given from outside.
"""

from collections.abc import Sequence

from qanun_telemedicine.sfu.rtp import newer

#: A key frame repairs what four attempts could not.
_MOST_TIMES = 4
_SHARE = 0.25
#: What a packet is reckoned at; most of a picture's are this large.
_BITS = 1200 * 8
#: Before a round trip was measured, and at least.
_UNKNOWN_MS, _LEAST_MS = 100.0, 30.0
#: So many packets that cannot be paid for are more than a key frame costs.
_CHEAPER = 10
_REMEMBERED = 2000
_FORGET_NS = 2_000_000_000


class Repeats:
    """The repetitions towards one participant."""

    def __init__(self) -> None:
        #: (SSRC, sequence number) → when it was repeated last, how often.
        self._done: dict[tuple[int, int], tuple[int, int]] = {}
        self._allowance = 0.0
        self._at_ns: int | None = None
        #: SSRC → the newest number that was given up, and when.
        self._given_up: dict[int, tuple[int, int]] = {}

    def of(self, ssrc: int, asked: Sequence[int], now_ns: int, *, round_trip_ms: float, budget: int) -> list[int]:
        """Those of the `asked` sequence numbers to send again now, on a way that carries `budget` bits per second."""
        self._earn(now_ns, budget)
        wait_ns = int(max(_LEAST_MS, round_trip_ms or _UNKNOWN_MS) * 1_000_000)
        chosen: list[int] = []
        given_up, at_ns = self._given_up.get(ssrc, (0, now_ns - _FORGET_NS))
        for sequence in asked:
            if self._allowance < _BITS:
                break
            if now_ns - at_ns < _FORGET_NS and not newer(sequence, given_up):
                continue
            last_ns, times = self._done.get((ssrc, sequence), (now_ns - wait_ns, 0))
            if now_ns - last_ns > _FORGET_NS:
                times = 0  # the numbers have gone round
            if now_ns - last_ns < wait_ns or times >= _MOST_TIMES:
                continue
            self._done[ssrc, sequence] = (now_ns, times + 1)
            self._allowance -= _BITS
            chosen.append(sequence)
        if len(self._done) > _REMEMBERED:
            self._done = {key: one for key, one in self._done.items() if now_ns - one[0] < _FORGET_NS}
        return chosen

    def hopeless(self, ssrc: int, asked: Sequence[int], chosen: Sequence[int], now_ns: int) -> bool:
        """Whether a key frame should be asked for instead of what was `asked` and not `chosen`, which is then given up."""
        given_up, at_ns = self._given_up.get(ssrc, (0, now_ns - _FORGET_NS))
        fresh = now_ns - at_ns < _FORGET_NS
        owed = [one for one in asked if one not in chosen and not (fresh and not newer(one, given_up))]
        if self._allowance >= _BITS or len(owed) < _CHEAPER:
            return False
        newest = owed[0]
        for one in owed[1:]:
            newest = one if newer(one, newest) else newest
        self._given_up[ssrc] = (newest, now_ns)
        return True

    def _earn(self, now_ns: int, budget: int) -> None:
        share = budget * _SHARE
        elapsed_s = 1.0 if self._at_ns is None else (now_ns - self._at_ns) / 1e9
        self._at_ns = now_ns
        # One second's share may be saved, and a single packet is always affordable in the end.
        self._allowance = min(max(share, float(_BITS)), self._allowance + share * elapsed_s)
