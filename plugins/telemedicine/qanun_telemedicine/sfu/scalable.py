"""One stream that holds several layers (VP9, AV1): which of its packets a subscriber gets, and under which numbers.

Lower layers are always part of higher ones. Steps down are taken at the next picture; steps up where the stream says that
they may be: VP9 by its switching-up points and by parts of pictures that refer to nothing earlier, AV1 by its decode targets'
switch indications. What is left out leaves no hole in the numbers, or the subscriber would ask for it.
"""

from dataclasses import dataclass

from qanun_telemedicine.sfu.dependency import NOT_PRESENT, SWITCH, Descriptor
from qanun_telemedicine.sfu.payloads import MOST_LAYERS, Glance

#: "Every layer there is."
ALL = MOST_LAYERS - 1
_REMEMBERED = 512
_MOST_RESERVED = 128


class Layers:
    """Which layers one subscriber wants and has."""

    def __init__(self) -> None:
        self.wanted = (ALL, ALL)
        self.spatial = self.temporal = ALL
        #: The decode target in use, for AV1.
        self._target = -1
        #: A wanted layer is sent and cannot be joined before a key frame.
        self.lacking = False

    def want(self, spatial: int, temporal: int) -> None:
        self.wanted = (spatial, temporal)
        self.lacking = False

    def restart(self) -> None:
        """Another stream begins, with a key frame."""
        self.spatial, self.temporal = self.wanted
        self._target = -1
        self.lacking = False

    def admit(self, what: Glance | None, newest: bool) -> tuple[bool, bool]:
        """(whether the subscriber gets this packet, whether it is the last of its picture)."""
        if what is None or not what.layered:
            return True, False
        if isinstance(what.descriptor, Descriptor):
            return self._by_targets(what.descriptor, newest)
        if newest and what.begins:
            self._step(what)
        forward = what.spatial <= self.spatial and what.temporal <= self.temporal
        return forward, forward and what.ends and what.spatial == self.spatial

    def _step(self, what: Glance) -> None:
        spatial, temporal = self.wanted
        if what.key:
            self.spatial, self.temporal = spatial, temporal
            self.lacking = False
            return
        if not what.spatial:
            self.lacking = False
            self.spatial = min(self.spatial, spatial)
            self.temporal = min(self.temporal, temporal)
        if what.up and what.spatial <= self.spatial and self.temporal < what.temporal <= temporal:
            self.temporal = what.temporal
        if self.spatial < what.spatial <= spatial:
            if not what.predicted and what.spatial == self.spatial + 1 and what.temporal <= self.temporal:
                self.spatial = what.spatial
            else:
                self.lacking = True

    def _by_targets(self, what: Descriptor, newest: bool) -> tuple[bool, bool]:
        structure = what.structure
        if newest and what.begins:
            target = structure.target(*self.wanted)
            known = 0 <= self._target < len(structure.targets)
            # What was not sent so far cannot be decoded, whatever may be begun there.
            sent = known and what.indications[self._target] != NOT_PRESENT
            if what.attached or not known or (sent and what.indications[target] == SWITCH):
                self._target = target
            self.spatial, self.temporal = structure.targets[self._target]
            if what.attached or not what.spatial:
                self.lacking = structure.targets[target][0] != self.spatial
        if not 0 <= self._target < len(structure.targets):
            return True, False
        forward = what.indications[self._target] != NOT_PRESENT
        return forward, forward and what.ends and what.spatial == self.spatial


@dataclass(slots=True)
class _Given:
    """A number of ours: for which of theirs, since which switch, and whether it was the last of its picture there."""

    ours: int
    theirs: int
    switch: int
    last: bool = False
    #: Nothing was sent under it but a place holder.
    empty: bool = False


class Numbers:
    """Numbers without holes for a stream of which parts are left out.

    A packet that may still come keeps its number; when it comes and is not for this subscriber, an empty packet takes its
    place.
    """

    def __init__(self) -> None:
        self._by_theirs: list[_Given | None] = [None] * _REMEMBERED
        self._by_ours: list[_Given | None] = [None] * _REMEMBERED

    def give(self, ours: int, theirs: int, switch: int, last: bool) -> None:
        given = _Given(ours & 0xFFFF, theirs & 0xFFFF, switch, last)
        self._by_theirs[theirs % _REMEMBERED] = self._by_ours[ours % _REMEMBERED] = given

    def reserve(self, ours: int, theirs: int, count: int, switch: int) -> None:
        """The `count` packets before number `theirs` of them have not come; `ours` is the last number that was given."""
        for step in range(max(1, count - _MOST_RESERVED + 1), count + 1):
            self.give(ours + step & 0xFFFF, theirs - count - 1 + step & 0xFFFF, switch, False)

    def late(self, theirs: int, switch: int) -> _Given | None:
        """What was kept for this number of theirs since this switch, while it is remembered."""
        given = self._by_theirs[theirs % _REMEMBERED]
        if given is None or (given.theirs, given.switch) != (theirs, switch):
            return None
        return given if self._by_ours[given.ours % _REMEMBERED] is given else None

    def known(self, ours: int) -> _Given | None:
        given = self._by_ours[ours % _REMEMBERED]
        return given if given is not None and given.ours == ours else None
