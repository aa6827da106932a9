"""The data plane in Python: batches of datagrams, libsrtp on preallocated buffers, no packet copied more often than needed.

It is the executable specification of `engine.Engine`. Everything happens on one thread, the event loop's. An exception
towards one subscriber is counted at that subscriber and reaches nobody else.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Sequence
from typing import Any

import pylibsrtp
from pylibsrtp._binding import ffi, lib

from qanun_telemedicine.sfu import payloads, rtp
from qanun_telemedicine.sfu.addresses import Address, address_of, raw_address
from qanun_telemedicine.sfu.datagrams import Datagrams
from qanun_telemedicine.sfu.engine import (
    EngineListener,
    SenderSpec,
    SrtpKeys,
    TrackSpec,
    layer_named,
)
from qanun_telemedicine.sfu.engine_python_readings import Readings
from qanun_telemedicine.sfu.forwarding import Sender
from qanun_telemedicine.sfu.reception import Reception
from qanun_telemedicine.sfu.rtcp import SenderReport
from qanun_telemedicine.sfu.streams import Stream, Track, Transport
from qanun_telemedicine.sfu.tap import Tap

log = logging.getLogger(__name__)

#: Addresses one transport may be reached from.
_MOST_ADDRESSES = 16
#: Arrivals kept when nobody collects them.
_MOST_ARRIVALS = 5000


class PythonEngine(Readings):
    """See `engine.Engine`."""

    kind = "python"

    def __init__(self, listen: Address) -> None:
        self._datagrams = Datagrams(listen)
        self.address = self._datagrams.address
        self._by_address: dict[bytes, Transport] = {}
        self._transports = {}
        self._tracks = {}
        self._length = ffi.new("int *")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._now = 0
        #: Datagrams from addresses that nobody vouched for.
        self.strangers = 0

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self, listener: EngineListener) -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._datagrams.fileno, self._readable)

    def close(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._datagrams.fileno)
            self._loop = None
        self._datagrams.close()

    @property
    def unsent(self) -> int:
        return self._datagrams.unsent

    # -- receiving ----------------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        self._now = time.monotonic_ns()
        self._datagrams.receive(self._take)
        self._datagrams.flush()

    def _take(self, address: bytes, pointer: Any, memory: memoryview, start: int, length: int) -> None:
        if not 127 < memory[start] < 192:
            self._listener.datagram(bytes(memory[start : start + length]), address_of(address))
            return
        transport = self._by_address.get(address)
        if transport is None or transport.keys is None or length < 12:
            self.strangers += 1
            return
        counters = transport.counters
        if 191 < memory[start + 1] < 224:
            self._take_rtcp(transport, address, bytes(memory[start : start + length]))
            return
        size = self._length
        size[0] = length
        if lib.srtp_unprotect(transport.rtp_in, pointer, size):
            counters.rejected += 1
            return
        counters.received += 1
        counters.received_octets += length
        if address != transport.target:
            self._follow(transport, address)
        packet = rtp.parse(bytes(memory[start : start + size[0]]))
        if packet is None:
            counters.rejected += 1
            return
        try:
            self._received(transport, packet, length)
        except Exception:
            counters.rejected += 1
            log.exception("packet of %s could not be forwarded", transport.name)

    def _take_rtcp(self, transport: Transport, address: bytes, data: bytes) -> None:
        try:
            plain = transport.keys.rtcp_in.unprotect_rtcp(data)  # type: ignore[union-attr]
        except (pylibsrtp.Error, ValueError):  # authentication, a replay, or longer than any compound packet
            transport.counters.rejected += 1
            return
        if address != transport.target:
            self._follow(transport, address)
        self._listener.rtcp_received(transport.name, plain, self._now)

    def _follow(self, transport: Transport, address: bytes) -> None:
        # Authentic, and from an address that answered for itself with STUN: the path in use has changed.
        transport.target = address
        self._listener.moved(transport.name, address_of(address))

    def _received(self, transport: Transport, packet: rtp.Packet, size: int) -> None:
        now = self._now
        if transport.transport_cc_id:
            number = packet.extensions.get(transport.transport_cc_id)
            if number is not None and len(number) == 2 and len(transport.arrivals) < _MOST_ARRIVALS:
                transport.arrivals.append((number[0] << 8 | number[1], now))
        stream = transport.streams.get(packet.ssrc)
        if stream is None:
            stream = transport.learn(packet)
            if stream is None:
                transport.counters.unrouted += 1
                return
            if not stream.retransmission:
                self._aim(stream.track)
        if stream.retransmission:
            stream.reception.arrived(packet, size, now)
            primary = stream.track.layers.get(stream.rid)
            if primary is None or packet.padding_only() or len(packet.payload) < 3:
                return
            # RFC 4588: the original sequence number, then the original payload.
            packet.sequence = packet.payload[0] << 8 | packet.payload[1]
            packet.payload = packet.payload[2:]
            packet.ssrc = primary.reception.ssrc
            packet.payload_type = primary.track.spec.payload_type
            stream = primary
        track = stream.track
        if packet.payload_type != track.spec.payload_type:
            start = payloads.red_primary(packet.payload) if packet.payload_type == track.spec.red_payload_type else None
            if start is None:
                transport.counters.unrouted += 1
                return
            packet.red = start
        reception = stream.reception
        if not reception.arrived(packet, size, now):
            return
        if not track.started:
            track.started = True
            self._listener.first_packet(track.spec.id)
        if track.video:
            reception.look(packet, size, now)
        elif track.level_id:
            level = packet.extensions.get(track.level_id)
            if level:
                track.level += ((127 - (level[0] & 127)) - track.level) // 4
        packet.carried = not track.carried.isdisjoint(packet.extensions)
        self._forward(track, reception, packet, now)
        if track.taps:
            self._feed_taps(track, stream, packet, now)

    def _forward(self, track: Track, reception: Reception, packet: rtp.Packet, now: int) -> None:
        size, protect = self._length, lib.srtp_protect
        slot, queue = self._datagrams.slot, self._datagrams.queue
        for transport, sender in track.outputs:
            target = transport.target
            if target is None or transport.keys is None:
                continue
            counters = transport.counters
            try:
                data = sender.rewrite(reception, packet, transport.number, now)
                if data is None:
                    continue
                size[0] = len(data)
                if protect(transport.rtp_out, slot(data), size):
                    counters.failures += 1
                    continue
                length = size[0]
                queue(length, target)
                counters.sent += 1
                counters.sent_octets += length
                if sender.number_id:
                    transport.sent(length, now)
            except Exception:
                counters.failures += 1
                if counters.failures == 1:
                    log.exception("forwarding to %s failed", transport.name)

    def _feed_taps(self, track: Track, stream: Stream, packet: rtp.Packet, now: int) -> None:
        if stream is not track.tapped:
            # Another layer only at its key frame, and only the widest.
            if track.video and not packet.key:
                return
            if stream is not track.best(now):
                return
            track.tapped = stream
        if packet.red:
            packet.payload, packet.payload_type = packet.payload[packet.red :], track.spec.payload_type
        data = rtp.serialise(packet)
        for tap in track.taps:
            try:
                tap.packet(track.spec, data, now)
            except Exception:
                log.exception("tap of track %s failed", track.spec.id)

    def _aim(self, track: Track) -> None:
        """Give every section that waits for this track something to wait for."""
        for _, sender in track.outputs:
            if sender.wanted is None or not any(sender.wanted is s.reception for s in track.layers.values()):
                best = track.best(self._now) or next(iter(track.layers.values()), None)
                if best is not None:
                    sender.want(best.reception, track.extensions)

    # -- sending ------------------------------------------------------------------------------------------------------

    def send_datagram(self, data: bytes, address: Address) -> None:
        self._datagrams.send(data, raw_address(address))

    def send_rtcp(self, transport: str, data: bytes) -> None:
        one = self._transports.get(transport)
        if one is None or one.keys is None or one.target is None or not data:
            return
        self._datagrams.send(one.keys.rtcp_out.protect_rtcp(data), one.target)

    def retransmit(self, transport: str, ssrc: int, sequences: Sequence[int]) -> int:
        one = self._transports.get(transport)
        sender = one.by_ssrc.get(ssrc) if one is not None else None
        if one is None or sender is None or one.target is None or one.keys is None:
            return 0
        now = time.monotonic_ns()
        done = 0
        for sequence in sequences:
            data = sender.again(sequence, one.number)
            if data is None:
                continue
            pointer = self._datagrams.slot(data)
            self._length[0] = len(data)
            if not lib.srtp_protect(one.rtp_out, pointer, self._length):
                self._datagrams.queue(self._length[0], one.target)
                done += 1
                if sender.number_id:
                    one.sent(self._length[0], now)
        self._datagrams.flush()
        return done

    # -- what there is ------------------------------------------------------------------------------------------------

    def add_transport(self, transport: str, keys: SrtpKeys) -> None:
        one = self._transports.setdefault(transport, Transport(transport, None))
        one.unlock(keys)

    def bind(self, transport: str, address: Address) -> None:
        one = self._transports.setdefault(transport, Transport(transport, None))
        raw = raw_address(address)
        before = self._by_address.get(raw)
        if before is one:
            return
        if before is not None:
            before.addresses.remove(raw)
        self._by_address[raw] = one
        one.addresses.append(raw)
        if len(one.addresses) > _MOST_ADDRESSES:
            oldest = next(known for known in one.addresses if known != one.target)
            one.addresses.remove(oldest)
            self._by_address.pop(oldest, None)

    def send_to(self, transport: str, address: Address) -> None:
        self.bind(transport, address)
        self._transports[transport].target = raw_address(address)

    def remove_transport(self, transport: str) -> None:
        one = self._transports.pop(transport, None)
        if one is None:
            return
        for raw in one.addresses:
            self._by_address.pop(raw, None)
        for track in list(one.tracks):
            self.unpublish(track)
        for sender in list(one.senders):
            self._unroute(one, sender)

    def publish(self, transport: str, track: TrackSpec) -> None:
        one = self._transports.setdefault(transport, Transport(transport, None))
        self._tracks[track.id] = one.tracks[track.id] = Track(track, one)
        one.mid_id = track.extensions.get(rtp.MID, one.mid_id)
        one.rid_id = track.extensions.get(rtp.RID, one.rid_id)
        one.repaired_id = track.extensions.get(rtp.REPAIRED_RID, one.repaired_id)
        one.transport_cc_id = track.extensions.get(rtp.TRANSPORT_CC, one.transport_cc_id)

    def unpublish(self, track: str) -> None:
        one = self._tracks.pop(track, None)
        if one is None:
            return
        one.transport.tracks.pop(track, None)
        for ssrc in [ssrc for ssrc, stream in one.transport.streams.items() if stream.track is one]:
            del one.transport.streams[ssrc]
        for transport, sender in list(one.outputs):
            self._unroute(transport, sender.spec.id)

    def add_sender(self, transport: str, sender: SenderSpec) -> None:
        one = self._transports.setdefault(transport, Transport(transport, None))
        # Numbers below half the range, as libsrtp wants them for the first packet.
        made = Sender(sender, 1 + secrets.randbelow(0x3FFF), secrets.randbelow(1 << 31))
        one.senders[sender.id] = one.by_ssrc[sender.ssrc] = made

    def remove_sender(self, transport: str, sender: str) -> None:
        one = self._transports.get(transport)
        if one is not None and sender in one.senders:
            self._unroute(one, sender)
            del one.by_ssrc[one.senders.pop(sender).spec.ssrc]

    def route(self, transport: str, sender: str, track: str | None, *, paused: bool = False) -> None:
        one = self._transports.get(transport)
        out = one.senders.get(sender) if one is not None else None
        if one is None or out is None:
            return
        source = self._tracks.get(track) if track is not None else None
        if one.routes.get(sender) is not source or source is None:
            self._unroute(one, sender)
            if source is not None:
                one.routes[sender] = source
                source.outputs.append((one, out))
                self._now = time.monotonic_ns()
                self._aim(source)
        out.pause(paused)

    def _unroute(self, transport: Transport, sender: str) -> None:
        source = transport.routes.pop(sender, None)
        out = transport.senders.get(sender)
        if out is not None:
            out.want(None, {})
            if source is not None:
                source.outputs = [pair for pair in source.outputs if pair[1] is not out]

    def select(self, transport: str, sender: str, rid: str) -> None:
        one = self._transports.get(transport)
        source = one.routes.get(sender) if one is not None else None
        if one is None or source is None:
            return
        if rid not in source.layers:
            layer = layer_named(rid)
            if layer is not None and not source.spec.rids:
                one.senders[sender].layers.want(*layer)
            return
        wanted = source.layers[rid].reception
        out = one.senders[sender]
        if out.wanted is not wanted:
            out.want(wanted, source.extensions)
            self._listener.key_frame_needed(source.spec.id, rid)

    def translate(self, report: SenderReport, track: str) -> list[tuple[str, SenderReport, str]]:
        one = self._tracks.get(track)
        if one is None:
            return []
        now = time.monotonic_ns()
        stream = one.transport.streams.get(report.ssrc)
        if stream is not None:
            stream.reception.sender_report(report.ntp, now)
            if stream is one.tapped:
                for tap in one.taps:
                    tap.sender_report(one.spec, report.ntp, report.timestamp, now)
        made = [(transport.name, out.translate(report), out.spec.cname) for transport, out in one.outputs]
        return [(name, translated, cname) for name, translated, cname in made if translated is not None]

    def add_tap(self, track: str, tap: Tap) -> None:
        one = self._tracks.get(track)
        if one is not None and tap not in one.taps:
            one.taps.append(tap)
            tap.track_added(one.spec)
            if one.video:
                one.tapped = None
                self._listener.key_frame_needed(track, "")

    def remove_tap(self, track: str, tap: Tap) -> None:
        one = self._tracks.get(track)
        if one is not None and tap in one.taps:
            one.taps.remove(tap)
            tap.track_removed(one.spec)
