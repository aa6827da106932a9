"""One UDP socket read and written many packets at a time: recvmmsg and sendmmsg through cffi, no compiler needed.

Packets of one flush that go to the same address and are equally long leave as one datagram that the kernel cuts up
(UDP GSO), which costs it half. Where it can't, they leave one by one.

Addresses are as `addresses` keeps them, which is what the kernel writes and wants on a socket for both families. Buffers are
allocated once.
"""

import errno
import socket
import struct
from collections.abc import Callable
from typing import Any

import cffi
from pylibsrtp._binding import ffi as srtp_ffi

from qanun_telemedicine.sfu.addresses import RAW, Address, address_of, bound, from_four, name_of, on_socket, to_four

#: Room for a packet of a 1 500-byte MTU, its growth by our header extensions and the SRTP trailer.
SLOT = 2048
#: What is longer cannot be forwarded without the danger of not fitting a slot, and comes from no browser.
MAX_PACKET = 1600
_RECEIVE = 64
_SEND = 256
_BUFFER = 4 << 20
#: Where one name begins after another, and how long the kernel's names are: `sockaddr_in6`, `sockaddr_in`.
_NAME, _SIX, _FOUR = 32, 28, 16
_DONTWAIT = 0x40
_SOL_UDP, _UDP_SEGMENT = 17, 103
#: The kernel's limits for one such datagram: segments, and bytes.
_SEGMENTS, _SEGMENTED = 64, 65_000
#: A way with a small MTU also makes it refuse (EINVAL), but only there; so often in a row it is the kernel.
_REFUSALS = 16
_VECTOR = struct.Struct("@QQ")
#: A control message that holds the segment size: length, level, type, value, padding.
_CONTROL = struct.Struct("@QiiH6x")

_ffi = cffi.FFI()
_ffi.cdef(
    """
    struct iovec { void *iov_base; size_t iov_len; };
    struct msghdr { void *msg_name; uint32_t msg_namelen; struct iovec *msg_iov; size_t msg_iovlen;
                    void *msg_control; size_t msg_controllen; int msg_flags; };
    struct mmsghdr { struct msghdr msg_hdr; unsigned int msg_len; };
    int recvmmsg(int, struct mmsghdr *, unsigned int, int, void *);
    int sendmmsg(int, struct mmsghdr *, unsigned int, int);
    """
)


def open_socket(address: Address) -> socket.socket:
    """The worker's UDP socket: never blocks, and holds what arrives while a thread is elsewhere."""
    opened = bound(address)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        opened.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
    return opened


class _Slots:
    def __init__(self, count: int, name: int) -> None:
        self.memory = _ffi.new("char[]", count * SLOT)
        self.vectors = _ffi.new("struct iovec[]", count)
        self.names = _ffi.new("char[]", count * _NAME)
        self.headers = _ffi.new("struct mmsghdr[]", count)
        for i in range(count):
            self.vectors[i].iov_base = self.memory + i * SLOT
            self.vectors[i].iov_len = SLOT
            self.headers[i].msg_hdr.msg_iov = self.vectors + i
            self.headers[i].msg_hdr.msg_iovlen = 1
            self.headers[i].msg_hdr.msg_name = self.names + _NAME * i
            self.headers[i].msg_hdr.msg_namelen = name
        base = int(_ffi.cast("uintptr_t", self.memory))
        #: The same memory for libsrtp, whose binding has types of its own.
        self.pointers = [srtp_ffi.cast("char *", base + i * SLOT) for i in range(count)]
        self.bytes = memoryview(_ffi.buffer(self.memory)).cast("B")
        self.names_bytes = memoryview(_ffi.buffer(self.names)).cast("B")
        self.header = [self.headers[i] for i in range(count)]
        self.vector = [self.vectors + i for i in range(count)]
        self.vectors_bytes = memoryview(_ffi.buffer(self.vectors)).cast("B")
        self.base = base


class Datagrams:
    """The socket. `receive` fills the receive slots; `slot`/`queue`/`flush` send."""

    def __init__(self, address: Address) -> None:
        self.socket = open_socket(address)
        self.address = name_of(self.socket)
        #: Without IPv6 the kernel's names are others than ours.
        self._four = self.socket.family == socket.AF_INET
        self._libc = _ffi.dlopen(None)
        self._fd = self.socket.fileno()
        self._in = _Slots(_RECEIVE, _FOUR if self._four else _SIX)
        self._out = _Slots(_SEND, _FOUR if self._four else _SIX)
        self._queued = 0
        self._lengths = [0] * _SEND
        self._targets = [b""] * _SEND
        self._controls = _ffi.new("char[]", 24 * _SEND)
        self._controls_bytes = memoryview(_ffi.buffer(self._controls)).cast("B")
        self._control = [self._controls + 24 * i for i in range(_SEND)]
        #: Whether the kernel cuts joined packets; found out when it refuses.
        self._joins = True
        self._refusals = 0
        self.unsent = 0

    @property
    def fileno(self) -> int:
        return self._fd

    def receive(self, take: Callable[[bytes, Any, memoryview, int, int], None]) -> int:
        """Hand every waiting datagram (at most 64) to `take(address, pointer for libsrtp, memory, start, length)`.

        It lies in `memory` from `start` on, until the next call.
        """
        slots = self._in
        count = int(self._libc.recvmmsg(self._fd, slots.headers, _RECEIVE, _DONTWAIT, _ffi.NULL))
        names, memory, pointers, headers = slots.names_bytes, slots.bytes, slots.pointers, slots.header
        for i in range(count):
            length = headers[i].msg_len
            if 0 < length <= MAX_PACKET:
                given = bytes(names[_NAME * i : _NAME * i + RAW])
                take(from_four(given) if self._four else given, pointers[i], memory, i * SLOT, length)
        return count

    def slot(self, data: bytes) -> Any:
        """Copy `data` into the next free send slot, whose pointer libsrtp may work on."""
        if self._queued == _SEND:
            self.flush()
        start = self._queued * SLOT
        self._out.bytes[start : start + len(data)] = data
        return self._out.pointers[self._queued]

    def queue(self, length: int, address: bytes) -> None:
        """Send the slot filled last, `length` bytes of it, with the next flush."""
        self._lengths[self._queued] = length
        self._targets[self._queued] = address
        self._queued += 1

    def flush(self) -> None:
        queued = self._queued
        if not queued:
            return
        self._queued = 0
        runs = self._runs(queued)
        vectors, base = self._out.vectors_bytes, self._out.base
        at = 0
        for number, (address, size, slots) in enumerate(runs):
            header = self._out.header[number].msg_hdr
            name = to_four(address) if self._four else address
            self._out.names_bytes[_NAME * number : _NAME * number + len(name)] = name
            header.msg_iov = self._out.vector[at]
            header.msg_iovlen = len(slots)
            for i in slots:
                _VECTOR.pack_into(vectors, 16 * at, base + i * SLOT, self._lengths[i])
                at += 1
            if len(slots) > 1:
                _CONTROL.pack_into(self._controls_bytes, 24 * number, 18, _SOL_UDP, _UDP_SEGMENT, size)
                header.msg_control = self._control[number]
                header.msg_controllen = 24
            elif header.msg_controllen:
                header.msg_control = _ffi.NULL
                header.msg_controllen = 0
        done, count = 0, len(runs)
        while done < count:
            sent = int(self._libc.sendmmsg(self._fd, self._out.headers + done, count - done, 0))
            if sent > 0:
                if self._refusals and any(len(run[2]) > 1 for run in runs[done : done + sent]):
                    self._refusals = 0
                done += sent
                continue
            if len(runs[done][2]) > 1 and _ffi.errno in (errno.EIO, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOPROTOOPT):
                # Interfaces without checksum offload can't cut; then nothing sent here is ever joined again.
                self._refusals += 1
                if _ffi.errno != errno.EINVAL or self._refusals == _REFUSALS:
                    self._joins = False
                for i in runs[done][2]:
                    self._send_one(i, runs[done][0])
                done += 1
                continue
            # One destination refuses, or the kernel's buffer is full: the network would lose that packet too.
            self.unsent += len(runs[done][2])
            done += 1

    def _runs(self, queued: int) -> list[tuple[bytes, int, list[int]]]:
        """What leaves together: (address, bytes of all but the last packet, slots). The order per address is kept."""
        targets, lengths = self._targets, self._lengths
        if not self._joins:
            return [(targets[i], lengths[i], [i]) for i in range(queued)]
        runs: list[tuple[bytes, int, list[int]]] = []
        open_: dict[bytes, tuple[bytes, int, list[int]]] = {}
        for i in range(queued):
            address, length = targets[i], lengths[i]
            run = open_.get(address)
            if run is not None and length <= run[1] and len(run[2]) < _SEGMENTS and len(run[2]) * run[1] < _SEGMENTED:
                run[2].append(i)
                if length < run[1]:
                    del open_[address]  # only the last segment may be shorter
            else:
                run = open_[address] = (address, length, [i])
                runs.append(run)
        return runs

    def _send_one(self, slot: int, address: bytes) -> None:
        start = slot * SLOT
        try:
            self.socket.sendto(
                self._out.bytes[start : start + self._lengths[slot]], on_socket(self.socket, address_of(address))
            )
        except OSError:
            self.unsent += 1

    def send(self, data: bytes, address: bytes) -> None:
        """Send one datagram as it is, after what is queued."""
        if len(data) > SLOT:
            return
        self.slot(data)
        self.queue(len(data), address)
        self.flush()

    def close(self) -> None:
        self.socket.close()
