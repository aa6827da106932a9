"""What the control plane reads from the Python engine: streams, sections, gaps, arrivals, counters."""

import time
from collections.abc import Sequence

from qanun_telemedicine.sfu.engine import Counters, EngineListener, SenderState, StreamState
from qanun_telemedicine.sfu.streams import Track, Transport


class Readings:
    """Half of `engine_python.PythonEngine`, which sets what is declared here."""

    _listener: EngineListener
    _transports: dict[str, Transport]
    _tracks: dict[str, Track]

    def sent(self, transport: str, first: int, count: int) -> list[tuple[int, int] | None]:
        one = self._transports.get(transport)
        if one is None:
            return []
        return [one.sent_as(number) for number in range(first, first + count)]

    def receiving(self, since_ns: int) -> set[str]:
        return {
            name
            for name, one in self._transports.items()
            if any(stream.reception.last_ns > since_ns for stream in one.streams.values())
        }

    def take_arrivals(self, transport: str) -> list[tuple[int, int]]:
        one = self._transports.get(transport)
        if one is None or not one.arrivals:
            return []
        arrivals, one.arrivals = one.arrivals, []
        return arrivals

    def streams(self, transport: str) -> list[StreamState]:
        one = self._transports.get(transport)
        if one is None:
            return []
        now = time.monotonic_ns()
        return [stream.state(now, advance=True) for stream in one.streams.values()]

    def streams_of(self, track: str) -> list[StreamState]:
        one = self._tracks.get(track)
        if one is None:
            return []
        now = time.monotonic_ns()
        return [each.state(now, advance=False) for each in one.transport.streams.values() if each.track is one]

    def waiting(self, transports: Sequence[str]) -> list[tuple[str, str]]:
        chosen = [self._transports[name] for name in transports if name in self._transports]
        return sorted({each for one in chosen if one.keys is not None for each in one.waiting()})

    def missing(self, transport: str, now_ns: int) -> list[tuple[int, list[int]]]:
        one = self._transports.get(transport)
        if one is None:
            return []
        for stream in one.streams.values():
            if stream.reception.broken:
                stream.reception.broken = False
                self._listener.key_frame_needed(stream.track.spec.id, stream.rid)
        return [(ssrc, due) for ssrc, stream in one.streams.items() if (due := stream.reception.due(now_ns))]

    def senders(self, transport: str) -> list[SenderState]:
        one = self._transports.get(transport)
        return one.sender_states() if one is not None else []

    def level(self, track: str) -> int:
        one = self._tracks.get(track)
        return one.level if one is not None else 0

    def counters(self, transport: str) -> Counters:
        one = self._transports.get(transport)
        return one.counters if one is not None else Counters()
