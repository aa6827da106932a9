"""Permissions as enums, roles as data.

A plugin declares `class Labs(Permissions): REPORT_VERIFY = "labs.report:verify"` and says with `Grant`s which roles hold
what from the start.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from qanun.errors import ConfigurationError
from qanun.i18n import N_
from qanun.registry import Registry


class Permissions(StrEnum):
    """Base of every permission enum. Values read `slug.resource:action`."""


class Core(Permissions):
    """Core's own permissions."""

    PATIENT_READ = "core.patient:read"
    PATIENT_REGISTER = "core.patient:register"
    AUDIT_READ = "core.audit:read"
    SESSION_USE = "core.session:use"
    PORTAL_USE = "core.portal:use"
    GALLERY_READ = "core.gallery:read"


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
    Grant(role="administrator", permissions=(Core.PATIENT_READ, Core.AUDIT_READ, Core.SESSION_USE, Core.GALLERY_READ)),
    Grant(role="doctor", permissions=(Core.PATIENT_READ, Core.PATIENT_REGISTER, Core.SESSION_USE)),
    Grant(role="nurse", permissions=(Core.PATIENT_READ, Core.PATIENT_REGISTER, Core.SESSION_USE)),
    Grant(role="reception", permissions=(Core.PATIENT_READ, Core.PATIENT_REGISTER, Core.SESSION_USE)),
    Grant(role="lab-technician", permissions=(Core.PATIENT_READ, Core.SESSION_USE)),
    Grant(role="patient", permissions=(Core.PORTAL_USE,)),
)


def known_permissions(registry: Registry) -> set[str]:
    """Every declared permission, of core and of all plugins."""
    return {str(permission) for kind in registry.all(type(Permissions)) for permission in kind}


@lru_cache(maxsize=512)
def _effective(registry: Registry, roles: frozenset[str], disabled: frozenset[str]) -> frozenset[str]:
    granted: set[str] = set()
    for grant in registry.all(Grant):
        if grant.role in roles:
            granted.update(str(permission) for permission in grant.permissions)
    return frozenset(item for item in granted if item.split(".", 1)[0] not in disabled)


def effective_permissions(registry: Registry, roles: frozenset[str], disabled: frozenset[str]) -> frozenset[str]:
    """What holders of `roles` may do in a clinic where the plugins `disabled` are switched off."""
    return _effective(registry, roles, disabled)


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
