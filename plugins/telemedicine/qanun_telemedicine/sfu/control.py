"""The control plane's clock: feedback to publishers, reports, key frames, speakers and quality, tick by tick.
What pictures everybody gets is for `shares` to say.

Everything here is told or asked through `engine.Engine`; no packet of sound or picture passes through.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Set
from dataclasses import replace

from qanun_telemedicine.sfu import rtcp
from qanun_telemedicine.sfu.addresses import Address
from qanun_telemedicine.sfu.engine import Engine, StreamState
from qanun_telemedicine.sfu.paths import Paths
from qanun_telemedicine.sfu.quality import ActiveSpeaker, Leg
from qanun_telemedicine.sfu.room import Participant, Room, Rooms
from qanun_telemedicine.sfu.shares import FEEDBACK_SSRC, TICK_S, Shares, WayState

log = logging.getLogger(__name__)

#: A tick's rooms come in so many turns: all at once they would keep the processor from packets for milliseconds.
_TURNS = 8
_EVERY_KEY_FRAME = 4
_EVERY_REPORT = 20
#: Longer than anything is awaited from who sends: the last gap has been asked for and given up, the last report is out.
_SILENT_NS = 3_000_000_000
_NOBODY: frozenset[str] = frozenset()
#: More protection than against this loss (in 256 parts) would leave too little of the sound itself.
_MOST_TOLD = 51
#: A publisher is asked for a key frame of one layer at most this often.
_KEY_FRAME_NS = 500_000_000


class Control:
    """Listens to the engine and keeps the streams of all rooms healthy."""

    def __init__(
        self, engine: Engine, paths: Paths, emit: Callable[[str, Participant, dict[str, object]], None]
    ) -> None:
        self.engine = engine
        self.paths = paths
        self.rooms: Rooms
        self.shares: Shares
        self._emit = emit
        self._states: dict[str, WayState] = {}
        self._speakers: dict[str, ActiveSpeaker] = {}
        self._asked: dict[int, int] = {}
        self._task: asyncio.Task[None] | None = None
        self._ticks = 0

    def start(self, rooms: Rooms) -> None:
        self.rooms = rooms
        self.shares = Shares(self.engine, rooms, self.state, self._emit)
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def state(self, transport: str) -> WayState:
        state = self._states.get(transport)
        if state is None:
            state = self._states[transport] = WayState(Leg(time.monotonic()))
        return state

    def forget(self, transport: str) -> None:
        """The transport has ended."""
        self._states.pop(transport, None)
        self.shares.forget(transport)

    def forget_room(self, room: str) -> None:
        self._speakers.pop(room, None)

    # -- what the engine reports --------------------------------------------------------------------------------------

    def datagram(self, data: bytes, address: Address) -> None:
        self.paths.datagram(data, address)

    def moved(self, transport: str, address: Address) -> None:
        participant = self.rooms.by_transport.get(transport)
        if participant is not None:
            participant.transport.path.moved(address)
            self.state(transport).leg.moved(time.monotonic())

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

    def _repeat(self, transport: str, state: WayState, asked: rtcp.Nack, arrival_ns: int) -> None:
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
        self, transport: str, state: WayState, feedback: rtcp.TransportFeedback, arrival_ns: int
    ) -> None:
        sent = self.engine.sent(transport, feedback.first, len(feedback.arrivals))
        known = [(*one, arrived) for one, arrived in zip(sent, feedback.arrivals, strict=False) if one is not None]
        before = state.leg.budget()
        state.leg.estimator.feedback(known, arrival_ns)
        if state.leg.budget() < before:
            self._narrowed(transport, state)

    @staticmethod
    def _sees(participant: Participant) -> bool:
        """Whether anybody's picture is theirs to see."""
        return any(slot.kind == "video" and slot.track is not None for slot in participant.slots.values())

    def _narrowed(self, transport: str, state: WayState) -> None:
        """A way carries less: what does not fit waits in front of the sound, so its senders hear of it at once."""
        participant = self.rooms.by_transport[transport]
        now = time.monotonic()
        state.leg.narrowed(now, has_video=self._sees(participant))
        if state.leg.paused != participant.video_paused:
            self.rooms.pause_video(participant, state.leg.paused)
        state.probes = []
        self.shares.choose(participant, state, now, lower=True)
        for other in participant.room.participants.values():
            if other is not participant and other.connected:
                theirs = self.state(other.transport.name)
                self.shares.cap(other, theirs)
                self.shares.sound(other, theirs, now)

    def _report(self, participant: Participant, state: WayState, report: rtcp.Report, arrival_ns: int) -> None:
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
            self.engine.send_rtcp(participant.transport.name, rtcp.picture_loss(FEEDBACK_SSRC, stream.ssrc))

    # -- the clock ----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        turns = 1
        while True:
            await asyncio.sleep(TICK_S / turns)
            self._ticks += 1
            # One question for all: most people of most rooms are silent at any moment, and each tick of theirs has a cost.
            receiving = self.engine.receiving(time.monotonic_ns() - _SILENT_NS)
            known = self.rooms.by_transport
            lively = {known[name].room.id for name in receiving if name in known}
            rooms = list(self.rooms)
            turns = max(1, min(_TURNS, len(rooms)))
            for turn in range(turns):
                if turn:
                    await asyncio.sleep(TICK_S / turns)
                for room in rooms[turn::turns]:
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
                self.shares.probe(name, state)
            if name not in receiving:
                continue
            arrivals = self.engine.take_arrivals(name)
            if arrivals:
                packets, state.feedback_number = rtcp.transport_feedback(
                    FEEDBACK_SSRC, self._any_ssrc(state), state.feedback_number, arrivals
                )
                for packet in packets:
                    self.engine.send_rtcp(name, packet)
            for ssrc, sequences in self.engine.missing(name, now_ns):
                self.engine.send_rtcp(name, rtcp.nack(FEEDBACK_SSRC, ssrc, sequences))
        if receiving and self._ticks % _EVERY_KEY_FRAME == 0:
            for track, rid in self.engine.waiting([one.transport.name for one in room.participants.values()]):
                self.key_frame_needed(track, rid)
            self._listen(room)

    @staticmethod
    def _any_ssrc(state: WayState) -> int:
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

    def _second(self, participant: Participant, state: WayState, now_ns: int, *, lively: bool) -> None:
        name, now = participant.transport.name, now_ns / 1e9
        if lively:  # where nobody sends there is nothing to report and nothing to choose
            self._heard(name, state, now)
            self._reckon(participant, state, now_ns)
        quality = state.leg.decide(now, has_video=self._sees(participant))
        if state.leg.paused != participant.video_paused:
            self.rooms.pause_video(participant, state.leg.paused)
        state.probes = []
        if lively:
            self.shares.choose(participant, state, now)
            self.shares.tell(participant, now)
            self.shares.cap(participant, state)
            self.shares.sound(participant, state, now)
        if quality != state.announced or now - state.announced_at > 10:
            state.announced, state.announced_at = quality, now
            self._emit("participant.quality", participant, self.quality(participant))

    def _reckon(self, participant: Participant, state: WayState, now_ns: int) -> None:
        """What came from a participant in the last second, and how much of it was lost: told to them, and kept for choosing."""
        name = participant.transport.name
        state.streams = self.engine.streams(name)
        primary = [stream for stream in state.streams if not stream.retransmission]
        if primary:
            lost = [stream.report.fraction_lost for stream in primary if now_ns - stream.last_ns < 2_000_000_000]
            state.leg.loss_up = max(lost, default=0) / 256
            for at in range(0, len(state.streams), 31):
                reports = [self._as_heard(participant, stream) for stream in state.streams[at : at + 31]]
                self.engine.send_rtcp(name, rtcp.receiver_report(FEEDBACK_SSRC, reports))
        for stream in state.streams:
            _, at, octets = state.rates.get(stream.ssrc, (0, now_ns, stream.octets))
            elapsed = max(1, now_ns - at)
            rate = (stream.octets - octets) * 8_000_000_000 // elapsed if at != now_ns else 0
            state.rates[stream.ssrc] = (rate, now_ns, stream.octets)

    def _as_heard(self, participant: Participant, stream: StreamState) -> rtcp.Report:
        """A stream's report; of sound, with the loss of whoever hears it worst.

        An Opus encoder repeats in each packet what mattered in the one before once it hears of losses, at the same rate: the
        loss behind the server is as good a reason as the one before it, and its sender would never learn of it.
        """
        report = stream.report
        track = next((one for one in participant.tracks.values() if one.id == stream.track), None)
        if track is None or track.kind != "audio":
            return report
        hear = [self.state(other.transport.name).leg for other, _ in self.shares.receivers(track, paused=None)]
        worst = max((leg.loss_down for leg in hear), default=0.0)
        return replace(report, fraction_lost=max(report.fraction_lost, min(_MOST_TOLD, round(worst * 256))))

    def _heard(self, name: str, state: WayState, now: float) -> None:
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
