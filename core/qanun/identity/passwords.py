"""Passwords: Argon2id (OWASP's 19 MiB, 2 passes, 1 lane), checked in a thread, upgraded when the parameters grow."""

from __future__ import annotations

import asyncio

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from qanun.errors import Invalid
from qanun.i18n import N_

MINIMUM = 10
MAXIMUM = 200

_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
# A sign-in name that does not exist costs the same time as one that does: the form of a hash with the same parameters,
# made up and not computed, which every start of a process would wait for.
_DECOY = (
    f"$argon2id$v=19$m={_hasher.memory_cost},t={_hasher.time_cost},p={_hasher.parallelism}$"
    f"{'A' * (_hasher.salt_len * 8 // 6 + 1)}${'A' * (_hasher.hash_len * 8 // 6 + 1)}"
)
# Each check takes 19 MiB; more at once than there are cores only costs memory.
_turn = asyncio.Semaphore(2)


def acceptable(password: str, field: str = "password") -> str:
    """The password, or Invalid. Length only: composition rules make passwords worse (NIST SP 800-63B)."""
    if len(password) < MINIMUM:
        raise Invalid({field: N_("Use at least 10 characters; a short sentence is good.")})
    if len(password) > MAXIMUM:
        raise Invalid({field: N_("Use at most 200 characters.")})
    return password


async def hash_password(password: str) -> str:
    async with _turn:
        return await asyncio.to_thread(_hasher.hash, password)


async def matches(stored: str, password: str) -> bool:
    """Whether `password` is the one `stored` was made from; an empty `stored` never matches and takes as long."""

    def check() -> bool:
        try:
            return _hasher.verify(stored or _DECOY, password[:MAXIMUM]) and bool(stored)
        except (VerificationError, InvalidHashError):
            return False

    async with _turn:
        return await asyncio.to_thread(check)
