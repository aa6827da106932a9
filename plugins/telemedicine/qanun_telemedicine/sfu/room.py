"""Rooms: who is in one, what they publish, and which section of whom each track is sent in.

A room knows no lobby: whoever waits for admission has no transport and does not exist here. A participant who joins again
keeps the id and replaces the former connection.
"""

import itertools
import logging
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aiortc import RTCCertificate

from qanun_telemedicine.sfu import answer, sdp
from qanun_telemedicine.sfu.answer import Agreed, Local
from qanun_telemedicine.sfu.codecs import Preferences
from qanun_telemedicine.sfu.engine import Engine, TrackSpec
from qanun_telemedicine.sfu.paths import Paths
from qanun_telemedicine.sfu.protocol import Refused
from qanun_telemedicine.sfu.transport import PeerTransport, TransportListener

log = logging.getLogger(__name__)

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Limits:
    rooms: int = 2000
    #: Twelve people, and two devices beside them.
    participants: int = 14
    tracks: int = 4


@dataclass
class Slot:
    """A section in which a participant can receive one track at a time."""

    mid: str
    kind: str
    index: int
    track: TrackSpec | None = None


@dataclass(frozen=True)
class Assignment:
    """Which track arrives in which section, for the page."""

    mid: str
    kind: str
    participant: str
    source: str
    track: str


class Participant:
    """One connected person (or thing) in one room."""

    def __init__(self, room: "Room", name: str, transport: PeerTransport) -> None:
        self.room = room
        self.id = name
        self.transport = transport
        self.agreed: dict[str, Agreed] = {}
        self.tracks: dict[str, TrackSpec] = {}
        self.slots: dict[str, Slot] = {}
        self.remote_username = ""
        self.fingerprints: list[tuple[str, str]] = []
        self.session = secrets.randbits(60)
        self.version = 0
        self.told: tuple[Assignment, ...] = ()
        #: Counts what was told of tracks, so that the page knows what is newer.
        self.revision = 0
        self.wanted: dict[str, int] = {"audio": 0, "video": 0}
        self.connected = False
        self.media = False
        #: Audio only for now: the network carries no picture.
        self.video_paused = False
        #: SSRCs of what is sent to them; each is used once.
        self.ssrcs = itertools.count(0x10000 + secrets.randbelow(0x7FFF0000))

    @property
    def connection(self) -> str:
        """Names this connection, and not the one before or after it."""
        return f"{self.session:x}"

    def shows(self) -> frozenset[str] | None:
        """The video codecs that can be shown here; None where no picture is expected."""
        able = [one.shows() for one in self.agreed.values() if one.role == "send" and one.section.kind == "video"]
        return frozenset.intersection(*able) if able else None

    def assignments(self) -> tuple[Assignment, ...]:
        return tuple(
            Assignment(slot.mid, slot.kind, slot.track.participant, slot.track.source, slot.track.id)
            for slot in self.slots.values()
            if slot.track is not None
        )


@dataclass
class Room:
    id: str
    limits: Limits
    participants: dict[str, Participant] = field(default_factory=dict)
    #: Monotonic seconds since when nobody is in it.
    empty_since: float = 0.0

    def tracks(self) -> list[TrackSpec]:
        return [track for one in self.participants.values() for track in one.tracks.values()]


class Rooms:
    """All rooms of a worker, on one engine."""

    def __init__(
        self,
        engine: Engine,
        paths: Paths,
        listener: TransportListener,
        told: Callable[[Participant], None],
        limits: Limits | None = None,
        preferences: Preferences | None = None,
    ) -> None:
        self.preferences = preferences or Preferences()
        self.engine = engine
        self.paths = paths
        self.limits = limits or Limits()
        self._listener = listener
        self._told = told
        self._rooms: dict[str, Room] = {}
        self.by_transport: dict[str, Participant] = {}
        self.by_track: dict[str, Participant] = {}
        self.certificate = RTCCertificate.generateCertificate()
        self._fingerprint = next(one.value for one in self.certificate.getFingerprints() if one.algorithm == "sha-256")
        #: Told of tracks that come and go, for recordings.
        self.on_track: Callable[[Room, TrackSpec, bool], None] = lambda room, track, added: None
        #: Told of a transport that is no more, however its participant left.
        self.on_left: Callable[[str], None] = lambda transport: None
        #: The video codecs that can be recorded in a room while it is; None for any.
        self.recordable: Callable[[Room], frozenset[str] | None] = lambda room: None

    def __iter__(self) -> "itertools.chain[Room]":
        return itertools.chain(self._rooms.values())

    def __len__(self) -> int:
        return len(self._rooms)

    def open(self, name: str) -> Room:
        room = self._rooms.get(name)
        if room is None:
            if len(self._rooms) >= self.limits.rooms:
                raise Refused("full", "this worker takes no more rooms")
            room = self._rooms[name] = Room(name, self.limits)
        return room

    def get(self, name: str) -> Room:
        room = self._rooms.get(name)
        if room is None:
            raise Refused("no-room", f"room {name!r} is not open")
        return room

    def participant(self, room: str, name: str) -> Participant:
        one = self.get(room).participants.get(name)
        if one is None:
            raise Refused("gone", f"participant {name!r} is not connected")
        return one

    async def close(self, name: str) -> None:
        room = self._rooms.pop(name, None)
        if room is not None:
            for participant in list(room.participants.values()):
                await self._leave(participant)

    # -- joining and negotiating --------------------------------------------------------------------------------------

    async def join(self, room_name: str, name: str, text: str, sources: Mapping[str, str]) -> tuple[Participant, str]:
        """Connect a participant; a former connection under the same id is replaced."""
        room = self.get(room_name)
        offer = sdp.parse(text)
        before = room.participants.get(name)
        if before is None and len(room.participants) >= room.limits.participants:
            raise Refused("full", "the room is full")
        if before is not None:
            await self._leave(before)
        # Somebody else may have come while the former connection said goodbye.
        if name in room.participants or self._rooms.get(room_name) is not room:
            raise Refused("busy", "the participant joins already")
        label = f"{room.id}/{name}/{next(_numbers)}"
        transport = PeerTransport(label, self.engine, self.paths, self.certificate, self._listener)
        participant = Participant(room, name, transport)
        try:
            described = self._negotiate(participant, offer, sources)
        except BaseException:
            await transport.stop()
            raise
        room.participants[name] = participant
        self.by_transport[label] = participant
        participant.remote_username, participant.fingerprints = offer.username, offer.fingerprints
        transport.start(offer.username, offer.password, offer.fingerprints)
        self.assign(room)
        return participant, described

    def offer(self, room: str, name: str, text: str, sources: Mapping[str, str]) -> tuple[Participant, str]:
        """Negotiate again: more sections, other tracks, an ICE restart."""
        participant = self.participant(room, name)
        offer = sdp.parse(text)
        if set(offer.fingerprints) != set(participant.fingerprints):
            raise Refused("gone", "this is another connection: join again")
        if offer.username != participant.remote_username:
            participant.remote_username = offer.username
            participant.transport.restart(offer.username, offer.password)
        described = self._negotiate(participant, offer, sources)
        self.assign(participant.room)
        return participant, described

    def _negotiate(self, participant: Participant, offer: sdp.Offer, given: Mapping[str, str]) -> str:
        named = answer.sources(given)
        agreed = answer.agree(
            offer, participant.ssrcs, participant.agreed, self.preferences, self._fitting(participant)
        )
        if sum(one.role == "receive" for one in agreed) > participant.room.limits.tracks:
            raise Refused("too-many-tracks", "too many tracks are published")
        now = {one.mid: one for one in agreed if one.mid}
        self._publish(participant, now, named)
        self._provide(participant, now)
        participant.agreed = now
        participant.version += 1
        username, password = participant.transport.credentials
        local = Local(
            username,
            password,
            self._fingerprint,
            self.paths.hosts,
            participant.session,
            participant.version,
        )
        return answer.write(offer, agreed, local)

    def _fitting(self, participant: Participant) -> frozenset[str] | None:
        """The video codecs that everybody else in the room can show, and a running recording can keep; None for any."""
        able = [one.shows() for one in participant.room.participants.values() if one.id != participant.id]
        able.append(self.recordable(participant.room))
        known = [codecs for codecs in able if codecs is not None]
        return frozenset.intersection(*known) if known else None

    def _outdated(self, participant: Participant) -> bool:
        """What is sent here cannot be shown by somebody who came, or not be recorded, and there is a codec for all: the page
        should offer again."""
        shown = self._fitting(participant)
        for mid, track in participant.tracks.items():
            if track.kind != "video" or shown is None or track.codec in shown:
                continue
            better = answer.received(participant.agreed[mid].section, self.preferences, shown, track.codec)
            if better is not None and better.name in shown:
                return True
        return False

    def _publish(self, participant: Participant, now: Mapping[str, Agreed], named: Mapping[str, str]) -> None:
        changed: set[str] = set()
        for mid in list(participant.tracks):
            if (
                mid not in now
                or now[mid].role != "receive"
                or now[mid].offered[0].name != participant.tracks[mid].codec
            ):
                self._unpublish(participant, mid)
                changed.add(mid)
        for mid, one in now.items():
            if one.role == "receive" and mid not in participant.tracks:
                default = "microphone" if one.section.kind == "audio" else "camera"
                name = f"{participant.transport.name}/{re.sub('[^A-Za-z0-9_.-]', '_', mid)}"
                if mid in changed:
                    # In another codec it is another track, and has to be switched in anew everywhere.
                    name = f"{name}.{participant.version}"
                track = one.track(name, participant.id, named.get(mid, default))
                participant.tracks[mid] = track
                self.by_track[track.id] = participant
                self.engine.publish(participant.transport.name, track)
                self.on_track(participant.room, track, True)

    def _unpublish(self, participant: Participant, mid: str) -> None:
        track = participant.tracks.pop(mid)
        self.by_track.pop(track.id, None)
        self.on_track(participant.room, track, False)
        self.engine.unpublish(track.id)

    def _provide(self, participant: Participant, now: Mapping[str, Agreed]) -> None:
        for mid in list(participant.slots):
            if mid not in now or now[mid].role != "send":
                self.engine.remove_sender(participant.transport.name, mid)
                del participant.slots[mid]
        for mid, one in now.items():
            if one.role == "send" and mid not in participant.slots:
                participant.slots[mid] = Slot(mid, one.section.kind, one.slot)
                self.engine.add_sender(participant.transport.name, one.sender(mid))

    # -- who gets what ------------------------------------------------------------------------------------------------

    def assign(self, room: Room) -> None:
        """Give every track a section at everybody else, change as little as possible, and tell whoever it concerns."""
        for participant in room.participants.values():
            self._assign(participant, [track for track in room.tracks() if track.participant != participant.id])

    def _assign(self, participant: Participant, tracks: list[TrackSpec]) -> None:
        name = participant.transport.name
        current = {track.id for track in tracks}
        for slot in participant.slots.values():
            if slot.track is not None and slot.track.id not in current:
                slot.track = None
                self.engine.route(name, slot.mid, None)
        placed = {slot.track.id for slot in participant.slots.values() if slot.track is not None}
        participant.wanted = {"audio": 0, "video": 0}
        if self._outdated(participant):
            participant.wanted["codec"] = 1
        shown = participant.shows()
        for track in tracks:
            if track.id in placed or (track.kind == "video" and shown is not None and track.codec not in shown):
                continue
            place = self._free(participant, track)
            if place is None:
                participant.wanted[track.kind] += 1
                continue
            place.track = track
            paused = participant.video_paused and track.kind == "video"
            self.engine.route(name, place.mid, track.id, paused=paused)
        assignments = participant.assignments()
        if assignments != participant.told or any(participant.wanted.values()):
            participant.told = assignments
            participant.revision += 1
            self._told(participant)

    @staticmethod
    def _free(participant: Participant, track: TrackSpec) -> Slot | None:
        """A free section; beside what the same person already sends there, so that lips and sound fit together."""
        free = [slot for slot in participant.slots.values() if slot.kind == track.kind and slot.track is None]
        others = {
            slot.index: slot.track.participant
            for slot in participant.slots.values()
            if slot.kind != track.kind and slot.track is not None
        }
        if track.source == "screen":
            return free[-1] if free else None
        beside = [slot for slot in free if others.get(slot.index) == track.participant]
        alone = [slot for slot in free if slot.index not in others]
        return next(iter(beside or alone or free), None)

    def pause_video(self, participant: Participant, paused: bool) -> None:
        participant.video_paused = paused
        for slot in participant.slots.values():
            if slot.kind == "video" and slot.track is not None:
                self.engine.route(participant.transport.name, slot.mid, slot.track.id, paused=paused)

    # -- leaving ------------------------------------------------------------------------------------------------------

    async def leave(self, room: str, name: str) -> None:
        participant = self.get(room).participants.get(name)
        if participant is not None:
            await self._leave(participant)

    async def _leave(self, participant: Participant) -> None:
        room = participant.room
        if room.participants.get(participant.id) is participant:
            del room.participants[participant.id]
        self.by_transport.pop(participant.transport.name, None)
        for mid in list(participant.tracks):
            self._unpublish(participant, mid)
        self.assign(room)
        try:
            await participant.transport.stop()
        finally:
            self.on_left(participant.transport.name)

    async def gone(self, transport: str) -> Participant | None:
        """The transport has ended by itself."""
        participant = self.by_transport.get(transport)
        if participant is not None:
            await self._leave(participant)
        return participant
