"""People without an account who are let in to one thing: a pass that works once, and how it ends.

What they are let in to, and who lets them, is a plugin's; what a pass may reach is the role `guest`'s permissions.
"""

from __future__ import annotations

import uuid
from datetime import timedelta

from sqlalchemy import select, update

from qanun.context import Context
from qanun.crypto import random_token, token_hash
from qanun.db import new_id
from qanun.errors import Invalid, NotFound
from qanun.identity.models import GuestPass, SignInSession
from qanun.identity.signin import begin

GUEST_LIFE = timedelta(days=2)


async def invite_guest(ctx: Context, name: str, target: str, *, life: timedelta = GUEST_LIFE) -> tuple[uuid.UUID, str]:
    """A pass for somebody without an account: its id and the one-time token that leads to `target` (a path below
    `/guest/`). Only the token's hash is kept; whoever uses it may reach what the role `guest` may, under this name.
    """
    if not target.startswith(f"/guest/{ctx.tenant.slug}/") or "//" in target:
        raise Invalid({"target": "must be a path for guests of this clinic"})
    token, id = random_token(), new_id()
    ctx.db.add(
        GuestPass(id=id, name=name, token_hash=token_hash(token), target=target, expires_at=ctx.now + life)
    )  # fmt: skip
    return id, token


async def guest_pass(ctx: Context, token: str) -> GuestPass:
    """Raises NotFound when the link is unknown, expired or revoked. A used one is found: its owner may come back by it."""
    statement = select(GuestPass).where(GuestPass.token_hash == token_hash(token)).with_for_update()
    found = (await ctx.db.execute(statement)).scalar_one_or_none()
    if found is None or found.revoked_at is not None or found.expires_at <= ctx.now:
        raise NotFound("invitation")
    return found


async def admit_guest(ctx: Context, token: str, locale: str) -> tuple[str, GuestPass]:
    """First use of a pass: a session's token, and the pass, which is used up. Raises NotFound when it was used before."""
    found = await guest_pass(ctx, token)
    if found.used_at is not None:
        raise NotFound("invitation")
    found.used_at = ctx.now
    ctx.audit("core.guest.enter", detail={"guest": str(found.id)})
    return await begin(
        ctx.db, "guest", found.expires_at - ctx.now, guest_id=found.id, guest_name=found.name, tenant_id=ctx.tenant.id,
        locale=locale,
    ), found  # fmt: skip


async def revoke_guest(ctx: Context, guest_id: uuid.UUID) -> None:
    """The pass opens nothing any more, and who is inside is outside within a second. Unknown ones: nothing happens."""
    found = (await ctx.db.execute(select(GuestPass).where(GuestPass.id == guest_id))).scalar_one_or_none()
    if found is None or found.revoked_at is not None:
        return
    found.revoked_at = ctx.now
    await ctx.db.execute(
        update(SignInSession)
        .where(SignInSession.guest_id == guest_id, SignInSession.tenant_id == ctx.tenant.id)
        .values(ended_at=ctx.now)
    )
    ctx.audit("core.guest.revoke", detail={"guest": str(guest_id)})
