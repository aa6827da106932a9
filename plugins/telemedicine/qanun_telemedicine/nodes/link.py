"""What a node and the gateway say first on each of their connections, before one becomes a worker's line or a recording's.

Every connection begins with one line of JSON from the node and one back. After that a worker's line carries `sfu.protocol` as a
local socket would, and a recording's carries frames: four bytes of length and a MessagePack array.
"""

import asyncio
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import msgspec

#: Of this link; `sfu.protocol.VERSION` is asked for beside it.
VERSION = 1
#: A clock that is off by more makes recordings and certificates say wrong times.
SKEW_S = 60.0
#: The gateway is heard on every worker's line this often; who is silent so long is gone.
PING_S, SILENT_S = 0.5, 2.5
MOST_FRAME = 1 << 20
_GREET_S = 8.0


class Greeting(msgspec.Struct, omit_defaults=True):
    """From the node."""

    kind: Literal["join", "worker", "tap"]
    link: int
    protocol: int
    release: str
    wall: float
    #: Which of the node's workers, from 1.
    worker: int = 0
    #: Which recording, on a tap's line.
    recording: str = ""
    #: To join: the token's secret in hex, and the certificate request.
    secret: str = ""
    request: str = ""


class Welcome(msgspec.Struct, omit_defaults=True):
    """From the gateway: what was asked for, or why not."""

    refused: str = ""
    words: str = ""
    node: str = ""
    name: str = ""
    addresses: list[str] = []
    certificate: str = ""
    authority: str = ""


def release() -> str:
    try:
        return version("qanun-telemedicine")
    except PackageNotFoundError:
        return "0"


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, greeting: Greeting) -> Welcome:
    """Say who we are and hear the answer. Raises OSError, TimeoutError or ValueError when there is none."""
    writer.write(msgspec.json.encode(greeting) + b"\n")
    async with asyncio.timeout(_GREET_S):
        await writer.drain()
        line = await reader.readline()
    return msgspec.json.decode(line, type=Welcome)


async def greeted(reader: asyncio.StreamReader) -> Greeting:
    async with asyncio.timeout(_GREET_S):
        line = await reader.readline()
    return msgspec.json.decode(line, type=Greeting)


def frame(what: str, *rest: Any) -> bytes:
    body = msgspec.msgpack.encode((what, *rest))
    return len(body).to_bytes(4, "big") + body


async def read_frame(reader: asyncio.StreamReader) -> Sequence[Any]:
    """The next frame; IncompleteReadError at the end, ValueError for what is none."""
    size = int.from_bytes(await reader.readexactly(4), "big")
    if size > MOST_FRAME:
        raise ValueError("a frame larger than any packet")
    content = msgspec.msgpack.decode(await reader.readexactly(size))
    if not isinstance(content, list) or not content or not isinstance(content[0], str):
        raise ValueError("not a frame")
    return content
