"""DTLS of one participant, over its way (`paths`). The only place that touches private names of aiortc and pylibsrtp.

aiortc wants an `RTCIceTransport` under its DTLS transport but uses three of its names only: `_recv`, `_send`, `role`.
`IcePath` has these, which makes restarts possible. Everything borrowed is listed in `PRIVATE` and checked by a test.
"""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

import pylibsrtp
from aiortc import RTCCertificate, RTCDtlsFingerprint, RTCDtlsParameters, RTCDtlsTransport

from qanun_telemedicine.sfu.engine import Engine, SrtpKeys
from qanun_telemedicine.sfu.paths import IceConnection, IcePath, Paths

log = logging.getLogger(__name__)

#: Private names in use: what would break first when a library changes.
PRIVATE = {
    "aiortc.RTCDtlsTransport": ("_set_role", "_setup_srtp", "_set_state", "_ssl", "_srtp_profiles", "_recv_next"),
    "pylibsrtp.Session": ("_srtp",),
    "pylibsrtp._binding": ("ffi", "lib"),
}

#: How long a client may take until it is connected for the first time.
_CONNECT_S = 30.0
#: How long both paths are kept for a client that goes on using the old one; it may be dropped by its own silence then.
_BOTH_S = 60.0


class TransportListener(Protocol):
    def transport_connected(self, name: str) -> None: ...
    def transport_closed(self, name: str, reason: str) -> None: ...


class _Dtls(RTCDtlsTransport):
    """aiortc's DTLS; keying material goes to the engine instead of into its own packet path."""

    keys: SrtpKeys | None = None

    def _setup_srtp(self) -> None:
        assert self._ssl is not None
        name = self._ssl.get_selected_srtp_profile()
        profile = next((one for one in self._srtp_profiles if one.openssl_profile == name), None)
        if profile is None:
            self._set_state(_state("FAILED"))
            return
        material = self._ssl.export_keying_material(
            b"EXTRACTOR-dtls_srtp", 2 * (profile.key_length + profile.salt_length)
        )

        def session(index: int, direction: int) -> pylibsrtp.Session:
            policy = pylibsrtp.Policy(
                key=profile.get_key_and_salt(material, index),
                ssrc_type=direction,
                srtp_profile=profile.libsrtp_profile,
            )
            policy.window_size = 1024
            return pylibsrtp.Session(policy)

        # We are the DTLS server: the client writes with the first key, we with the second.
        inbound, outbound = pylibsrtp.Policy.SSRC_ANY_INBOUND, pylibsrtp.Policy.SSRC_ANY_OUTBOUND
        self.keys = SrtpKeys(session(0, inbound), session(1, outbound), session(0, inbound), session(1, outbound))
        self.profile = str(name.decode())


def _state(name: str) -> Any:
    from aiortc.rtcdtlstransport import State

    return State[name]


class PeerTransport:
    """The encrypted connection to one participant."""

    def __init__(
        self, name: str, engine: Engine, paths: Paths, certificate: RTCCertificate, listener: TransportListener
    ) -> None:
        self.name = name
        self._engine = engine
        self._listener = listener
        self.path = IcePath(name, engine, paths)
        self._connection = self.path.open()
        self._dtls = _Dtls(self.path, [certificate])  # type: ignore[arg-type]
        self._dtls._set_role("server")
        self._tasks: set[asyncio.Task[None]] = set()
        self.connected = False
        self._stopped = False

    @property
    def credentials(self) -> tuple[str, str]:
        """ICE user name and password that the newest description must show."""
        newest = self.path.connections[-1] if self.path.connections else self._connection
        return newest.local_username, newest.local_password

    def start(self, username: str, password: str, fingerprints: Sequence[tuple[str, str]]) -> None:
        """Begin to listen to this client; returns at once."""
        self._connection.remote_username, self._connection.remote_password = username, password
        parameters = RTCDtlsParameters([RTCDtlsFingerprint(name, value) for name, value in fingerprints], "client")
        self._spawn(self._run(parameters))

    def restart(self, username: str, password: str) -> None:
        """An ICE restart: a new connection beside the living one, which stays in use until media takes the new one."""
        living = self.path.in_use() or (self.path.connections[0] if self.path.connections else None)
        for waiting in [one for one in self.path.connections if one is not living]:
            self._spawn(self.path.retire(waiting))
        connection = self.path.open()
        connection.remote_username, connection.remote_password = username, password
        self._spawn(self._replace(connection))

    async def _replace(self, connection: IceConnection) -> None:
        try:
            await asyncio.wait_for(connection.connect(), _CONNECT_S)
        except (ConnectionError, TimeoutError):
            if connection in self.path.connections:
                await self.path.retire(connection)
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.path.used(connection), _BOTH_S)
        if self.path.in_use() is not connection:
            return  # the client stays with what it has; what it does not confirm any more ends by itself
        for other in [one for one in self.path.connections if one is not connection]:
            await self.path.retire(other)

    async def _run(self, parameters: RTCDtlsParameters) -> None:
        reason = "failed"
        try:
            ice = self._connection

            async def connect() -> None:
                try:
                    await ice.connect()
                except ConnectionError:
                    self.path.end()

            async with asyncio.timeout(_CONNECT_S):
                # Not one after the other: the client's first DTLS flight comes with its first authenticated check.
                await asyncio.gather(connect(), self._dtls.start(parameters))
            if self._dtls.state == "connected" and self._dtls.keys is not None:
                self._engine.add_transport(self.name, self._dtls.keys)
                if self.path.address is not None:
                    self._engine.send_to(self.name, self.path.address)
                self.connected = True
                ended = asyncio.Event()

                def changed() -> None:
                    if self._dtls.state in ("closed", "failed"):
                        ended.set()

                self._dtls.on("statechange", changed)
                self._listener.transport_connected(self.name)
                if self._dtls.state == "connected":
                    await ended.wait()
                reason = "lost" if self.path._ended else "left"
        except TimeoutError:
            reason = "timeout"
        except Exception:
            log.exception("transport %s failed", self.name)
        finally:
            if not self._stopped:
                self.connected = False
                self._listener.transport_closed(self.name, reason)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Say goodbye and forget everything; the listener is not told."""
        if self._stopped:
            return
        self._stopped = True
        self.connected = False
        self._engine.remove_transport(self.name)
        await self._dtls.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in list(self.path.connections):
            await self.path.retire(connection)
        self.path.end()
