"""A clinic in a test: people in every role, contexts and clients that act as them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from litestar import Litestar
from sqlalchemy import update

from qanun.access import effective_permissions, open_context
from qanun.app.build import Assembly
from qanun.app.worker import run_worker
from qanun.context import SYSTEM, Actor, Context
from qanun.crypto import token_hash
from qanun.db import new_id
from qanun.i18n import get_locale
from qanun.identity import (
    Membership,
    Patient,
    PatientAccount,
    PatientDraft,
    Practitioner,
    SignInSession,
    User,
    register_patient,
)
from qanun.identity.guests import admit_guest, invite_guest
from qanun.identity.passwords import hash_password
from qanun.identity.signin import sign_in_patient, sign_in_staff
from qanun.tenancy import Tenant, TenantInfo, global_session
from qanun.web.security import COOKIES

PASSWORD = "a long enough sentence"  # noqa: S105 - of invented people
ORIGIN = "http://clinic.test"
_hashed: dict[str, str] = {}


async def _hash() -> str:
    if PASSWORD not in _hashed:
        _hashed[PASSWORD] = await hash_password(PASSWORD)
    return _hashed[PASSWORD]


@dataclass(slots=True)
class Clinic:
    """One of the two clinics of a test. Everything in it is made through the product's own services."""

    assembly: Assembly
    application: Litestar
    tenant: TenantInfo
    practitioner: Practitioner
    users: dict[str, User] = field(default_factory=dict)
    accounts: dict[uuid.UUID, str] = field(default_factory=dict)
    clients: list[httpx.AsyncClient] = field(default_factory=list)
    base_url: str = ORIGIN

    def actor(self, role: str = "doctor") -> Actor:
        user = self.users[role]
        roles = frozenset({role})
        return Actor(
            kind="user", id=user.id, name=user.name, roles=roles,
            permissions=effective_permissions(self.assembly.registry, roles, frozenset()),
            practitioner_id=self.practitioner.id if role == "doctor" else None,
        )  # fmt: skip

    def patient_actor(self, patient: Patient) -> Actor:
        roles = frozenset({"patient"})
        return Actor(
            kind="patient", id=new_id(), roles=roles, patient_id=patient.id,
            permissions=effective_permissions(self.assembly.registry, roles, frozenset()),
        )  # fmt: skip

    @asynccontextmanager
    async def context(
        self, role: str = "doctor", *, actor: Actor | None = None, locale: str = ""
    ) -> AsyncIterator[Context]:
        """A unit of work as `role` (or as `actor`, or `role="system"`); commits at the end, like a request."""
        who = actor or (SYSTEM if role == "system" else self.actor(role))
        async with open_context(
            self.assembly.runtime, self.tenant, who, get_locale(locale or self.tenant.locale)
        ) as ctx:
            yield ctx

    async def patient(self, **overrides: Any) -> Patient:
        """A registered patient; overrides are `PatientDraft` fields."""
        draft = {
            "given": "Layla", "family": "Haddad", "given_alt": "ليلى", "family_alt": "حداد", "birth_date": "1991-08-19",
            "sex": "female", "phone": f"+212 6{uuid.uuid4().int % 10**8:08d}", "language": "ar", **overrides,
        }  # fmt: skip
        async with self.context("reception") as ctx:
            return await register_patient(ctx, PatientDraft(**draft))

    def _client(self, cookies: dict[str, str]) -> httpx.AsyncClient:
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=self.application, raise_app_exceptions=False),  # type: ignore[arg-type]
            base_url=self.base_url, cookies=cookies, headers={"origin": self.base_url}, follow_redirects=False, timeout=30,
        )  # fmt: skip
        self.clients.append(client)
        return client

    def anonymous(self) -> httpx.AsyncClient:
        return self._client({})

    async def client(self, role: str = "doctor", *, fresh: bool = True) -> httpx.AsyncClient:
        """A browser-like client signed in as `role`; requests carry our own Origin. Not `fresh`: an hour ago."""
        token = await self.staff_token(role)
        if not fresh:
            await self.long_ago(token)
        return self._client({COOKIES["staff"]: token})

    async def long_ago(self, token: str) -> None:
        """Whoever holds this session's token proved who they are an hour ago, and has been working since."""
        async with global_session(self.assembly.runtime.database) as session:
            mine = update(SignInSession).where(SignInSession.token_hash == token_hash(token))
            await session.execute(mine.values(confirmed_at=datetime.now(UTC) - timedelta(hours=1)))
            await session.commit()

    async def staff_token(self, role: str = "doctor") -> str:
        token, _ = await sign_in_staff(self.assembly.runtime.database, self.users[role].email, PASSWORD)
        return token

    async def portal(self, patient: Patient) -> httpx.AsyncClient:
        """A client signed in to this clinic's portal as `patient`; their account is made on first use."""
        return self._client({COOKIES["portal"]: await self.portal_token(patient)})

    async def guest(self, target: str = "", name: str = "Huda Alami") -> httpx.AsyncClient:
        """A client of somebody without an account who came in by a guest's link."""
        return self._client({COOKIES["guest"]: await self.guest_token(target, name)})

    async def guest_token(self, target: str = "", name: str = "Huda Alami") -> str:
        async with self.context("system") as ctx:
            _, token = await invite_guest(ctx, name, target or f"/guest/{self.tenant.slug}/nowhere")
            await ctx.db.flush()
            session, _ = await admit_guest(ctx, token, "")
        return session

    async def portal_token(self, patient: Patient) -> str:
        login = self.accounts.get(patient.id)
        async with self.context("system") as ctx:
            if login is None:
                login = self.accounts[patient.id] = f"{uuid.uuid4().hex}@patient.example"
                ctx.db.add(PatientAccount(patient_id=patient.id, login=login, password=await _hash(), failures=0))
                await ctx.db.flush()
            token = await sign_in_patient(ctx, login, PASSWORD)
        assert token is not None
        return token

    async def run_jobs(self) -> None:
        """Work the queue until it is empty: event handlers and deferred jobs of every clinic."""
        await run_worker(self.assembly, wait=False)

    async def close(self) -> None:
        for client in self.clients:
            await client.aclose()


ROLES = ("administrator", "doctor", "nurse", "reception", "lab-technician")


async def make_clinic(assembly: Assembly, application: Litestar, name: str, locale: str, zone: str) -> Clinic:
    """A fresh clinic with one member of staff per role and one practitioner (the doctor)."""
    slug = f"{name}-{uuid.uuid4().hex[:10]}"
    async with global_session(assembly.runtime.database) as session:
        tenant = Tenant(
            id=new_id(), slug=slug, name=name, name_alt="", locale=locale, timezone=zone, currency="MAD", country="MA",
            phone="+212 522 000 000", active=True,
        )  # fmt: skip
        session.add(tenant)
        await session.flush()
        info = TenantInfo.of(tenant)
        practitioner = Practitioner(
            id=new_id(), name=f"Dr {name}", name_alt="د. نادية", specialty="Family medicine", room="2", licence="MA-1"
        )
        users = {}
        for role in ROLES:
            user = User(
                id=new_id(), email=f"{role}@{slug}.example", name=f"{role} of {name}", password=await _hash(), failures=0,
                name_alt="", locale="",
            )  # fmt: skip
            session.add(user)
            await session.flush()
            users[role] = user
            doctor = practitioner.id if role == "doctor" else None
            session.add(Membership(user_id=user.id, tenant_id=tenant.id, roles=[role], practitioner_id=doctor))
        await session.commit()
    clinic = Clinic(assembly, application, info, practitioner, users)
    async with clinic.context("system") as ctx:
        ctx.db.add(practitioner)
    return clinic
