"""Tables of people. Users, memberships and sessions are global and hold nothing clinical; the rest belongs to a clinic."""

from __future__ import annotations

import uuid
from datetime import date, datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from qanun.db import GlobalModel, TenantModel, patient_key

SEXES = ("male", "female", "other", "unknown")


class User(GlobalModel):
    """A member of staff, in one or several clinics. `email` is stored in lower case and is the sign-in name."""

    __tablename__ = "core_user"

    email: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    name_alt: Mapped[str] = mapped_column(default="")
    password: Mapped[str] = mapped_column(default="")
    locale: Mapped[str] = mapped_column(default="")
    failures: Mapped[int] = mapped_column(default=0)
    locked_until: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]


class Membership(GlobalModel):
    """A user's place in a clinic and the roles held there."""

    __tablename__ = "core_membership"
    __table_args__ = (UniqueConstraint("user_id", "tenant_id"),)

    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("core_user.id"))
    tenant_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("core_tenant.id"))
    roles: Mapped[list[str]]
    practitioner_id: Mapped[uuid.UUID | None]
    ended_at: Mapped[datetime | None]


class SignInSession(GlobalModel):
    """A server-side session. The cookie holds a random token; only its hash is stored. Staff, portal and guests never mix."""

    __tablename__ = "core_session"
    __table_args__ = (
        CheckConstraint("kind in ('staff', 'portal', 'guest')", name="kind"),
        CheckConstraint("(kind = 'staff') = (user_id is not null)", name="staff_has_user"),
        CheckConstraint("(kind = 'portal') = (account_id is not null)", name="portal_has_account"),
        CheckConstraint("(kind = 'guest') = (guest_id is not null)", name="guest_has_pass"),
        Index("ix_core_session_guest", "guest_id", postgresql_where="guest_id is not null"),
    )

    token_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    kind: Mapped[str]
    user_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("core_user.id"))
    account_id: Mapped[uuid.UUID | None]
    patient_id: Mapped[uuid.UUID | None]
    #: A guest's pass and the name it was made out to.
    guest_id: Mapped[uuid.UUID | None]
    guest_name: Mapped[str] = mapped_column(default="")
    tenant_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("core_tenant.id"))
    locale: Mapped[str] = mapped_column(default="")
    seen_at: Mapped[datetime]
    #: When its owner last proved who they are; null for guests, who cannot.
    confirmed_at: Mapped[datetime | None]
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class RoleChange(GlobalModel):
    """Where a clinic decided otherwise than what a role holds from the start: `granted`, or taken away."""

    __tablename__ = "core_role_change"
    __table_args__ = (UniqueConstraint("tenant_id", "role", "permission"),)

    tenant_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("core_tenant.id"))
    role: Mapped[str]
    permission: Mapped[str]
    granted: Mapped[bool]


class RecoveryCode(GlobalModel):
    """A one-time code by which a member of staff chooses a new password: theirs is lost, or there was none yet."""

    __tablename__ = "core_recovery_code"

    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("core_user.id"), index=True)
    tenant_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("core_tenant.id"))
    code_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    removes_passkeys: Mapped[bool] = mapped_column(default=False)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class PluginState(GlobalModel):
    """Whether a plugin is switched off for a clinic. No row means on."""

    __tablename__ = "core_plugin_state"
    __table_args__ = (UniqueConstraint("tenant_id", "slug"),)

    tenant_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("core_tenant.id"))
    slug: Mapped[str]
    enabled: Mapped[bool] = mapped_column(default=True)


class Practitioner(TenantModel):
    """FHIR Practitioner: somebody who treats patients in this clinic, whether or not they sign in."""

    __tablename__ = "core_practitioner"

    user_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("core_user.id"))
    name: Mapped[str]
    name_alt: Mapped[str] = mapped_column(default="")
    specialty: Mapped[str] = mapped_column(default="")
    licence: Mapped[str] = mapped_column(default="")
    room: Mapped[str] = mapped_column(default="")
    active: Mapped[bool] = mapped_column(default=True)


class Patient(TenantModel):
    """FHIR Patient: identity only. `given`/`family` in the script they were registered in, `*_alt` in the other one.

    `search` is `fold_name` of every name, the MRN, the phone's digits and the identifiers: what reception types is found
    whatever hamza, diacritics or order they use.
    """

    __tablename__ = "core_patient"
    __table_args__ = (
        UniqueConstraint("tenant_id", "mrn"),
        CheckConstraint("sex in ('male', 'female', 'other', 'unknown')", name="sex"),
        Index("ix_core_patient_search", "search", postgresql_using="gin", postgresql_ops={"search": "gin_trgm_ops"}),
        Index("ix_core_patient_birth_date", "tenant_id", "birth_date"),
    )

    mrn: Mapped[str]
    given: Mapped[str]
    family: Mapped[str]
    given_alt: Mapped[str] = mapped_column(default="")
    family_alt: Mapped[str] = mapped_column(default="")
    sex: Mapped[str] = mapped_column(default="unknown")
    birth_date: Mapped[date]
    phone: Mapped[str] = mapped_column(default="")
    email: Mapped[str] = mapped_column(default="")
    language: Mapped[str] = mapped_column(default="")
    address: Mapped[str] = mapped_column(default="")
    search: Mapped[str] = mapped_column(default="")
    merged_into: Mapped[uuid.UUID | None]
    voided_at: Mapped[datetime | None]

    @property
    def name(self) -> str:
        return f"{self.given} {self.family}".strip()

    @property
    def name_alt(self) -> str:
        return f"{self.given_alt} {self.family_alt}".strip()


class PatientIdentifier(TenantModel):
    """FHIR Identifier: a national id, passport or insurer's number. Unique within its system and clinic."""

    __tablename__ = "core_patient_identifier"
    __table_args__ = (UniqueConstraint("tenant_id", "system", "value"),)

    patient_id: Mapped[uuid.UUID] = patient_key(index=True)
    system: Mapped[str]
    value: Mapped[str]


class PatientAccount(TenantModel):
    """A patient's own sign-in to this clinic's portal. `login` is an e-mail in lower case or a phone number's digits."""

    __tablename__ = "core_patient_account"
    __table_args__ = (UniqueConstraint("tenant_id", "login"), UniqueConstraint("tenant_id", "patient_id"))

    patient_id: Mapped[uuid.UUID] = patient_key()
    login: Mapped[str]
    password: Mapped[str] = mapped_column(default="")
    locale: Mapped[str] = mapped_column(default="")
    failures: Mapped[int] = mapped_column(default=0)
    locked_until: Mapped[datetime | None]


class PortalInvitation(TenantModel):
    """A one-time, expiring link that leads a patient to `target` in the portal, setting a password on the way if needed."""

    __tablename__ = "core_portal_invitation"
    __table_args__ = (UniqueConstraint("tenant_id", "token_hash"),)

    patient_id: Mapped[uuid.UUID] = patient_key(index=True)
    token_hash: Mapped[bytes] = mapped_column(LargeBinary)
    target: Mapped[str]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(default=0)
    #: For who cannot get in any more: a new password takes the old one's place, once.
    renews: Mapped[bool] = mapped_column(default=False)


class GuestPass(TenantModel):
    """A one-time, expiring link for somebody without an account: bound to a name, it leads to `target` and nowhere else."""

    __tablename__ = "core_guest_pass"
    __table_args__ = (UniqueConstraint("tenant_id", "token_hash"),)

    name: Mapped[str]
    token_hash: Mapped[bytes] = mapped_column(LargeBinary)
    target: Mapped[str]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
