"""What a page says over its socket. Everything else is refused by name."""

from __future__ import annotations

import uuid
from typing import Annotated, Literal

import msgspec

#: An SDP of many sections, escaped, fits; a chat line always does.
MOST_LETTERS = 200_000


class Said(msgspec.Struct, tag_field="type", forbid_unknown_fields=False):
    """Base of the messages."""


class Join(Said, tag="join"):
    """Media: connect, with the first offer."""

    number: int
    sdp: Annotated[str, msgspec.Meta(max_length=MOST_LETTERS)]
    sources: dict[str, str] = {}
    #: Of an encrypted call: the page's own public key.
    key: Annotated[str, msgspec.Meta(max_length=200)] = ""


class Offer(Said, tag="offer"):
    """Media: negotiate again."""

    number: int
    sdp: Annotated[str, msgspec.Meta(max_length=MOST_LETTERS)]
    sources: dict[str, str] = {}


class Leave(Said, tag="leave"):
    """The person leaves the call. The visit goes on; they can come back."""


class Back(Said, tag="back"):
    """Only the signalling was cut: the person is still in the call, through this connection now."""


class Enter(Said, tag="enter"):
    """The patient goes to the waiting room."""


class Concern(Said, tag="concern"):
    """What matters most to the patient today."""

    text: Annotated[str, msgspec.Meta(max_length=10_000)]


class Place(Said, tag="place"):
    """Where the patient is right now."""

    text: Annotated[str, msgspec.Meta(max_length=2_000)]
    country: str


class Say(Said, tag="say"):
    """A line of the chat; `id` is the page's own, for sending again."""

    id: uuid.UUID
    text: Annotated[str, msgspec.Meta(max_length=20_000)]


class Consent(Said, tag="consent"):
    """An answer to being recorded."""

    decision: str
    version: str


class AskToRecord(Said, tag="record"):
    """The clinic asks to record (or takes the question, and the recording, back)."""

    on: bool


class PauseRecording(Said, tag="pause"):
    """The clinic pauses the recording, or lets it go on."""

    on: bool


class Check(Said, tag="check"):
    """The device check's own two connections: media out, and the same media back."""

    seat: Literal["out", "back"]
    step: Literal["join", "offer", "leave"]
    number: int = 0
    sdp: Annotated[str, msgspec.Meta(max_length=MOST_LETTERS)] = ""
    sources: dict[str, str] = {}


class Seen(Said, tag="seen"):
    """What the page's own browser says of the call since it said so last."""

    freezes: int = 0
    width: int = 0
    relayed: bool | None = None
    network: Annotated[str, msgspec.Meta(max_length=20)] = ""


class Hand(Said, tag="hand"):
    """Asks to speak, or does not any more."""

    on: bool


class Muted(Said, tag="muted"):
    """The page's microphone is off, or on again."""

    on: bool


class Mute(Said, tag="mute"):
    """The moderator mutes one person, or everybody."""

    who: uuid.UUID | None = None


class Lower(Said, tag="lower"):
    """The moderator lowers a raised hand."""

    who: uuid.UUID


class Lock(Said, tag="lock"):
    """The moderator shuts the door for newcomers, or opens it."""

    on: bool


class AskPicture(Said, tag="picture"):
    """The clinic asks somebody in the call for a picture of this moment."""

    participant: uuid.UUID


class AnswerPicture(Said, tag="picture-answer"):
    """The answer of the person whom the picture would show."""

    id: uuid.UUID
    decision: str
    version: str


class Keys(Said, tag="keys"):
    """Of an encrypted call: this page's sender key, sealed for each of the others by their id."""

    sealed: dict[uuid.UUID, Annotated[str, msgspec.Meta(max_length=400)]]


class Compared(Said, tag="compared"):
    """The safety code was read aloud: it is the same on both sides, or it is not."""

    same: bool


class AskCaptions(Said, tag="captions"):
    """The clinic offers that what is said is written along, or ends it."""

    on: bool


class AnswerCaptions(Said, tag="captions-answer"):
    """Whether one's own words may be."""

    decision: str
    version: str


class AskTranscript(Said, tag="transcript"):
    """The clinic asks to keep what is said in the record, or is done with it."""

    on: bool


class AnswerTranscript(Said, tag="transcript-answer"):
    """Whether it may be kept."""

    decision: str
    version: str


class GroupAnswer(Said, tag="group-answer"):
    """Whether the patient comes to the group, and what the others call them."""

    decision: str
    version: str
    name: Annotated[str, msgspec.Meta(max_length=200)] = ""


class Ping(Said, tag="ping"):
    """The page is alive."""


class Servers(Said, tag="servers"):
    """Asks for fresh addresses of the relay before the old credentials end."""


Group = Hand | Muted | Mute | Lower | Lock
Message = (
    Join
    | Offer
    | Leave
    | Back
    | Enter
    | Concern
    | Place
    | Say
    | Consent
    | AskToRecord
    | PauseRecording
    | AskPicture
    | AnswerPicture
    | Check
    | Seen
    | Group
    | Keys
    | Compared
    | AskCaptions
    | AnswerCaptions
    | AskTranscript
    | AnswerTranscript
    | GroupAnswer
    | Ping
    | Servers
)
DECODER = msgspec.json.Decoder(Message)
