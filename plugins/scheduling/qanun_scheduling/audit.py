"""What the schedule writes into the audit."""

from qanun.api import N_, AuditEventType

AUDIT_EVENTS = [
    AuditEventType(id="scheduling.appointment.book", label=N_("Booked an appointment"), action="create"),
    AuditEventType(id="scheduling.appointment.change", label=N_("Changed an appointment"), action="update"),
    AuditEventType(id="scheduling.hours.change", label=N_("Changed a practitioner’s week"), action="update"),
    AuditEventType(id="scheduling.exception.add", label=N_("Entered days that differ"), action="create"),
    AuditEventType(id="scheduling.exception.remove", label=N_("Removed days that differ"), action="delete"),
]
