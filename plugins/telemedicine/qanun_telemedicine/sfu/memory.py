"""The memory of those who have left: found, freed and given back to the machine.

What OpenSSL holds for a participant hangs in circles that Python's collector finds by their number of objects, which is small, and
not by what they hold. And what is freed between pieces that are still in use stays with the process, as far as the C library is
asked: after a crowd of 500 it kept 123 MB of 155 that nobody used. On a box that does everything else as well, others want them.
Nothing is measured or limited here.
"""

import ctypes
import gc

#: So many who have left are worth a look while others talk: it takes a few milliseconds.
_MANY = 64


class Departed:
    """How many have left since the last look. `left` counts, `look` (every second) does what is worth doing."""

    def __init__(self) -> None:
        self._collect = self._give_back = 0
        #: Nothing on a C library that has no such call.
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda kept: 0)

    def left(self) -> None:
        self._collect += 1
        self._give_back += 1

    def look(self, people: int) -> bool:
        """Whether memory was given back. `people` are those who are still there."""
        if self._collect >= _MANY or (self._collect and not people):
            self._collect = 0
            gc.collect()
        # A crowd that stays as large uses again what was freed: handing it back and forth would be work for nothing.
        if self._give_back >= max(_MANY, 2 * people) or (self._give_back and not people):
            self._give_back = 0
            self._trim(0)
            return True
        return False
