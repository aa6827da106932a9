"""The ways to participants: whose a STUN or DTLS datagram is, and ICE on the worker's one UDP socket.

`Paths` tells STUN and DTLS datagrams apart; an address counts as a participant's once a STUN request with the right
password came from it. Candidates that a client names are never contacted: clients reach us, and we answer where they
come from, so nobody can make this process knock at addresses of the clinic's network. An ICE restart puts a new
connection beside the old one under the living DTLS session; both answer until media that the client encrypted comes over
the new one. Media goes where media comes from: a nomination alone moves it only when the old way has fallen silent.

What lies inside is DTLS (`transport`). Private names of aioice are used here alone; `PRIVATE` lists them for a test.
"""

import asyncio
import hmac
import random
import secrets
import socket
import struct
import zlib
from collections.abc import Coroutine, Sequence
from typing import Any

import aioice
from aioice import ice, stun
from aioice.candidate import Candidate, candidate_foundation, candidate_priority
from aioice.ice import CandidatePair, StunProtocol

from qanun_telemedicine.sfu.addresses import Address, link_local, preferred
from qanun_telemedicine.sfu.engine import Engine

PRIVATE = {
    "aioice.Connection": (
        "_protocols",
        "_local_candidates",
        "_local_candidates_start",
        "_local_candidates_end",
        "_nominated",
        "_closing",
        "_valid_username",
        "build_request",
        "check_complete",
        "query_consent",
        "request_received",
    ),
    "aioice.ice": ("CONSENT_FAILURES", "CONSENT_INTERVAL"),
}

#: Whoever asked us within so many of RFC 7675's intervals need not be asked.
_ASKED = 1.5
#: A nominated path is used when nothing came over the one in use for this long.
_SILENT_S = 0.5
#: Attributes of STUN (RFC 8489).
_XOR_MAPPED_ADDRESS, _MESSAGE_INTEGRITY, _FINGERPRINT = 0x0020, 0x0008, 0x8028


class _Socket(asyncio.DatagramTransport):
    """What aioice believes to be its own socket."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._engine = engine
        self.protocol: StunProtocol | None = None

    def sendto(self, data: Any, addr: Any = None) -> None:
        self._engine.send_datagram(bytes(data), (addr[0], addr[1]))

    def close(self) -> None:
        if self.protocol is not None:
            self.protocol.connection_lost(None)

    def is_closing(self) -> bool:
        return False


class IceConnection(aioice.Connection):
    """An aioice connection on the shared socket: controlled, without gathering."""

    def __init__(self, path: "IcePath", address: Address) -> None:
        host, port = address
        super().__init__(
            ice_controlling=False,
            local_username=secrets.token_hex(8),
            local_password=secrets.token_hex(16),
        )
        self._path = path
        self._stands = False
        #: When the participant asked last on the way in use, and when they are asked next (the loop's time).
        self._last_asked = self._ask_at = 0.0
        self._unanswered = 0
        self._asking: asyncio.Task[None] | None = None
        socket = _Socket(path.engine)
        self.stun = socket.protocol = StunProtocol(self)
        self.stun.connection_made(socket)
        self.stun.local_candidate = Candidate(
            foundation=candidate_foundation("host", "udp", host),
            component=1,
            transport="udp",
            priority=candidate_priority(1, "host"),
            host=host,
            port=port,
            type="host",
        )
        self._protocols.append(self.stun)
        self._local_candidates = [self.stun.local_candidate]
        self._local_candidates_start = self._local_candidates_end = True

    def check_complete(self, pair: CandidatePair) -> None:
        super().check_complete(pair)
        chosen = self._nominated.get(1)
        if chosen is not None:
            self._path.chosen(self, chosen.remote_addr)

    def request_received(self, message: stun.Message, addr: Address, protocol: StunProtocol) -> None:
        """Whoever asks again on the way in use has learned everything already and only wants to hear us. With silent rooms
        these are most of a worker's work, and aioice writes each answer four times before it is sent."""
        chosen = self._nominated.get(1)
        again = (
            chosen is not None
            and chosen.remote_addr == addr
            and not self._closing
            and message.message_method == stun.Method.BINDING
            and "ICE-CONTROLLED" not in message.attributes
            and self._valid_username(str(message.attributes["USERNAME"]))
        )
        if again:
            self._last_asked = asyncio.get_running_loop().time()
            self._path.engine.send_datagram(heard(message.transaction_id, addr, self.local_password.encode()), addr)
        else:
            super().request_received(message, addr, protocol)

    async def query_consent(self) -> None:
        """Called once the way stands. aioice would ask from here for ever, with a timer for each connection; `Paths` looks after
        all of them instead."""
        self._stands = True

    def look_after(self, now: float) -> None:
        """End the connection when the participant no longer wants our packets (RFC 7675).

        Whoever asks us, over the way in use and with our password, wants them: only who has fallen silent is asked. The way
        itself was shown to lead there by our own check before it was taken.
        """
        if not self._stands or self._closing:
            return
        if now - self._last_asked < _ASKED * ice.CONSENT_INTERVAL:
            self._unanswered = 0
        elif now >= self._ask_at:
            self._ask_at = now + ice.CONSENT_INTERVAL * random.uniform(0.8, 1.2)
            self._asking = asyncio.get_running_loop().create_task(self._ask())

    async def _ask(self) -> None:
        self._unanswered = 0 if await self._still_wanted() else self._unanswered + 1
        if self._unanswered >= ice.CONSENT_FAILURES:
            await self.close()

    async def _still_wanted(self) -> bool:
        chosen, key = self._nominated.get(1), self.remote_password
        if chosen is None or key is None:
            return False
        try:
            question = self.build_request(chosen, nominate=False)
            await self.stun.request(question, chosen.remote_addr, integrity_key=key.encode(), retransmissions=0)
        except stun.TransactionError:
            return False
        return True

    async def close(self) -> None:
        await super().close()
        self._path.closed(self)


def heard(transaction_id: bytes, address: Address, key: bytes) -> bytes:
    """A Binding success response (RFC 8489): where the request came from, the key's signature, the fingerprint."""
    place = _place(address, transaction_id)
    body = struct.pack("!HH", _XOR_MAPPED_ADDRESS, len(place)) + place
    signed = _stun_head(transaction_id, len(body) + 24) + body
    body += struct.pack("!HH", _MESSAGE_INTEGRITY, 20) + hmac.digest(key, signed, "sha1")
    whole = _stun_head(transaction_id, len(body) + 8) + body
    return whole + struct.pack("!HHI", _FINGERPRINT, 4, zlib.crc32(whole) ^ 0x5354554E)


def _place(address: Address, transaction_id: bytes) -> bytes:
    """XOR-MAPPED-ADDRESS of one address, without aioice's detours."""
    host, port = address
    key = struct.pack("!I", stun.COOKIE)
    if ":" in host:
        family, number, key = 2, socket.inet_pton(socket.AF_INET6, host), key + transaction_id
    else:
        family, number = 1, socket.inet_aton(host)
    mixed = int.from_bytes(number, "big") ^ int.from_bytes(key, "big")
    return struct.pack("!BBH", 0, family, port ^ stun.COOKIE >> 16) + mixed.to_bytes(len(number), "big")


def _stun_head(transaction_id: bytes, length: int) -> bytes:
    return struct.pack("!HHI12s", stun.Method.BINDING | stun.Class.RESPONSE, length, stun.COOKIE, transaction_id)


class IcePath:
    """The way to one participant, through however many ICE restarts: what DTLS takes for its ICE transport."""

    role = "controlled"

    def __init__(self, name: str, engine: Engine, paths: "Paths") -> None:
        self.name = name
        self.engine = engine
        self._paths = paths
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=256)
        self.connections: list[IceConnection] = []
        self.address: Address | None = None
        self._chosen: Address | None = None
        #: Which connection's password an address was authenticated with last.
        self._known: dict[Address, IceConnection] = {}
        self._moves = asyncio.Event()
        self._ended = False

    def open(self) -> IceConnection:
        """One more connection, answering under new credentials from now on."""
        connection = IceConnection(self, self._paths.hosts[0])
        self.connections.append(connection)
        self._paths.by_username[connection.local_username] = connection
        return connection

    def retire(self, connection: IceConnection) -> Coroutine[Any, Any, None]:
        """Forget a connection that another one replaces."""
        self._forget(connection)
        return connection.close()

    def _forget(self, connection: IceConnection) -> None:
        self._paths.by_username.pop(connection.local_username, None)
        if connection in self.connections:
            self.connections.remove(connection)
        for address in [address for address, known in self._known.items() if known is connection]:
            del self._known[address]

    def authenticated(self, connection: IceConnection, address: Address) -> None:
        """A STUN request with this connection's password came from there."""
        self._paths.by_address[address] = self
        self._known[address] = connection
        self.engine.bind(self.name, address)
        if self.address is None:
            self.address = address

    def chosen(self, connection: IceConnection, address: Address) -> None:
        if connection not in self.connections or address == self._chosen:
            return
        first, self._chosen = self._chosen is None, address
        if first:
            self._use(address)
        elif address != self.address:
            # The client's media says better than a nomination which way works; only silence makes this one decide.
            heard = self.engine.counters(self.name).received
            asyncio.get_running_loop().call_later(_SILENT_S, self._fell_silent, address, heard)

    def _fell_silent(self, address: Address, heard: int) -> None:
        if not self._ended and self._chosen == address and self.engine.counters(self.name).received == heard:
            self._use(address)

    def _use(self, address: Address) -> None:
        self.engine.send_to(self.name, address)
        self.moved(address)

    def moved(self, address: Address) -> None:
        """Authentic media comes from there now, and goes there."""
        self.address = address
        self._moves.set()

    def in_use(self) -> "IceConnection | None":
        """The connection that media takes."""
        return self._known.get(self.address) if self.address is not None else None

    async def used(self, connection: IceConnection) -> None:
        """Returns when media takes this connection."""
        while self.in_use() is not connection:
            self._moves.clear()
            await self._moves.wait()

    def received(self, data: bytes) -> None:
        if not self._queue.full():
            self._queue.put_nowait(data)

    def closed(self, connection: IceConnection) -> None:
        """aioice gave up: nobody confirmed for half a minute that they still want our packets."""
        was_ours = connection in self.connections
        self._forget(connection)
        if was_ours and not self.connections:
            self.end()

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            while self._queue.full():
                self._queue.get_nowait()
            self._queue.put_nowait(None)
            self._paths.forget(self)

    # -- what RTCDtlsTransport calls ----------------------------------------------------------------------------------

    async def _recv(self) -> bytes:
        data = await self._queue.get()
        if data is None:
            raise ConnectionError("the path to the participant is gone")
        return data

    async def _send(self, data: bytes) -> None:
        if self.address is None:
            raise ConnectionError("no path to the participant yet")
        self.engine.send_datagram(data, self.address)


class Paths:
    """Finds whose a STUN or DTLS datagram is."""

    def __init__(self, hosts: Sequence[Address]) -> None:
        #: Where clients are told to go, and in which order to try.
        self.hosts = tuple(preferred(hosts))
        self.by_username: dict[str, IceConnection] = {}
        self.by_address: dict[Address, IcePath] = {}

    async def look_after(self) -> None:
        """For as long as this runs, ways end whose participants no longer want our packets."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(ice.CONSENT_INTERVAL / 5)
            now = loop.time()
            for connection in list(self.by_username.values()):
                connection.look_after(now)

    def datagram(self, data: bytes, address: Address) -> None:
        """One datagram that is not SRTP. Whatever is not from a participant is dropped without an answer."""
        first = data[0]
        if first < 4:
            self._stun(data, address)
        elif 19 < first < 64:
            path = self.by_address.get(address)
            if path is not None:
                path.received(data)

    def _stun(self, data: bytes, address: Address) -> None:
        try:
            message = stun.parse_message(data)
        except (ValueError, LookupError, OverflowError, struct.error):  # whatever slicing and decoding raise
            return
        if message.message_class == stun.Class.REQUEST:
            if link_local(address):
                # To answer would take the link that it came by, which is not kept: nobody is told an address of ours on a link,
                # and browsers name none of theirs.
                return
            username = str(message.attributes.get("USERNAME", ""))
            connection = self.by_username.get(username.partition(":")[0])
            if connection is None or "PRIORITY" not in message.attributes:
                return
            if "MESSAGE-INTEGRITY" not in message.attributes:
                return
            if not message.check_message_integrity(connection.local_password.encode()):
                return
            connection._path.authenticated(connection, address)
            # As its socket would give it, but read once: checks of everybody's way make up most of a silent worker's work.
            connection.request_received(message, address, connection.stun)
        else:
            path = self.by_address.get(address)
            for connection in list(path.connections) if path is not None else ():
                connection.stun.datagram_received(data, address)

    def forget(self, path: IcePath) -> None:
        for address in [address for address, known in self.by_address.items() if known is path]:
            del self.by_address[address]
