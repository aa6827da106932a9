"""The layers of one published picture: which there are, what each costs, and which the publisher need not send just now.

A layer that nobody receives is paused at the publisher after a while, and can still be chosen: it is asked for again, and
what it cost last time (or usually costs) stands in for a measurement. Knows no packets; the time is given from outside.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

from qanun_telemedicine.sfu.engine import StreamState
from qanun_telemedicine.sfu.quality import Layer

#: A layer is paused after nobody wanted it for this long: somebody who changes their mind gets it back at once.
_UNWANTED_S = 5.0
#: A layer that was asked for and does not come by then is one that the publisher cannot send.
_PATIENCE_S = 4.0
#: Until then it is not asked for again.
_GIVEN_UP_S = 15.0
#: A publisher that pauses something is reminded this often: a lost message must not leave a picture black.
_REMIND_S = 5.0
#: What the layers of our page cost while nobody has seen them: share of the full width, bits per second.
_USUAL = {"q": (0.25, 120_000), "h": (0.5, 400_000), "f": (1.0, 1_000_000)}
_USUAL_WIDTH = 640
#: A layer inside of a stream that sent nothing for this long is not sent any more.
_ALIVE_NS = 1_500_000_000


def inside(stream: StreamState, rate: int, now: float) -> list[Layer]:
    """The layers that one stream holds, each with what it costs together with those below it.

    `rate`: what the whole stream costs. What each layer takes of it is reckoned by its share of all bytes so far.
    """
    alive = [one for one in stream.layers if now * 1e9 - one.last_ns < _ALIVE_NS]
    total = sum(one.octets for one in alive)
    if len(alive) < 2 or not total:
        return []
    return [
        Layer(
            top.name,
            top.width or stream.width,
            rate
            * sum(one.octets for one in alive if one.spatial <= top.spatial and one.temporal <= top.temporal)
            // total,
        )
        for top in alive
    ]


class Published:
    """One track that is sent in several layers."""

    def __init__(self, rids: Sequence[str]) -> None:
        self._rids = tuple(rids)
        #: What the publisher was asked to send; before that, what arrives by itself.
        self.active: frozenset[str] = frozenset()
        self._begun_at: float | None = None
        self._known: dict[str, Layer] = {}
        self._widths: dict[str, int] = {}
        self._wanted_at: dict[str, float] = {}
        self._asked_at: dict[str, float] = {}
        self._told_at = 0.0

    def choice(self, arriving: Sequence[Layer], now: float) -> list[Layer]:
        """What a subscriber can get: the layers that arrive, and those that would if they were asked for."""
        for layer in arriving:
            if layer.width:
                self._widths[layer.rid] = layer.width
                if layer.bitrate:
                    self._known[layer.rid] = layer
        here = {layer.rid for layer in arriving}
        # One whose first key frame has not come is as wide as it usually is.
        made = [replace(one, width=self._width(one.rid)) if not one.width else one for one in arriving]
        for rid in self._rids:
            if rid in here or self._missed(rid, now):
                continue
            reckoned = self._known.get(rid) or self._usual(rid)
            if reckoned is not None:
                made.append(reckoned)
        return made

    def _missed(self, rid: str, now: float) -> bool:
        asked = self._asked_at.get(rid)
        return asked is not None and _PATIENCE_S < now - asked < _GIVEN_UP_S

    def _usual(self, rid: str) -> Layer | None:
        if rid not in _USUAL:
            return None
        return Layer(rid, self._width(rid), _USUAL[rid][1])

    def _width(self, rid: str) -> int:
        full = [width / _USUAL[one][0] for one, width in self._widths.items() if one in _USUAL]
        return int(_USUAL[rid][0] * max(full, default=_USUAL_WIDTH)) if rid in _USUAL else 0

    def want(self, wanted: Collection[str], arriving: Sequence[Layer], now: float) -> bool:
        """These layers are received by somebody. True when the publisher must be told what `active` says now."""
        here = {layer.rid for layer in arriving}
        if self._begun_at is None:
            if not here:
                return False
            self._begun_at = self._told_at = now
        if now - self._begun_at < _UNWANTED_S:
            # The layers of a new picture do not appear at the same moment.
            self.active |= here
        needed = {rid for rid in wanted if rid in self._rids} or self._least(arriving)
        for rid in needed:
            self._wanted_at[rid] = now
        kept = {rid for rid in self.active if now - self._wanted_at.setdefault(rid, now) < _UNWANTED_S}
        active = frozenset(needed | kept)
        for rid in here & active:
            self._asked_at.pop(rid, None)
        for rid in active - here:
            # What was given up is asked for anew, not for ever waited for.
            if rid not in self._asked_at or now - self._asked_at[rid] > _GIVEN_UP_S:
                self._asked_at[rid] = now
        as_told = active == here == frozenset(self._rids)
        if active == self.active and (as_told or now - self._told_at < _REMIND_S):
            return False
        self.active, self._told_at = active, now
        return True

    def _least(self, arriving: Sequence[Layer]) -> set[str]:
        """Somebody who joins sees something at once: one layer always comes."""
        return {min(arriving, key=lambda layer: layer.width).rid} if arriving else set(self.active)

    def told(self) -> list[str]:
        """`active` in the order of the description."""
        return [rid for rid in self._rids if rid in self.active]
