"""When somebody cannot sign in: a one-time code from an administrator, by which they choose a password themselves.

The code is the administrator's to hand over and nobody's to guess. Whoever could use it on a person of two clinics would be in
both: only an administrator of all of them may make one.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta

from sqlalchemy import any_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from qanun.context import Context
from qanun.crypto import token_hash
from qanun.db import Database, new_id
from qanun.errors import Forbidden, Invalid
from qanun.i18n import N_, to_ascii_digits
from qanun.identity.models import Membership, RecoveryCode, SignInSession, User
from qanun.identity.passkeys import remove_all_of_user
from qanun.identity.passwords import acceptable, hash_password, matches
from qanun.identity.signin import admit_staff, refuse_if_resting, register_failure
from qanun.tenancy import global_session

LIFE = timedelta(hours=24)
WRONG_CODE = N_("The e-mail or the code is not right, or the code was used or is too old.")
#: No letters that look like digits, none that look like each other.
_LETTERS = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
_GROUPS, _SIZE = 4, 4


def _plain(code: str) -> str:
    return "".join(one for one in to_ascii_digits(code).upper() if one in _LETTERS)


async def make_code(ctx: Context, user: User, *, removes_passkeys: bool) -> str:
    """A new code for `user`; earlier ones are void. Raises Forbidden when they work in a clinic whose administrator the
    actor is not. The code is shown once and kept as a hash."""
    await _must_administer_all(ctx, user)
    code = "-".join("".join(secrets.choice(_LETTERS) for _ in range(_SIZE)) for _ in range(_GROUPS))
    earlier = update(RecoveryCode).where(RecoveryCode.user_id == user.id, RecoveryCode.used_at.is_(None))
    await ctx.db.execute(earlier.values(used_at=ctx.now))
    ctx.db.add(
        RecoveryCode(
            id=new_id(), user_id=user.id, tenant_id=ctx.tenant.id, code_hash=token_hash(_plain(code)),
            removes_passkeys=removes_passkeys, expires_at=ctx.now + LIFE,
        )
    )  # fmt: skip
    ctx.audit("core.person.code", detail={"user": user.id, "removes_passkeys": removes_passkeys})
    return code


async def _must_administer_all(ctx: Context, user: User) -> None:
    theirs = select(Membership.tenant_id).where(Membership.user_id == user.id, Membership.ended_at.is_(None))
    mine = select(Membership.tenant_id).where(
        Membership.user_id == ctx.actor.id, Membership.ended_at.is_(None), any_(Membership.roles) == "administrator"
    )
    clinics = set((await ctx.db.execute(theirs.limit(200))).scalars())
    if not clinics <= {ctx.tenant.id, *(await ctx.db.execute(mine.limit(200))).scalars()}:
        raise Forbidden("this person works in another clinic too", code="works-elsewhere")


async def recover(database: Database, email: str, code: str, password: str) -> tuple[str, User, RecoveryCode]:
    """A staff session's token, the user, and the code, now used. Every other session of theirs ends.

    Raises Invalid: an unusable password at its field; an unknown name, a wrong, used and expired code all look the same,
    and count like wrong passwords.
    """
    acceptable(password)
    now = datetime.now(UTC)
    async with global_session(database) as session:
        found = select(User).where(User.email == email.strip().lower(), User.disabled_at.is_(None)).with_for_update()
        user = (await session.execute(found)).scalar_one_or_none()
        held = await _open_code(session, user, code, now) if user is not None else None
        if user is None or held is None:
            await matches("", password)  # as long as the way in takes for a name that does not exist
            if user is not None:
                refuse_if_resting(user, now)
                register_failure(user, now)
                await session.commit()
            raise Invalid({"code": WRONG_CODE})
        refuse_if_resting(user, now)
        user.password = await hash_password(password)
        user.failures, user.locked_until, held.used_at = 0, None, now
        if held.removes_passkeys:
            await remove_all_of_user(session, user.id)
        ended = update(SignInSession).where(SignInSession.user_id == user.id, SignInSession.ended_at.is_(None))
        await session.execute(ended.values(ended_at=now))
        token = await admit_staff(session, user)
        await session.commit()
        return token, user, held


async def _open_code(session: AsyncSession, user: User, code: str, now: datetime) -> RecoveryCode | None:
    wanted = select(RecoveryCode).where(
        RecoveryCode.code_hash == token_hash(_plain(code)), RecoveryCode.user_id == user.id,
        RecoveryCode.used_at.is_(None), RecoveryCode.expires_at > now,
    )  # fmt: skip
    return (await session.execute(wanted.with_for_update())).scalar_one_or_none()
