"""Permissions as enums, roles as data.

A plugin declares `class Labs(Permissions): REPORT_VERIFY = "labs.report:verify"` and says with `Grant`s which roles hold
what from the start.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Self

from qanun.errors import ConfigurationError
from qanun.i18n import N_
from qanun.registry import Registry


class Permissions(StrEnum):
    """Base of every permission enum. Values read `slug.resource:action`; the words beside one are what an administrator
    reads who decides which role holds it: `REPORT_VERIFY = "labs.report:verify", N_("Verify reports")`."""

    words: object

    def __new__(cls, value: str, words: object = "") -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.words = words or value
        return member


class Core(Permissions):
    """Core's own permissions."""

    PATIENT_READ = "core.patient:read", N_("Find patients")
    PATIENT_REGISTER = "core.patient:register", N_("Register patients")
    AUDIT_READ = "core.audit:read", N_("Read who did what")
    PEOPLE_MANAGE = "core.people:manage", N_("Let people in, give them roles, say what a role may do")
    PORTAL_INVITE = "core.portal:invite", N_("Let patients in who lost their phone or password")
    RECORD_GUARD = "core.record:guard", N_("Close records, and review who broke the glass")
    GLASS_BREAK = "core.glass:break", N_("Open a closed record in an emergency, with a reason")
    SESSION_USE = "core.session:use", N_("Sign in")
    PORTAL_USE = "core.portal:use", N_("Use the portal")
    GALLERY_READ = "core.gallery:read", N_("See the parts that pages are made of")


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A role that a clinic can give to its members. `audience` keeps portal and guest roles apart from staff's."""

    id: str
    label: object
    audience: str = "staff"

    @property
    def name(self) -> str:
        return self.id.split(".", 1)[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """`role` holds `permissions` unless the clinic decides otherwise."""

    role: str
    permissions: tuple[Permissions, ...]


ROLES = (
    Role(id="core.administrator", label=N_("Administrator")),
    Role(id="core.doctor", label=N_("Doctor")),
    Role(id="core.nurse", label=N_("Nurse")),
    Role(id="core.reception", label=N_("Reception")),
    Role(id="core.lab-technician", label=N_("Lab technician")),
    Role(id="core.patient", label=N_("Patient"), audience="portal"),
    Role(id="core.guest", label=N_("Guest"), audience="guest"),
)

GRANTS = (
    Grant(
        role="administrator",
        permissions=(
            Core.PATIENT_READ,
            Core.AUDIT_READ,
            Core.PEOPLE_MANAGE,
            Core.PORTAL_INVITE,
            Core.RECORD_GUARD,
            Core.SESSION_USE,
            Core.GALLERY_READ,
        ),
    ),
    Grant(role="doctor", permissions=(Core.PATIENT_READ, Core.PATIENT_REGISTER, Core.GLASS_BREAK, Core.SESSION_USE)),
    Grant(role="nurse", permissions=(Core.PATIENT_READ, Core.PATIENT_REGISTER, Core.GLASS_BREAK, Core.SESSION_USE)),
    Grant(
        role="reception",
        permissions=(Core.PATIENT_READ, Core.PATIENT_REGISTER, Core.PORTAL_INVITE, Core.SESSION_USE),
    ),
    Grant(role="lab-technician", permissions=(Core.PATIENT_READ, Core.SESSION_USE)),
    Grant(role="patient", permissions=(Core.PORTAL_USE,)),
)


def known_permissions(registry: Registry) -> set[str]:
    """Every declared permission, of core and of all plugins."""
    return {str(permission) for kind in registry.all(type(Permissions)) for permission in kind}


#: What no clinic takes from these roles: without the first nobody of the role comes in, without the second nobody could
#: ever give anything back.
ALWAYS = {"administrator": frozenset({str(Core.SESSION_USE), str(Core.PEOPLE_MANAGE)})}
SIGN_IN = frozenset({str(Core.SESSION_USE)})


@lru_cache(maxsize=512)
def _effective(
    registry: Registry, roles: frozenset[str], disabled: frozenset[str], changes: frozenset[str]
) -> frozenset[str]:
    held = {role: set(permissions) for role, permissions in granted_at_first(registry).items() if role in roles}
    for change in changes:
        role, permission = change[1:].split(" ", 1)
        if role not in held or permission in SIGN_IN | ALWAYS.get(role, frozenset()):
            continue
        if change.startswith("+"):
            held[role].add(permission)
        else:
            held[role].discard(permission)
    return frozenset(item for role in held.values() for item in role if item.split(".", 1)[0] not in disabled)


def granted_at_first(registry: Registry) -> dict[str, set[str]]:
    """Role → what it holds as long as a clinic does not decide otherwise."""
    found: dict[str, set[str]] = {role.name: set() for role in registry.all(Role)}
    for grant in registry.all(Grant):
        found.setdefault(grant.role, set()).update(str(permission) for permission in grant.permissions)
    return found


def effective_permissions(
    registry: Registry, roles: frozenset[str], disabled: frozenset[str], changes: frozenset[str] = frozenset()
) -> frozenset[str]:
    """What holders of `roles` may do in a clinic where the plugins `disabled` are switched off and which made `changes`
    to its roles (`+doctor core.audit:read`, `-nurse …`)."""
    return _effective(registry, roles, disabled, changes)


def check_grants(registry: Registry) -> None:
    """Raises ConfigurationError for a grant to an unknown role, or of an undeclared permission."""
    roles = {role.name for role in registry.all(Role)}
    declared = known_permissions(registry)
    for entry in registry.entries(Grant):
        if entry.item.role not in roles:
            raise ConfigurationError(f"plugin {entry.plugin}: grants to unknown role {entry.item.role!r}")
        for permission in entry.item.permissions:
            if str(permission) not in declared:
                raise ConfigurationError(f"plugin {entry.plugin}: grants undeclared permission {permission}")
