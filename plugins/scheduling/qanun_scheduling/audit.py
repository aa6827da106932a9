"""What the schedule writes into the audit."""

from qanun.api import N_, AuditEventType

AUDIT_EVENTS = [
    AuditEventType(id="scheduling.appointment.book", label=N_("Booked an appointment"), action="create"),
    AuditEventType(id="scheduling.appointment.change", label=N_("Changed an appointment"), action="update"),
]
