"""The acts that telemedicine writes to the audit, in the words a patient reads."""

from qanun.api import N_, AuditEventType

AUDIT_EVENTS = (
    AuditEventType(id="telemedicine.consultation.schedule", label=N_("Planned a video visit"), action="create"),
    AuditEventType(id="telemedicine.consultation.cancel", label=N_("Cancelled a video visit"), action="update"),
    AuditEventType(id="telemedicine.consultation.read", label=N_("Opened a video visit"), action="read"),
    AuditEventType(
        id="telemedicine.consultation.admit", label=N_("Let the patient into the video visit"), action="update"
    ),
    AuditEventType(id="telemedicine.consultation.end", label=N_("Ended the video visit"), action="update"),
    AuditEventType(id="telemedicine.invitation.renew", label=N_("Made a new link to the video visit"), action="create"),
    AuditEventType(id="telemedicine.visit.open", label=N_("Opened the visit’s page"), action="read"),
    AuditEventType(id="telemedicine.patient.wait", label=N_("Came to the waiting room"), action="update"),
    AuditEventType(id="telemedicine.participant.join", label=N_("Joined the video visit"), action="execute"),
    AuditEventType(id="telemedicine.participant.leave", label=N_("Left the video visit"), action="execute"),
    AuditEventType(id="telemedicine.identity.confirm", label=N_("Confirmed the patient’s identity"), action="create"),
    AuditEventType(
        id="telemedicine.identity.mismatch", label=N_("Found that the identity does not match"), action="create"
    ),
    AuditEventType(id="telemedicine.consultation.begin", label=N_("Began a video visit"), action="create"),
    AuditEventType(
        id="telemedicine.notice.send", label=N_("Wrote to the patient in the waiting room"), action="create"
    ),
    AuditEventType(
        id="telemedicine.consultation.hand-over",
        label=N_("Handed the video visit over to a colleague"),
        action="update",
    ),
    AuditEventType(id="telemedicine.attachment.send", label=N_("Sent a file in the visit’s chat"), action="create"),
    AuditEventType(id="telemedicine.attachment.read", label=N_("Opened a file of the visit’s chat"), action="read"),
    AuditEventType(id="telemedicine.place.confirm", label=N_("Wrote down where the patient is"), action="update"),
    AuditEventType(id="telemedicine.written.ask", label=N_("Asked the clinic in writing"), action="create"),
    AuditEventType(id="telemedicine.written.begin", label=N_("Wrote to the patient first"), action="create"),
    AuditEventType(
        id="telemedicine.written.promise",
        label=N_("Set within what time questions in writing are answered"),
        action="update",
    ),
    AuditEventType(
        id="telemedicine.encryption.choose",
        label=N_("Chose whether the video visit is end-to-end encrypted"),
        action="update",
    ),
    AuditEventType(id="telemedicine.encryption.compare", label=N_("Compared the call’s safety code"), action="execute"),
    AuditEventType(id="telemedicine.captions.ask", label=N_("Offered captions in the video visit"), action="execute"),
    AuditEventType(id="telemedicine.captions.end", label=N_("Ended captions in the video visit"), action="execute"),
    AuditEventType(id="telemedicine.captions.given", label=N_("Agreed to captions of what they say"), action="create"),
    AuditEventType(id="telemedicine.captions.refused", label=N_("Refused captions of what they say"), action="create"),
    AuditEventType(
        id="telemedicine.transcript.ask", label=N_("Asked to keep what is said in the record"), action="execute"
    ),
    AuditEventType(id="telemedicine.transcript.given", label=N_("Agreed that what is said is kept"), action="create"),
    AuditEventType(
        id="telemedicine.transcript.refused", label=N_("Refused that what is said is kept"), action="create"
    ),
    AuditEventType(
        id="telemedicine.transcript.discard",
        label=N_("Threw away what was written along in the visit"),
        action="delete",
    ),
    AuditEventType(id="telemedicine.transcript.keep", label=N_("Kept what was said as a document"), action="create"),
    AuditEventType(id="telemedicine.transcript.read", label=N_("Read what was said in a visit"), action="read"),
    AuditEventType(
        id="telemedicine.transcript.void",
        label=N_("Marked a document of what was said as kept in error"),
        action="update",
    ),
    AuditEventType(
        id="telemedicine.transcript.taken_back",
        label=N_("Took back the consent to keeping what was said"),
        action="update",
    ),
    AuditEventType(
        id="telemedicine.transcript.destroy", label=N_("Destroyed a document of what was said"), action="delete"
    ),
    AuditEventType(id="telemedicine.call.mute", label=N_("Muted somebody in the video visit"), action="execute"),
    AuditEventType(id="telemedicine.call.lock", label=N_("Locked the video visit for newcomers"), action="update"),
    AuditEventType(id="telemedicine.call.unlock", label=N_("Opened the video visit for newcomers"), action="update"),
    AuditEventType(id="telemedicine.group.arrange", label=N_("Planned a group"), action="create"),
    AuditEventType(id="telemedicine.group.read", label=N_("Opened a group’s page"), action="read"),
    AuditEventType(id="telemedicine.group.begin", label=N_("Began the call of a group"), action="execute"),
    AuditEventType(id="telemedicine.group.end", label=N_("Ended the call of a group"), action="execute"),
    AuditEventType(
        id="telemedicine.group.apart", label=N_("Left the call of a group: a record was closed"), action="execute"
    ),
    AuditEventType(id="telemedicine.group.given", label=N_("Agreed to take part in a group"), action="create"),
    AuditEventType(id="telemedicine.group.refused", label=N_("Refused to take part in a group"), action="create"),
    AuditEventType(id="telemedicine.guest.invite", label=N_("Invited a guest to the video visit"), action="create"),
    AuditEventType(id="telemedicine.guest.renew", label=N_("Made a new link for a guest"), action="create"),
    AuditEventType(id="telemedicine.guest.wait", label=N_("Came to the waiting room as a guest"), action="update"),
    AuditEventType(id="telemedicine.guest.admit", label=N_("Let a guest into the video visit"), action="update"),
    AuditEventType(id="telemedicine.guest.remove", label=N_("Put a guest out of the video visit"), action="update"),
    AuditEventType(
        id="telemedicine.device.invite", label=N_("Made a place for a device in the video visit"), action="create"
    ),
    AuditEventType(id="telemedicine.device.join", label=N_("A device joined the video visit"), action="execute"),
    AuditEventType(id="telemedicine.device.leave", label=N_("A device left the video visit"), action="execute"),
    AuditEventType(id="telemedicine.device.remove", label=N_("Took a device out of the video visit"), action="update"),
    AuditEventType(id="telemedicine.chat.send", label=N_("Wrote in the visit’s chat"), action="create"),
    AuditEventType(id="telemedicine.consent.given", label=N_("Agreed to be recorded"), action="create"),
    AuditEventType(id="telemedicine.consent.refused", label=N_("Refused to be recorded"), action="create"),
    AuditEventType(
        id="telemedicine.consent.withdrawn", label=N_("Took back the consent to be recorded"), action="create"
    ),
    AuditEventType(id="telemedicine.recording.ask", label=N_("Asked to record the visit"), action="execute"),
    AuditEventType(id="telemedicine.recording.start", label=N_("Began to record"), action="create"),
    AuditEventType(id="telemedicine.recording.pause", label=N_("Paused the recording"), action="update"),
    AuditEventType(id="telemedicine.recording.resume", label=N_("Went on recording"), action="update"),
    AuditEventType(id="telemedicine.recording.stop", label=N_("Stopped the recording"), action="update"),
    AuditEventType(id="telemedicine.recording.view", label=N_("Watched a recording"), action="read"),
    AuditEventType(
        id="telemedicine.kept.read", label=N_("Looked through recordings and pictures of video visits"), action="read"
    ),
    AuditEventType(id="telemedicine.picture.ask", label=N_("Asked for a picture from the call"), action="execute"),
    AuditEventType(id="telemedicine.picture.given", label=N_("Agreed to a picture from the call"), action="create"),
    AuditEventType(id="telemedicine.picture.refused", label=N_("Refused a picture from the call"), action="create"),
    AuditEventType(id="telemedicine.picture.take", label=N_("Kept a picture from the call"), action="create"),
    AuditEventType(id="telemedicine.picture.view", label=N_("Saw a picture from a call"), action="read"),
    AuditEventType(id="telemedicine.picture.void", label=N_("Marked a picture as taken in error"), action="update"),
    AuditEventType(id="telemedicine.picture.destroy", label=N_("Destroyed a picture from a call"), action="delete"),
    AuditEventType(
        id="telemedicine.picture.taken_back", label=N_("Took back the consent to a picture"), action="update"
    ),
    AuditEventType(
        id="telemedicine.export.ask", label=N_("Gave a reason for taking out a copy of a recording"), action="create"
    ),
    AuditEventType(id="telemedicine.export.fetch", label=N_("Took a copy of a recording out"), action="read"),
    AuditEventType(id="telemedicine.export.finish", label=N_("Had the whole copy of a recording"), action="update"),
    AuditEventType(
        id="telemedicine.recording.keep", label=N_("Decided to keep a recording for longer"), action="update"
    ),
    AuditEventType(id="telemedicine.recording.destroy", label=N_("Destroyed a recording"), action="delete"),
    AuditEventType(id="telemedicine.retention.set", label=N_("Set how long recordings are kept"), action="update"),
    AuditEventType(
        id="telemedicine.retention.run",
        label=N_("Looked through recordings for those whose time is over"),
        action="execute",
    ),
    AuditEventType(id="telemedicine.hold.place", label=N_("Placed a legal hold on recordings"), action="create"),
    AuditEventType(
        id="telemedicine.node.invite", label=N_("Invited a media node"), action="create", redaction="erase-detail"
    ),
    AuditEventType(id="telemedicine.node.join", label=N_("A media node joined"), action="create"),
    AuditEventType(
        id="telemedicine.node.revoke", label=N_("Shut a media node out"), action="delete", redaction="erase-detail"
    ),
    AuditEventType(
        id="telemedicine.node.drain",
        label=N_("Had a media node take no new rooms"),
        action="update",
        redaction="erase-detail",
    ),
    AuditEventType(
        id="telemedicine.node.resume",
        label=N_("Had a media node take rooms again"),
        action="update",
        redaction="erase-detail",
    ),
    AuditEventType(id="telemedicine.node.refuse", label=N_("Refused a media node"), action="execute"),
    AuditEventType(id="telemedicine.hold.release", label=N_("Lifted a legal hold from recordings"), action="update"),
)
