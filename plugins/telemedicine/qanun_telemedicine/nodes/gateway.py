"""The clinic machine's end of the link to media nodes: who may connect, and a local socket for each of their workers.

Nodes call in, over TLS 1.3 with certificates on both sides; who shows none can join with a token and do nothing else. Beside the
workers' sockets lies `nodes.sock`, where the commands of this machine list, invite, drain and revoke. It decides nothing about
rooms: that is the pool's, which sees a node's worker like any other.
"""

import asyncio
import contextlib
import getpass
import hashlib
import logging
import os
import signal
import socket as sockets
import time
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from qanun_telemedicine.nodes import link
from qanun_telemedicine.nodes.identity import Authority, BadRequest, Token, fingerprint
from qanun_telemedicine.nodes.records import Records
from qanun_telemedicine.nodes.registry import Node, Refusal, Registry
from qanun_telemedicine.nodes.seat import Seat
from qanun_telemedicine.sfu import protocol as p
from qanun_telemedicine.sfu.addresses import bound, canonical, read_address
from qanun_telemedicine.sfu.protocol import Refused

log = logging.getLogger(__name__)

_MOST_WORKERS = 64
_MOST_STRANGERS = 32
#: The list on the disk is not rewritten more often than this while nothing but the time changes.
_WRITE_S = 60.0
_REFUSED_S = 600.0


class Order(msgspec.Struct, omit_defaults=True):
    """What a command of this machine asks on `nodes.sock`."""

    do: str
    name: str = ""
    addresses: list[str] = []
    seconds: float = 3600.0
    by: str = ""


class Gateway:
    """Everything of one gateway; `serve` runs it. `socket` is the first media worker's: nodes' sockets lie beside it."""

    def __init__(self, folder: Path, socket: Path, allowed: list[str], clinic: str = "") -> None:
        self.registry = Registry(folder)
        self.authority = Authority(folder)
        self.records = Records(self._recording_event)
        self.finished = asyncio.Event()
        self._socket = socket
        #: Addresses that nodes may have: what the relay and the firewall were told.
        self._allowed = allowed
        self._clinic = clinic
        self._seats: dict[tuple[str, int], Seat] = {}
        self._writers: dict[asyncio.StreamWriter, str] = {}
        self._strangers = 0
        self._port = 0
        self._written = 0.0
        self._refused: dict[str, float] = {}

    @property
    def port(self) -> int:
        return self._port

    async def serve(self, host: str, port: int) -> None:
        """Until `finished`. Raises OSError when it cannot listen."""
        self._clear()
        server = await asyncio.start_server(
            self._connected, sock=bound((host, port), sockets.SOCK_STREAM), ssl=self.authority.server_context(),
            limit=p.MAX_LINE, ssl_handshake_timeout=link.SILENT_S * 3,
        )  # fmt: skip
        self._port = server.sockets[0].getsockname()[1]
        orders_path = self._socket.with_name("nodes.sock")
        orders_path.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            orders = await asyncio.start_unix_server(self._orders, orders_path, limit=p.MAX_LINE)
        finally:
            os.umask(mask)
        asking = asyncio.ensure_future(self.records.run())
        try:
            await self.finished.wait()
        finally:
            server.close()
            orders.close()
            orders_path.unlink(missing_ok=True)
            asking.cancel()
            for seat in list(self._seats.values()):
                await seat.close()
            for writer in list(self._writers):
                writer.transport.abort()
            await self.records.end_all()

    def _clear(self) -> None:
        """Sockets of a former life, which nobody answers on."""
        for left in self._socket.parent.glob(f"{self._socket.stem}-node-*{self._socket.suffix}"):
            left.unlink(missing_ok=True)

    def _recording_event(self, seat: object, name: str, room: str, data: dict[str, Any]) -> None:
        assert isinstance(seat, Seat)
        seat.broadcast(p.Event(name, room, data=data))

    # -- nodes --------------------------------------------------------------------------------------------------------

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers[writer] = ""
        try:
            await self._greeted(reader, writer)
        except Refusal as refusal:
            log.warning("a node was refused: %s", refusal.code)
            with contextlib.suppress(OSError, TimeoutError):
                await self._say(writer, link.Welcome(refused=refusal.code, words=str(refusal)))
        except (OSError, TimeoutError, ValueError, msgspec.MsgspecError):
            pass
        finally:
            self._writers.pop(writer, None)
            writer.close()

    async def _greeted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        if shown is None:
            # They cost a connection before anybody knows them: few at a time.
            if self._strangers >= _MOST_STRANGERS:
                return
            self._strangers += 1
        try:
            greeting = await link.greeted(reader)
        finally:
            self._strangers -= shown is None
        self._fits(greeting)
        if greeting.kind == "join":
            await self._say(writer, self._join(greeting))
            return
        if shown is None:
            raise Refusal("certificate", "this machine has not joined: use a token")
        node = self.registry.of_certificate(hashlib.sha256(shown).digest())
        self._writers[writer] = node.id
        if greeting.kind == "tap":
            await self._tap(node, greeting, reader, writer)
        else:
            await self._worker(node, greeting, reader, writer)

    @staticmethod
    def _fits(greeting: link.Greeting) -> None:
        if greeting.link != link.VERSION or greeting.protocol != p.VERSION:
            raise Refusal(
                "version",
                f"the node runs release {greeting.release or 'unknown'}, the clinic's machine {link.release()}, and they "
                "do not understand each other: bring both to the same release",
            )
        off = greeting.wall - time.time()
        if abs(off) > link.SKEW_S:
            way = "ahead of" if off > 0 else "behind"
            raise Refusal("clock", f"the node's clock is {abs(off):.0f} seconds {way} the clinic's: set its time first")

    def _join(self, greeting: link.Greeting) -> link.Welcome:
        try:
            secret = bytes.fromhex(greeting.secret)
        except ValueError:
            secret = b""
        node = self.registry.invited(secret)
        try:
            certificate = self.authority.grant(greeting.request, node.id)
        except BadRequest as error:
            raise Refusal("request", f"the node's certificate request is not one: {error}") from None
        self.registry.join(node, fingerprint(certificate), greeting.release)
        log.info("node %s joined", node.name)
        return link.Welcome(
            node=node.id, name=node.name, addresses=node.addresses, certificate=certificate.decode(),
            authority=self.authority.certificate.decode(),
        )  # fmt: skip

    async def _worker(
        self, node: Node, greeting: link.Greeting, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if not 1 <= greeting.worker <= _MOST_WORKERS:
            raise Refusal("worker", f"a node has 1 to {_MOST_WORKERS} workers")
        await self._say(writer, link.Welcome(node=node.id, name=node.name, addresses=node.addresses))
        key = node.id, greeting.worker
        seat = self._seats.get(key)
        if seat is None:
            name = f"{self._socket.stem}-node-{node.name}-{greeting.worker}{self._socket.suffix}"
            seat = self._seats[key] = Seat(node, greeting.worker, self._socket.with_name(name), self.records)
        self._heard(node, greeting.release)
        try:
            await seat.carry(reader, writer)
        except Refusal as refusal:
            self._not_used(node, refusal)
        finally:
            self._heard(node)

    def _not_used(self, node: Node, refusal: Refusal) -> None:
        # It comes again and again; the journal says so once in a while.
        now = time.monotonic()
        if now - self._refused.get(node.id, -_REFUSED_S) >= _REFUSED_S:
            self._refused[node.id] = now
            self.registry.note("refuse", node, why=refusal.code)
            log.error("node %s is not used: %s", node.name, refusal)

    def _heard(self, node: Node, release: str = "") -> None:
        now = time.monotonic()
        if (release and release != node.release) or now - self._written > _WRITE_S:
            self._written = now
            self.registry.heard(node, release)
        else:
            node.heard_at = time.time()

    async def _tap(
        self, node: Node, greeting: link.Greeting, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        own = [seat for (owner, _), seat in self._seats.items() if owner == node.id]
        for seat in own:
            with contextlib.suppress(Refused):
                self.records.of(seat, greeting.recording)
                break
        else:
            raise Refusal("no-recording", "no such recording runs at this node")
        await self._say(writer, link.Welcome(node=node.id))
        await self.records.carry(greeting.recording, node.name, reader, writer)

    @staticmethod
    async def _say(writer: asyncio.StreamWriter, welcome: link.Welcome) -> None:
        writer.write(msgspec.json.encode(welcome) + b"\n")
        async with asyncio.timeout(link.SILENT_S):
            await writer.drain()

    # -- this machine's commands --------------------------------------------------------------------------------------

    async def _orders(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            order = msgspec.json.decode(await asyncio.wait_for(reader.readline(), link.SILENT_S), type=Order)
            try:
                answer = {"done": await self._do(order)}
            except Refusal as refusal:
                answer = {"refused": refusal.code, "words": str(refusal)}
            writer.write(msgspec.json.encode(answer) + b"\n")
            await writer.drain()
        except (OSError, TimeoutError, ValueError, msgspec.MsgspecError):
            pass
        finally:
            writer.close()

    async def _do(self, order: Order) -> Any:
        match order.do:
            case "list":
                return self.listed()
            case "invite":
                return self._invite(order)
            case "revoke":
                return await self._revoke(order)
            case "drain" | "resume":
                return await self._drain(order)
        raise Refusal("order", f"there is no order {order.do!r}")

    def _invite(self, order: Order) -> dict[str, Any]:
        missing = sorted({_written(one) for one in order.addresses} - {_written(one) for one in self._allowed})
        if missing:
            raise Refusal(
                "address",
                f"{', '.join(missing)} is not among the addresses that media nodes may have: add it to [media] nodes in the "
                "site file (QANUN_MEDIA_NODES) first, so that the relay lets calls through to it",
            )
        node, secret = self.registry.invite(order.name, order.addresses, order.seconds, order.by)
        token = Token(self._port, secret, self.authority.fingerprint())
        return {"name": node.name, "clinic": self._clinic, "token": str(token), "expires": node.expires_at}

    async def _revoke(self, order: Order) -> dict[str, Any]:
        node = self.registry.named(order.name)
        self.registry.revoke(node, order.by)
        for writer, owner in list(self._writers.items()):
            if owner == node.id:
                writer.transport.abort()
        for key in [key for key in self._seats if key[0] == node.id]:
            await self._seats.pop(key).close()
        return {"name": node.name}

    async def _drain(self, order: Order) -> dict[str, Any]:
        node = self.registry.named(order.name)
        self.registry.drain(node, order.do == "drain", order.by)
        for (owner, _), seat in self._seats.items():
            if owner == node.id:
                with contextlib.suppress(OSError, TimeoutError):
                    await asyncio.wait_for(seat.drain(node.draining), link.SILENT_S)
        return {"name": node.name}

    def listed(self) -> list[dict[str, Any]]:
        """Every node that was not revoked, with what its workers say."""
        now = time.time()
        found = []
        for node in self.registry.nodes.values():
            if node.state == "revoked" or (node.state == "invited" and node.expires_at < now):
                continue
            workers = [seat.worker for (owner, _), seat in sorted(self._seats.items()) if owner == node.id]
            alive = [worker for worker in workers if worker is not None]
            if alive:
                node.heard_at = now
            state = node.state if node.state == "invited" else "serving" if alive else "silent"
            found.append({
                "name": node.name, "addresses": node.addresses, "state": state, "draining": node.draining,
                "release": node.release, "expires": node.expires_at if node.state == "invited" else 0.0,
                "heard": node.heard_at, "workers": [msgspec.to_builtins(worker) for worker in alive],
                "rooms": sum(one.rooms for one in alive), "participants": sum(one.participants for one in alive),
                "cpu": max((one.machine for one in alive), default=0.0), "packets": sum(one.packets for one in alive),
            })  # fmt: skip
        return found


def who() -> str:
    """The account that gives an order, for the journal."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


async def order(path: Path, wanted: Order, timeout: float = 10.0) -> Any:
    """Ask the gateway at `path`. Raises Refusal, or OSError when none answers."""
    async with asyncio.timeout(timeout):
        reader, writer = await asyncio.open_unix_connection(path, limit=p.MAX_LINE)
        try:
            writer.write(msgspec.json.encode(wanted) + b"\n")
            await writer.drain()
            line = await reader.readline()
        finally:
            writer.close()
    if not line:
        raise ConnectionError("the gateway does not answer")
    answer = msgspec.json.decode(line)
    if "refused" in answer:
        raise Refusal(answer["refused"], answer["words"])
    return answer["done"]


def _written(text: str) -> str:
    """An address as it is compared; what is none stays as it was typed, and is refused for what it is."""
    try:
        return canonical(text)
    except ValueError:
        return text


def run(folder: Path, socket: Path, listen: str, allowed: list[str], clinic: str) -> int:
    """The process."""

    async def serve() -> None:
        gateway = Gateway(folder, socket, allowed, clinic)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, gateway.finished.set)
        await gateway.serve(*read_address(listen))

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    uvloop.run(serve())
    return 0
