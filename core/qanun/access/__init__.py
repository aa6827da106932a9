"""Who may do what: permissions, roles, and the unit of work that a permitted act runs in.

Default deny: nothing is allowed that no role grants. Core's roles are a starting point; plugins add their permissions to
them by naming the roles that should hold each.
"""

from qanun.access.closed import ClosedRecord, RecordAccess, asked_of, closed_to, must_be_open
from qanun.access.permissions import Core, Grant, Permissions, Role, effective_permissions, known_permissions
from qanun.access.trail import TrailEntry, record_views
from qanun.access.work import Runtime, open_context

__all__ = [
    "ClosedRecord",
    "Core",
    "Grant",
    "Permissions",
    "RecordAccess",
    "Role",
    "Runtime",
    "TrailEntry",
    "asked_of",
    "closed_to",
    "effective_permissions",
    "known_permissions",
    "must_be_open",
    "open_context",
    "record_views",
]
