"""Both engines side by side, without sockets and clocks: what one hears and says, the other must too.

`Twins` gives the same orders and datagrams to a Python engine and a C engine, and collects what they send, tell their
listener and hand to taps, and what they answer.
"""

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pylibsrtp
import pytest
from pylibsrtp._binding import ffi, lib

from qanun_telemedicine.sfu import engine_c, engine_c_readings, engine_python, engine_python_readings, native
from qanun_telemedicine.sfu.addresses import Address, raw_address
from qanun_telemedicine.sfu.datagrams import SLOT
from qanun_telemedicine.sfu.engine import SrtpKeys

_ROOM = 2048


class Listener:
    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *what: self.heard.append((name, *what))


class Tap:
    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def track_added(self, track: Any) -> None:
        self.heard.append(("added", track.id))

    def track_removed(self, track: Any) -> None:
        self.heard.append(("removed", track.id))

    def packet(self, track: Any, data: bytes, arrival_ns: int) -> None:
        self.heard.append(("packet", track.id, data, arrival_ns))

    def sender_report(self, track: Any, *what: int) -> None:
        self.heard.append(("report", track.id, *what))


class _Sent:
    """Stands where the socket is."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, bytes]] = []
        self._memory = ffi.new("char[]", _ROOM)

    def slot(self, data: bytes) -> Any:
        ffi.memmove(self._memory, data, len(data))
        return self._memory

    def queue(self, length: int, address: bytes) -> None:
        self.sent.append((address, bytes(ffi.buffer(self._memory, length))))

    def send(self, data: bytes, address: bytes) -> None:
        self.sent.append((address, bytes(data)))

    def flush(self) -> None: ...


class PythonTwin(engine_python.PythonEngine):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0))
        self._datagrams.close()
        self._datagrams = _Sent()  # type: ignore[assignment]
        self._listener = Listener()  # type: ignore[assignment]
        self._arrived = ffi.new("char[]", SLOT)
        self._view = memoryview(ffi.buffer(self._arrived)).cast("B")

    def feed(self, address: Address, data: bytes, now_ns: int) -> None:
        self._now = now_ns
        if 0 < len(data) <= 1600:
            ffi.memmove(self._arrived, data, len(data))
            self._take(raw_address(address), self._arrived, self._view, 0, len(data))

    def outcome(self) -> list[tuple[bytes, bytes]]:
        sent, self._datagrams.sent = self._datagrams.sent, []  # type: ignore[attr-defined]
        return list(sent)


class CTwin(engine_c.CEngine):
    def __init__(self) -> None:
        self._ffi, self._lib = native.load()
        self._begin(-1)
        self._listener = Listener()  # type: ignore[assignment]
        self._sent: list[tuple[bytes, bytes]] = []

    def feed(self, address: Address, data: bytes, now_ns: int) -> None:
        self._lib.qe_feed(self._engine, raw_address(address), data, len(data), now_ns)
        self._news()

    def send_datagram(self, data: bytes, address: Address) -> None:
        self._sent.append((raw_address(address), data))

    def outcome(self) -> list[tuple[bytes, bytes]]:
        self._lib.qe_work(self._engine)
        memory = self._ffi.new("uint8_t[]", _ROOM)
        while length := self._lib.qe_output(self._engine, self._raw, memory, _ROOM):
            self._sent.append((self._ffi.buffer(self._raw)[:], self._ffi.buffer(memory, length)[:]))
        sent, self._sent = self._sent, []
        return sent


def session(key: bytes, direction: int) -> pylibsrtp.Session:
    policy = pylibsrtp.Policy(key=key, ssrc_type=direction, srtp_profile=pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM)
    policy.window_size = 1024
    policy.allow_repeat_tx = True
    return pylibsrtp.Session(policy)


def keys_of(inward: bytes, outward: bytes) -> SrtpKeys:
    ins, outs = pylibsrtp.Policy.SSRC_ANY_INBOUND, pylibsrtp.Policy.SSRC_ANY_OUTBOUND
    return SrtpKeys(session(inward, ins), session(outward, outs), session(inward, ins), session(outward, outs))


class Client:
    """Encrypts what one participant sends, however odd it is."""

    def __init__(self, key: bytes) -> None:
        self._rtp = session(key, pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
        self.rtcp = session(key, pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
        self._memory = ffi.new("char[]", _ROOM)
        self._length = ffi.new("int *")

    def seal(self, data: bytes) -> bytes | None:
        """None when libsrtp refuses to."""
        ffi.memmove(self._memory, data, len(data))
        self._length[0] = len(data)
        if lib.srtp_protect(self._rtp._srtp[0], self._memory, self._length):
            return None
        return bytes(ffi.buffer(self._memory, self._length[0]))


class Twins:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
        self.now_ns = 5_000_000_000
        clock = SimpleNamespace(monotonic_ns=lambda: self.now_ns)
        for module in (engine_python_readings, engine_c_readings):
            monkeypatch.setattr(module, "time", clock)
        for module in (engine_python, engine_c):
            chance = random.Random(seed)
            monkeypatch.setattr(module, "time", clock)
            monkeypatch.setattr(module, "secrets", SimpleNamespace(randbelow=chance.randrange))
        self.engines: tuple[Any, Any] = (PythonTwin(), CTwin())
        self.taps: dict[str, tuple[Tap, Tap]] = {}
        self.sent = 0

    def connect(self, name: str, key: bytes, address: Address) -> None:
        for engine in self.engines:
            engine.bind(name, address)
            engine.add_transport(name, keys_of(key, bytes(reversed(key))))
            engine.send_to(name, address)
        self.same()

    def do(self, order: str, *what: Any, **more: Any) -> Any:
        """The same order to both; their answers must be equal, and so must be all that follows from it."""
        answers = [getattr(engine, order)(*what, **more) for engine in self.engines]
        assert answers[0] == answers[1], (order, what, *answers)
        self.same((order, *what))
        return answers[0]

    def tap(self, order: str, track: str) -> None:
        for engine, tap in zip(self.engines, self.taps.setdefault(track, (Tap(), Tap())), strict=True):
            getattr(engine, order)(track, tap)
        self.same((order, track))

    def feed(self, address: Address, data: bytes) -> None:
        for engine in self.engines:
            engine.feed(address, data, self.now_ns)
        self.same(("packet", data.hex()))

    def same(self, after: Any = None) -> None:
        python, c = (engine.outcome() for engine in self.engines)
        assert python == c, after
        self.sent += len(python)
        ours, theirs = (engine._listener.heard for engine in self.engines)
        assert ours == theirs, after
        for one in (ours, theirs):
            one.clear()
        for pair in self.taps.values():
            assert pair[0].heard == pair[1].heard, after
        assert self.engines[0].strangers == self.engines[1].strangers

    def close(self) -> None:
        self.engines[1]._freed()
