"""The people of a clinic and what they may do: who is let in, which roles somebody has, what a role holds.

There is always somebody left who can change it back: the last administrator keeps the role, and the role keeps the right.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import any_, delete, func, select, update

from qanun.access.permissions import ALWAYS, SIGN_IN, Permissions, Role, granted_at_first
from qanun.context import Context
from qanun.db import new_id
from qanun.errors import Conflict, Invalid, NotFound
from qanun.i18n import N_
from qanun.identity import Membership, Practitioner, RoleChange, SignInSession, User, UserPasskey
from qanun.registry import Registry

LIMIT = 300
ADMINISTRATOR = "administrator"
LAST = N_("Nobody else is an administrator here. Make somebody one first.")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


@dataclass(frozen=True, slots=True)
class Person:
    """A member of this clinic's staff. `has_password` is False for who was let in and has not used the code yet."""

    user: User
    membership: Membership
    practitioner: Practitioner | None
    passkeys: int
    last_seen: datetime | None

    @property
    def has_password(self) -> bool:
        return bool(self.user.password)


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonDraft:
    """What an administrator types. `specialty` non-empty makes somebody a practitioner, who has a day and hours."""

    name: str
    email: str
    name_alt: str = ""
    roles: tuple[str, ...] = ()
    specialty: str = ""
    room: str = ""
    licence: str = ""


def staff_roles(registry: Registry) -> list[Role]:
    return [role for role in registry.all(Role) if role.audience == "staff"]


async def people(ctx: Context) -> list[Person]:
    """Everybody who belongs to this clinic, by name; at most `LIMIT`."""
    return await _people(ctx, None)


async def person(ctx: Context, user_id: uuid.UUID) -> Person:
    """Raises NotFound for who is not (or no more) of this clinic."""
    found = await _people(ctx, user_id)
    if not found:
        raise NotFound("person")
    return found[0]


async def _people(ctx: Context, only: uuid.UUID | None) -> list[Person]:
    members = (
        select(User, Membership)
        .join(Membership, Membership.user_id == User.id)
        .where(Membership.tenant_id == ctx.tenant.id, Membership.ended_at.is_(None))
        .order_by(User.name, User.id)
        .limit(LIMIT)
    )
    if only is not None:
        members = members.where(User.id == only)
    rows = (await ctx.db.execute(members)).all()
    ids = [user.id for user, _ in rows]
    counted = (
        select(UserPasskey.user_id, func.count()).where(UserPasskey.user_id.in_(ids)).group_by(UserPasskey.user_id)
    )
    passkeys: dict[uuid.UUID, int] = {row[0]: row[1] for row in (await ctx.db.execute(counted)).all()}
    seen = (
        select(SignInSession.user_id, func.max(SignInSession.seen_at))
        .where(SignInSession.user_id.in_(ids), SignInSession.tenant_id == ctx.tenant.id)
        .group_by(SignInSession.user_id)
    )
    last: dict[uuid.UUID | None, datetime] = {row[0]: row[1] for row in (await ctx.db.execute(seen)).all()}
    wanted = [membership.practitioner_id for _, membership in rows if membership.practitioner_id]
    doctors = select(Practitioner).where(Practitioner.id.in_(wanted)).limit(LIMIT)
    known = {doctor.id: doctor for doctor in (await ctx.db.execute(doctors)).scalars()} if wanted else {}
    return [
        Person(user, membership, known.get(membership.practitioner_id or user.id), passkeys.get(user.id, 0), last.get(user.id))
        for user, membership in rows
    ]  # fmt: skip


def _checked_roles(ctx: Context, roles: Iterable[str]) -> list[str]:
    known = {role.name for role in staff_roles(ctx.registry)}
    chosen = sorted(set(roles))
    if not chosen:
        raise Invalid({"roles": N_("Choose at least one role.")})
    if not known.issuperset(chosen):
        raise Invalid({"roles": N_("Choose one of the listed values.")})
    return chosen


async def let_in(ctx: Context, draft: PersonDraft) -> Person:
    """A new member of staff, or somebody of another clinic on this machine who works here too from now on.

    Raises Invalid naming the fields, Conflict when they are here already.
    """
    faults: dict[str, object] = {}
    name, email = " ".join(draft.name.split()), draft.email.strip().lower()
    if not name:
        faults["name"] = N_("Enter the name.")
    if not _EMAIL.fullmatch(email):
        faults["email"] = N_("Enter an e-mail address, such as name@clinic.example.")
    for field, text in (("name", name), ("name_alt", draft.name_alt), ("email", email), ("specialty", draft.specialty),
                        ("room", draft.room), ("licence", draft.licence)):  # fmt: skip
        if len(text) > 200:
            faults[field] = N_("This text is too long.")
    roles: list[str] = []
    try:
        roles = _checked_roles(ctx, draft.roles)
    except Invalid as error:
        faults |= error.fields
    if faults:
        raise Invalid(faults)
    user = (await ctx.db.execute(select(User).where(User.email == email).with_for_update())).scalar_one_or_none()
    if user is None:
        user = User(id=new_id(), email=email, name=name, name_alt=draft.name_alt.strip(), password="", failures=0)
        ctx.db.add(user)
        await ctx.db.flush()
    member = select(Membership).where(Membership.user_id == user.id, Membership.tenant_id == ctx.tenant.id)
    membership = (await ctx.db.execute(member.with_for_update())).scalar_one_or_none()
    if membership is not None and membership.ended_at is None:
        raise Conflict("this person is here already", field="email")
    if membership is None:
        membership = Membership(id=new_id(), user_id=user.id, tenant_id=ctx.tenant.id, roles=roles)
        ctx.db.add(membership)
    membership.roles, membership.ended_at = roles, None
    if draft.specialty.strip() and membership.practitioner_id is None:
        doctor = Practitioner(
            id=new_id(), user_id=user.id, name=name, name_alt=draft.name_alt.strip(), specialty=draft.specialty.strip(),
            room=draft.room.strip(), licence=draft.licence.strip(), active=True,
        )  # fmt: skip
        ctx.db.add(doctor)
        membership.practitioner_id = doctor.id
    await ctx.db.flush()
    ctx.audit("core.person.let-in", detail={"user": user.id, "roles": roles})
    return await person(ctx, user.id)


async def set_roles(ctx: Context, user_id: uuid.UUID, roles: Iterable[str]) -> None:
    """Takes effect at the person's next request. Raises Conflict rather than leave the clinic without an administrator."""
    chosen = _checked_roles(ctx, roles)
    others = await _other_administrators(ctx, user_id)
    membership = await _held(ctx, user_id)
    if ADMINISTRATOR in membership.roles and ADMINISTRATOR not in chosen and not others:
        raise Conflict("the last administrator", field="roles")
    before = sorted(membership.roles)
    if before == chosen:
        return
    membership.roles = chosen
    ctx.audit("core.person.roles", detail={"user": user_id, "before": before, "after": chosen})


async def end_membership(ctx: Context, user_id: uuid.UUID) -> None:
    """The person is of this clinic no longer: no page of it, from the next request on. What they wrote stays theirs."""
    others = await _other_administrators(ctx, user_id)
    membership = await _held(ctx, user_id)
    if ADMINISTRATOR in membership.roles and not others:
        raise Conflict("the last administrator", field="roles")
    membership.ended_at = ctx.now
    if membership.practitioner_id is not None:
        left = update(Practitioner).where(Practitioner.id == membership.practitioner_id)
        await ctx.db.execute(left.values(active=False))
    ctx.audit("core.person.end", detail={"user": user_id})


async def _held(ctx: Context, user_id: uuid.UUID) -> Membership:
    statement = select(Membership).where(
        Membership.user_id == user_id, Membership.tenant_id == ctx.tenant.id, Membership.ended_at.is_(None)
    )
    found = (await ctx.db.execute(statement.with_for_update())).scalar_one_or_none()
    if found is None:
        raise NotFound("person")
    return found


async def _other_administrators(ctx: Context, user_id: uuid.UUID) -> list[uuid.UUID]:
    """Locks every administrator's place, in one order and before any other: of two who resign at once, one waits for the
    other, and then finds nobody else."""
    statement = (
        select(Membership.user_id)
        .join(User, User.id == Membership.user_id)
        .where(
            Membership.tenant_id == ctx.tenant.id, Membership.ended_at.is_(None), User.disabled_at.is_(None),
            any_(Membership.roles) == ADMINISTRATOR,
        )
        .order_by(Membership.id)
        .with_for_update(of=Membership)
    )  # fmt: skip
    return [one for one in (await ctx.db.execute(statement)).scalars() if one != user_id]


# --- what a role holds --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RoleLine:
    """One permission of a role, as an administrator reads it. `fixed` ones stand whatever is chosen."""

    permission: str
    words: object
    plugin: str
    held: bool
    usual: bool
    fixed: bool


def editable_permissions(registry: Registry) -> list[tuple[str, Permissions]]:
    """(plugin, permission) for everything that staff can hold; what only patients and guests hold is theirs alone."""
    others = {role.name for role in registry.all(Role) if role.audience != "staff"}
    first = granted_at_first(registry)
    foreign = set().union(*(first[role] for role in others)) - set().union(
        *(held for role, held in first.items() if role not in others)
    )
    return [
        (entry.plugin, permission)
        for entry in registry.entries(type(Permissions))
        for permission in entry.item
        if str(permission) not in foreign
    ]


async def role_lines(ctx: Context, role: str) -> list[RoleLine]:
    """Every permission that `role` has or could have. Raises NotFound for a role that is not staff's."""
    if role not in {known.name for known in staff_roles(ctx.registry)}:
        raise NotFound("role")
    usual = granted_at_first(ctx.registry)[role]
    changes = await _changes(ctx, role)
    fixed = SIGN_IN | ALWAYS.get(role, frozenset())
    return [
        RoleLine(
            str(one), one.words, plugin, str(one) in fixed & usual or changes.get(str(one), str(one) in usual),
            str(one) in usual, str(one) in fixed,
        )
        for plugin, one in editable_permissions(ctx.registry)
        if plugin == "core" or plugin in ctx.enabled
    ]  # fmt: skip


async def _changes(ctx: Context, role: str) -> dict[str, bool]:
    made = select(RoleChange).where(RoleChange.tenant_id == ctx.tenant.id, RoleChange.role == role)
    return {row.permission: row.granted for row in (await ctx.db.execute(made.limit(500))).scalars()}


async def set_role(ctx: Context, role: str, held: Sequence[str]) -> list[str]:
    """What this clinic's `role` holds from now on; permissions of plugins that are switched off keep what was decided.

    Returns what changed (`+core.audit:read`). Fixed ones stay as they are; unknown ones raise Invalid.
    """
    lines = {line.permission: line for line in await role_lines(ctx, role)}
    wanted = set(held)
    if not wanted.issubset(lines):
        raise Invalid({"permission": N_("Choose one of the listed values.")})
    changed = []
    for line in lines.values():
        granted = line.permission in wanted
        if line.fixed or granted == line.held:
            continue
        where = (
            RoleChange.tenant_id == ctx.tenant.id,
            RoleChange.role == role,
            RoleChange.permission == line.permission,
        )
        await ctx.db.execute(delete(RoleChange).where(*where))
        if granted != line.usual:
            ctx.db.add(
                RoleChange(
                    id=new_id(), tenant_id=ctx.tenant.id, role=role, permission=line.permission, granted=granted
                )
            )  # fmt: skip
        changed.append(f"{'+' if granted else '-'}{line.permission}")
    if changed:
        ctx.audit("core.role.change", detail={"role": role, "changes": changed})
    return changed
