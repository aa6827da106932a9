"""What the Python engine knows of each transport: which SSRC belongs to which track and layer, and who gets it.

Only bookkeeping: nothing is received or sent here.
"""

from typing import Any

from qanun_telemedicine.sfu import rtp
from qanun_telemedicine.sfu.engine import Counters, SenderState, SrtpKeys, StreamState, TrackSpec
from qanun_telemedicine.sfu.forwarding import Sender
from qanun_telemedicine.sfu.reception import Reception
from qanun_telemedicine.sfu.tap import Tap

#: SSRCs one transport may invent.
_MOST_STREAMS = 64
#: Sent packets remembered for transport-wide feedback: some seconds of video.
_SENT_LOG = 2048
#: A layer that sent nothing for this long does not arrive.
_ALIVE_NS = 1_500_000_000


class Stream:
    """One SSRC that a transport sends."""

    __slots__ = ("reception", "retransmission", "rid", "track")

    def __init__(self, reception: Reception, track: "Track", rid: str, retransmission: bool) -> None:
        self.reception = reception
        self.track = track
        self.rid = rid
        self.retransmission = retransmission

    def state(self, now_ns: int, *, advance: bool) -> StreamState:
        reception = self.reception
        return StreamState(
            reception.ssrc,
            self.track.spec.id,
            self.rid,
            self.retransmission,
            reception.packets,
            reception.octets,
            reception.width,
            reception.last_ns,
            reception.report(now_ns, advance=advance),
            reception.layers(),
        )


class Track:
    """One published track with its layers and who gets it."""

    def __init__(self, spec: TrackSpec, transport: "Transport") -> None:
        self.spec = spec
        self.transport = transport
        self.layers: dict[str, Stream] = {}
        self.outputs: list[tuple[Transport, Sender]] = []
        self.taps: list[Tap] = []
        self.tapped: Stream | None = None
        self.level = 0
        self.started = False
        self.extensions = dict(spec.extensions)
        self.level_id = spec.extensions.get(rtp.AUDIO_LEVEL, 0)
        self.video = spec.kind == "video"
        #: Payload types that belong here.
        self.kinds = (spec.payload_type, spec.rtx_payload_type, spec.red_payload_type)
        #: Ids of the publisher's extensions that subscribers may get.
        self.carried = frozenset(number for uri, number in spec.extensions.items() if uri in rtp.CARRIED)

    def rid_of(self, reception: Reception | None) -> str:
        return next((rid for rid, stream in self.layers.items() if stream.reception is reception), "")

    def best(self, now_ns: int) -> "Stream | None":
        """The widest layer that arrives."""
        alive = [layer for layer in self.layers.values() if now_ns - layer.reception.last_ns < _ALIVE_NS]
        rids = self.spec.rids
        return max(
            alive,
            key=lambda layer: (layer.reception.width, rids.index(layer.rid) if layer.rid in rids else 0),
            default=None,
        )


class Transport:
    """One participant's connection: what it sends, what is sent to it, and under which keys and addresses."""

    def __init__(self, name: str, keys: SrtpKeys | None) -> None:
        self.name = name
        self.rtp_in: Any = None
        self.rtp_out: Any = None
        self.keys: SrtpKeys | None = None
        if keys is not None:
            self.unlock(keys)
        self.addresses: list[bytes] = []
        self.target: bytes | None = None
        self.tracks: dict[str, Track] = {}
        self.streams: dict[int, Stream] = {}
        self.senders: dict[str, Sender] = {}
        self.by_ssrc: dict[int, Sender] = {}
        self.routes: dict[str, Track] = {}
        self.arrivals: list[tuple[int, int]] = []
        self.counters = Counters()
        #: Transport-wide numbers: the next one, and what went out under the last ones.
        self.number = 0
        self.log: list[tuple[int, int, int] | None] = [None] * _SENT_LOG
        self.mid_id = self.rid_id = self.repaired_id = self.transport_cc_id = 0

    def sent(self, size: int, now_ns: int) -> None:
        """A packet has gone out under the current transport-wide number."""
        self.log[self.number % _SENT_LOG] = (self.number, now_ns, size)
        self.number = (self.number + 1) & 0xFFFF

    def unlock(self, keys: SrtpKeys) -> None:
        self.keys = keys
        self.rtp_in, self.rtp_out = keys.rtp_in._srtp[0], keys.rtp_out._srtp[0]

    def sent_as(self, number: int) -> tuple[int, int] | None:
        """(ns, octets) of the packet that went out under this transport-wide number, while it is remembered."""
        entry = self.log[number % _SENT_LOG]
        return (entry[1], entry[2]) if entry is not None and entry[0] == number & 0xFFFF else None

    def waiting(self) -> list[tuple[str, str]]:
        """(track, rid) that a section here cannot show before a key frame comes."""
        return [
            (track.spec.id, track.rid_of(self.senders[name].wanted))
            for name, track in self.routes.items()
            if self.senders[name].waiting()
        ]

    def sender_states(self) -> list[SenderState]:
        made: list[SenderState] = []
        for name, out in self.senders.items():
            track = self.routes.get(name)
            made.append(
                SenderState(
                    name,
                    out.spec.ssrc,
                    track.spec.id if track is not None else "",
                    track.rid_of(out.current) if track is not None else "",
                    out.packets,
                    out.octets,
                    out.retransmitted,
                    out.last_ns,
                    out.sequence,
                    out.layer,
                )
            )
        return made

    def learn(self, packet: rtp.Packet) -> Stream | None:
        """Which track and layer a new SSRC belongs to: by its extensions, then the description, then the payload type."""
        if len(self.streams) >= _MOST_STREAMS:
            return None
        ssrc, kind, extensions = packet.ssrc, packet.payload_type, packet.extensions
        tracks = self.tracks.values()
        track: Track | None = None
        mid = _text(extensions.get(self.mid_id))
        if mid:
            track = next((one for one in tracks if one.spec.mid == mid), None)
        if track is None:
            track = next((one for one in tracks if ssrc in one.spec.ssrcs), None)
        if track is None:
            fitting = [one for one in tracks if kind in one.kinds]
            track = fitting[0] if len(fitting) == 1 else None
        if track is None:
            return None
        spec = track.spec
        retransmission = kind == spec.rtx_payload_type
        if kind not in track.kinds:
            return None
        rid = ""
        if spec.rids:
            declared = spec.ssrcs.get(ssrc, ("", False))[0]
            rid = _text(extensions.get(self.rid_id)) or _text(extensions.get(self.repaired_id)) or declared
            if rid not in spec.rids:
                return None
        keep, described = track.video and not retransmission, spec.extensions.get(rtp.DEPENDENCY, 0)
        reception = Reception(ssrc, spec.clock_rate, keep=keep, codec=spec.codec, descriptor_id=described)
        stream = self.streams[ssrc] = Stream(reception, track, rid, retransmission)
        if not retransmission:
            track.layers[rid] = stream
        return stream


def _text(value: bytes | None) -> str:
    return value.decode("ascii", "replace") if value else ""
