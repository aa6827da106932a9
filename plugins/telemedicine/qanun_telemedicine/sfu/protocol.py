"""What the web process and a media worker say to each other: one JSON object a line over a Unix socket of mode 0600.

A request carries an `id` that its response repeats. Events come unasked, to every connected client. SDP and ICE
credentials travel here, people's names do not: rooms and participants are opaque ids.
"""

from typing import Any

import msgspec

#: Longest line in either direction: an SDP of the largest size, escaped, fits.
MAX_LINE = 1 << 20
VERSION = 1


class Refused(Exception):
    """A request that cannot be carried out; `code` travels to the client."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Request(msgspec.Struct, tag_field="method", omit_defaults=True):
    id: int


class Hello(Request, tag="hello"):
    """Who are you? → Worker."""


class OpenRoom(Request, tag="open_room"):
    """Opening an open room does nothing."""

    room: str


class CloseRoom(Request, tag="close_room"):
    """Disconnects everybody and stops its recordings."""

    room: str


class Join(Request, tag="join"):
    """Connect a participant; a former connection under the same id is replaced. → Described."""

    room: str
    participant: str
    sdp: str
    #: What the client calls its tracks, by mid: "microphone", "camera", "screen".
    sources: dict[str, str] = {}


class Offer(Request, tag="offer"):
    """Negotiate again (more sections, other tracks, ICE restart). Error "gone" means: join again. → Described."""

    room: str
    participant: str
    sdp: str
    sources: dict[str, str] = {}


class Leave(Request, tag="leave"):
    room: str
    participant: str


class KeyFrame(Request, tag="keyframe"):
    """Ask a participant's cameras for a key frame."""

    room: str
    participant: str


class StartRecording(Request, tag="start_recording"):
    """Hand the packets of a room to a tap, constructed from its dotted path with `options`."""

    room: str
    recording: str
    tap: str
    options: dict[str, Any]
    #: Only these participants; None means everybody, now and later.
    participants: list[str] | None = None


class StopRecording(Request, tag="stop_recording"):
    """→ the tap's last status."""

    recording: str


class PauseRecording(Request, tag="pause_recording"):
    """Nothing is recorded from the answer on, until resumed."""

    recording: str
    paused: bool = True


class RecordingStatus(Request, tag="recording_status"):
    recording: str


class Stats(Request, tag="stats"):
    """→ figures of one room, or of all."""

    room: str | None = None


class Drain(Request, tag="drain"):
    """Take no more rooms; with `ends`, the process ends when the last room that somebody is in is empty."""

    on: bool = True
    ends: bool = True


AnyRequest = (
    Hello
    | OpenRoom
    | CloseRoom
    | Join
    | Offer
    | Leave
    | KeyFrame
    | StartRecording
    | StopRecording
    | PauseRecording
    | RecordingStatus
    | Stats
    | Drain
)


class Track(msgspec.Struct):
    """A track of somebody else and the section in which it arrives."""

    mid: str
    kind: str
    participant: str
    source: str
    track: str


class Described(msgspec.Struct):
    """The answer to an offer. `wanted` says how many more receiving sections the page should offer, by kind.

    The answer and `participant.tracks` reach a page on different ways and may overtake each other: of one `connection`,
    the higher `revision` is what holds.
    """

    sdp: str
    tracks: list[Track]
    wanted: dict[str, int]
    connection: str = ""
    revision: int = 0


class Worker(msgspec.Struct):
    """A worker introduces itself. Another `boot` than before means: everything it had is gone."""

    version: int
    boot: str
    pid: int
    port: int
    hosts: list[str]
    rooms: int
    participants: int
    draining: bool
    #: Which data plane it runs: "c" or "python".
    engine: str = ""
    #: What it was busy with in the last seconds: shares of one core by itself and of all cores of its machine, and packets in
    #: and out a second.
    cpu: float = 0.0
    machine: float = 0.0
    packets: float = 0.0
    #: What it is waiting for, in all: grows with people and not with time.
    tasks: int = 0


class Failure(msgspec.Struct):
    code: str
    message: str


class Response(msgspec.Struct, omit_defaults=True):
    id: int
    result: Any = None
    error: Failure | None = None


class Event(msgspec.Struct, omit_defaults=True):
    """`participant.connected`, `.disconnected` (data.reason: left, lost, failed, timeout), `.media` (first packet of a track:
    data.track, kind, source), `.tracks` (data.tracks, wanted, connection, revision: what the page must know), `.quality` (data: state,
    loss, rtt …), `.layers` (data.layers, connection: the rids by mid that somebody receives; the others may be
    paused), `.speaker`, `recording.failed` (data.recording, problem) and, of a node, `recording.lost` (data.recording: begin anew)."""

    event: str
    room: str
    participant: str = ""
    data: dict[str, Any] = {}


class Message(msgspec.Struct, omit_defaults=True):
    """Either a response or an event, as a client reads it."""

    id: int | None = None
    result: Any = None
    error: Failure | None = None
    event: str | None = None
    room: str = ""
    participant: str = ""
    data: dict[str, Any] = {}
