"""Which layer of which picture every way gets, which layers a publisher need send, and what it may send where there are none.

`control` asks this once a second for each participant; it keeps the clock, the feedback and the estimates.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from qanun_telemedicine.sfu import rtcp
from qanun_telemedicine.sfu.engine import Engine, SenderState, StreamState, TrackSpec
from qanun_telemedicine.sfu.layers import Published, inside
from qanun_telemedicine.sfu.quality import RECONNECTING, Layer, LayerChoice, Leg
from qanun_telemedicine.sfu.repeats import Repeats
from qanun_telemedicine.sfu.room import Participant, Rooms

#: How often the control plane looks.
TICK_S = 0.05
#: Our own SSRC in feedback; nothing is ever sent under it.
FEEDBACK_SSRC = 1
_AUDIO_SHARE = 50_000
#: What Opus needs to be understood well by who has next to nothing, in bits per second (RFC 7587 recommends 16 to 20 kbit/s for
#: speech in wideband).
_NARROW_SOUND = 20_000
#: Whoever sends narrow sound is told so this often: a lost message must not leave somebody without.
_REMIND_S = 5.0
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
class WayState:
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
    #: What a microphone was asked to keep to, 0 for nothing, and when.
    sound: int = 0
    sound_at: float = 0.0
    #: (our SSRC of a picture, bits per second to add) while a wider layer is about to be chosen.
    probes: list[tuple[int, int]] = field(default_factory=list)


class Shares:
    """The pictures of all rooms. `state` gives what is remembered of one transport."""

    def __init__(
        self, engine: Engine, rooms: Rooms, state: Callable[[str], WayState],
        emit: Callable[[str, Participant, dict[str, object]], None],
    ) -> None:  # fmt: skip
        self._engine = engine
        self._rooms = rooms
        self._state = state
        self._emit = emit
        #: Tracks in several layers.
        self._published: dict[str, Published] = {}

    def forget(self, transport: str) -> None:
        """The transport has ended."""
        for track in [track for track in self._published if track.startswith(transport + "/")]:
            del self._published[track]

    def choose(self, participant: Participant, state: WayState, now: float, *, lower: bool = False) -> None:
        """Choose a simulcast layer for every picture that this participant receives; with `lower`, only one that costs less."""
        video = [slot for slot in participant.slots.values() if slot.kind == "video" and slot.track is not None]
        share = (state.leg.budget() - _AUDIO_SHARE) // max(1, len(video))
        for slot in video:
            assert slot.track is not None
            arriving = self._arriving(slot.track.id, now)
            if len(slot.track.rids) < 2 and len(arriving) < 2:
                continue
            choice = state.choices.setdefault(slot.mid, LayerChoice())
            # For one receiver the picture is made to measure (`cap`); for several there are layers.
            only = len(self.receivers(slot.track)) < 2
            # Layers inside of one stream come all or not at all.
            layers = self._layers_of(slot.track).choice(arriving, now) if slot.track.rids else arriving
            rid = (choice.lower if lower else choice.choose)(layers, _UNLIMITED if only else share)
            if rid is None:
                continue
            self._engine.select(participant.transport.name, slot.mid, rid)
            if choice.probe and not (only or lower or participant.video_paused):
                now_costs = next((layer.bitrate for layer in layers if layer.rid == rid), 0)
                state.probes.append((participant.agreed[slot.mid].ssrc, max(0, choice.probe - now_costs)))

    def _layers_of(self, track: TrackSpec) -> Published:
        one = self._published.get(track.id)
        if one is None:
            one = self._published[track.id] = Published(track.rids)
        return one

    def _arriving(self, track: str, now: float) -> list[Layer]:
        publisher = self._rooms.by_track.get(track)
        if publisher is None:
            return []
        rates = self._state(publisher.transport.name).rates
        made: list[Layer] = []
        for stream in self._engine.streams_of(track):
            if stream.retransmission or now - stream.last_ns / 1e9 >= _ALIVE_S:
                continue
            rate = rates.get(stream.ssrc, (0, 0, 0))[0]
            made += inside(stream, rate, now) or [Layer(stream.rid, stream.width, rate)]
        return made

    def receivers(self, track: TrackSpec, *, paused: bool | None = False) -> list[tuple[Participant, str]]:
        """Who gets this picture just now, and in which section; with `paused`, who would if the way carried it. None: either, as
        it is with sound."""
        publisher = self._rooms.by_track.get(track.id)
        if publisher is None:
            return []
        return [
            (other, slot.mid)
            for other in publisher.room.participants.values()
            if other.connected and paused in (None, other.video_paused)
            for slot in other.slots.values()
            if slot.track is track
        ]

    def tell(self, participant: Participant, now: float) -> None:
        """Tell a publisher which layers somebody receives; the others need not be sent."""
        told: dict[str, list[str]] = {}
        for mid, track in participant.tracks.items():
            if len(track.rids) < 2:
                continue
            wanted: set[str] = set()
            for other, section in self.receivers(track):
                choice = self._state(other.transport.name).choices.get(section)
                if choice is not None and choice.rid is not None:
                    wanted.add(choice.rid)
                # Until the chosen one has come, the one before goes on.
                wanted |= {one.rid for one in self.senders(other) if one.track == track.id and one.id == section}
            published = self._layers_of(track)
            if published.want(wanted, self._arriving(track.id, now), now):
                told[mid] = published.told()
        if told:
            self._emit("participant.layers", participant, {"layers": told, "connection": participant.connection})

    def sound(self, participant: Participant, state: WayState, now: float) -> None:
        """Tell a microphone when somebody who hears it has a way that carries no more than words."""
        tracks = [track for track in participant.tracks.values() if track.kind == "audio"]
        hear = [
            self._state(other.transport.name).leg for track in tracks for other, _ in self.receivers(track, paused=None)
        ]
        wanted = _NARROW_SOUND if any(leg.tight for leg in hear) else 0
        if wanted != state.sound or (wanted and now - state.sound_at > _REMIND_S):
            state.sound, state.sound_at = wanted, now
            self._emit("participant.sound", participant, {"bitrate": wanted, "connection": participant.connection})

    def probe(self, name: str, state: WayState) -> None:
        """Show that the way carries more, with repetitions of what was sent last: receivers know them and drop them."""
        newest = {sender.ssrc: sender.sequence for sender in self._engine.senders(name)}
        for ssrc, bitrate in state.probes:
            count = min(_MOST_PROBES, round(bitrate * TICK_S / _PROBE_BITS))
            if count and ssrc in newest:
                self._engine.retransmit(name, ssrc, [(newest[ssrc] - back) & 0xFFFF for back in range(count)])

    def cap(self, participant: Participant, state: WayState) -> None:
        """A picture for which there is no choice of layers must fit its weakest receiver: say so to its sender."""
        ssrcs: list[int] = []
        total, known = 0, False
        for track in participant.tracks.values():
            if track.kind != "video":
                continue
            ssrcs += [one.ssrc for one in state.streams if one.track == track.id and not one.retransmission]
            receivers = self.receivers(track)
            if not receivers and self.receivers(track, paused=True):
                # When it is tried again, its key frame must not be one of a picture that was large meanwhile.
                total, known = total + _LEAST_PICTURE, True
                continue
            layered = len(receivers) > 1 and (len(track.rids) > 1 or any(one.layers for one in state.streams))
            caps = [cap for other, _ in receivers if (cap := self._share(other)) is not None]
            total += _UNLIMITED if layered or not caps else max(_LEAST_PICTURE, min(caps))
            known = known or bool(caps)
        if ssrcs and known:
            capped = min(_UNLIMITED, total) + _AUDIO_SHARE
            self._engine.send_rtcp(participant.transport.name, rtcp.remb(FEEDBACK_SSRC, capped, ssrcs))

    def _share(self, participant: Participant) -> int | None:
        """What the way to a participant carries for each picture; None while nothing is known of it."""
        leg = self._state(participant.transport.name).leg
        if leg.state == RECONNECTING:
            return None
        videos = [slot for slot in participant.slots.values() if slot.kind == "video" and slot.track is not None]
        return (leg.budget() - _AUDIO_SHARE) // max(1, len(videos))

    def senders(self, participant: Participant) -> list[SenderState]:
        return self._engine.senders(participant.transport.name)
