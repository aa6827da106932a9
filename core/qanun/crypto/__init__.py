"""Envelope encryption, sealed streams, signatures and secret tokens: every use of cryptography in Qanun starts here.

The chain is master key (a file that one user can read) → tenant keys → data keys. A key never travels bare: it is
wrapped under the one above it and bound to a *context* (`bind("tenant", tenant_id)`), so that a wrapped key or a sealed
value copied to another row, tenant or purpose does not open.

This package keeps no state, reads no settings and knows no tenant. It is not a key store (that is `qanun.storage`), not
password hashing (that is `qanun.identity`) and not TLS.
"""

from qanun.crypto.envelope import bind, open_, seal, sealed_under, unwrap_key, wrap_key
from qanun.crypto.errors import BadSignature, CryptoError, KeyFileError, NotSealed, Tampered, WrongKey
from qanun.crypto.keys import Key, create_master_key, ensure_master_key, load_master_key
from qanun.crypto.signing import SigningKey, verify
from qanun.crypto.stream import MAX_CHUNK, SealedReader, SealedWriter
from qanun.crypto.tokens import code, random_token, same, token_hash

__all__ = [
    "MAX_CHUNK",
    "BadSignature",
    "CryptoError",
    "Key",
    "KeyFileError",
    "NotSealed",
    "SealedReader",
    "SealedWriter",
    "SigningKey",
    "Tampered",
    "WrongKey",
    "bind",
    "code",
    "create_master_key",
    "ensure_master_key",
    "load_master_key",
    "open_",
    "random_token",
    "same",
    "seal",
    "sealed_under",
    "token_hash",
    "unwrap_key",
    "verify",
    "wrap_key",
]
