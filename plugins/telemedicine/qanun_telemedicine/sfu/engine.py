"""The data plane's interface: what the control plane asks of an engine, and what it hears from it.

An engine owns the UDP socket. It decrypts, rewrites, encrypts and sends; it decides nothing. The Python engine is the
executable specification; the C engine stands in its place wherever it could be built and keeps to this page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from qanun_telemedicine.sfu.addresses import Address
from qanun_telemedicine.sfu.rtcp import Report, SenderReport
from qanun_telemedicine.sfu.tap import Tap


@dataclass(frozen=True, slots=True)
class SrtpKeys:
    """pylibsrtp sessions of one transport. RTP and RTCP never share one: they may live on different threads."""

    rtp_in: Any
    rtp_out: Any
    rtcp_in: Any
    rtcp_out: Any


@dataclass(frozen=True)
class TrackSpec:
    """A published track: how its packets are told apart and what is in them."""

    id: str
    participant: str
    kind: str
    codec: str
    clock_rate: int
    payload_type: int
    rtx_payload_type: int | None = None
    mid: str = ""
    #: What the publisher calls it: "microphone", "camera", "screen".
    source: str = ""
    #: Header extension ids the publisher uses, by URI.
    extensions: Mapping[str, int] = field(default_factory=dict)
    #: Simulcast layers as offered; empty without simulcast.
    rids: tuple[str, ...] = ()
    #: SSRCs known from the description: ssrc → (rid or "", whether it carries retransmissions).
    ssrcs: Mapping[int, tuple[str, bool]] = field(default_factory=dict)
    #: Sound that may also come with older sound before it (RED, RFC 2198).
    red_payload_type: int | None = None


@dataclass(frozen=True)
class SenderSpec:
    """A section of a subscriber's description that tracks can be sent in, one at a time."""

    id: str
    kind: str
    codec: str
    clock_rate: int
    payload_type: int
    ssrc: int
    rtx_payload_type: int | None = None
    rtx_ssrc: int = 0
    extensions: Mapping[str, int] = field(default_factory=dict)
    cname: str = ""
    #: Further codecs that can be sent here: payload types of each and of its retransmissions.
    others: Mapping[str, tuple[int, int | None]] = field(default_factory=dict)
    red_payload_type: int | None = None

    def payloads(self, codec: str) -> tuple[int, int | None] | None:
        """The payload types for this codec; None when it cannot be sent here."""
        return (self.payload_type, self.rtx_payload_type) if codec == self.codec else self.others.get(codec)


class LayerState(NamedTuple):
    """One layer inside of a stream that holds several. Octets are its own, without those of the layers below."""

    spatial: int
    temporal: int
    width: int
    octets: int
    last_ns: int

    @property
    def name(self) -> str:
        """As `Engine.select` takes it."""
        return f"S{self.spatial}T{self.temporal}"


@dataclass(slots=True)
class StreamState:
    """One received SSRC, as the control plane sees it. Times are monotonic nanoseconds."""

    ssrc: int
    track: str
    rid: str
    retransmission: bool
    packets: int
    octets: int
    width: int
    last_ns: int
    report: Report
    #: The layers in it; empty when it has none.
    layers: tuple[LayerState, ...] = ()


@dataclass(slots=True)
class SenderState:
    """What went out in one section of a subscriber."""

    id: str
    ssrc: int
    track: str
    rid: str
    packets: int
    octets: int
    retransmitted: int
    last_ns: int
    #: Number of the newest packet.
    sequence: int
    #: Of a stream that holds several layers, the highest one that goes out, like "S1T2".
    layer: str = ""


@dataclass(slots=True)
class Counters:
    """Of one transport, since it was added."""

    received: int = 0
    received_octets: int = 0
    sent: int = 0
    sent_octets: int = 0
    #: Failed authentication, replays, malformed packets.
    rejected: int = 0
    #: Packets of no known track.
    unrouted: int = 0
    #: Exceptions while forwarding to this subscriber; the publisher never notices.
    failures: int = 0


def layer_named(name: str) -> tuple[int, int] | None:
    """(spatial, temporal) of "S<n>T<n>"."""
    if len(name) == 4 and name[0] == "S" and name[2] == "T" and name[1] in "0123" and name[3] in "0123":
        return int(name[1]), int(name[3])
    return None


class EngineListener(Protocol):
    """What an engine reports, on the event loop."""

    def datagram(self, data: bytes, address: Address) -> None:
        """STUN and DTLS, and nothing else."""

    def rtcp_received(self, transport: str, data: bytes, arrival_ns: int) -> None:
        """A decrypted compound packet."""

    def first_packet(self, track: str) -> None: ...

    def key_frame_needed(self, track: str, rid: str) -> None: ...

    def moved(self, transport: str, address: Address) -> None:
        """Authentic media now comes from there, and is sent there."""


class Engine(Protocol):
    """The data plane of one worker."""

    #: "python" or "c".
    kind: str
    address: Address

    def start(self, listener: EngineListener) -> None: ...
    def close(self) -> None: ...

    def send_datagram(self, data: bytes, address: Address) -> None: ...
    def send_rtcp(self, transport: str, data: bytes) -> None: ...

    def add_transport(self, transport: str, keys: SrtpKeys) -> None: ...
    def bind(self, transport: str, address: Address) -> None:
        """Packets from this address belong to the transport; one that is not added yet is remembered."""

    def send_to(self, transport: str, address: Address) -> None: ...
    def remove_transport(self, transport: str) -> None: ...

    def publish(self, transport: str, track: TrackSpec) -> None: ...
    def unpublish(self, track: str) -> None: ...

    def add_sender(self, transport: str, sender: SenderSpec) -> None: ...
    def remove_sender(self, transport: str, sender: str) -> None: ...
    def route(self, transport: str, sender: str, track: str | None, *, paused: bool = False) -> None:
        """Send this track in that section from now on; video begins with the next key frame."""

    def select(self, transport: str, sender: str, rid: str) -> None:
        """Switch to this simulcast layer at its next key frame; or, in a stream that holds layers, to all up to "S<n>T<n>"
        as soon as the stream allows it."""

    def retransmit(self, transport: str, ssrc: int, sequences: Sequence[int]) -> int: ...
    def translate(self, report: SenderReport, track: str) -> list[tuple[str, SenderReport, str]]:
        """A publisher's report as each subscriber must get it: (transport, report, cname)."""

    def add_tap(self, track: str, tap: Tap) -> None: ...
    def remove_tap(self, track: str, tap: Tap) -> None: ...

    def sent(self, transport: str, first: int, count: int) -> list[tuple[int, int] | None]:
        """(ns, octets) of packets sent under these transport-wide numbers; None where not known any more."""
        ...

    def receiving(self, since_ns: int) -> set[str]:
        """Transports from which media came after this moment; the others have nothing to be told or asked."""
        ...

    def take_arrivals(self, transport: str) -> list[tuple[int, int]]:
        """(transport-wide sequence, arrival ns) since the last call."""
        ...

    def streams(self, transport: str) -> list[StreamState]:
        """Also advances the interval of the reports, like sending a receiver report does."""
        ...

    def streams_of(self, track: str) -> list[StreamState]:
        """The SSRCs of one track, without touching the interval of their reports."""
        ...

    def waiting(self, transports: Sequence[str]) -> list[tuple[str, str]]:
        """(track, rid) that some section of these transports cannot show (as wanted) before a key frame comes."""
        ...

    def missing(self, transport: str, now_ns: int) -> list[tuple[int, list[int]]]:
        """(ssrc, sequences) that should be asked for now."""
        ...

    def senders(self, transport: str) -> list[SenderState]: ...
    def level(self, track: str) -> int:
        """Loudness 0 (silence) to 127 of a track over the last packets, from the level extension."""
        ...

    def counters(self, transport: str) -> Counters: ...
