"""A plain HTTP/1.1 client that keeps connections open and costs little, so that the server is what is measured."""

import asyncio
import math
import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Answers:
    """What came back: seconds per request, status codes, bytes, and how long it took in all."""

    seconds: list[float] = field(default_factory=list)
    status: Counter[int] = field(default_factory=Counter)
    octets: int = 0
    elapsed: float = 0.0

    def percentile(self, share: float) -> float:
        """In ms; of an empty list infinity, which is above every bar."""
        ordered = sorted(self.seconds)
        return ordered[max(0, math.ceil(len(ordered) * share) - 1)] * 1000 if ordered else math.inf

    @property
    def rate(self) -> float:
        return len(self.seconds) / self.elapsed if self.elapsed else 0.0


class Connection:
    """One connection. Opened again when the server closed it."""

    def __init__(self, host: str, port: int, headers: dict[str, str]) -> None:
        self._host, self._port = host, port
        lines = {"Host": f"{host}:{port}", "Accept": "text/html", "Accept-Encoding": "gzip", **headers}
        self._head = "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def get(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """(status, headers with lower-case names, body as sent)."""
        for attempt in (1, 2):
            if self._writer is None:
                self._reader, self._writer = await asyncio.open_connection(self._host, self._port, limit=1 << 22)
            try:
                return await self._ask(path)
            except (ConnectionError, asyncio.IncompleteReadError):
                self.close()
                if attempt == 2:
                    raise
        raise AssertionError

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def _ask(self, path: str) -> tuple[int, dict[str, str], bytes]:
        assert self._reader is not None
        assert self._writer is not None
        self._writer.write(f"GET {path} HTTP/1.1\r\n{self._head}".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split()[1])
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = bytearray()
            while size := int(await self._reader.readline(), 16):
                body += await self._reader.readexactly(size)
                await self._reader.readexactly(2)
            await self._reader.readexactly(2)
            return status, headers, bytes(body)
        return status, headers, await self._reader.readexactly(int(headers.get("content-length", 0)))


async def steady(
    host: str,
    port: int,
    paths: list[str],
    headers: dict[str, str],
    *,
    rate: float,
    seconds: float,
    connections: int = 32,
) -> Answers:
    """Requests at a fixed rate whatever the server does: a slow answer is counted from when its request was due, not
    from when a connection was free, so that a stalled server can't hide."""
    answers = Answers()
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(connections):
        free.put_nowait(Connection(host, port, headers))
    start = time.perf_counter()

    async def one(number: int) -> None:
        due = start + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        connection = await free.get()
        status, _, body = await connection.get(paths[number % len(paths)])
        answers.seconds.append(time.perf_counter() - due)
        answers.status[status] += 1
        answers.octets += len(body)
        free.put_nowait(connection)

    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            group.create_task(one(number))
    answers.elapsed = time.perf_counter() - start
    while not free.empty():
        free.get_nowait().close()
    return answers


async def busy(
    host: str, port: int, paths: list[str], headers: dict[str, str], *, connections: int, seconds: float
) -> Answers:
    """Each connection asks again as soon as it is answered."""
    answers = Answers()
    start = time.perf_counter()

    async def one(offset: int) -> None:
        connection = Connection(host, port, headers)
        number = offset
        while (began := time.perf_counter()) - start < seconds:
            status, _, body = await connection.get(paths[number % len(paths)])
            answers.seconds.append(time.perf_counter() - began)
            answers.status[status] += 1
            answers.octets += len(body)
            number += connections
        connection.close()

    async with asyncio.TaskGroup() as group:
        for offset in range(connections):
            group.create_task(one(offset))
    answers.elapsed = time.perf_counter() - start
    return answers
