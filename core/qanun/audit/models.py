"""The audit's tables and the declaration of what may be audited."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import BigInteger, Index, LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from qanun.db import TenantModel

Action = Literal["create", "read", "update", "delete", "execute"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEventType:
    """One kind of act, declared by whoever writes it.

    `action` is FHIR's AuditEvent.action in words. `redaction` says how personal data in `detail` is erased: silence is
    not an option. `label` is the sentence a patient or a privacy officer reads.
    """

    id: str
    label: object
    action: Action
    redaction: Literal["holds-no-personal-data", "erase-detail"] = "holds-no-personal-data"


class AuditEvent(TenantModel):
    """One link of a clinic's chain. The columns beside `body` repeat it for searching; `verify` compares them."""

    __tablename__ = "core_audit_event"
    __table_args__ = (
        UniqueConstraint("tenant_id", "seq"),
        Index("ix_core_audit_event_patient", "tenant_id", "patient_id", "seq"),
    )

    seq: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[datetime]
    type: Mapped[str]
    actor_kind: Mapped[str]
    actor_id: Mapped[uuid.UUID]
    # No foreign key: the record of an act outlives what it was done to.
    patient_id: Mapped[uuid.UUID | None]
    entity: Mapped[str | None]
    body: Mapped[str]
    hash: Mapped[bytes] = mapped_column(LargeBinary)


class AuditHead(TenantModel):
    """The end of a clinic's chain: number and hash of its last event. Locked while a transaction appends."""

    __tablename__ = "core_audit_head"
    __table_args__ = (UniqueConstraint("tenant_id"),)

    seq: Mapped[int] = mapped_column(BigInteger, default=0)
    hash: Mapped[bytes] = mapped_column(LargeBinary)
