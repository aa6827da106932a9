"""Secrets that people and browsers carry: sessions, invitations, reset links. Only their hash is ever stored."""

import hashlib
import hmac
import secrets

from qanun.crypto.keys import Key


def random_token(size: int = 32) -> str:
    """A URL-safe token out of `size` random bytes (43 characters for 32); never fewer than 16 bytes."""
    if size < 16:
        raise ValueError("a token has at least 16 random bytes")
    return secrets.token_urlsafe(size)


def token_hash(token: str) -> bytes:
    """SHA-256 of a token, 32 bytes, for storing and looking up. Tokens are random, so no salt and no slow hash is
    needed; passwords are neither and don't belong here."""
    return hashlib.sha256(token.encode()).digest()


def code(body: bytes, under: Key, *, context: bytes) -> bytes:
    """HMAC-SHA256 of `body` under a key of its own for `context`: whoever holds it may know it, nobody can make it."""
    own = hmac.digest(under.reveal(), b"qanun code\0" + context, "sha256")
    return hmac.digest(own, body, "sha256")


def same(left: str | bytes, right: str | bytes) -> bool:
    """Compare two secrets in a time that does not depend on where they differ."""
    return hmac.compare_digest(
        left.encode() if isinstance(left, str) else left, right.encode() if isinstance(right, str) else right
    )
