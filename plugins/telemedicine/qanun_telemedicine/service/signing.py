"""The clinic's own signature under certificates and exports: an Ed25519 key, made on first use, sealed under the clinic's key.

Anybody who has the public half can check a document without this server.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from qanun.api import BadSignature, Context, SigningKey, verify_signature
from qanun_telemedicine.models_kept import SigningIdentity

_SEAL = "telemedicine.signing"


def canonical(value: Mapping[str, Any]) -> str:
    """One spelling for one content: sorted keys, no spaces, UTF-8 kept; strings, whole numbers, booleans and lists only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


async def signer(ctx: Context) -> SigningKey:
    """The clinic's signing key."""
    # One row by a fixed id, so that two first users at once agree.
    one = uuid.uuid5(ctx.tenant.id, "telemedicine-signing-1")
    statement = select(SigningIdentity).where(SigningIdentity.id == one)
    found = (await ctx.db.execute(statement)).scalar_one_or_none()
    if found is None:
        fresh = SigningKey.generate()
        sealed = await ctx.keys.seal(ctx.db, ctx.tenant.id, fresh.to_bytes(), _SEAL, str(one))
        try:
            async with ctx.db.begin_nested():
                ctx.db.add(SigningIdentity(id=one, public_key=fresh.public, sealed=sealed))
                await ctx.db.flush()
        except IntegrityError:
            found = (await ctx.db.execute(statement)).scalar_one()
        else:
            return fresh
    return SigningKey(await ctx.keys.open(ctx.db, ctx.tenant.id, found.sealed, _SEAL, str(one)))


def genuine(public_key: bytes, signature: bytes, body: str) -> bool:
    """Whether `body` is what was signed."""
    try:
        verify_signature(public_key, signature, body.encode())
    except BadSignature:
        return False
    return True
