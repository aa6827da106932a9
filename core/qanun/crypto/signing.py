"""Ed25519 signatures, for audit checkpoints and release files. Keys are 32 raw bytes; certificates are not made
here."""

from typing import final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from qanun.crypto.errors import BadSignature
from qanun.crypto.keys import Key


@final
class SigningKey:
    """A private Ed25519 key. Kept as `seal(key.to_bytes(), …)`, never bare."""

    __slots__ = ("_private", "public")

    def __init__(self, private: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(private)
        #: The public key, 32 bytes.
        self.public = self._private.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> "SigningKey":
        return cls(Key.generate().reveal())

    def to_bytes(self) -> bytes:
        """The 32 secret bytes."""
        return self._private.private_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """The signature, 64 bytes; the same message gives the same signature."""
        return self._private.sign(message)

    def __repr__(self) -> str:
        return f"<SigningKey {self.public.hex()[:16]}>"

    def __reduce__(self) -> str:
        raise TypeError("a signing key is not pickled")


def verify(public: bytes, signature: bytes, message: bytes) -> None:
    """Return when `signature` is that of `message` under `public`; raise `BadSignature` otherwise, also for malformed
    input."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise BadSignature("the signature does not fit the message and the public key") from None
