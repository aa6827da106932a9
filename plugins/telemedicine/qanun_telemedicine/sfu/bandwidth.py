"""What the way to one participant carries, estimated from transport-wide feedback: queueing delay first, then loss.

The delay of a packet is compared with the smallest of the last seconds, so clocks need not agree. While nothing points to
congestion the estimate never falls below the start value, however little is sent: an idle line is not a slow one. Loss that
does not care how much is sent says nothing of what the line carries. Near what it carried when it was last full the estimate
grows slowly: whoever runs against the same wall every few seconds fills the queue before it each time, and the sound waits
in it.
Time is given from outside.
"""

from collections import deque
from collections.abc import Sequence

START = 1_500_000
_MOST = 8_000_000
_LEAST = 30_000
_QUEUE_NS = 110_000_000
#: After a decrease its effect is waited for.
_SETTLE_NS = 350_000_000
_BUCKET_NS = 4_000_000_000
_BUCKETS = 5
_WINDOW_NS = 1_000_000_000
#: What leaves a queue is reckoned over so much time, found in so many feedbacks at most.
_LEAVING_NS, _BATCHES = 200_000_000, 8
#: What the first feedback speaks of, about.
_FIRST_NS = 100_000_000
_LOSS = 0.1
#: Loss that stays although so much less is sent is the line's own (a radio's): sending still less would not help.
_LESS, _STAYS, _MOST_OWN = 0.6, 0.7, 0.2
_EPISODE_NS = 3_000_000_000
_OWN_NS = 60_000_000_000
_GROWTH_PER_S = 0.08
#: Where the line was full last, from this to that share of it, growth is slower; what carries more is another line.
_NEAR, _BEYOND = 0.9, 1.15
_NEAR_GROWTH_PER_S = 0.015
_FEWEST = 20
_LARGEST_STEP = 0.5


class Estimator:
    """One way to one participant, from a moment on: what was sent before went another way."""

    def __init__(self, since_ns: int = 0) -> None:
        self._since_ns = since_ns
        self.rate = float(START)
        #: Mean queueing delay in the last feedback.
        self.queue_ms = 0.0
        self.congested_ns = 0
        self.fed = False
        self._base: deque[tuple[int, int]] = deque(maxlen=_BUCKETS)
        self._acked: deque[tuple[int, int]] = deque()
        self._window_bits = 0
        #: Bits per second that arrived in the last second; of the first second, what there is so far.
        self._acked_bits = 0
        self._began_ns = 0
        self._outcomes: deque[tuple[int, int, int]] = deque()
        #: The packets of the last feedbacks.
        self._fresh: deque[Sequence[tuple[int, int, int | None]]] = deque(maxlen=_BATCHES)
        #: What arrived when the line was full last; 0 while it never was, or carries more by now.
        self._full_at = 0
        self._decreased_ns = 0
        self._grown_ns = 0
        self._queue_before = 0.0
        #: The share that the line loses by itself, and when that was found out.
        self.own_loss = 0.0
        self._own_ns = 0
        #: When loss began to lower the estimate: (last decrease ns, estimate, bits acknowledged, loss) before.
        self._episode: tuple[int, float, int, float] | None = None

    def feedback(self, packets: Sequence[tuple[int, int, int | None]], now_ns: int) -> None:
        """Packets as (sent ns, octets, arrived ns on the other clock, or None when lost), in the order of sending."""
        packets = [one for one in packets if one[0] >= self._since_ns]
        if not packets:
            return
        self.fed = True
        self._fresh.append(packets)
        delays = [arrived - sent for sent, _, arrived in packets if arrived is not None]
        octets = sum(size for _, size, arrived in packets if arrived is not None)
        self._remember(octets * 8, len(packets), len(packets) - len(delays), now_ns)
        if delays:
            self._remember_base(min(delays), now_ns)
            base = min(smallest for _, smallest in self._base)
            self._queue_before, self.queue_ms = self.queue_ms, (sum(delays) / len(delays) - base) / 1e6
        self._adapt(now_ns)

    def loss_report(self, fraction: float, now_ns: int) -> None:
        """For a participant without transport-wide feedback: a receiver report's loss has to do."""
        if self.fed:
            return
        if fraction > _LOSS:
            self._decrease(self.rate * (1 - 0.5 * fraction), now_ns)
        elif fraction < 0.02:
            self._grow(now_ns, bound=_MOST)

    def resume(self, rate: int) -> None:
        """Try again with this much: what the estimate grew to while next to nothing was sent was never shown to be true."""
        self.rate = float(rate)

    def acked(self) -> int:
        """Bits per second that arrived in the last second."""
        return self._acked_bits

    def loss(self) -> float:
        sent = sum(total for _, total, _ in self._outcomes)
        return sum(lost for _, _, lost in self._outcomes) / sent if sent >= _FEWEST else 0.0

    def _remember(self, bits: int, total: int, lost: int, now_ns: int) -> None:
        self._acked.append((now_ns, bits))
        self._window_bits += bits
        while self._acked and now_ns - self._acked[0][0] > _WINDOW_NS:
            self._window_bits -= self._acked.popleft()[1]
        self._began_ns = self._began_ns or now_ns
        passed = min(_WINDOW_NS, now_ns - self._began_ns + _FIRST_NS)
        self._acked_bits = self._window_bits * _WINDOW_NS // passed
        self._outcomes.append((now_ns, total, lost))
        while self._outcomes and now_ns - self._outcomes[0][0] > _WINDOW_NS:
            self._outcomes.popleft()

    def _leaving(self) -> int:
        """Bits per second that came out of the line just now, by the clock at its end."""
        arrivals = sorted((arrived, size) for batch in self._fresh for _, size, arrived in batch if arrived is not None)
        last = [one for one in arrivals if one[0] > arrivals[-1][0] - _LEAVING_NS]
        passed = last[-1][0] - last[0][0] if last else 0
        return sum(size for _, size in last[1:]) * 8 * 1_000_000_000 // passed if passed > _LEAVING_NS // 2 else 0

    def _remember_base(self, smallest: int, now_ns: int) -> None:
        if self._base and now_ns - self._base[-1][0] < _BUCKET_NS:
            began, before = self._base[-1]
            self._base[-1] = (began, min(before, smallest))
        else:
            self._base.append((now_ns, smallest))

    def _adapt(self, now_ns: int) -> None:
        if self.own_loss and now_ns - self._own_ns > _OWN_NS:
            self.own_loss = 0.0  # lines change; found out again when it is still so
        queue_ns = self.queue_ms * 1e6
        if queue_ns > _QUEUE_NS and (self.queue_ms >= self._queue_before * 0.9 or queue_ns > 3 * _QUEUE_NS):
            # What was sent until a moment ago may have been less than the line carries.
            carried = max(self._acked_bits, self._leaving())
            self._decrease(0.85 * carried, now_ns, carried)
        elif self.loss() > _LOSS + self.own_loss:
            self._lossy(now_ns)
        elif queue_ns < _QUEUE_NS / 2:
            self._grow(now_ns, bound=max(START, 2 * self._acked_bits))
        else:
            self._grown_ns = now_ns

    def _lossy(self, now_ns: int) -> None:
        """Send less, unless that was tried and changed nothing."""
        loss = self.loss()
        if self._episode is None or now_ns - self._episode[0] > _EPISODE_NS:
            self._episode = (now_ns, self.rate, self._acked_bits, loss)
        _, rate, acked, at_first = self._episode
        if self._acked_bits < _LESS * acked and loss > _STAYS * at_first and self.queue_ms * 1e6 < _QUEUE_NS / 2:
            self.own_loss, self._own_ns, self._episode = min(_MOST_OWN, loss), now_ns, None
            self.rate = max(self.rate, 0.8 * rate)
            return
        self._episode = (now_ns, rate, acked, at_first)
        self._decrease(self._acked_bits * (1 - 0.3 * loss), now_ns)

    def _decrease(self, rate: float, now_ns: int, carried: int = 0) -> None:
        """`carried`: what the line carries where it is known to be full."""
        self.congested_ns = self._grown_ns = now_ns
        if now_ns - self._decreased_ns > _SETTLE_NS:
            if carried:
                # Several steps down after another are of one queue, and the first knows best what left it.
                again = now_ns - self._decreased_ns < _EPISODE_NS
                self._full_at = max(self._full_at, carried) if again else carried
            self._decreased_ns = now_ns
            # A machine that stopped for a moment looks like a line that did: never everything at once.
            self.rate = max(_LEAST, _LARGEST_STEP * self.rate, min(self.rate, rate))

    def _grow(self, now_ns: int, bound: float) -> None:
        elapsed = min(1.0, (now_ns - self._grown_ns) / 1e9) if self._grown_ns else 0.0
        self._grown_ns = now_ns
        if self._acked_bits > _BEYOND * self._full_at:
            self._full_at = 0
        near = _NEAR * self._full_at < self.rate < _BEYOND * self._full_at
        grown = self.rate * (1 + (_NEAR_GROWTH_PER_S if near else _GROWTH_PER_S) * elapsed)
        grown += (1_000 if near else 4_000) * elapsed
        self.rate = min(float(_MOST), max(self.rate, min(grown, bound)))
