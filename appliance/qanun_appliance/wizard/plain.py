"""Plain HTTP beside the pages: it gives out the machine's root certificate, which is public, and sends everybody else to HTTPS."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

_MOST_LINE, _MOST_LINES, _PATIENCE_S, _MOST_AT_ONCE = 4096, 60, 5.0, 50
_HOST = re.compile(rb"[A-Za-z0-9.\-\[\]:]{1,255}")


@asynccontextmanager
async def plain_listener(host: str, port: int, files: Mapping[str, tuple[str, bytes]]) -> AsyncIterator[None]:
    """`files` maps a path to (content type, content)."""
    busy = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal busy
        busy += 1
        try:
            if busy <= _MOST_AT_ONCE:
                async with asyncio.timeout(_PATIENCE_S):
                    writer.write(await _answer(reader, files))
                    await writer.drain()
        except (TimeoutError, OSError, ValueError, asyncio.IncompleteReadError):
            pass  # whoever speaks no HTTP gets none
        finally:
            busy -= 1
            with contextlib.suppress(OSError):
                writer.close()

    server = await asyncio.start_server(answer, host, port, limit=_MOST_LINE)
    try:
        yield
    finally:
        server.close()


async def _answer(reader: asyncio.StreamReader, files: Mapping[str, tuple[str, bytes]]) -> bytes:
    words = (await reader.readuntil(b"\n")).split()
    if len(words) < 2 or words[0] not in {b"GET", b"HEAD"}:
        return _response("405 Method Not Allowed", {}, b"")
    host = b""
    for _ in range(_MOST_LINES):
        line = (await reader.readuntil(b"\n")).strip()
        if not line:
            break
        header, _, value = line.partition(b":")
        if header.lower() == b"host":
            host = value.strip()
    path = words[1].decode("ascii", "replace").partition("?")[0]
    if path in files:
        kind, content = files[path]
        return _response("200 OK", {"Content-Type": kind}, content if words[0] == b"GET" else b"")
    if not _HOST.fullmatch(host):
        return _response("400 Bad Request", {}, b"")
    name = re.sub(r":\d+$", "", host.decode("ascii"))
    return _response("308 Permanent Redirect", {"Location": f"https://{name}/"}, b"")


def _response(status: str, headers: Mapping[str, str], content: bytes) -> bytes:
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Length: {len(content)}",
        "Connection: close",
        "X-Content-Type-Options: nosniff",
    ]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii") + content
