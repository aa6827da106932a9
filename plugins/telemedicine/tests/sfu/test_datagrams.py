"""The worker's socket in Python: what the kernel refuses to cut up leaves whole, and one narrow way spoils nothing for others."""

import errno
import select
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from qanun_telemedicine.sfu import datagrams
from qanun_telemedicine.sfu.addresses import name_of, raw_address
from qanun_telemedicine.sfu.datagrams import Datagrams

from .test_addresses import WITHOUT_SIX


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


#: Where we listen, and where they are: each family alone, and both by one socket.
WAYS = [("127.0.0.1", "127.0.0.1"), ("::", "127.0.0.1"), ("::1", "::1")]


@pytest.fixture(params=WAYS, ids=["IPv4", "IPv4 by both", "IPv6"])
def way(request: pytest.FixtureRequest) -> tuple[str, str]:
    if ":" in request.param[0] and WITHOUT_SIX:
        pytest.skip(WITHOUT_SIX)
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def ours(way: tuple[str, str]) -> Iterator[Datagrams]:
    made = Datagrams((way[0], 0))
    yield made
    made.close()


@pytest.fixture
def theirs(way: tuple[str, str]) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET6 if ":" in way[1] else socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind((way[1], 0))
        made.settimeout(2)
        yield made


def sent(ours: Datagrams, theirs: socket.socket, lengths: list[int]) -> list[int]:
    for length in lengths:
        ours.slot(bytes(length))
        ours.queue(length, raw_address(name_of(theirs)))
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


def test_what_arrives_is_theirs_by_address(ours: Datagrams, theirs: socket.socket, way: tuple[str, str]) -> None:
    theirs.sendto(b"hello", (way[1], ours.address[1]))
    taken: list[tuple[bytes, bytes]] = []
    select.select([ours.fileno], [], [], 5)
    ours.receive(lambda address, _, memory, at, length: taken.append((address, bytes(memory[at : at + length]))))
    assert taken == [(raw_address(name_of(theirs)), b"hello")]
    ours.send(b"and back", taken[0][0])
    assert theirs.recv(100) == b"and back" and ours.unsent == 0


def test_what_a_socket_cannot_reach_is_counted_and_harms_nobody(ours: Datagrams, theirs: socket.socket) -> None:
    lost = ("2001:db8::7", 9) if ours.socket.family == socket.AF_INET else ("255.255.255.255", 9)
    for length, address in ((300, lost), (300, lost), (300, name_of(theirs))):
        ours.slot(bytes(length))
        ours.queue(length, raw_address(address))
    ours.flush()
    assert len(theirs.recv(2000)) == 300 and ours.unsent == 2
