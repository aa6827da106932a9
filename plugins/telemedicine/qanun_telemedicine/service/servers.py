"""Who carries calls: this machine's media workers and media nodes on other machines, as they say themselves right now."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from qanun.api import Context, Unavailable
from qanun_telemedicine.media import media_of
from qanun_telemedicine.nodes.gateway import Order, order
from qanun_telemedicine.nodes.registry import Refusal
from qanun_telemedicine.sfu.client import MediaError
from qanun_telemedicine.sfu.pool import MediaPool

#: Whoever looks at the page waits no longer for a server that does not answer.
_PATIENCE_S = 2.0


@dataclass(frozen=True, slots=True)
class Server:
    """One line of the list; `busy` is a share of its machine's processors."""

    name: str
    node: bool
    state: Literal["serving", "drains", "silent", "invited"]
    rooms: int = 0
    people: int = 0
    busy: float = 0.0
    packets: int = 0


async def servers(ctx: Context) -> list[Server]:
    """Those that want attention first. Empty where no calls are set up."""
    socket = ctx.runtime.config.media_socket
    if socket is None:
        return []
    found = [*await _here(ctx), *await _nodes(socket)]
    return sorted(found, key=lambda one: (one.state not in ("silent", "invited"), one.node, one.name))


async def _here(ctx: Context) -> list[Server]:
    try:
        client = media_of(ctx.runtime).client
        asked = await client.servers() if isinstance(client, MediaPool) else {}
    except (Unavailable, MediaError):
        return []
    found = []
    for name, worker in asked.items():
        short = name.removesuffix(".sock")
        if worker is None:
            found.append(Server(short, False, "silent"))
        else:
            state: Any = "drains" if worker.draining else "serving"
            found.append(
                Server(short, False, state, worker.rooms, worker.participants, worker.machine, round(worker.packets))
            )
    return found


async def _nodes(socket: Path) -> list[Server]:
    path = socket.with_name("nodes.sock")
    if not path.exists():
        return []
    try:
        listed = await order(path, Order("list"), _PATIENCE_S)
    except (Refusal, OSError, TimeoutError):
        return []
    return [
        Server(
            one["name"], True, "drains" if one["draining"] and one["state"] == "serving" else one["state"],
            one["rooms"], one["participants"], one["cpu"], round(one["packets"]),
        )
        for one in listed
    ]  # fmt: skip
