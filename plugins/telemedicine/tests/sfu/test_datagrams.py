"""The worker's socket in Python: what the kernel refuses to cut up leaves whole, and one narrow way spoils nothing for others."""

import errno
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from qanun_telemedicine.sfu import datagrams
from qanun_telemedicine.sfu.datagrams import Datagrams, raw_address


class Refusing:
    """A kernel that does not cut joined packets, and says so with this error."""

    def __init__(self, real: Any, code: int) -> None:
        self.real, self.code, self.refused = real, code, 0

    def sendmmsg(self, descriptor: int, headers: Any, count: int, flags: int) -> int:
        if not headers[0].msg_hdr.msg_controllen:
            return int(self.real.sendmmsg(descriptor, headers, 1, flags))
        self.refused += 1
        datagrams._ffi.errno = self.code
        return -1


@pytest.fixture
def ours() -> Iterator[Datagrams]:
    made = Datagrams(("127.0.0.1", 0))
    yield made
    made.close()


@pytest.fixture
def theirs() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        made.settimeout(2)
        yield made


def sent(ours: Datagrams, theirs: socket.socket, lengths: list[int]) -> list[int]:
    for length in lengths:
        ours.slot(bytes(length))
        ours.queue(length, raw_address(theirs.getsockname()))
    ours.flush()
    return [len(theirs.recv(2000)) for _ in lengths]


def test_equal_packets_leave_joined_and_arrive_apart(ours: Datagrams, theirs: socket.socket) -> None:
    lengths = [500, 500, 500, 200, 700, 700, 10]
    assert sent(ours, theirs, lengths) == lengths
    assert ours.unsent == 0


@pytest.mark.parametrize(("code", "attempts"), [(errno.EIO, 1), (errno.EINVAL, datagrams._REFUSALS)])
def test_what_is_not_cut_leaves_whole(ours: Datagrams, theirs: socket.socket, code: int, attempts: int) -> None:
    kernel = ours._libc = Refusing(ours._libc, code)
    for _ in range(attempts + 5):
        assert sent(ours, theirs, [300, 300, 300, 100]) == [300, 300, 300, 100]
    assert kernel.refused == attempts, "and then it is not asked again"
    assert ours.unsent == 0


def test_a_refusal_now_and_then_does_not_end_the_joining(ours: Datagrams, theirs: socket.socket) -> None:
    real = ours._libc
    kernel = Refusing(real, errno.EINVAL)
    for turn in range(3 * datagrams._REFUSALS):
        ours._libc = kernel if turn % 3 else real
        assert sent(ours, theirs, [300, 300]) == [300, 300]
    assert kernel.refused == 2 * datagrams._REFUSALS
