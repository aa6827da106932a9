"""Proving once more who one is: the owner of a live session, before a grave act.

A wrong password counts as it does at the way in, so this is no second place to guess.
"""

from __future__ import annotations

from sqlalchemy import select, update

from qanun.context import Context
from qanun.errors import Forbidden, NotFound
from qanun.identity.models import PatientAccount, SignInSession, User
from qanun.identity.passwords import matches
from qanun.identity.signin import refuse_if_resting, register_failure


async def owner_of_session(ctx: Context) -> User | PatientAccount:
    """Whoever is signed in, locked for counting. Raises Forbidden for guests and the system, who own no sign-in."""
    if ctx.actor.kind == "user":
        statement = select(User).where(User.id == ctx.actor.id, User.disabled_at.is_(None))
        found: User | PatientAccount | None = (await ctx.db.execute(statement.with_for_update())).scalar_one_or_none()
    elif ctx.actor.kind == "patient":
        account = select(PatientAccount).where(PatientAccount.id == ctx.actor.id)
        found = (await ctx.db.execute(account.with_for_update())).scalar_one_or_none()
    else:
        raise Forbidden("nobody to confirm")
    if found is None:
        raise NotFound("sign-in")
    return found


async def confirm_by_password(ctx: Context, password: str) -> bool:
    """Whether it was right; then the session is fresh. Raises TooMany after too many wrong ones (the caller commits)."""
    owner = await owner_of_session(ctx)
    refuse_if_resting(owner, ctx.now)
    if not await matches(owner.password, password):
        register_failure(owner, ctx.now)
        ctx.audit("core.session.confirm-refused", patient_id=ctx.actor.patient_id)
        return False
    owner.failures, owner.locked_until = 0, None
    await mark_confirmed(ctx, "password")
    return True


async def mark_confirmed(ctx: Context, method: str) -> None:
    """The session's owner has just been proven by `method`."""
    statement = update(SignInSession).where(SignInSession.id == ctx.actor.session_id)
    await ctx.db.execute(statement.values(confirmed_at=ctx.now))
    ctx.audit("core.session.confirm", patient_id=ctx.actor.patient_id, detail={"method": method})
