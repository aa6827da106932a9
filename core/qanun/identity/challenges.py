"""Challenges that a passkey signs: made without a row, good for one purpose, one answer and five minutes.

A challenge carries its own expiry and a code that only this machine can make, so asking for one stores nothing and a
stranger cannot fill a table. What is stored is the answer's digest, once it was right: it is never right again.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from qanun.crypto import same, token_hash
from qanun.db import new_id, trusted
from qanun.identity.passkey_models import SpentChallenge
from qanun.storage import Keyring

LIFE = timedelta(minutes=5)
_NONCE, _TIME, _CODE = 16, 8, 32


def make(keys: Keyring, now: datetime, *purpose: str) -> bytes:
    """A challenge for `purpose` (what for, whose door, which session or clinic)."""
    body = os.urandom(_NONCE) + int((now + LIFE).timestamp() * 1000).to_bytes(_TIME, "big")
    return body + keys.code(body, "passkey-challenge", *purpose)


def good(keys: Keyring, challenge: bytes, now: datetime, *purpose: str) -> bool:
    """Whether this machine made it, for this purpose, and it has not expired. Says nothing of whether it was answered."""
    if len(challenge) != _NONCE + _TIME + _CODE:
        return False
    body, code = challenge[:-_CODE], challenge[-_CODE:]
    return same(code, keys.code(body, "passkey-challenge", *purpose)) and now <= _expiry(challenge)


def _expiry(challenge: bytes) -> datetime:
    return datetime.fromtimestamp(int.from_bytes(challenge[_NONCE : _NONCE + _TIME], "big") / 1000, UTC)


async def spend(session: AsyncSession, challenge: bytes, now: datetime) -> bool:
    """Whether this is its first right answer; a second one that comes at the same moment waits here and is not."""
    await session.execute(delete(SpentChallenge).where(SpentChallenge.expires_at < now))
    row = {"id": new_id(), "digest": token_hash(challenge.hex()), "expires_at": _expiry(challenge)}
    statement = insert(SpentChallenge).values(row).on_conflict_do_nothing().returning(SpentChallenge.id)
    return (await session.execute(trusted(statement))).first() is not None
