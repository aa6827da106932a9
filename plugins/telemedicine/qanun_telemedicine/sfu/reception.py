"""What is known of one received SSRC: loss and jitter for receiver reports (RFC 3550, A.3 and A.8), gaps for NACKs, a history.

The history is shared by all subscribers of the stream: it holds packets as the publisher sent them.
"""

from qanun_telemedicine.sfu import dependency
from qanun_telemedicine.sfu.engine import LayerState
from qanun_telemedicine.sfu.payloads import READERS, SCALABLE, Glance
from qanun_telemedicine.sfu.rtcp import Report
from qanun_telemedicine.sfu.rtp import Packet, newer

HISTORY = 512
#: A gap longer than this is not asked for packet by packet: a key frame is cheaper.
_MOST_MISSING = 128
_RETRIES = 8
_RETRY_NS = 60_000_000
#: Reordering is waited out before the first NACK.
_PATIENCE_NS = 12_000_000


class Reception:
    """One stream of packets with consecutive numbers."""

    def __init__(self, ssrc: int, clock_rate: int, *, keep: bool, codec: str = "vp8", descriptor_id: int = 0) -> None:
        self.ssrc = ssrc
        self.codec = codec
        #: Under which id its dependency descriptors come; 0 for none.
        self.descriptor_id = descriptor_id
        #: What they refer to, from the last key frame.
        self.structure: dependency.Structure | None = None
        #: The number of the packet that brought it.
        self._structured = 0
        self._read = READERS.get(codec)
        #: (spatial, temporal) → octets, last ns; and widths by spatial layer.
        self._layers: dict[tuple[int, int], tuple[int, int]] = {}
        self._widths: tuple[int, ...] = ()
        self.clock_rate = clock_rate
        self.packets = 0
        self.octets = 0
        self.last_ns = 0
        self.width = 0
        #: The gap was too long: only a key frame helps.
        self.broken = False
        self._base = -1
        self._highest = 0
        self._transit = 0
        self._jitter = 0.0
        self._reported: tuple[int, int] = (0, 0)
        self._missing: dict[int, list[int]] = {}
        self._history: list[Packet | None] | None = [None] * HISTORY if keep else None
        self._last_sr = 0
        self._last_sr_ns = 0

    def arrived(self, packet: Packet, size: int, now_ns: int) -> bool:
        """Count a packet. False when it is a repetition."""
        sequence = packet.sequence
        if self._base < 0:
            self._base = self._highest = sequence
        else:
            ahead = (sequence - self._highest) & 0xFFFF
            if ahead == 0:
                return False
            if ahead < 0x8000:
                if ahead > 1:
                    self._gap(ahead, now_ns)
                self._highest += ahead
            elif self._missing.pop(sequence, None) is None and self._seen(sequence):
                return False
        self.packets += 1
        self.octets += size
        self.last_ns = now_ns
        transit = now_ns * self.clock_rate // 1_000_000_000 - packet.timestamp
        if self._transit:
            self._jitter += (
                abs(((transit - self._transit + 0x80000000) & 0xFFFFFFFF) - 0x80000000) - self._jitter
            ) / 16
        self._transit = transit
        if self._history is not None:
            self._history[sequence % HISTORY] = packet
        return True

    def look(self, packet: Packet, size: int, now_ns: int) -> None:
        """Find out what of which picture an arrived packet carries, and note it there and here."""
        payload = packet.payload
        what: Glance | None = None
        if self.codec == "vp8":
            # Only the first packet of a frame can begin a key frame: S set, partition 0.
            if payload and payload[0] & 0x17 == 0x10:
                what = self.glance(payload)
        elif not packet.padding_only():
            if self.descriptor_id and self.descriptor_id in packet.extensions:
                what = self._described(packet.extensions[self.descriptor_id], packet.sequence)
            else:
                what = self.glance(payload)
            if self.codec in SCALABLE:
                packet.glance = what
        if what is None:
            return
        if what.key:
            packet.key = True
            self.broken = False
            self.width = what.width or self.width
        if what.layered:
            if what.widths:
                self._widths = what.widths
            layer = what.spatial, what.temporal
            self._layers[layer] = self._layers.get(layer, (0, 0))[0] + size, now_ns

    def _described(self, data: bytes, sequence: int) -> Glance | None:
        what = dependency.read(data, self.structure)
        if what is None:
            return None
        if what.attached:
            # Also one that comes late, or again: what follows cannot be read without it.
            if self.structure is None or newer(sequence, self._structured):
                self.structure, self._structured = what.structure, sequence
            what.structure.active = what.structure.active if what.active is None else what.active
        elif what.active is not None and sequence == self._highest & 0xFFFF:
            what.structure.active = what.active
        return dependency.glance(what)

    def glance(self, payload: bytes) -> Glance | None:
        """The descriptor that a payload of this stream begins with."""
        return self._read(payload) if self._read is not None else None

    def layers(self) -> tuple[LayerState, ...]:
        return tuple(
            LayerState(spatial, temporal, self._widths[spatial] if spatial < len(self._widths) else 0, octets, last_ns)
            for (spatial, temporal), (octets, last_ns) in sorted(self._layers.items())
        )

    def _seen(self, sequence: int) -> bool:
        return self._history is not None and self.recall(sequence) is not None

    def _gap(self, ahead: int, now_ns: int) -> None:
        if self._history is None:
            return
        if ahead > _MOST_MISSING or len(self._missing) + ahead > _MOST_MISSING:
            self._missing.clear()
            self.broken = True
            return
        for step in range(1, ahead):
            self._missing[(self._highest + step) & 0xFFFF] = [0, now_ns + _PATIENCE_NS]

    def recall(self, sequence: int) -> Packet | None:
        if self._history is None:
            return None
        packet = self._history[sequence % HISTORY]
        return packet if packet is not None and packet.sequence == sequence else None

    def due(self, now_ns: int) -> list[int]:
        """Missing packets that should be asked for now, oldest first; after so many times in vain they are given up."""
        wanted: list[int] = []
        for sequence, (tries, at) in list(self._missing.items()):
            if tries == _RETRIES:
                del self._missing[sequence]
                self.broken = True
            elif at <= now_ns:
                self._missing[sequence] = [tries + 1, now_ns + _RETRY_NS]
                wanted.append(sequence)
        return sorted(wanted, key=lambda sequence: (sequence - self._highest) & 0xFFFF)

    def sender_report(self, ntp: int, now_ns: int) -> None:
        self._last_sr = ntp >> 16 & 0xFFFFFFFF
        self._last_sr_ns = now_ns

    def report(self, now_ns: int, *, advance: bool) -> Report:
        """The report block for the interval since the last one; with `advance` the next interval begins."""
        expected = self._highest - self._base + 1 if self._base >= 0 else 0
        lost = expected - self.packets
        expected_before, packets_before = self._reported
        if advance:
            self._reported = (expected, self.packets)
        interval = expected - expected_before
        lost_now = interval - (self.packets - packets_before)
        fraction = min(255, (lost_now << 8) // interval) if interval > 0 and lost_now > 0 else 0
        delay = (now_ns - self._last_sr_ns) * 65536 // 1_000_000_000 if self._last_sr_ns else 0
        return Report(self.ssrc, fraction, lost, self._highest, int(self._jitter), self._last_sr, delay)
