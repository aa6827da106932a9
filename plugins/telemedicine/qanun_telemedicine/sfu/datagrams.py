"""One UDP socket read and written many packets at a time: recvmmsg and sendmmsg through cffi, no compiler needed.

Addresses are the first eight bytes of a `sockaddr_in` (family, port, IPv4 address): what the kernel writes and wants, and a
key for dictionaries. Buffers are allocated once.
"""

import socket
import struct
from collections.abc import Callable
from typing import Any

import cffi
from pylibsrtp._binding import ffi as srtp_ffi

#: Room for a packet of a 1 500-byte MTU, its growth by our header extensions and the SRTP trailer.
SLOT = 2048
#: What is longer cannot be forwarded without the danger of not fitting a slot, and comes from no browser.
MAX_PACKET = 1600
_RECEIVE = 64
_SEND = 256
_BUFFER = 4 << 20
_DONTWAIT = 0x40

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


def raw_address(address: tuple[str, int]) -> bytes:
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H", address[1]) + socket.inet_aton(address[0])


def address_of(raw: bytes) -> tuple[str, int]:
    return socket.inet_ntoa(raw[4:8]), raw[2] << 8 | raw[3]


class _Slots:
    def __init__(self, count: int) -> None:
        self.memory = _ffi.new("char[]", count * SLOT)
        self.vectors = _ffi.new("struct iovec[]", count)
        self.names = _ffi.new("char[]", count * 16)
        self.headers = _ffi.new("struct mmsghdr[]", count)
        for i in range(count):
            self.vectors[i].iov_base = self.memory + i * SLOT
            self.vectors[i].iov_len = SLOT
            self.headers[i].msg_hdr.msg_iov = self.vectors + i
            self.headers[i].msg_hdr.msg_iovlen = 1
            self.headers[i].msg_hdr.msg_name = self.names + 16 * i
            self.headers[i].msg_hdr.msg_namelen = 16
        base = int(_ffi.cast("uintptr_t", self.memory))
        #: The same memory for libsrtp, whose binding has types of its own.
        self.pointers = [srtp_ffi.cast("char *", base + i * SLOT) for i in range(count)]
        self.bytes = memoryview(_ffi.buffer(self.memory)).cast("B")
        self.names_bytes = memoryview(_ffi.buffer(self.names)).cast("B")
        self.header = [self.headers[i] for i in range(count)]
        self.vector = [self.vectors[i] for i in range(count)]


class Datagrams:
    """The socket. `receive` fills the receive slots; `slot`/`queue`/`flush` send."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            self.socket.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
        self.socket.bind(address)
        self.address: tuple[str, int] = self.socket.getsockname()
        self._libc = _ffi.dlopen(None)
        self._fd = self.socket.fileno()
        self._in = _Slots(_RECEIVE)
        self._out = _Slots(_SEND)
        self._queued = 0
        self.unsent = 0

    @property
    def fileno(self) -> int:
        return self._fd

    def receive(self, take: Callable[[bytes, int, Any, memoryview], None]) -> int:
        """Hand every waiting datagram (at most 64) to `take(address, length, pointer for libsrtp, the slot)`."""
        slots = self._in
        count = int(self._libc.recvmmsg(self._fd, slots.headers, _RECEIVE, _DONTWAIT, _ffi.NULL))
        names, memory = slots.names_bytes, slots.bytes
        for i in range(count):
            length = slots.header[i].msg_len
            if 0 < length <= MAX_PACKET:
                take(bytes(names[16 * i : 16 * i + 8]), length, slots.pointers[i], memory[i * SLOT : (i + 1) * SLOT])
        return count

    def slot(self, data: bytes) -> Any:
        """Copy `data` into the next free send slot, whose pointer libsrtp may work on."""
        if self._queued == _SEND:
            self.flush()
        pointer = self._out.pointers[self._queued]
        srtp_ffi.memmove(pointer, data, len(data))
        return pointer

    def queue(self, length: int, address: bytes) -> None:
        """Send the slot filled last, `length` bytes of it, with the next flush."""
        i = self._queued
        self._out.vector[i].iov_len = length
        self._out.names_bytes[16 * i : 16 * i + 8] = address
        self._queued = i + 1

    def flush(self) -> None:
        done, queued = 0, self._queued
        self._queued = 0
        while done < queued:
            sent = int(self._libc.sendmmsg(self._fd, self._out.headers + done, queued - done, 0))
            if sent > 0:
                done += sent
            else:
                # One destination refuses, or the kernel's buffer is full: the network would lose that packet too.
                self.unsent += 1
                done += 1

    def send(self, data: bytes, address: bytes) -> None:
        """Send one datagram as it is, after what is queued."""
        if len(data) > SLOT:
            return
        self.slot(data)
        self.queue(len(data), address)
        self.flush()

    def close(self) -> None:
        self.socket.close()
