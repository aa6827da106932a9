"""What core itself contributes, through the same types as any plugin."""

from __future__ import annotations

import uuid

from qanun.audit import AuditEventType
from qanun.context import Context
from qanun.events import deliver
from qanun.events.outbox import DELIVER_JOB
from qanun.i18n import N_
from qanun.jobs import Job

AUDIT_EVENTS = (
    AuditEventType(id="core.patient.register", label=N_("Registered the patient"), action="create"),
    AuditEventType(id="core.patient.search", label=N_("Searched for patients"), action="read"),
    AuditEventType(id="core.records.search", label=N_("Looked through records"), action="read"),
    AuditEventType(id="core.records.read", label=N_("Opened a record"), action="read"),
    AuditEventType(id="core.access.refused", label=N_("Was refused"), action="execute"),
    AuditEventType(id="core.clinic.found", label=N_("Opened the clinic on this machine"), action="create"),
    AuditEventType(id="core.staff.sign-in", label=N_("Signed in"), action="execute"),
    AuditEventType(id="core.staff.sign-out", label=N_("Signed out"), action="execute"),
    AuditEventType(id="core.portal.sign-in", label=N_("Signed in to the portal"), action="execute"),
    AuditEventType(id="core.portal.sign-in-refused", label=N_("Could not sign in to the portal"), action="execute"),
    AuditEventType(id="core.portal.sign-out", label=N_("Signed out of the portal"), action="execute"),
    AuditEventType(id="core.portal.invite", label=N_("Was invited to the portal"), action="create"),
    AuditEventType(id="core.session.confirm", label=N_("Confirmed who they are"), action="execute"),
    AuditEventType(id="core.session.confirm-refused", label=N_("Could not confirm who they are"), action="execute"),
    AuditEventType(id="core.passkey.register", label=N_("Made a passkey"), action="create"),
    AuditEventType(id="core.passkey.rename", label=N_("Renamed a passkey"), action="update"),
    AuditEventType(id="core.passkey.remove", label=N_("Removed a passkey"), action="delete"),
    AuditEventType(id="core.person.let-in", label=N_("Let somebody in"), action="create"),
    AuditEventType(id="core.person.roles", label=N_("Changed somebody’s roles"), action="update"),
    AuditEventType(id="core.person.end", label=N_("Ended somebody’s place in the clinic"), action="update"),
    AuditEventType(id="core.person.code", label=N_("Made a one-time code for somebody"), action="create"),
    AuditEventType(id="core.person.recovered", label=N_("Came in by a one-time code"), action="execute"),
    AuditEventType(id="core.role.change", label=N_("Changed what a role may do"), action="update"),
    AuditEventType(
        id="core.record.close",
        label=N_("Closed the record to all but named people"),
        action="update",
        redaction="erase-detail",
    ),
    AuditEventType(id="core.record.open", label=N_("Opened the record to everybody again"), action="update"),
    AuditEventType(
        id="core.record.break-glass",
        label=N_("Broke the glass: opened the closed record in an emergency"),
        action="execute",
        redaction="erase-detail",
    ),
    AuditEventType(id="core.record.review", label=N_("Reviewed who broke the glass"), action="update"),
    AuditEventType(id="core.guest.enter", label=N_("Came in by a guest’s link"), action="execute"),
    AuditEventType(id="core.guest.revoke", label=N_("Took back a guest’s link"), action="update"),
    AuditEventType(id="core.patient.notify", label=N_("Sent word outside of the portal"), action="execute"),
    AuditEventType(id="core.audit.read", label=N_("Read the audit"), action="read"),
)


async def _deliver(ctx: Context, event_id: str, handler: str) -> None:
    await deliver(ctx, uuid.UUID(event_id), handler)


JOBS = (Job(id=DELIVER_JOB, run=_deliver, queue="events"),)
