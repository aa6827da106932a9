"""The data plane in C, as `engine.Engine`: this class only translates names into handles and records into events.

Which thread may do what:

- The engine's own thread, without the GIL, receives, decrypts, forwards and sends. Nothing of Python runs on it.
- Every method here runs on the event loop's thread and takes the engine's lock for the length of one C call, with the
  GIL released.
- A libsrtp session never sees two threads. Those for RTP (`SrtpKeys.rtp_in`, `rtp_out`) are handed to the engine's thread
  by `add_transport` and touched by nobody else until `remove_transport` returns: a retransmission is ordered here and
  encrypted there. Those for RTCP (`rtcp_in`, `rtcp_out`) stay here: encrypted RTCP comes up as an event and leaves from
  here, on the same socket. RTCP is some packets a second per participant, so a second pair of sessions with the same keys
  costs less than a way to share one.
- STUN, DTLS, RTCP, moved addresses and tapped packets come up as records in two buffers that take turns, announced by an
  eventfd. When Python falls so far behind that they are full, records are dropped and counted; media flow on.
"""

import asyncio
import contextlib
import itertools
import logging
import secrets
import struct
import time
import weakref
from collections.abc import Sequence
from typing import Any

import pylibsrtp
from pylibsrtp._binding import ffi as srtp_ffi

from qanun_telemedicine.sfu import native, rtp
from qanun_telemedicine.sfu.addresses import RAW, Address, address_of, name_of, on_socket, raw_address
from qanun_telemedicine.sfu.datagrams import SLOT, open_socket
from qanun_telemedicine.sfu.engine import (
    EngineListener,
    SenderSpec,
    SrtpKeys,
    TrackSpec,
    layer_named,
)
from qanun_telemedicine.sfu.engine_c_readings import MOST_STREAMS, Readings
from qanun_telemedicine.sfu.engine_c_records import Sender, Track, Transport, sender_struct, track_struct
from qanun_telemedicine.sfu.rtcp import SenderReport
from qanun_telemedicine.sfu.tap import Tap

log = logging.getLogger(__name__)

_MOST_ADDRESSES = 16
_EVENT = struct.Struct(f"=IIIiq{RAW}s")
_DATAGRAM, _RTCP, _FIRST_PACKET, _MOVED, _TAPPED = range(1, 6)


class CEngine(Readings):
    """See `engine.Engine`. Raises `native.Unavailable` where there is no library."""

    kind = "c"

    def __init__(self, listen: Address) -> None:
        self._ffi, self._lib = native.load()
        self._socket = open_socket(listen)
        self.address = name_of(self._socket)
        self._begin(self._socket.fileno())

    def _begin(self, descriptor: int) -> None:
        new, cast = self._ffi.new, self._ffi.cast
        protect, unprotect = (cast("void *", address) for address in native.addresses())
        self._engine = self._lib.qe_new(descriptor, protect, unprotect)
        if self._engine == self._ffi.NULL:
            raise MemoryError
        # Also when nobody closes it: the thread must end before the interpreter takes the sessions apart.
        self._freed = weakref.finalize(self, self._lib.qe_free, self._engine)
        self._serials = itertools.count(1)
        self._transports = {}
        self._tracks = {}
        self._by_serial = {}
        self._by_address: dict[bytes, Transport] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._records = new("uint8_t **")
        self._translated = new("qe_translated[]", MOST_STREAMS)
        self._raw = new("uint8_t[]", RAW)
        self._begin_readings()

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self, listener: EngineListener) -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._lib.qe_event_fd(self._engine), self._news)
        if failed := self._lib.qe_start(self._engine):
            raise OSError(failed, "the engine's thread could not be started")

    def close(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._lib.qe_event_fd(self._engine))
            self._loop = None
        self._lib.qe_stop(self._engine)
        self._socket.close()

    @property
    def strangers(self) -> int:
        """Datagrams from addresses that nobody vouched for."""
        return int(self._lib.qe_figure(self._engine, 0))

    @property
    def unsent(self) -> int:
        return int(self._lib.qe_figure(self._engine, 1))

    # -- events -------------------------------------------------------------------------------------------------------

    def _news(self) -> None:
        for which in (0, 1):
            size = self._lib.qe_take_events(self._engine, which, self._records)
            records = self._ffi.buffer(self._records[0], size)
            at = 0
            while at < size:
                kind, length, serial, _, at_ns, address = _EVENT.unpack_from(records, at)
                at += _EVENT.size
                try:
                    self._event(kind, serial, at_ns, address, records[at : at + length])
                except Exception:
                    log.exception("an event of the engine could not be handled")
                at += (length + 7) & ~7

    def _event(self, kind: int, serial: int, at_ns: int, address: bytes, data: bytes) -> None:
        if kind == _DATAGRAM:
            self._listener.datagram(data, address_of(address))
            return
        one = self._by_serial.get(serial)
        if one is None:
            return  # removed meanwhile
        if kind == _TAPPED:
            for tap in one.taps:
                try:
                    tap.packet(one.spec, data, at_ns)
                except Exception:
                    log.exception("tap of track %s failed", one.spec.id)
        elif kind == _RTCP:
            self._rtcp(one, address, data, at_ns)
        elif kind == _FIRST_PACKET:
            self._listener.first_packet(one.spec.id)
        elif kind == _MOVED:
            self._listener.moved(one.name, address_of(address))

    def _rtcp(self, one: Transport, address: bytes, data: bytes, at_ns: int) -> None:
        if one.keys is None:
            return
        try:
            plain = one.keys.rtcp_in.unprotect_rtcp(data)
        except (pylibsrtp.Error, ValueError):  # authentication, a replay, or longer than any compound packet
            one.rejected += 1
            return
        if self._lib.qe_follow(self._engine, one.handle, address):
            self._listener.moved(one.name, address_of(address))
        self._listener.rtcp_received(one.name, plain, at_ns)

    # -- sending ------------------------------------------------------------------------------------------------------

    def send_datagram(self, data: bytes, address: Address) -> None:
        # A full buffer or an unreachable address loses a datagram, as the network might.
        with contextlib.suppress(OSError):
            if len(data) <= SLOT:
                self._socket.sendto(data, on_socket(self._socket, address))

    def send_rtcp(self, transport: str, data: bytes) -> None:
        one = self._transports.get(transport)
        if one is None or one.keys is None or not data or not self._lib.qe_target(self._engine, one.handle, self._raw):
            return
        self.send_datagram(one.keys.rtcp_out.protect_rtcp(data), address_of(self._ffi.buffer(self._raw)[:]))

    def retransmit(self, transport: str, ssrc: int, sequences: Sequence[int]) -> int:
        one = self._transports.get(transport)
        sender = one.by_ssrc.get(ssrc) if one is not None else None
        if sender is None:
            return 0
        wanted = self._ffi.new("uint16_t[]", [sequence & 0xFFFF for sequence in sequences])
        return int(self._lib.qe_retransmit(self._engine, sender.handle, wanted, len(wanted), time.monotonic_ns()))

    # -- what there is ------------------------------------------------------------------------------------------------

    def _transport(self, name: str) -> Transport:
        one = self._transports.get(name)
        if one is None:
            serial = next(self._serials)
            handle = self._made(self._lib.qe_transport_add(self._engine, serial))
            one = self._transports[name] = self._by_serial[serial] = Transport(name, serial, handle)
        return one

    def _made(self, handle: Any) -> Any:
        if handle == self._ffi.NULL:
            raise MemoryError
        return handle

    def add_transport(self, transport: str, keys: SrtpKeys) -> None:
        one = self._transport(transport)
        inward, outward = (
            self._ffi.cast("void *", int(srtp_ffi.cast("uintptr_t", session._srtp[0])))
            for session in (keys.rtp_in, keys.rtp_out)
        )
        self._lib.qe_transport_unlock(self._engine, one.handle, inward, outward)
        one.keys = keys

    def bind(self, transport: str, address: Address) -> None:
        one = self._transport(transport)
        raw = raw_address(address)
        before = self._by_address.get(raw)
        if before is one:
            return
        if before is not None:
            before.addresses.remove(raw)
        self._by_address[raw] = one
        one.addresses.append(raw)
        self._lib.qe_bind(self._engine, raw, one.handle)
        if len(one.addresses) > _MOST_ADDRESSES:
            self._lib.qe_target(self._engine, one.handle, self._raw)
            target = self._ffi.buffer(self._raw)[:]
            oldest = next(known for known in one.addresses if known != target)
            one.addresses.remove(oldest)
            self._by_address.pop(oldest, None)
            self._lib.qe_unbind(self._engine, oldest)

    def send_to(self, transport: str, address: Address) -> None:
        self.bind(transport, address)
        self._lib.qe_send_to(self._engine, self._transports[transport].handle, raw_address(address))

    def remove_transport(self, transport: str) -> None:
        one = self._transports.pop(transport, None)
        if one is None:
            return
        for raw in one.addresses:
            self._by_address.pop(raw, None)
        for track in list(one.tracks):
            self.unpublish(track)
        del self._by_serial[one.serial]
        for sender in one.senders.values():
            del self._by_serial[sender.serial]
        self._lib.qe_transport_remove(self._engine, one.handle)

    def publish(self, transport: str, track: TrackSpec) -> None:
        self.unpublish(track.id)
        one = self._transport(transport)
        serial = next(self._serials)
        struct, pointed_to = track_struct(self._ffi, serial, track)
        handle = self._made(self._lib.qe_publish(self._engine, one.handle, struct))
        pointed_to.clear()
        made = Track(track, one, serial, handle)
        self._tracks[track.id] = one.tracks[track.id] = self._by_serial[serial] = made
        for index, uri in enumerate((rtp.MID, rtp.RID, rtp.REPAIRED_RID, rtp.TRANSPORT_CC)):
            one.ids[index] = track.extensions.get(uri, one.ids[index])
        self._lib.qe_transport_extensions(self._engine, one.handle, *one.ids)

    def unpublish(self, track: str) -> None:
        one = self._tracks.pop(track, None)
        if one is not None:
            one.transport.tracks.pop(track, None)
            del self._by_serial[one.serial]
            self._lib.qe_unpublish(self._engine, one.handle)

    def add_sender(self, transport: str, sender: SenderSpec) -> None:
        self.remove_sender(transport, sender.id)
        one = self._transport(transport)
        serial = next(self._serials)
        # Numbers below half the range, as libsrtp wants them for the first packet.
        first = 1 + secrets.randbelow(0x3FFF), secrets.randbelow(1 << 31)
        struct = sender_struct(self._ffi, serial, sender, *first)
        handle = self._made(self._lib.qe_sender_add(self._engine, one.handle, struct))
        made = Sender(sender, serial, handle)
        one.senders[sender.id] = one.by_ssrc[sender.ssrc] = self._by_serial[serial] = made
        if len(self._by_serial) > len(self._translated):
            # A track may be sent in every section there is.
            self._translated = self._ffi.new("qe_translated[]", 2 * len(self._by_serial))

    def remove_sender(self, transport: str, sender: str) -> None:
        one = self._transports.get(transport)
        if one is not None and sender in one.senders:
            gone = one.senders.pop(sender)
            del one.by_ssrc[gone.spec.ssrc]
            del self._by_serial[gone.serial]
            self._lib.qe_sender_remove(self._engine, gone.handle)

    def _sender(self, transport: str, sender: str) -> Sender | None:
        one = self._transports.get(transport)
        return one.senders.get(sender) if one is not None else None

    def route(self, transport: str, sender: str, track: str | None, *, paused: bool = False) -> None:
        out = self._sender(transport, sender)
        if out is not None:
            source = self._tracks.get(track) if track is not None else None
            handle = source.handle if source is not None else self._ffi.NULL
            self._lib.qe_route(self._engine, out.handle, handle, paused, time.monotonic_ns())

    def select(self, transport: str, sender: str, rid: str) -> None:
        out = self._sender(transport, sender)
        if out is None:
            return
        track = self._routed(self._transports[transport], out)
        if track is None:
            return
        if rid not in (track.spec.rids or ("",)):
            layer = layer_named(rid)
            if layer is not None and not track.spec.rids:
                self._lib.qe_select_layers(self._engine, out.handle, *layer)
            return
        index = track.spec.rids.index(rid) if track.spec.rids else -1
        if self._lib.qe_select(self._engine, out.handle, index):
            self._listener.key_frame_needed(track.spec.id, rid)

    def _routed(self, transport: Transport, sender: Sender) -> Track | None:
        return next(
            (self._by_serial.get(one.track) for one in self._states(transport) if one.serial == sender.serial), None
        )

    def translate(self, report: SenderReport, track: str) -> list[tuple[str, SenderReport, str]]:
        one = self._tracks.get(track)
        if one is None:
            return []
        now = time.monotonic_ns()
        out = self._translated
        answer = self._lib.qe_translate(
            self._engine, one.handle, report.ssrc, report.timestamp & 0xFFFFFFFF, report.ntp, now, out, len(out)
        )
        if answer & 1:
            for tap in one.taps:
                tap.sender_report(one.spec, report.ntp, report.timestamp, now)
        made = []
        for each in out[0 : answer >> 1]:
            spec = self._by_serial[each.sender].spec
            translated = SenderReport(spec.ssrc, report.ntp, each.timestamp, each.packets, each.octets)
            made.append((self._by_serial[each.transport].name, translated, spec.cname))
        return made

    def add_tap(self, track: str, tap: Tap) -> None:
        one = self._tracks.get(track)
        if one is not None and tap not in one.taps:
            one.taps.append(tap)
            tap.track_added(one.spec)
            self._lib.qe_tap(self._engine, one.handle, len(one.taps))
            if one.spec.kind == "video":
                self._listener.key_frame_needed(track, "")

    def remove_tap(self, track: str, tap: Tap) -> None:
        one = self._tracks.get(track)
        if one is not None and tap in one.taps:
            one.taps.remove(tap)
            self._lib.qe_tap(self._engine, one.handle, len(one.taps))
            tap.track_removed(one.spec)
