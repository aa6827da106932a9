"""What may listen to published tracks: the recorder, through this protocol. The worker finds one by its dotted path.

A tap lives in the worker's event loop: none of its methods may block, except `close`, which runs in a thread.
"""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast


class Track(Protocol):
    """What a tap is told of a published track."""

    @property
    def id(self) -> str: ...
    @property
    def participant(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def codec(self) -> str: ...
    @property
    def clock_rate(self) -> int: ...
    @property
    def payload_type(self) -> int: ...


class Tap(Protocol):
    """Constructed with the `options` of the request that asked for it."""

    @property
    def codecs(self) -> frozenset[str]:
        """The video codecs that it can take, as `payloads.CODECS` names them."""
        ...

    def track_added(self, track: Track) -> None: ...

    def track_removed(self, track: Track) -> None: ...

    def packet(self, track: Track, rtp: bytes, arrival_ns: int) -> None:
        """One decrypted RTP packet as published; of simulcast layers the widest that arrives."""

    def sender_report(self, track: Track, ntp: int, timestamp: int, arrival_ns: int) -> None: ...

    def keyframes_wanted(self) -> set[str]:
        """Ids of tracks whose publisher should send a key frame now; asked every few 100 ms."""
        ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def status(self) -> dict[str, Any]: ...

    def close(self) -> None: ...


class TapRefused(ValueError):
    """The dotted path leads nowhere or to a place that the worker was not told to allow."""


def load(path: str, options: Mapping[str, Any], allowed: Sequence[str]) -> Tap:
    """Construct the tap at `package.module:Class`; its module must begin with one of the `allowed` prefixes."""
    module, _, name = path.partition(":")
    if not name.isidentifier() or not any(module == prefix or module.startswith(prefix + ".") for prefix in allowed):
        raise TapRefused(f"tap {path!r} is not allowed")
    try:
        factory = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise TapRefused(f"tap {path!r} cannot be loaded: {error}") from error
    return cast(Tap, factory(options))
