"""Sealing of values and wrapping of keys, with XAES-256-GCM (C2SP): AES-256-GCM under a key derived per message.

The 192-bit random nonce of XAES takes away GCM's limit of 2**32 messages per key, so that one tenant key may seal every
row of a clinic for ever. Layout of a sealed value, 52 bytes longer than the plaintext:

    magic 3 | version 1 | key id 8 | nonce 24 | ciphertext | tag 16

The first 12 bytes and the caller's context are authenticated with it.
"""

import secrets
import struct
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from qanun.crypto.errors import NotSealed, Tampered, WrongKey
from qanun.crypto.keys import Key

_VALUE = b"QSV\x01"
_WRAPPED = b"QKW\x01"
_HEAD = 12
_NONCE = 24
_TAG = 16


def bind(*parts: str | bytes | int | UUID) -> bytes:
    """A context out of several parts, such that no two different lists of parts give the same bytes."""
    packed = [struct.pack(">H", len(parts))]
    for part in parts:
        raw = part if isinstance(part, bytes) else str(part).encode()
        packed += (b"b" if isinstance(part, bytes) else b"s", struct.pack(">I", len(raw)), raw)
    return b"".join(packed)


def seal(plaintext: bytes, key: Key, *, context: bytes) -> bytes:
    """Encrypt and authenticate `plaintext`; only `open_` with the same key and the same context reads it again."""
    return _seal(_VALUE, plaintext, key, context)


def open_(sealed: bytes, key: Key, *, context: bytes) -> bytes:
    """The plaintext of a sealed value. Raises `NotSealed`, `WrongKey` or `Tampered` (changed, or another context)."""
    return _open(_VALUE, sealed, key, context)


def sealed_under(sealed: bytes) -> bytes:
    """The id (8 bytes, `Key.id`) of the key that a sealed value or wrapped key needs; for choosing among old keys."""
    if len(sealed) < _HEAD + _NONCE + _TAG or sealed[:4] not in (_VALUE, _WRAPPED):
        raise NotSealed("not a sealed value of a version that is known here")
    return bytes(sealed[4:_HEAD])


def wrap_key(key: Key, *, under: Key, context: bytes) -> bytes:
    """`key` encrypted under another key, 84 bytes. A wrapped key and a sealed value can't be passed off as each
    other."""
    return _seal(_WRAPPED, key.reveal(), under, context)


def unwrap_key(wrapped: bytes, *, under: Key, context: bytes) -> Key:
    """The key inside a wrapped key. Raises like `open_`."""
    secret = _open(_WRAPPED, wrapped, under, context)
    try:
        return Key(secret)
    except ValueError:
        raise NotSealed("the wrapped bytes are not a key") from None


def _seal(kind: bytes, plaintext: bytes, key: Key, context: bytes) -> bytes:
    head = kind + key.id
    nonce = secrets.token_bytes(_NONCE)
    return head + nonce + xaes_encrypt(key.reveal(), nonce, plaintext, head + context)


def _open(kind: bytes, sealed: bytes, key: Key, context: bytes) -> bytes:
    needed = sealed_under(sealed)
    if sealed[:4] != kind:
        raise NotSealed("a wrapped key was given for a sealed value, or the other way round")
    if needed != key.id:
        raise WrongKey(needed.hex(), key.id.hex())
    head, nonce, body = sealed[:_HEAD], sealed[_HEAD : _HEAD + _NONCE], sealed[_HEAD + _NONCE :]
    try:
        return xaes_decrypt(key.reveal(), nonce, body, head + context)
    except InvalidTag:
        raise Tampered("the sealed value was changed, or belongs to another context") from None


def xaes_encrypt(secret: bytes, nonce: bytes, plaintext: bytes, associated: bytes) -> bytes:
    """XAES-256-GCM as C2SP specifies it: 32-byte key, 24-byte nonce; ciphertext followed by the 16-byte tag."""
    return AESGCM(_derive(secret, nonce)).encrypt(nonce[12:], plaintext, associated)


def xaes_decrypt(secret: bytes, nonce: bytes, body: bytes, associated: bytes) -> bytes:
    """The inverse of `xaes_encrypt`; raises cryptography's `InvalidTag`."""
    return AESGCM(_derive(secret, nonce)).decrypt(nonce[12:], body, associated)


def _derive(secret: bytes, nonce: bytes) -> bytes:
    # Two blocks of CMAC (SP 800-108r1 in counter mode), written out for the one input length that occurs.
    # ECB here is the bare block function that CMAC is made of; no data is ever encrypted with it.
    block = Cipher(algorithms.AES(secret), modes.ECB()).encryptor()  # noqa: S305 - the bare block function, see above
    subkey = int.from_bytes(block.update(bytes(16)), "big") << 1
    if subkey >> 128:
        subkey ^= (1 << 128) | 0x87
    halves = [
        (int.from_bytes(bytes((0, counter, 0x58, 0)) + nonce[:12], "big") ^ subkey).to_bytes(16, "big")
        for counter in (1, 2)
    ]
    return block.update(b"".join(halves))
