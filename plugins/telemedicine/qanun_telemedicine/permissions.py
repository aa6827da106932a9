"""What somebody may do with consultations."""

from qanun.api import Permissions


class Telemedicine(Permissions):
    """Permissions of video consultations."""

    #: See who waits, and what happened in a consultation.
    CONSULTATION_READ = "telemedicine.consultation:read"
    #: Give a patient a new link to the visit, and invite guests.
    CONSULTATION_INVITE = "telemedicine.consultation:invite"
    #: Confirm who the patient is, admit, talk, end.
    CONSULTATION_HOLD = "telemedicine.consultation:hold"
    #: Watch a recording.
    RECORDING_PLAY = "telemedicine.recording:play"
    #: Take a marked copy of a recording out of the clinic, with a written reason.
    RECORDING_EXPORT = "telemedicine.recording:export"
    #: See single pictures that were taken from calls.
    PICTURE_READ = "telemedicine.picture:read"
    #: Say how long recordings are kept, place holds, decide what is destroyed. It shows no recording.
    RETENTION_MANAGE = "telemedicine.retention:manage"
    #: Read what patients wrote: the chat and what matters most to them.
    CONVERSATION_READ = "telemedicine.conversation:read"
    #: See how connections are and were.
    QUALITY_READ = "telemedicine.quality:read"
    #: Say within how many hours questions in writing are answered.
    TERMS_MANAGE = "telemedicine.terms:manage"
    #: A guest's one call.
    GUEST_ATTEND = "telemedicine.guest:attend"
    #: A patient's own visits.
    VISIT_ATTEND = "telemedicine.visit:attend"
