"""What can go wrong with keys and sealed data. No message ever contains key material or plaintext."""

from qanun.errors import ConfigurationError, QanunError


class CryptoError(QanunError):
    """Base of everything that `qanun.crypto` raises on purpose."""

    code = "crypto"


class KeyFileError(CryptoError, ConfigurationError):
    """The master key file is missing, readable by others, of the wrong size, or already there."""

    code = "key-file"


class NotSealed(CryptoError):
    """These bytes were never sealed by us, or by a version of Qanun that this one does not know."""

    code = "not-sealed"


class WrongKey(CryptoError):
    """Sealed under another key than the one given; `needed` and `given` are key ids (hex), which are not secret."""

    code = "wrong-key"

    def __init__(self, needed: str, given: str) -> None:
        super().__init__(f"sealed under key {needed}, not under key {given}")
        self.needed = needed
        self.given = given


class Tampered(CryptoError):
    """Authentication failed: the bytes were changed, or belong to another context.

    `chunk` is the number of the chunk, from 0, when it happened inside a sealed stream.
    """

    code = "tampered"

    def __init__(self, message: str, chunk: int | None = None) -> None:
        super().__init__(message)
        self.chunk = chunk


class BadSignature(CryptoError):
    """The signature does not belong to this message and this public key."""

    code = "bad-signature"
