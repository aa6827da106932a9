"""A bad line: a UDP relay between browsers and the worker that loses, delays and cuts, and whose own address can change."""

import asyncio
import random
from collections.abc import Callable

Address = tuple[str, int]

#: What a bottleneck keeps before it drops.
_QUEUE_S = 0.4


class _Upstream(asyncio.DatagramProtocol):
    def __init__(self, wire: "Wire", client: Address) -> None:
        self.wire, self.client = wire, client
        self._free = 0.0

    def datagram_received(self, data: bytes, addr: Address) -> None:
        wait = 0.0
        if self.wire.down:
            now = asyncio.get_running_loop().time()
            if self._free - now > _QUEUE_S:
                self.wire.lost += 1
                return
            self._free = max(now, self._free) + len(data) * 8 / self.wire.down
            wait = self._free - now
        self.wire.carry(lambda: self.wire.down_to(self.client, data), wait)


class Wire(asyncio.DatagramProtocol):
    """`loss` 0..1, `delay` in seconds, `cut`, `down` in bit/s towards each client (0: no limit); changeable at any time."""

    def __init__(self, worker: Address) -> None:
        self.worker = worker
        self.loss = 0.0
        self.delay = 0.0
        self.down = 0
        self.cut = False
        self.lost = 0
        self.listening: asyncio.DatagramTransport
        self._upstream: dict[Address, asyncio.DatagramTransport] = {}
        self._random = random.Random(7)

    async def start(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        self.listening, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("0.0.0.0", port))

    def stop(self) -> None:
        self.listening.close()
        self.change_address()

    def change_address(self) -> None:
        """From now on every client seems to come from another port."""
        for transport in self._upstream.values():
            transport.close()
        self._upstream.clear()

    def down_to(self, client: Address, data: bytes) -> None:
        if not self.listening.is_closing():
            self.listening.sendto(data, client)

    def carry(self, deliver: Callable[[], object], wait: float = 0.0) -> None:
        if self.cut or self._random.random() < self.loss:
            self.lost += 1
        elif self.delay or wait:
            asyncio.get_running_loop().call_later(self.delay + wait, deliver)
        else:
            deliver()

    def datagram_received(self, data: bytes, addr: Address) -> None:
        asyncio.get_running_loop().create_task(self._up(data, addr))

    async def _up(self, data: bytes, client: Address) -> None:
        upstream = self._upstream.get(client)
        if upstream is None:
            loop = asyncio.get_running_loop()
            upstream, _ = await loop.create_datagram_endpoint(lambda: _Upstream(self, client), remote_addr=self.worker)
            self._upstream[client] = upstream
        self.carry(lambda: upstream.is_closing() or upstream.sendto(data))
