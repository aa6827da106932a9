"""Signing in and out, and the server-side sessions that follow.

Staff sign in once for the appliance and then choose a clinic; a patient signs in to one clinic's portal. The two kinds
of session have different cookies and reach different pages. A wrong name and a wrong password look the same, also in
time; after `ATTEMPTS` failures a sign-in rests for a while.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import Select, and_, bindparam, case, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from qanun.context import Context, ResourceRef
from qanun.crypto import random_token, token_hash
from qanun.db import Database, new_id, trusted
from qanun.errors import Invalid, NotFound, TooMany
from qanun.i18n import N_, to_ascii_digits
from qanun.identity.models import (
    Membership,
    Patient,
    PatientAccount,
    PluginState,
    PortalInvitation,
    RoleChange,
    SignInSession,
    User,
)
from qanun.identity.passkey_models import PatientPasskey
from qanun.identity.passwords import acceptable, hash_password, matches
from qanun.tenancy import Tenant, TenantInfo, global_session

ATTEMPTS = 5
LOCK = timedelta(minutes=5)
STAFF_IDLE = timedelta(minutes=30)
STAFF_LIFE = timedelta(hours=14)
PORTAL_IDLE = timedelta(minutes=30)
PORTAL_LIFE = timedelta(hours=12)
INVITATION_LIFE = timedelta(days=14)
INVITATION_ATTEMPTS = 5
GUEST_IDLE = timedelta(minutes=30)
WRONG = N_("The sign-in name or the password is not right.")
WRONG_PASSWORD = N_("The password is not right.")


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A live session, as one query finds it. `tenant` is None for staff who have not chosen a clinic yet."""

    session_id: uuid.UUID
    kind: str
    locale: str
    name: str
    user_id: uuid.UUID | None
    account_id: uuid.UUID | None
    patient_id: uuid.UUID | None
    practitioner_id: uuid.UUID | None
    roles: frozenset[str]
    tenant: TenantInfo | None
    disabled_plugins: frozenset[str]
    seen_at: datetime
    guest_id: uuid.UUID | None = None
    confirmed_at: datetime | None = None
    #: Where this clinic's roles differ from the start: `+doctor core.audit:read`, `-nurse …`.
    role_changes: frozenset[str] = frozenset()


async def begin(session: AsyncSession, kind: str, life: timedelta, **owner: object) -> str:
    """A new session of this kind; its token goes into a cookie, its hash into the database."""
    now = datetime.now(UTC)
    token = random_token()
    session.add(
        SignInSession(
            id=new_id(), token_hash=token_hash(token), kind=kind, seen_at=now, expires_at=now + life,
            confirmed_at=None if kind == "guest" else now, **owner,
        )
    )  # fmt: skip
    return token


class Counted(Protocol):
    """Something that is guessed at: after `ATTEMPTS` wrong answers it rests for a while."""

    failures: Any
    locked_until: Any


def register_failure(holder: Counted, now: datetime) -> None:
    holder.failures += 1
    if holder.failures >= ATTEMPTS:
        holder.locked_until = now + LOCK * min(holder.failures - ATTEMPTS + 1, 12)


def refuse_if_resting(holder: Counted | None, now: datetime) -> None:
    if holder is not None and holder.locked_until and holder.locked_until > now:
        wait = int((holder.locked_until - now).total_seconds()) + 1
        raise TooMany("too many wrong passwords", retry_after=wait)


async def sign_in_staff(database: Database, email: str, password: str) -> tuple[str, User]:
    """A new staff session's token and the user. Raises Invalid (wrong) or TooMany (resting); both count as failures."""
    now = datetime.now(UTC)
    async with global_session(database) as session:
        found = select(User).where(User.email == email.strip().lower()).with_for_update()
        user = (await session.execute(found)).scalar_one_or_none()
        usable = user is not None and user.disabled_at is None
        resting = bool(user and user.locked_until and user.locked_until > now)
        right = await matches(user.password if user and usable else "", password)
        if resting and user is not None:
            # Told only to who knows the password: to others a resting account looks like any wrong guess.
            if right:
                refuse_if_resting(user, now)
            raise Invalid({"password": WRONG})
        if not right or user is None:
            if user is not None:
                register_failure(user, now)
                await session.commit()
            raise Invalid({"password": WRONG})
        user.failures, user.locked_until = 0, None
        token = await admit_staff(session, user)
        await session.commit()
        return token, user


async def admit_staff(session: AsyncSession, user: User) -> str:
    """A new session of somebody who has been proven; in their clinic, when there is only one. The caller commits."""
    member = (
        select(Membership.tenant_id)
        .join(Tenant, Tenant.id == Membership.tenant_id)
        .where(Membership.user_id == user.id, Membership.ended_at.is_(None), Tenant.active)
        .limit(2)
    )
    clinics = (await session.execute(member)).scalars().all()
    only = clinics[0] if len(clinics) == 1 else None
    return await begin(session, "staff", STAFF_LIFE, user_id=user.id, tenant_id=only, locale=user.locale)


async def clinics_of(database: Database, user_id: uuid.UUID) -> list[tuple[TenantInfo, frozenset[str]]]:
    """The clinics a user belongs to, with the roles held there."""
    async with global_session(database) as session:
        statement = (
            select(Tenant, Membership.roles)
            .join(Membership, Membership.tenant_id == Tenant.id)
            .where(Membership.user_id == user_id, Membership.ended_at.is_(None), Tenant.active)
            .order_by(Tenant.name)
            .limit(50)
        )
        return [(TenantInfo.of(tenant), frozenset(roles)) for tenant, roles in (await session.execute(statement)).all()]


async def choose_clinic(database: Database, session_id: uuid.UUID, user_id: uuid.UUID, slug: str) -> None:
    """Bind the session to a clinic the user belongs to. Raises NotFound for every other one."""
    for tenant, _ in await clinics_of(database, user_id):
        if tenant.slug == slug:
            async with global_session(database) as session:
                await session.execute(
                    update(SignInSession).where(SignInSession.id == session_id).values(tenant_id=tenant.id)
                )
                await session.commit()
            return
    raise NotFound("clinic")


async def sign_in_patient(ctx: Context, login: str, password: str) -> str | None:
    """A new portal session's token, or None when name or password are wrong (the caller commits the counted failure)."""
    typed = to_ascii_digits(login).strip().lower()
    digits = "".join(c for c in typed if c.isdigit())
    names = {typed, digits} if len(digits) >= 6 and "@" not in typed else {typed}
    statement = select(PatientAccount).where(PatientAccount.login.in_(names)).with_for_update()
    account = (await ctx.db.execute(statement)).scalars().first()
    right = await matches(account.password if account else "", password)
    if account is not None and account.locked_until and account.locked_until > ctx.now:
        if right:
            refuse_if_resting(account, ctx.now)
        return None
    if account is None or not right:
        if account is not None:
            register_failure(account, ctx.now)
            ctx.audit("core.portal.sign-in-refused", patient_id=account.patient_id)
        return None
    return await admit_patient(ctx, account)


async def admit_patient(ctx: Context, account: PatientAccount, method: str = "password") -> str:
    """A new portal session of somebody who has been proven."""
    account.failures, account.locked_until = 0, None
    ctx.audit(
        "core.portal.sign-in", patient_id=account.patient_id, entity=ResourceRef("Patient", account.patient_id),
        detail={"method": method},
    )  # fmt: skip
    return await begin(
        ctx.db, "portal", PORTAL_LIFE, account_id=account.id, patient_id=account.patient_id, tenant_id=ctx.tenant.id,
        locale=account.locale,
    )  # fmt: skip


async def invite(
    ctx: Context, patient_id: uuid.UUID, target: str, *, life: timedelta = INVITATION_LIFE, renews: bool = False
) -> str:
    """A one-time token that leads `patient_id` to `target` (a portal path). Only its hash is kept. One that `renews` lets
    who has a password already choose a new one: for a lost phone, at a desk that has seen who asks."""
    if not target.startswith("/portal/") or "//" in target:
        raise Invalid({"target": "must be a path inside the portal"})
    token = random_token()
    ctx.db.add(
        PortalInvitation(
            patient_id=patient_id, token_hash=token_hash(token), target=target, expires_at=ctx.now + life, renews=renews
        )
    )  # fmt: skip
    ctx.audit("core.portal.invite", patient_id=patient_id, detail={"renews": renews})
    return token


@dataclass(frozen=True, slots=True)
class Invited:
    """An open invitation: whom it is for (never shown before sign-in), where it leads, whether a password exists."""

    invitation: PortalInvitation
    account: PatientAccount | None
    patient: Patient

    @property
    def asks(self) -> bool:
        """Whether a password is chosen by it; else who has one already signs in."""
        has = self.account is not None and bool(self.account.password)
        return not has or (self.invitation.renews and self.invitation.used_at is None)


async def invitation(ctx: Context, token: str) -> Invited:
    """Raises NotFound when the link is unknown, expired or worn out by wrong answers."""
    statement = select(PortalInvitation).where(PortalInvitation.token_hash == token_hash(token)).with_for_update()
    found = (await ctx.db.execute(statement)).scalar_one_or_none()
    if found is None or found.expires_at <= ctx.now or found.attempts >= INVITATION_ATTEMPTS:
        raise NotFound("invitation")
    account = select(PatientAccount).where(PatientAccount.patient_id == found.patient_id)
    person = (await ctx.db.execute(select(Patient).where(Patient.id == found.patient_id))).scalar_one()
    return Invited(found, (await ctx.db.execute(account)).scalar_one_or_none(), person)


async def activate(ctx: Context, invited: Invited, birth_date: str, password: str) -> str | None:
    """First use of an invitation: the date of birth proves the person, the password becomes theirs. Session token.

    None when the date is wrong: the attempt is counted (the caller commits) and five end the link. Raises Invalid for an
    unusable password and NotFound when the link already made an account.
    """
    if not invited.asks:
        raise NotFound("invitation")
    acceptable(password)
    if to_ascii_digits(birth_date).strip() != invited.patient.birth_date.isoformat():
        invited.invitation.attempts += 1
        return None
    digits = "".join(c for c in invited.patient.phone if c.isdigit())
    login = invited.patient.email or digits or invited.patient.mrn.lower()
    account = invited.account or PatientAccount(id=new_id(), patient_id=invited.patient.id, login=login, failures=0)
    account.password = await hash_password(password)
    account.locale = account.locale or invited.patient.language or ""
    ctx.db.add(account)
    invited.invitation.used_at = ctx.now
    if invited.account is not None:
        # What was lost opens nothing any more: neither the phone's passkey nor a session on it.
        await ctx.db.execute(delete(PatientPasskey).where(PatientPasskey.account_id == account.id))
        ended = update(SignInSession).where(SignInSession.account_id == account.id, SignInSession.ended_at.is_(None))
        await ctx.db.execute(ended.values(ended_at=ctx.now))
    return await admit_patient(ctx, account)


def _look_up_statement() -> Select[Any]:
    """Built once: every request runs it, and putting it together costs more than running it."""
    disabled = (
        select(func.coalesce(func.array_agg(PluginState.slug), []))
        .where(PluginState.tenant_id == SignInSession.tenant_id, PluginState.enabled.is_(False))
        .scalar_subquery()
    )
    sign = case((RoleChange.granted, "+"), else_="-")
    changed = (
        select(func.coalesce(func.array_agg(func.concat(sign, RoleChange.role, " ", RoleChange.permission)), []))
        .where(RoleChange.tenant_id == SignInSession.tenant_id)
        .scalar_subquery()
    )
    statement: Any = (
        select(
            SignInSession.id,
            SignInSession.locale,
            SignInSession.user_id,
            SignInSession.account_id,
            SignInSession.patient_id,
            SignInSession.guest_id,
            SignInSession.seen_at,
            SignInSession.confirmed_at,
            func.coalesce(User.name, SignInSession.guest_name),
            Membership.roles,
            Membership.practitioner_id,
            *(getattr(Tenant, field.name) for field in fields(TenantInfo)),
            disabled,
            changed,
        )
        .outerjoin(User, User.id == SignInSession.user_id)
        .outerjoin(Tenant, and_(Tenant.id == SignInSession.tenant_id, Tenant.active))
        .outerjoin(
            Membership,
            and_(
                Membership.user_id == SignInSession.user_id,
                Membership.tenant_id == SignInSession.tenant_id,
                Membership.ended_at.is_(None),
            ),
        )
        .where(
            SignInSession.token_hash == bindparam("token_hash"),
            SignInSession.kind == bindparam("kind"),
            SignInSession.ended_at.is_(None),
            SignInSession.expires_at > bindparam("now"),
            SignInSession.seen_at > bindparam("idle_since"),
            or_(User.id.is_(None), User.disabled_at.is_(None)),
        )
    )
    built: Select[Any] = statement
    return built


#: The one role that sessions of a kind have; staff's are their memberships'.
_ROLE = {"portal": "patient", "guest": "guest"}
_IDLE = {"staff": STAFF_IDLE, "portal": PORTAL_IDLE, "guest": GUEST_IDLE}

# Plain columns of tables without a clinic: the ORM has nothing to add, and every request would pay for its asking.
_LOOK_UP = trusted(_look_up_statement())


async def look_up(session: AsyncSession, token: str, kind: str) -> SignedIn | None:
    """The live session behind a cookie, with everything a request needs, in one query. None when it is not (any more)."""
    now = datetime.now(UTC)
    idle = _IDLE[kind]
    values = {"token_hash": token_hash(token), "kind": kind, "now": now, "idle_since": now - idle}
    row = (await (await session.connection()).execute(_LOOK_UP, values)).first()
    if row is None:
        return None
    (
        identity,
        locale,
        user_id,
        account_id,
        patient_id,
        guest_id,
        seen_at,
        confirmed_at,
        name,
        roles,
        practitioner_id,
        *clinic,
        disabled,
        changed,
    ) = row
    tenant = TenantInfo(*clinic) if clinic[0] is not None else None
    if kind in _ROLE:
        if tenant is None:
            return None
        roles = [_ROLE[kind]]
    elif tenant is not None and not roles:
        tenant = None  # the membership ended: choose again
    return SignedIn(
        identity,
        kind,
        locale,
        name or "",
        user_id,
        account_id,
        patient_id,
        practitioner_id,
        frozenset(roles or ()),
        tenant,
        frozenset(disabled or ()),
        seen_at,
        guest_id,
        confirmed_at,
        frozenset(changed or ()),
    )


async def touch(session: AsyncSession, signed_in: SignedIn) -> SignedIn:
    """Push the idle limit forward, at most once a minute. Called for acts of a person, never for polling."""
    now = datetime.now(UTC)
    if now - signed_in.seen_at < timedelta(minutes=1):
        return signed_in
    await session.execute(update(SignInSession).where(SignInSession.id == signed_in.session_id).values(seen_at=now))
    await session.commit()
    return replace(signed_in, seen_at=now)


async def sign_out(database: Database, session_id: uuid.UUID) -> None:
    async with global_session(database) as session:
        await session.execute(
            update(SignInSession).where(SignInSession.id == session_id).values(ended_at=datetime.now(UTC))
        )
        await session.commit()


async def keep_language(ctx: Context, account_id: uuid.UUID, code: str) -> None:
    """Remember a patient's language for the next sign-in."""
    await ctx.db.execute(update(PatientAccount).where(PatientAccount.id == account_id).values(locale=code))


async def set_locale(database: Database, signed_in: SignedIn, code: str) -> None:
    """Remember the chosen language in the session and, for staff, on the user; for patients `keep_language` as well."""
    async with global_session(database) as session:
        await session.execute(update(SignInSession).where(SignInSession.id == signed_in.session_id).values(locale=code))
        if signed_in.user_id:
            await session.execute(update(User).where(User.id == signed_in.user_id).values(locale=code))
        await session.commit()
