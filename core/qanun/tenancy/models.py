"""The clinic itself. A global table: it holds a name and defaults, nothing clinical."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Mapped, mapped_column

from qanun.db import GlobalModel


class Tenant(GlobalModel):
    """One clinic. `slug` appears in portal addresses; `timezone` is an IANA name, `currency` ISO 4217, `country` ISO 3166-1."""

    __tablename__ = "core_tenant"

    slug: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    name_alt: Mapped[str] = mapped_column(default="")
    locale: Mapped[str] = mapped_column(default="en")
    timezone: Mapped[str] = mapped_column(default="UTC")
    currency: Mapped[str] = mapped_column(default="USD")
    country: Mapped[str] = mapped_column(default="")
    phone: Mapped[str] = mapped_column(default="")
    active: Mapped[bool] = mapped_column(default=True)
    #: Kept by `qanun.access.closed`: most clinics close none, and then no page asks whether its record is closed.
    closed_records: Mapped[int] = mapped_column(default=0, server_default="0")


@dataclass(frozen=True, slots=True)
class TenantInfo:
    """What the rest of the program carries around of a clinic: plain values, no session attached."""

    id: uuid.UUID
    slug: str
    name: str
    name_alt: str = ""
    locale: str = "en"
    timezone: str = "UTC"
    currency: str = "USD"
    country: str = ""
    phone: str = ""
    #: As a request's sign-in look-up read it; None wherever it may have grown old (streams, sockets, jobs).
    closed_records: int | None = field(default=None, compare=False)

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    @classmethod
    def of(cls, tenant: Tenant) -> TenantInfo:
        return cls(
            tenant.id, tenant.slug, tenant.name, tenant.name_alt, tenant.locale, tenant.timezone,
            tenant.currency, tenant.country, tenant.phone,
        )  # fmt: skip
