"""Tables of passkeys: a member of staff's belongs to the person, a patient's to one clinic's account.

Nothing in them is secret: a passkey's private half never leaves the device it is on.
"""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, declared_attr, mapped_column

from qanun.db import GlobalModel, TenantModel, patient_key, ref


class PasskeyRecord:
    """WebAuthn's credential record (level 3, §4), with the name its owner gave it.

    `attested` is the attested credential data: authenticator model, credential id, public key. `rp_id` is the host name the
    passkey was made for: the clinic's server under another name is another place to a browser.
    """

    name: Mapped[str]
    rp_id: Mapped[str]
    credential_id: Mapped[bytes] = mapped_column(LargeBinary)
    attested: Mapped[bytes] = mapped_column(LargeBinary)
    transports: Mapped[list[str]]
    backup_eligible: Mapped[bool]
    backed_up: Mapped[bool]
    last_used_at: Mapped[datetime | None]
    failures: Mapped[int] = mapped_column(default=0)
    locked_until: Mapped[datetime | None]
    #: The counter went backwards: two devices hold one key, and one of them is not the owner's.
    cloned_at: Mapped[datetime | None]

    @declared_attr
    def sign_count(cls) -> Mapped[int]:  # noqa: N805 - SQLAlchemy's own form
        return mapped_column(BigInteger, default=0)


class UserPasskey(PasskeyRecord, GlobalModel):
    __tablename__ = "core_user_passkey"
    __table_args__ = (UniqueConstraint("credential_id"),)

    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("core_user.id"), index=True)


class PatientPasskey(PasskeyRecord, TenantModel):
    __tablename__ = "core_patient_passkey"
    __table_args__ = (UniqueConstraint("tenant_id", "credential_id"),)

    account_id: Mapped[uuid.UUID] = ref("core_patient_account", index=True)
    patient_id: Mapped[uuid.UUID] = patient_key(index=True)


class SpentChallenge(GlobalModel):
    """A challenge that was answered; it answers nothing a second time. Rows go when the challenge would have expired."""

    __tablename__ = "core_spent_challenge"
    __table_args__ = (UniqueConstraint("digest"),)

    digest: Mapped[bytes] = mapped_column(LargeBinary)
    expires_at: Mapped[datetime] = mapped_column(index=True)
