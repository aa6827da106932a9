"""The memory of those who have left a worker is looked for, and given back, when it is worth it."""

import gc
import weakref

from qanun_telemedicine.sfu.memory import Departed


class _Circle:
    def __init__(self) -> None:
        self.itself = self


def left_behind() -> "weakref.ref[_Circle]":
    return weakref.ref(_Circle())


def test_the_last_one_to_leave_leaves_nothing_behind() -> None:
    departed, kept = Departed(), left_behind()
    departed.left()
    assert departed.look(people=0) and kept() is None
    assert not departed.look(people=0), "an empty worker has nothing to do every second"


def test_a_few_who_leave_a_talk_disturb_nobody() -> None:
    gc.collect()
    gc.disable()  # its own rhythm would find it by chance
    try:
        departed, kept = Departed(), left_behind()
        for _ in range(10):
            departed.left()
        assert not departed.look(people=2) and kept() is not None
    finally:
        gc.enable()


def test_what_a_crowd_leaves_behind_is_freed_while_others_talk_on() -> None:
    departed, kept = Departed(), left_behind()
    for _ in range(500):
        departed.left()
    assert departed.look(people=20) and kept() is None
    assert not departed.look(people=20)


def test_a_crowd_that_stays_as_large_keeps_what_it_will_need_again() -> None:
    departed, kept = Departed(), left_behind()
    for _ in range(100):
        departed.left()
    assert not departed.look(people=300) and kept() is None
