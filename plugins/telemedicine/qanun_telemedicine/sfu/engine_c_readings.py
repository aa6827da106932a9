"""What the control plane reads from the C engine: streams, sections, gaps, arrivals, counters.

Each answer is copied out under the engine's lock, into memory that is made once. Nothing is changed here but the interval of
reports and the times at which gaps are asked for.
"""

import time
from collections.abc import Sequence
from typing import Any

from qanun_telemedicine.sfu.engine import Counters, EngineListener, SenderState, StreamState
from qanun_telemedicine.sfu.engine_c_records import Track, Transport, sender_state, stream_state

#: SSRCs one transport may invent, as in state.h.
MOST_STREAMS = 64
_MOST_ARRIVALS = 5000
_MOST_MISSING = 128 * MOST_STREAMS


class Readings:
    """Half of `engine_c.CEngine`, which sets what is declared here."""

    _ffi: Any
    _lib: Any
    _engine: Any
    _listener: EngineListener
    _transports: dict[str, Transport]
    _tracks: dict[str, Track]
    _by_serial: dict[int, Any]

    def _begin_readings(self) -> None:
        new = self._ffi.new
        self._numbers = new("qe_numbered[]", _MOST_ARRIVALS)
        self._streams = new("qe_stream_state[]", MOST_STREAMS)
        self._pairs = new("uint32_t[]", 2 * _MOST_MISSING)
        self._layers = new("qe_layer[]", MOST_STREAMS)
        self._sender_states = new("qe_sender_state[]", 0)
        self._count = new("uint32_t *")
        self._receivers = new("uint32_t[]", 64)

    def sent(self, transport: str, first: int, count: int) -> list[tuple[int, int] | None]:
        one = self._transports.get(transport)
        if one is None or count < 1:
            return []
        numbers = self._numbers if count <= _MOST_ARRIVALS else self._ffi.new("qe_numbered[]", count)
        self._lib.qe_sent(self._engine, one.handle, first & 0xFFFF, count, numbers)
        return [(each.at_ns, each.octets) if each.octets else None for each in numbers[0:count]]

    def receiving(self, since_ns: int) -> set[str]:
        if len(self._receivers) < len(self._transports):
            self._receivers = self._ffi.new("uint32_t[]", 2 * len(self._transports))
        count = self._lib.qe_receiving(self._engine, since_ns, self._receivers, len(self._receivers))
        return {self._by_serial[serial].name for serial in self._receivers[0:count]}

    def take_arrivals(self, transport: str) -> list[tuple[int, int]]:
        one = self._transports.get(transport)
        if one is None:
            return []
        count = self._lib.qe_take_arrivals(self._engine, one.handle, self._numbers, _MOST_ARRIVALS)
        return [(each.number, each.at_ns) for each in self._numbers[0:count]] if count else []

    def streams(self, transport: str) -> list[StreamState]:
        one = self._transports.get(transport)
        return self._stream_states(one.handle, self._ffi.NULL, advance=True) if one is not None else []

    def streams_of(self, track: str) -> list[StreamState]:
        one = self._tracks.get(track)
        return self._stream_states(self._ffi.NULL, one.handle, advance=False) if one is not None else []

    def _stream_states(self, transport: Any, track: Any, *, advance: bool) -> list[StreamState]:
        out, now = self._streams, time.monotonic_ns()
        count = self._lib.qe_streams(self._engine, transport, track, advance, now, out, MOST_STREAMS)
        return [stream_state(each, self._by_serial[each.track]) for each in out[0:count]]

    def waiting(self, transports: Sequence[str]) -> list[tuple[str, str]]:
        found: set[tuple[str, str]] = set()
        for name in transports:
            one = self._transports.get(name)
            if one is not None and one.keys is not None:
                out = (
                    self._layers if len(one.senders) <= MOST_STREAMS else self._ffi.new("qe_layer[]", len(one.senders))
                )
                count = self._lib.qe_waiting(self._engine, one.handle, out, len(out))
                found.update(self._layer(each) for each in out[0:count])
        return sorted(found)

    def _layer(self, layer: Any) -> tuple[str, str]:
        track: Track = self._by_serial[layer.serial]
        return track.spec.id, track.rid(layer.rid)

    def missing(self, transport: str, now_ns: int) -> list[tuple[int, list[int]]]:
        one = self._transports.get(transport)
        if one is None:
            return []
        pairs = self._pairs
        count = self._lib.qe_missing(
            self._engine, one.handle, now_ns, pairs, _MOST_MISSING, self._layers, self._count, MOST_STREAMS
        )
        # Asked of everybody twenty times a second, and mostly there is nothing.
        if self._count[0]:
            for track, rid in [self._layer(each) for each in self._layers[0 : self._count[0]]]:
                self._listener.key_frame_needed(track, rid)
        if not count:
            return []
        made: dict[int, list[int]] = {}
        for at in range(0, 2 * count, 2):
            made.setdefault(pairs[at], []).append(pairs[at + 1])
        return list(made.items())

    def _states(self, transport: Transport) -> list[Any]:
        # The entries point into the array and do not keep it: it stays here until the next call.
        out = self._sender_states = self._ffi.new("qe_sender_state[]", len(transport.senders))
        return list(out[0 : self._lib.qe_senders(self._engine, transport.handle, out, len(out))])

    def senders(self, transport: str) -> list[SenderState]:
        one = self._transports.get(transport)
        return [
            sender_state(each, self._by_serial[each.serial].spec, self._by_serial.get(each.track))
            for each in (self._states(one) if one is not None else ())
        ]

    def level(self, track: str) -> int:
        one = self._tracks.get(track)
        return int(self._lib.qe_level(self._engine, one.handle)) if one is not None else 0

    def counters(self, transport: str) -> Counters:
        one = self._transports.get(transport)
        if one is None:
            return Counters()
        out = self._ffi.new("qe_counters *")
        self._lib.qe_counters_of(self._engine, one.handle, out)
        rejected = out.rejected + one.rejected
        return Counters(
            out.received, out.received_octets, out.sent, out.sent_octets, rejected, out.unrouted, out.failures
        )
