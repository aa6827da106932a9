"""Hosts in network namespaces, joined by links that delay, lose, narrow and cut, changeable at any time. Needs root and TUN.

Kernels without netem have no other way: each end of a link is a TUN device, and this process carries the packets between.

    lab = Lab()
    server, patient = lab.host("srv"), lab.host("patient")
    link = lab.link(server, "10.91.1.1", patient, "10.91.1.2")
    link.set(delay=0.05, loss=0.02, rate=2e6)
    lab.close()
"""

import asyncio
import contextlib
import ctypes
import fcntl
import heapq
import os
import random
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_CLONE_NEWNET = 0x40000000
_UDP = 17
#: What a bottleneck keeps before it drops, in seconds of its rate.
_QUEUE_S = 0.3
_libc = ctypes.CDLL(None, use_errno=True)


def missing() -> str:
    """Why there can be no lab here; empty when there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not Path("/dev/net/tun").exists():
        return "there is no /dev/net/tun"
    done = subprocess.run(["ip", "netns", "add", "qanun-probe"], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "del", "qanun-probe"], capture_output=True, check=False)
    return "" if done.returncode == 0 else "network namespaces cannot be made"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=20)


def inside(host: str, work: Callable[[], Any]) -> Any:
    """What `work` gives in the host's namespace: done in a thread, because a namespace belongs to a thread."""
    result: list[Any] = []
    failure: list[BaseException] = []

    def run() -> None:
        descriptor = os.open(f"/run/netns/{host}", os.O_RDONLY)
        try:
            if _libc.setns(descriptor, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            result.append(work())
        except BaseException as error:
            failure.append(error)
        finally:
            os.close(descriptor)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def listen(host: str, address: str, port: int) -> socket.socket:
    """A listening TCP socket of that host, for a server in this process."""
    return inside(host, lambda: socket.create_server((address, port), family=_family(address)))


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _on(address: str) -> list[str]:
    """As `ip address` wants it; nobody else on a link could have the same."""
    return [f"{address}/64", "nodad"] if ":" in address else [f"{address}/24"]


def reachable(host: str, address: str, port: int) -> bool:
    """Whether something answers TCP there, asked on that host."""

    def knock() -> bool:
        try:
            socket.create_connection((address, port), 1).close()
        except OSError:
            return False
        return True

    return bool(inside(host, knock))


def _tun(name: str) -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    return descriptor


class _Way:
    """One direction. Delay and jitter in seconds, rate in bit/s (0: any), loss 0..1; `udp` False drops all UDP."""

    def __init__(self) -> None:
        self.delay = self.jitter = self.loss = 0.0
        self.rate = 0.0
        self.cut = False
        self.udp = True
        self._free = 0.0

    def due(self, packet: bytes) -> float | None:
        """When it arrives; None when it never does."""
        now = at = time.monotonic()
        lost = self.cut or (self.loss and random.random() < self.loss)
        protocol = packet[6 if packet[0] >> 4 == 6 else 9] if len(packet) > 9 else 0
        if lost or (not self.udp and protocol == _UDP):
            return None
        if self.rate:
            if self._free - now > _QUEUE_S:
                return None
            self._free = at = max(now, self._free) + len(packet) * 8 / self.rate
        return at + self.delay + (random.uniform(0, self.jitter) if self.jitter else 0.0)


class Link:
    """Two TUN devices and what is between them."""

    def __init__(self, number: int, one: tuple[str, str], other: tuple[str, str], largest: int) -> None:
        self._ends = {
            host: [f"lk{number}{side}", address] for side, (host, address) in zip("ab", (one, other), strict=True)
        }
        self._hosts = tuple(self._ends)
        self._descriptors: dict[str, int] = {}
        self.ways = {host: _Way() for host in self._hosts}
        self._heap: list[tuple[float, int, int, bytes]] = []
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        for host, (device, address) in self._ends.items():
            self._descriptors[host] = inside(host, lambda device=device: _tun(device))
            _ip("-n", host, "addr", "add", *_on(address), "dev", device)
            _ip("-n", host, "link", "set", device, "up", "mtu", str(largest))

    def set(self, sender: str | None = None, **figures: Any) -> None:
        """Change both directions, or the one in which `sender` sends."""
        for host, way in self.ways.items():
            if sender in (None, host):
                for name, value in figures.items():
                    setattr(way, name, value)

    def readdress(self, host: str, address: str) -> None:
        """The host gets another address, as with another network; the old one is gone."""
        device, old = self._ends[host]
        _ip("-n", host, "addr", "del", _on(old)[0], "dev", device)
        self.also(host, address)
        self._ends[host][1] = address

    def also(self, host: str, address: str) -> None:
        """One more address of the host on this link."""
        _ip("-n", host, "addr", "add", *_on(address), "dev", self._ends[host][0])

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        for host, other in (self._hosts, self._hosts[::-1]):
            self._loop.add_reader(self._descriptors[host], self._carry, host, self._descriptors[other])

    def _carry(self, host: str, to: int) -> None:
        for _ in range(64):
            try:
                packet = os.read(self._descriptors[host], 65536)
            except OSError:
                return
            at = self.ways[host].due(packet)
            if at is None:
                continue
            if at <= time.monotonic() + 0.0005 and not self._heap:
                self._deliver(to, packet)
                continue
            self._count += 1
            heapq.heappush(self._heap, (at, self._count, to, packet))
            self._wait()

    @staticmethod
    def _deliver(to: int, packet: bytes) -> None:
        with contextlib.suppress(OSError):
            os.write(to, packet)

    def _wait(self) -> None:
        assert self._loop is not None
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(max(0.0, self._heap[0][0] - time.monotonic()), self._arrive)

    def _arrive(self) -> None:
        self._timer = None
        while self._heap and self._heap[0][0] <= time.monotonic() + 0.0005:
            _, _, to, packet = heapq.heappop(self._heap)
            self._deliver(to, packet)
        if self._heap:
            self._wait()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for descriptor in self._descriptors.values():
            if self._loop is not None:
                self._loop.remove_reader(descriptor)
            os.close(descriptor)


class Lab:
    """All hosts and links of one test; `close` takes them away."""

    def __init__(self) -> None:
        self._stood = 0.0
        self._standing: asyncio.Task[None] | None = None
        self._prefix = f"q{os.getpid() % 100_000}-"
        self._hosts: list[str] = []
        self._links: list[Link] = []

    def host(self, name: str) -> str:
        """Makes a namespace; its full name is given back."""
        full = self._prefix + name
        _ip("netns", "add", full)
        self._hosts.append(full)
        _ip("-n", full, "link", "set", "lo", "up")
        return full

    def link(self, one: str, address: str, other: str, other_address: str, largest: int = 1400) -> Link:
        """`largest`: of the packets that it carries, in bytes."""
        made = Link(len(self._links), (one, address), (other, other_address), largest)
        self._links.append(made)
        made.start()
        return made

    def stood_still(self) -> float:
        """The longest time, in seconds since it was last asked, in which this process carried no packets: the machine had no
        time for it, and what froze meanwhile says nothing of the line."""
        if self._standing is None:
            self._standing = asyncio.get_running_loop().create_task(self._stand())
        stood, self._stood = self._stood, 0.0
        return stood

    async def _stand(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            self._stood = max(self._stood, time.monotonic() - before - 0.01)

    @staticmethod
    def program(host: str, folder: Path, program: str) -> Path:
        """An executable that runs `program` on that host."""
        wrapper = folder / f"{Path(program).name}-on-{host}"
        wrapper.write_text(f'#!/bin/sh\nexec ip netns exec {host} {program} "$@"\n')
        wrapper.chmod(0o755)
        return wrapper

    @staticmethod
    def processes(host: str) -> list[int]:
        done = subprocess.run(["ip", "netns", "pids", host], capture_output=True, text=True, timeout=20, check=True)
        return [int(one) for one in done.stdout.split()]

    def close(self) -> None:
        if self._standing is not None:
            self._standing.cancel()
        for link in self._links:
            link.close()
        for host in self._hosts:
            subprocess.run(["ip", "netns", "del", host], capture_output=True, timeout=20, check=False)
