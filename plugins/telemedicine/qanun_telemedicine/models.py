"""Tables of video consultations. Media never comes here; a recording's bytes lie sealed beside the database."""

from __future__ import annotations

import uuid
from datetime import date, datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Index, LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from qanun.api import Conflict, TenantModel, patient_key, practitioner_key, ref

SCHEDULED, WAITING, IN_PROGRESS, ENDED, CANCELLED = "scheduled", "waiting", "in-progress", "ended", "cancelled"
STATES = (SCHEDULED, WAITING, IN_PROGRESS, ENDED, CANCELLED)
VIDEO, VOICE, WRITTEN = "video", "voice", "written"
MODES = (VIDEO, VOICE, WRITTEN)
OPEN = (SCHEDULED, WAITING, IN_PROGRESS)


class Consultation(TenantModel):
    """One video visit; an appointment has at most one. `room` is its name at the media worker and tells nothing.

    A group is a row of this table, too: the call itself, with a title and without a patient. Each of its patients has a visit
    of their own, with their own identity check, encounter and end, whose `group_id` names that call.
    """

    __tablename__ = "telemedicine_consultation"
    __table_args__ = (
        UniqueConstraint("tenant_id", "appointment_id"),
        UniqueConstraint("tenant_id", "room"),
        CheckConstraint("state in ('scheduled', 'waiting', 'in-progress', 'ended', 'cancelled')", name="state"),
        CheckConstraint("mode in ('video', 'voice', 'written')", name="mode"),
        CheckConstraint("state <> 'in-progress' or admitted_at is not null", name="admitted"),
        CheckConstraint("state <> 'ended' or ended_at is not null", name="ended"),
        CheckConstraint("(patient_id is null) = (title <> '')", name="group"),
        CheckConstraint("group_id is null or patient_id is not null", name="member"),
        CheckConstraint("group_answer in ('', 'given', 'refused')", name="group_answer"),
        Index(
            "uq_telemedicine_consultation_member", "tenant_id", "group_id", "patient_id", unique=True,
            postgresql_where="group_id is not null and state <> 'cancelled'",
        ),
        Index("ix_telemedicine_consultation_day", "tenant_id", "state", "starts_at"),
        Index("ix_telemedicine_consultation_patient", "tenant_id", "patient_id", "starts_at"),
    )  # fmt: skip

    #: How it is held: one of `MODES`.
    mode: Mapped[str] = mapped_column(default=VIDEO)
    #: In writing: while the patient waits for an answer, until when it is promised.
    answer_by: Mapped[datetime | None]
    #: In writing: when the patient was last told outside of the portal that something waits for them.
    told_at: Mapped[datetime | None]
    #: Where the patient says they are, for help that has to find them; asked anew for each visit.
    place: Mapped[str] = mapped_column(default="")
    #: ISO 3166-1 of the place, which decides whom to call.
    place_country: Mapped[str] = mapped_column(default="")
    place_at: Mapped[datetime | None]
    #: Who said so: the patient, or the staff who asked them.
    place_by: Mapped[str] = mapped_column(default="")
    # Another plugin's row: a typed reference, no foreign key.
    appointment_id: Mapped[uuid.UUID | None]
    #: Whose visit it is; nobody's for the call of a group.
    patient_id: Mapped[uuid.UUID | None] = patient_key(nullable=True)
    #: The call of a group in which this patient's visit is held.
    group_id: Mapped[uuid.UUID | None] = ref("telemedicine_consultation", nullable=True)
    #: What a group is called.
    title: Mapped[str] = mapped_column(default="")
    #: In a group: whether they agreed to be seen and heard by the others, and what the others call them, as they chose.
    group_answer: Mapped[str] = mapped_column(default="")
    shown_as: Mapped[str] = mapped_column(default="")
    practitioner_id: Mapped[uuid.UUID] = practitioner_key()
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    state: Mapped[str] = mapped_column(default=SCHEDULED)
    room: Mapped[str]
    #: What the patient wants to talk about, in their words.
    concern: Mapped[str] = mapped_column(default="")
    #: The patient's link, sealed under the clinic's key, so that reception can copy it again.
    invitation: Mapped[bytes | None] = mapped_column(LargeBinary)
    waiting_since: Mapped[datetime | None]
    admitted_at: Mapped[datetime | None]
    admitted_by: Mapped[uuid.UUID | None]
    ended_at: Mapped[datetime | None]
    ended_by: Mapped[uuid.UUID | None]
    encounter_id: Mapped[uuid.UUID | None]
    #: End to end: the server forwards what it cannot decrypt, so it records nothing and takes no pictures. Chosen before the
    #: visit begins and never changed after.
    encrypted: Mapped[bool] = mapped_column(default=False)
    #: Nobody who was not in the call yet comes in while this is set.
    locked_at: Mapped[datetime | None]
    #: The clinic offers that what is said is written along, since then.
    captions_asked_at: Mapped[datetime | None]
    #: The clinic asks to keep what is written along in the record, since then.
    transcript_asked_at: Mapped[datetime | None]
    transcript_asked_by: Mapped[uuid.UUID | None]
    transcript_asked_by_name: Mapped[str] = mapped_column(default="")
    #: Which tap of the media worker listens for it; its name says to whom.
    captions_tap: Mapped[str] = mapped_column(default="")
    #: Somebody of the clinic asked to record, and has not taken it back.
    recording_asked_at: Mapped[datetime | None]
    recording_asked_by: Mapped[uuid.UUID | None]
    #: Somebody of the clinic pauses the recording; the consents stand.
    recording_paused_at: Mapped[datetime | None]

    @property
    def whose(self) -> uuid.UUID:
        """The patient. Raises Conflict for the call of a group."""
        if self.patient_id is None:
            raise Conflict("the call of a group is nobody's visit")
        return self.patient_id


class Participant(TenantModel):
    """A person of a consultation, once, however often they come and go. `subject` is `Patient/…`, `User/…` or `Guest/…`."""

    __tablename__ = "telemedicine_participant"
    __table_args__ = (
        UniqueConstraint("tenant_id", "consultation_id", "subject"),
        CheckConstraint("kind in ('practitioner', 'patient', 'staff', 'guest')", name="kind"),
    )

    consultation_id: Mapped[uuid.UUID] = ref("telemedicine_consultation")
    subject: Mapped[str]
    kind: Mapped[str]
    name: Mapped[str]
    #: What a guest is here for: one of `GUEST_ROLES`; empty for the others.
    role: Mapped[str] = mapped_column(default="")
    patient_id: Mapped[uuid.UUID | None] = patient_key(nullable=True)
    practitioner_id: Mapped[uuid.UUID | None] = practitioner_key(nullable=True)
    #: Of an encrypted call: the public key of the page through which they are in it, as that page said it.
    public_key: Mapped[str] = mapped_column(default="")
    #: Their answer to what they say being written along, since it was asked: given, refused, or none yet.
    captions: Mapped[str] = mapped_column(default="")
    #: Their answer to what is said being kept, since that was asked, when, and in which language they read the words.
    transcript: Mapped[str] = mapped_column(default="")
    transcript_at: Mapped[datetime | None]
    transcript_language: Mapped[str] = mapped_column(default="")
    #: Asks to speak, since then.
    hand_at: Mapped[datetime | None]
    #: Whether their page says that the microphone is off.
    muted: Mapped[bool] = mapped_column(default=False)
    #: The moderator muted them last then; their page obeys once, and they may speak again.
    mute_asked_at: Mapped[datetime | None]


class SealedKey(TenantModel):
    """One person's sender key of an encrypted call, sealed by their page for one other's: nothing here opens it. Kept only
    so that whoever connects again, to whichever process, gets it; gone with the call."""

    __tablename__ = "telemedicine_sealed_key"
    __table_args__ = (UniqueConstraint("tenant_id", "sender_id", "receiver_id"),)

    consultation_id: Mapped[uuid.UUID] = ref("telemedicine_consultation")
    sender_id: Mapped[uuid.UUID] = ref("telemedicine_participant")
    receiver_id: Mapped[uuid.UUID] = ref("telemedicine_participant")
    sealed: Mapped[str]


class Notice(TenantModel):
    """A message of the clinic to somebody who waits: a phrase of `notices.PHRASES` in the reader's language, or own words."""

    __tablename__ = "telemedicine_notice"
    __table_args__ = (Index("ix_telemedicine_notice_consultation", "tenant_id", "consultation_id", "sent_at"),)

    consultation_id: Mapped[uuid.UUID] = ref("telemedicine_consultation")
    phrase: Mapped[str] = mapped_column(default="")
    minutes: Mapped[int | None]
    text: Mapped[str] = mapped_column(default="")
    sent_at: Mapped[datetime]
    sent_by: Mapped[uuid.UUID]
    sent_by_name: Mapped[str]


class Handover(TenantModel):
    """A visit went from one practitioner to another, with the patient staying where they were."""

    __tablename__ = "telemedicine_handover"
    __table_args__ = (Index("ix_telemedicine_handover_consultation", "tenant_id", "consultation_id", "at"),)

    consultation_id: Mapped[uuid.UUID] = ref("telemedicine_consultation")
    from_id: Mapped[uuid.UUID] = practitioner_key()
    to_id: Mapped[uuid.UUID] = practitioner_key()
    #: Where the patient was: scheduled, waiting or in-progress.
    state: Mapped[str]
    reason: Mapped[str] = mapped_column(default="")
    at: Mapped[datetime]
    by: Mapped[uuid.UUID]
    by_name: Mapped[str]


INVITED, ADMITTED, REMOVED = "invited", "admitted", "removed"
GUEST_ROLES = ("relative", "interpreter", "colleague")


class Guest(TenantModel):
    """Somebody without an account who is invited to one consultation, by name and role. `pass_id` is their way in now."""

    __tablename__ = "telemedicine_guest"
    __table_args__ = (
        UniqueConstraint("tenant_id", "pass_id"),
        CheckConstraint("state in ('invited', 'waiting', 'admitted', 'removed')", name="state"),
        CheckConstraint("role in ('relative', 'interpreter', 'colleague')", name="role"),
        CheckConstraint("state <> 'admitted' or admitted_at is not null", name="admitted"),
        Index("ix_telemedicine_guest_consultation", "tenant_id", "consultation_id"),
    )

    consultation_id: Mapped[uuid.UUID] = ref("telemedicine_consultation")
    pass_id: Mapped[uuid.UUID]
    name: Mapped[str]
    role: Mapped[str]
    state: Mapped[str] = mapped_column(default=INVITED)
    #: The link's token, sealed under the clinic's key, so that it can be copied again.
    invitation: Mapped[bytes | None] = mapped_column(LargeBinary)
    expires_at: Mapped[datetime]
    invited_by: Mapped[uuid.UUID]
    waiting_since: Mapped[datetime | None]
    #: How it was made sure who this is: ways of `guests.WAYS`.
    identity: Mapped[list[Any]] = mapped_column(default=list)
    admitted_at: Mapped[datetime | None]
    admitted_by: Mapped[uuid.UUID | None]
    admitted_by_name: Mapped[str] = mapped_column(default="")
    removed_at: Mapped[datetime | None]
    removed_by: Mapped[uuid.UUID | None]


class Presence(TenantModel):
    """One stay of a participant: in the lobby, or in the call. `seen_at` is what a killed process leaves behind."""

    __tablename__ = "telemedicine_presence"
    __table_args__ = (
        CheckConstraint("place in ('lobby', 'call')", name="place"),
        CheckConstraint("left_at is null or left_at >= joined_at", name="forwards"),
        Index("ix_telemedicine_presence_consultation", "tenant_id", "consultation_id", "left_at"),
        Index("ix_telemedicine_presence_participant", "tenant_id", "participant_id", "left_at"),
    )

    consultation_id: Mapped[uuid.UUID] = ref("telemedicine_consultation")
    participant_id: Mapped[uuid.UUID] = ref("telemedicine_participant")
    place: Mapped[str]
    #: Which connection of the participant holds it; a newer one takes it over.
    connection: Mapped[str] = mapped_column(default="")
    joined_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    left_at: Mapped[datetime | None]


class IdentityCheck(TenantModel):
    """Who compared what, how, and with which result. Never changed; the newest one counts."""

    __tablename__ = "telemedicine_identity_check"
    __table_args__ = (
        CheckConstraint("outcome in ('confirmed', 'mismatch')", name="outcome"),
        Index("ix_telemedicine_identity_check_consultation", "tenant_id", "consultation_id", "checked_at"),
    )

    consultation_id: Mapped[uuid.UUID] = ref("telemedicine_consultation")
    outcome: Mapped[str]
    #: `[{"identifier": "birth-date", "how": "said"}, …]`
    identifiers: Mapped[list[Any]]
    note: Mapped[str] = mapped_column(default="")
    checked_by: Mapped[uuid.UUID]
    checked_by_name: Mapped[str]
    checked_at: Mapped[datetime]


class ChatMessage(TenantModel):
    """A line of the visit's chat. `client_id` makes sending again harmless."""

    __tablename__ = "telemedicine_chat_message"
    __table_args__ = (
        UniqueConstraint("tenant_id", "participant_id", "client_id"),
        Index("ix_telemedicine_chat_message_consultation", "tenant_id", "consultation_id", "id"),
    )

    consultation_id: Mapped[uuid.UUID] = ref("telemedicine_consultation")
    participant_id: Mapped[uuid.UUID] = ref("telemedicine_participant")
    client_id: Mapped[uuid.UUID]
    text: Mapped[str]
    sent_at: Mapped[datetime]


class WrittenTerms(TenantModel):
    """Within how many hours a question in writing is answered. Never changed: the newest row counts."""

    __tablename__ = "telemedicine_written_terms"
    __table_args__ = (CheckConstraint("hours between 1 and 336", name="hours"),)

    hours: Mapped[int]
    set_by: Mapped[uuid.UUID]
    set_by_name: Mapped[str]
    set_at: Mapped[datetime]


class Attachment(TenantModel):
    """A photo or document that was sent in the chat, sealed; the line that carries it says who sent it and when."""

    __tablename__ = "telemedicine_attachment"
    __table_args__ = (Index("ix_telemedicine_attachment_message", "tenant_id", "message_id"),)

    consultation_id: Mapped[uuid.UUID] = ref("telemedicine_consultation")
    message_id: Mapped[uuid.UUID] = ref("telemedicine_chat_message")
    patient_id: Mapped[uuid.UUID] = patient_key(index=True)
    # A blob of core's store, whose key goes with its row.
    blob_id: Mapped[uuid.UUID]
    name: Mapped[str]
    content_type: Mapped[str]
    size: Mapped[int]


class RecordingConsent(TenantModel):
    """A participant's answer to being recorded: decision, the exact wording and language it was given to, and when."""

    __tablename__ = "telemedicine_recording_consent"
    __table_args__ = (
        CheckConstraint("decision in ('given', 'refused', 'withdrawn')", name="decision"),
        Index("ix_telemedicine_recording_consent_consultation", "tenant_id", "consultation_id", "decided_at"),
    )

    consultation_id: Mapped[uuid.UUID] = ref("telemedicine_consultation")
    participant_id: Mapped[uuid.UUID] = ref("telemedicine_participant")
    decision: Mapped[str]
    wording_version: Mapped[str]
    wording: Mapped[str]
    language: Mapped[str]
    decided_at: Mapped[datetime]


class Recording(TenantModel):
    """A recording: its wrapped key and where it lies. Without the key the files cannot be read by anybody."""

    __tablename__ = "telemedicine_recording"
    __table_args__ = (
        CheckConstraint("state in ('recording', 'paused', 'stopped', 'failed', 'deleted')", name="state"),
        CheckConstraint("state <> 'deleted' or (deleted_at is not null and length(key) = 0)", name="shredded"),
        CheckConstraint("ended_because in ('', 'clinic', 'refused', 'withdrawn', 'end', 'fault')", name="ended_because"),
        Index("ix_telemedicine_recording_keep_until", "tenant_id", "keep_until"),
        Index(
            "uq_telemedicine_recording_running", "tenant_id", "consultation_id", unique=True,
            postgresql_where="state in ('recording', 'paused')",
        ),
    )  # fmt: skip

    consultation_id: Mapped[uuid.UUID] = ref("telemedicine_consultation")
    patient_id: Mapped[uuid.UUID] = patient_key(index=True)
    key: Mapped[bytes] = mapped_column(LargeBinary)
    directory: Mapped[str]
    state: Mapped[str] = mapped_column(default="recording")
    started_at: Mapped[datetime]
    started_by: Mapped[uuid.UUID]
    stopped_at: Mapped[datetime | None]
    duration_ms: Mapped[int] = mapped_column(default=0)
    octets: Mapped[int] = mapped_column(BigInteger, default=0)
    problem: Mapped[str] = mapped_column(default="")
    #: Why it stopped: the clinic's button, somebody's no, the visit's end, a fault.
    ended_because: Mapped[str] = mapped_column(default="")
    #: Somebody who was recorded took the consent back, while it ran or afterwards.
    withdrawn_at: Mapped[datetime | None]
    #: The first day on which it need not be kept any more, by the clinic's policy as last reckoned; none without a policy.
    keep_until: Mapped[date | None]
    deleted_at: Mapped[datetime | None]


class QualitySample(TenantModel):
    """How a participant's connection was, about every ten seconds."""

    __tablename__ = "telemedicine_quality_sample"
    __table_args__ = (Index("ix_telemedicine_quality_sample_consultation", "tenant_id", "consultation_id", "at"),)

    consultation_id: Mapped[uuid.UUID] = ref("telemedicine_consultation")
    participant_id: Mapped[uuid.UUID] = ref("telemedicine_participant")
    at: Mapped[datetime]
    state: Mapped[str]
    rtt_ms: Mapped[int | None]
    loss: Mapped[float | None]
    jitter_ms: Mapped[int | None]
    #: Share lost on the way from the participant.
    loss_up: Mapped[float | None]
    #: What the way carries, bit/s, as the media worker reckons.
    budget: Mapped[int | None]
    #: What their browser says: pictures that stood still since the last sample, the width it shows, the way it takes.
    freezes: Mapped[int | None]
    width: Mapped[int | None]
    relayed: Mapped[bool | None]
    network: Mapped[str] = mapped_column(default="")
    #: 0 (nothing gets through) to 100, by `quality.score`.
    score: Mapped[int | None]


class Device(TenantModel):
    """A thing that shows its picture in one consultation (an otoscope, a dermatoscope, a capture card), known by a token. It
    is no participant: nobody is behind it who could consent, and it is recorded only when everybody in the call agreed."""

    __tablename__ = "telemedicine_device"
    __table_args__ = (
        UniqueConstraint("tenant_id", "token_hash"),
        Index("ix_telemedicine_device_consultation", "tenant_id", "consultation_id"),
    )

    consultation_id: Mapped[uuid.UUID] = ref("telemedicine_consultation")
    #: What everybody in the call reads under its picture.
    name: Mapped[str]
    token_hash: Mapped[bytes] = mapped_column(LargeBinary)
    #: Until when it may connect; what is connected stays.
    expires_at: Mapped[datetime]
    made_by: Mapped[uuid.UUID]
    #: Its connection, if it has one: the last part of its WHIP session's address.
    session: Mapped[uuid.UUID | None]
    #: Names the ICE credentials in use; another one after each restart.
    etag: Mapped[str] = mapped_column(default="")
    #: What it offered, without its addresses, for an ICE restart, which says less.
    offer: Mapped[str] = mapped_column(default="")
    #: Whether media can flow right now, as the media worker said last.
    connected: Mapped[bool] = mapped_column(default=False)
    joined_at: Mapped[datetime | None]
    removed_at: Mapped[datetime | None]
