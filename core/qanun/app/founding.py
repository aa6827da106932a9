"""A machine's first clinic and its first administrator: what no screen can make, because nobody could sign in to it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from qanun.access import open_context
from qanun.app.build import Assembly
from qanun.context import SYSTEM
from qanun.db import new_id
from qanun.errors import Conflict
from qanun.i18n import get_locale
from qanun.identity import Membership, User
from qanun.identity.passwords import acceptable, hash_password
from qanun.tenancy import Tenant, TenantInfo, global_session


@dataclass(frozen=True, slots=True, kw_only=True)
class NewClinic:
    """`locale` is a language code, `timezone` an IANA name, `currency` ISO 4217, `country` ISO 3166-1."""

    slug: str
    name: str
    locale: str
    name_alt: str = ""
    timezone: str = "UTC"
    currency: str = "USD"
    country: str = ""
    phone: str = ""


async def found_clinic(
    assembly: Assembly, clinic: NewClinic, *, administrator: str, email: str, password: str
) -> TenantInfo:
    """Make the clinic and the person who will let the others in. Raises Conflict when this machine has a clinic already,
    Invalid when the password is too weak."""
    password = acceptable(password)
    hashed = await hash_password(password)
    runtime = assembly.runtime
    async with global_session(runtime.database) as session:
        if (await session.execute(select(Tenant.id).limit(1))).first():
            raise Conflict("this machine has a clinic already")
        tenant = Tenant(
            id=new_id(), slug=clinic.slug, name=clinic.name, name_alt=clinic.name_alt, locale=clinic.locale,
            timezone=clinic.timezone, currency=clinic.currency, country=clinic.country, phone=clinic.phone, active=True,
        )  # fmt: skip
        user = User(id=new_id(), email=email.strip().lower(), name=administrator, password=hashed, failures=0)
        session.add_all([tenant, user])
        await session.flush()
        session.add(Membership(user_id=user.id, tenant_id=tenant.id, roles=["administrator"]))
        info, user_id = TenantInfo.of(tenant), user.id
        await session.commit()
    async with open_context(runtime, info, SYSTEM, get_locale(info.locale)) as ctx:
        ctx.audit("core.clinic.found", detail={"administrator": user_id})
    return info
