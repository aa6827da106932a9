"""The control plane's clock: feedback to publishers, reports, key frames, layers, speakers and quality, tick by tick.

Everything here is told or asked through `engine.Engine`; no packet of sound or picture passes through.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Set
from dataclasses import dataclass, field

from qanun_telemedicine.sfu import rtcp
from qanun_telemedicine.sfu.engine import Address, Engine, SenderState, StreamState, TrackSpec
from qanun_telemedicine.sfu.layers import Published, inside
from qanun_telemedicine.sfu.paths import Paths
from qanun_telemedicine.sfu.quality import RECONNECTING, ActiveSpeaker, Layer, LayerChoice, Leg
from qanun_telemedicine.sfu.repeats import Repeats
from qanun_telemedicine.sfu.room import Participant, Room, Rooms

log = logging.getLogger(__name__)

_TICK_S = 0.05
_EVERY_KEY_FRAME = 4
_EVERY_REPORT = 20
#: Longer than anything is awaited from who sends: the last gap has been asked for and given up, the last report is out.
_SILENT_NS = 3_000_000_000
_NOBODY: frozenset[str] = frozenset()
#: A publisher is asked for a key frame of one layer at most this often.
_KEY_FRAME_NS = 500_000_000
#: Our own SSRC in feedback; nothing is ever sent under it.
_FEEDBACK_SSRC = 1
_AUDIO_SHARE = 50_000
#: What a publisher's estimate is never held under.
_LEAST_PICTURE = 60_000
#: "No limit": more than any layer costs.
_UNLIMITED = 8_000_000
#: Probing fills a way with repetitions, so many a tick at most, reckoned at the size of a full packet.
_MOST_PROBES = 24
_PROBE_BITS = 1200 * 8
#: A layer that sent nothing for this long does not arrive.
_ALIVE_S = 1.5


@dataclass
class _State:
    """What the control plane remembers of one transport."""

    leg: Leg
    repeats: Repeats = field(default_factory=Repeats)
    feedback_number: int = 0
    #: Layer choices by section.
    choices: dict[str, LayerChoice] = field(default_factory=dict)
    #: Middle 32 bits of NTP of sender reports sent → when, for round-trip times.
    sent_reports: dict[int, int] = field(default_factory=dict)
    rates: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    announced: str = ""
    announced_at: float = 0.0
    streams: list[StreamState] = field(default_factory=list)
    #: (our SSRC of a picture, bits per second to add) while a wider layer is about to be chosen.
    probes: list[tuple[int, int]] = field(default_factory=list)


class Control:
    """Listens to the engine and keeps the streams of all rooms healthy."""

    def __init__(
        self, engine: Engine, paths: Paths, emit: Callable[[str, Participant, dict[str, object]], None]
    ) -> None:
        self.engine = engine
        self.paths = paths
        self.rooms: Rooms
        self._emit = emit
        self._states: dict[str, _State] = {}
        self._speakers: dict[str, ActiveSpeaker] = {}
        #: Tracks in several layers.
        self._published: dict[str, Published] = {}
        self._asked: dict[int, int] = {}
        self._task: asyncio.Task[None] | None = None
        self._ticks = 0

    def start(self, rooms: Rooms) -> None:
        self.rooms = rooms
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def state(self, transport: str) -> _State:
        state = self._states.get(transport)
        if state is None:
            state = self._states[transport] = _State(Leg(time.monotonic()))
        return state

    def forget(self, transport: str) -> None:
        """The transport has ended."""
        self._states.pop(transport, None)
        for track in [track for track in self._published if track.startswith(transport + "/")]:
            del self._published[track]

    def forget_room(self, room: str) -> None:
        self._speakers.pop(room, None)

    # -- what the engine reports --------------------------------------------------------------------------------------

    def datagram(self, data: bytes, address: Address) -> None:
        self.paths.datagram(data, address)

    def moved(self, transport: str, address: Address) -> None:
        participant = self.rooms.by_transport.get(transport)
        if participant is not None:
            participant.transport.path.moved(address)

    def first_packet(self, track: str) -> None:
        participant = self.rooms.by_track.get(track)
        if participant is not None:
            spec = next((one for one in participant.tracks.values() if one.id == track), None)
            if spec is not None:
                self._emit("participant.media", participant, {"track": track, "kind": spec.kind, "source": spec.source})

    def rtcp_received(self, transport: str, data: bytes, arrival_ns: int) -> None:
        participant = self.rooms.by_transport.get(transport)
        if participant is None:
            return
        state = self.state(transport)
        state.leg.heard = time.monotonic()
        for packet in rtcp.parse(data):
            match packet:
                case rtcp.SenderReport():
                    self._sender_report(participant, packet, arrival_ns)
                case rtcp.Nack():
                    self._repeat(transport, state, packet, arrival_ns)
                case rtcp.KeyFrameRequest():
                    self._pass_on(transport, packet.media_ssrc)
                case rtcp.TransportFeedback():
                    self._transport_feedback(transport, state, packet, arrival_ns)
                case rtcp.Report():
                    self._report(participant, state, packet, arrival_ns)

    def _repeat(self, transport: str, state: _State, asked: rtcp.Nack, arrival_ns: int) -> None:
        leg = state.leg
        # What waits in a queue on the way has not arrived yet, but it will.
        round_trip_ms = leg.rtt_ms and leg.rtt_ms + leg.estimator.queue_ms
        again = state.repeats.of(
            asked.media_ssrc, asked.sequences, arrival_ns, round_trip_ms=round_trip_ms, budget=leg.budget()
        )
        if again:
            self.engine.retransmit(transport, asked.media_ssrc, again)
        if len(again) < len(asked.sequences) and state.repeats.hopeless(
            asked.media_ssrc, asked.sequences, again, arrival_ns
        ):
            self._pass_on(transport, asked.media_ssrc)

    def _sender_report(self, participant: Participant, report: rtcp.SenderReport, arrival_ns: int) -> None:
        for track in participant.tracks.values():
            for transport, translated, cname in self.engine.translate(report, track.id):
                self.engine.send_rtcp(transport, rtcp.sender_report(translated, cname))
                sent = self.state(transport).sent_reports
                sent[translated.ntp >> 16 & 0xFFFFFFFF] = arrival_ns
                while len(sent) > 64:
                    del sent[next(iter(sent))]

    def _transport_feedback(
        self, transport: str, state: _State, feedback: rtcp.TransportFeedback, arrival_ns: int
    ) -> None:
        sent = self.engine.sent(transport, feedback.first, len(feedback.arrivals))
        known = [(*one, arrived) for one, arrived in zip(sent, feedback.arrivals, strict=False) if one is not None]
        state.leg.estimator.feedback(known, arrival_ns)

    def _report(self, participant: Participant, state: _State, report: rtcp.Report, arrival_ns: int) -> None:
        sent = state.sent_reports.get(report.last_sr)
        rtt = None
        if sent is not None:
            rtt = max(0.0, (arrival_ns - sent) / 1e6 - report.delay * 1000 / 65536)
        video = any(
            slot.kind == "video" and participant.agreed[slot.mid].ssrc == report.ssrc
            for slot in participant.slots.values()
        )
        jitter = report.jitter / (90 if video else 48)
        state.leg.report(report.fraction_lost / 256, jitter, rtt, arrival_ns / 1e9)

    def _pass_on(self, transport: str, ssrc: int) -> None:
        """A subscriber's request for a key frame becomes one to the publisher."""
        for sender in self.engine.senders(transport):
            if sender.ssrc == ssrc and sender.track:
                self.key_frame_needed(sender.track, sender.rid)

    def key_frame_needed(self, track: str, rid: str) -> None:
        """Ask the publisher, unless asked a moment ago. An empty rid means every layer that arrives."""
        participant = self.rooms.by_track.get(track)
        if participant is None or not participant.connected:
            return
        now = time.monotonic_ns()
        if len(self._asked) > 10_000:
            self._asked.clear()
        for stream in self.engine.streams_of(track):
            if stream.retransmission or (rid and stream.rid != rid) or now - stream.last_ns > 3_000_000_000:
                continue
            if now - self._asked.get(stream.ssrc, 0) < _KEY_FRAME_NS:
                continue
            self._asked[stream.ssrc] = now
            self.engine.send_rtcp(participant.transport.name, rtcp.picture_loss(_FEEDBACK_SSRC, stream.ssrc))

    # -- the clock ----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            self._ticks += 1
            # One question for all: most people of most rooms are silent at any moment, and each tick of theirs has a cost.
            receiving = self.engine.receiving(time.monotonic_ns() - _SILENT_NS)
            known = self.rooms.by_transport
            lively = {known[name].room.id for name in receiving if name in known}
            for room in list(self.rooms):
                try:
                    self._tick(room, receiving if room.id in lively else _NOBODY)
                except Exception:
                    log.exception("control of room %s failed", room.id)

    def _tick(self, room: Room, receiving: Set[str]) -> None:
        now_ns = time.monotonic_ns()
        for participant in list(room.participants.values()):
            due = (self._ticks + participant.session) % _EVERY_REPORT == 0
            if not participant.connected or not (due or receiving):
                continue
            name = participant.transport.name
            state = self.state(name)
            if due:
                self._second(participant, state, now_ns, lively=bool(receiving))
            if state.probes:
                self._probe(name, state)
            if name not in receiving:
                continue
            arrivals = self.engine.take_arrivals(name)
            if arrivals:
                packets, state.feedback_number = rtcp.transport_feedback(
                    _FEEDBACK_SSRC, self._any_ssrc(state), state.feedback_number, arrivals
                )
                for packet in packets:
                    self.engine.send_rtcp(name, packet)
            for ssrc, sequences in self.engine.missing(name, now_ns):
                self.engine.send_rtcp(name, rtcp.nack(_FEEDBACK_SSRC, ssrc, sequences))
        if receiving and self._ticks % _EVERY_KEY_FRAME == 0:
            for track, rid in self.engine.waiting([one.transport.name for one in room.participants.values()]):
                self.key_frame_needed(track, rid)
            self._listen(room)

    @staticmethod
    def _any_ssrc(state: _State) -> int:
        return state.streams[0].ssrc if state.streams else 0

    def _listen(self, room: Room) -> None:
        levels = [
            (one.id, self.engine.level(track.id))
            for one in room.participants.values()
            for track in one.tracks.values()
            if track.kind == "audio"
        ]
        speaker = self._speakers.setdefault(room.id, ActiveSpeaker())
        if speaker.hear(levels, time.monotonic()) and speaker.current in room.participants:
            self._emit("participant.speaker", room.participants[speaker.current], {})

    def _second(self, participant: Participant, state: _State, now_ns: int, *, lively: bool) -> None:
        name, now = participant.transport.name, now_ns / 1e9
        state.streams = self.engine.streams(name)
        self._heard(name, state, now)
        primary = [stream for stream in state.streams if not stream.retransmission]
        if primary:
            lost = [stream.report.fraction_lost for stream in primary if now_ns - stream.last_ns < 2_000_000_000]
            state.leg.loss_up = max(lost, default=0) / 256
            for at in range(0, len(state.streams), 31):
                reports = [stream.report for stream in state.streams[at : at + 31]]
                self.engine.send_rtcp(name, rtcp.receiver_report(_FEEDBACK_SSRC, reports))
        for stream in state.streams:
            _, at, octets = state.rates.get(stream.ssrc, (0, now_ns, stream.octets))
            elapsed = max(1, now_ns - at)
            rate = (stream.octets - octets) * 8_000_000_000 // elapsed if at != now_ns else 0
            state.rates[stream.ssrc] = (rate, now_ns, stream.octets)
        video = [slot for slot in participant.slots.values() if slot.kind == "video" and slot.track is not None]
        quality = state.leg.decide(now, has_video=bool(video))
        if state.leg.paused != participant.video_paused:
            self.rooms.pause_video(participant, state.leg.paused)
        state.probes = []
        if lively:  # where nobody sends there is nothing to choose
            self._layers(participant, state, now)
            self._publish(participant, now)
            self._cap(participant, state)
        if quality != state.announced or now - state.announced_at > 10:
            state.announced, state.announced_at = quality, now
            self._emit("participant.quality", participant, self.quality(participant))

    def _heard(self, name: str, state: _State, now: float) -> None:
        received = self.engine.counters(name).received
        if received != state.leg.received:
            state.leg.received = received
            state.leg.heard = now

    def quality(self, participant: Participant) -> dict[str, object]:
        """The figures of one leg, as events and statistics show them."""
        leg = self.state(participant.transport.name).leg
        return {
            "state": leg.state,
            "loss_up": round(leg.loss_up, 4),
            "loss_down": round(leg.loss_down, 4),
            "rtt_ms": round(leg.rtt_ms, 1),
            "jitter_ms": round(leg.jitter_ms, 1),
            "budget": leg.budget(),
        }

    # -- layers -------------------------------------------------------------------------------------------------------

    def _layers(self, participant: Participant, state: _State, now: float) -> None:
        """Choose a simulcast layer for every picture that this participant receives."""
        video = [slot for slot in participant.slots.values() if slot.kind == "video" and slot.track is not None]
        share = (state.leg.budget() - _AUDIO_SHARE) // max(1, len(video))
        for slot in video:
            assert slot.track is not None
            arriving = self._arriving(slot.track.id, now)
            if len(slot.track.rids) < 2 and len(arriving) < 2:
                continue
            choice = state.choices.setdefault(slot.mid, LayerChoice())
            # For one receiver the picture is made to measure (`_cap`); for several there are layers.
            only = len(self._receivers(slot.track)) < 2
            # Layers inside of one stream come all or not at all.
            layers = self._layers_of(slot.track).choice(arriving, now) if slot.track.rids else arriving
            rid = choice.choose(layers, _UNLIMITED if only else share)
            if rid is None:
                continue
            self.engine.select(participant.transport.name, slot.mid, rid)
            if choice.probe and not only and not participant.video_paused:
                now_costs = next((layer.bitrate for layer in layers if layer.rid == rid), 0)
                state.probes.append((participant.agreed[slot.mid].ssrc, max(0, choice.probe - now_costs)))

    def _layers_of(self, track: TrackSpec) -> Published:
        one = self._published.get(track.id)
        if one is None:
            one = self._published[track.id] = Published(track.rids)
        return one

    def _arriving(self, track: str, now: float) -> list[Layer]:
        publisher = self.rooms.by_track.get(track)
        if publisher is None:
            return []
        rates = self.state(publisher.transport.name).rates
        made: list[Layer] = []
        for stream in self.engine.streams_of(track):
            if stream.retransmission or now - stream.last_ns / 1e9 >= _ALIVE_S:
                continue
            rate = rates.get(stream.ssrc, (0, 0, 0))[0]
            made += inside(stream, rate, now) or [Layer(stream.rid, stream.width, rate)]
        return made

    def _receivers(self, track: TrackSpec) -> list[tuple[Participant, str]]:
        """Who gets this picture just now, and in which section."""
        publisher = self.rooms.by_track.get(track.id)
        if publisher is None:
            return []
        return [
            (other, slot.mid)
            for other in publisher.room.participants.values()
            if other.connected and not other.video_paused
            for slot in other.slots.values()
            if slot.track is track
        ]

    def _publish(self, participant: Participant, now: float) -> None:
        """Tell a publisher which layers somebody receives; the others need not be sent."""
        told: dict[str, list[str]] = {}
        for mid, track in participant.tracks.items():
            if len(track.rids) < 2:
                continue
            wanted: set[str] = set()
            for other, section in self._receivers(track):
                choice = self.state(other.transport.name).choices.get(section)
                if choice is not None and choice.rid is not None:
                    wanted.add(choice.rid)
                # Until the chosen one has come, the one before goes on.
                wanted |= {one.rid for one in self.sender_states(other) if one.track == track.id and one.id == section}
            published = self._layers_of(track)
            if published.want(wanted, self._arriving(track.id, now), now):
                told[mid] = published.told()
        if told:
            self._emit("participant.layers", participant, {"layers": told, "connection": participant.connection})

    def _probe(self, name: str, state: _State) -> None:
        """Show that the way carries more, with repetitions of what was sent last: receivers know them and drop them."""
        newest = {sender.ssrc: sender.sequence for sender in self.engine.senders(name)}
        for ssrc, bitrate in state.probes:
            count = min(_MOST_PROBES, round(bitrate * _TICK_S / _PROBE_BITS))
            if count and ssrc in newest:
                self.engine.retransmit(name, ssrc, [(newest[ssrc] - back) & 0xFFFF for back in range(count)])

    def _cap(self, participant: Participant, state: _State) -> None:
        """A picture for which there is no choice of layers must fit its weakest receiver: say so to its sender."""
        ssrcs: list[int] = []
        total, known = 0, False
        for track in participant.tracks.values():
            if track.kind != "video":
                continue
            ssrcs += [one.ssrc for one in state.streams if one.track == track.id and not one.retransmission]
            receivers = self._receivers(track)
            layered = len(receivers) > 1 and (len(track.rids) > 1 or any(one.layers for one in state.streams))
            caps = [cap for other, _ in receivers if (cap := self._share(other)) is not None]
            total += _UNLIMITED if layered or not caps else max(_LEAST_PICTURE, min(caps))
            known = known or bool(caps)
        if ssrcs and known:
            capped = min(_UNLIMITED, total) + _AUDIO_SHARE
            self.engine.send_rtcp(participant.transport.name, rtcp.remb(_FEEDBACK_SSRC, capped, ssrcs))

    def _share(self, participant: Participant) -> int | None:
        """What the way to a participant carries for each picture; None while nothing is known of it."""
        leg = self.state(participant.transport.name).leg
        if leg.state == RECONNECTING:
            return None
        videos = [slot for slot in participant.slots.values() if slot.kind == "video" and slot.track is not None]
        return (leg.budget() - _AUDIO_SHARE) // max(1, len(videos))

    def sender_states(self, participant: Participant) -> list[SenderState]:
        return self.engine.senders(participant.transport.name)
