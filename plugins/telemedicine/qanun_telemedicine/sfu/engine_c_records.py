"""What the C engine and Python hand each other, in both directions: descriptions as C structs, C structs as states.

Python's side of every transport, track and section keeps its name and its handle. Nothing here calls the engine.
"""

from typing import Any

from qanun_telemedicine.sfu import rtp
from qanun_telemedicine.sfu.engine import LayerState, SenderSpec, SenderState, SrtpKeys, StreamState, TrackSpec
from qanun_telemedicine.sfu.payloads import CODECS, MOST_LAYERS
from qanun_telemedicine.sfu.rtcp import Report
from qanun_telemedicine.sfu.tap import Tap

#: Extensions that travel with a packet, in the order by which the C side knows them.
CARRIED = sorted(rtp.CARRIED)
#: Room for them in `qe_sender_spec`.
_CARRIED_ROOM = 8


def _kind(payload_type: int | None) -> int:
    return -1 if payload_type is None else payload_type


class Transport:
    """One participant's connection."""

    def __init__(self, name: str, serial: int, handle: Any) -> None:
        self.name = name
        self.serial = serial
        self.handle = handle
        self.keys: SrtpKeys | None = None
        self.addresses: list[bytes] = []
        self.tracks: dict[str, Track] = {}
        self.senders: dict[str, Sender] = {}
        self.by_ssrc: dict[int, Sender] = {}
        #: Ids of MID, RID, repaired RID and the transport-wide number, as published last.
        self.ids = [0, 0, 0, 0]
        #: RTCP that was refused here; the engine counts the rest.
        self.rejected = 0


class Track:
    """One published track."""

    def __init__(self, spec: TrackSpec, transport: Transport, serial: int, handle: Any) -> None:
        self.spec = spec
        self.transport = transport
        self.serial = serial
        self.handle = handle
        self.taps: list[Tap] = []

    def rid(self, index: int) -> str:
        return self.spec.rids[index] if index >= 0 else ""


class Sender:
    """One section of a subscriber."""

    def __init__(self, spec: SenderSpec, serial: int, handle: Any) -> None:
        self.spec = spec
        self.serial = serial
        self.handle = handle


def track_struct(ffi: Any, serial: int, track: TrackSpec) -> tuple[Any, list[Any]]:
    """A `qe_track_spec`, and what must live as long as it: a struct does not keep what it points to."""
    mid = ffi.new("char[]", track.mid.encode())
    rids = [ffi.new("char[]", rid.encode()) for rid in track.rids]
    names = ffi.new("char *[]", rids)
    ssrcs = ffi.new("uint32_t[]", list(track.ssrcs))
    layers = [track.rids.index(rid) if rid in track.rids else -1 for rid, _ in track.ssrcs.values()]
    ssrc_rids = ffi.new("int32_t[]", layers)
    carried = ffi.new(
        "qe_extension[]",
        [(CARRIED.index(uri), number) for uri, number in track.extensions.items() if uri in rtp.CARRIED],
    )
    struct = ffi.new(
        "qe_track_spec *",
        {
            "serial": serial,
            "video": track.kind == "video",
            "payload_type": track.payload_type,
            "rtx_payload_type": _kind(track.rtx_payload_type),
            "red_payload_type": _kind(track.red_payload_type),
            "codec": CODECS.index(track.codec) if track.codec in CODECS else 0,
            "descriptor_id": track.extensions.get(rtp.DEPENDENCY, 0),
            "clock_rate": track.clock_rate,
            "level_id": track.extensions.get(rtp.AUDIO_LEVEL, 0),
            "mid": mid,
            "rids": names,
            "rid_count": len(rids),
            "ssrcs": ssrcs,
            "ssrc_rids": ssrc_rids,
            "ssrc_count": len(ssrcs),
            "carried": carried,
            "carried_count": len(carried),
        },
    )
    return struct, [mid, rids, names, ssrcs, ssrc_rids, carried]


def sender_struct(ffi: Any, serial: int, sender: SenderSpec, first_sequence: int, first_timestamp: int) -> Any:
    """A `qe_sender_spec`."""
    carried = [sender.extensions.get(uri, -1) for uri in CARRIED]
    kinds = [sender.payloads(codec) for codec in CODECS]
    return ffi.new(
        "qe_sender_spec *",
        {
            "serial": serial,
            "video": sender.kind == "video",
            "payload_types": [each[0] if each is not None else -1 for each in kinds],
            "rtx_payload_types": [_kind(each[1]) if each is not None else -1 for each in kinds],
            "red_payload_type": _kind(sender.red_payload_type),
            "wide": rtp.DEPENDENCY in sender.extensions,
            "ssrc": sender.ssrc,
            "rtx_ssrc": sender.rtx_ssrc,
            "clock_rate": sender.clock_rate,
            "number_id": sender.extensions.get(rtp.TRANSPORT_CC, 0),
            "first_sequence": first_sequence,
            "first_timestamp": first_timestamp,
            "carried": carried + [-1] * (_CARRIED_ROOM - len(carried)),
        },
    )


def stream_state(one: Any, track: Track) -> StreamState:
    """From a `qe_stream_state`."""
    return StreamState(
        one.ssrc,
        track.spec.id,
        track.rid(one.rid),
        bool(one.retransmission),
        one.packets,
        one.octets,
        one.width,
        one.last_ns,
        Report(
            one.ssrc,
            one.fraction_lost,
            one.packets_lost,
            one.highest_sequence,
            one.jitter,
            one.last_sr,
            one.delay,
        ),
        _layers(one) if one.layered else (),
    )


def _layers(one: Any) -> tuple[LayerState, ...]:
    return tuple(
        LayerState(*divmod(place, MOST_LAYERS), one.widths[place // MOST_LAYERS], octets, one.layer_ns[place])
        for place, octets in enumerate(one.layer_octets)
        if octets
    )


def sender_state(one: Any, spec: SenderSpec, track: Track | None) -> SenderState:
    """From a `qe_sender_state`."""
    name, rid = (track.spec.id, track.rid(one.rid)) if track is not None else ("", "")
    layer = f"S{one.spatial}T{one.temporal}" if one.spatial >= 0 else ""
    return SenderState(
        spec.id, spec.ssrc, name, rid, one.packets, one.octets, one.retransmitted, one.last_ns, one.sequence, layer
    )
