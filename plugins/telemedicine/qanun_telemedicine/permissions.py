"""What somebody may do with consultations."""

from qanun.api import N_, Permissions


class Telemedicine(Permissions):
    """Permissions of video consultations."""

    #: See who waits, and what happened in a consultation.
    CONSULTATION_READ = "telemedicine.consultation:read", N_("See who waits for a call, and what happened in one")
    #: Give a patient a new link to the visit, and invite guests.
    CONSULTATION_INVITE = "telemedicine.consultation:invite", N_("Give patients new links, and invite guests")
    #: Confirm who the patient is, admit, talk, end.
    CONSULTATION_HOLD = "telemedicine.consultation:hold", N_("Hold calls with patients")
    #: Watch a recording.
    RECORDING_PLAY = "telemedicine.recording:play", N_("Watch recordings")
    #: Take a marked copy of a recording out of the clinic, with a written reason.
    RECORDING_EXPORT = "telemedicine.recording:export", N_("Take a copy of a recording out of the clinic")
    #: See single pictures that were taken from calls.
    PICTURE_READ = "telemedicine.picture:read", N_("See pictures from calls")
    #: Say how long recordings are kept, place holds, decide what is destroyed. It shows no recording.
    RETENTION_MANAGE = "telemedicine.retention:manage", N_("Say how long recordings are kept")
    #: Read what patients wrote: the chat and what matters most to them.
    CONVERSATION_READ = "telemedicine.conversation:read", N_("Read what patients wrote")
    #: See how connections are and were.
    QUALITY_READ = "telemedicine.quality:read", N_("See how connections are and were")
    #: Say within how many hours questions in writing are answered.
    TERMS_MANAGE = "telemedicine.terms:manage", N_("Say within how many hours questions in writing are answered")
    #: A guest's one call.
    GUEST_ATTEND = "telemedicine.guest:attend", N_("Attend one call as a guest")
    #: A patient's own visits.
    VISIT_ATTEND = "telemedicine.visit:attend", N_("Attend one’s own visits")
