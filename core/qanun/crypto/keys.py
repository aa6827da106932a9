"""The 256-bit symmetric key and the master key file. Where tenant and data keys are kept is not decided here."""

import hashlib
import os
import secrets
import stat
from pathlib import Path
from typing import final

from qanun.crypto.errors import KeyFileError

SIZE = 32


@final
class Key:
    """A 256-bit AES key that does not show itself in `repr`, logs or tracebacks, and refuses to be pickled."""

    __slots__ = ("_secret", "id")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != SIZE:
            raise ValueError(f"a key has {SIZE} bytes, not {len(secret)}")
        self._secret = bytes(secret)
        #: Eight bytes that name the key without telling anything about it; they stand in every sealed header.
        self.id = hashlib.sha256(b"qanun key id\0" + self._secret).digest()[:8]

    @classmethod
    def generate(cls) -> "Key":
        return cls(secrets.token_bytes(SIZE))

    def reveal(self) -> bytes:
        """The 32 secret bytes; for handing a data key to another process over a private socket, never for storing."""
        return self._secret

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and secrets.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<Key {self.id.hex()}>"

    def __reduce__(self) -> str:
        raise TypeError("a key is not pickled")


def create_master_key(path: Path) -> Key:
    """Write a new master key file (32 bytes, mode 0600) and return the key. `KeyFileError` when the file exists.

    The file and its directory entry are on the disk when this returns: nothing may be encrypted under a key that a
    power cut can take away.
    """
    key = Key.generate()
    # Written beside and linked into place: a crash in between can't leave a short master key behind.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(key.reveal())
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            raise KeyFileError(f"{path}: there is a master key already; it is not overwritten") from None
    finally:
        draft.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return key


def load_master_key(path: Path) -> Key:
    """Read the master key. `KeyFileError` when it is missing, not a plain file, open to other users, or not 32
    bytes."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise KeyFileError(f"{path}: there is no master key") from None
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise KeyFileError(f"{path}: not a plain file")
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise KeyFileError(
                f"{path}: other users can reach it (mode {stat.S_IMODE(status.st_mode):04o}, must be 0600)"
            )
        secret = file.read(SIZE + 1)
    if len(secret) != SIZE:
        raise KeyFileError(f"{path}: {status.st_size} bytes, a master key has {SIZE}")
    return Key(secret)


def ensure_master_key(path: Path) -> Key:
    """The master key of `path`, created when missing. Only the appliance's set-up calls this; a server that finds no
    key must stop, because everything sealed before would be unreadable under a new one."""
    try:
        return load_master_key(path)
    except KeyFileError:
        if path.exists() or path.is_symlink():
            raise
    try:
        return create_master_key(path)
    except KeyFileError:
        return load_master_key(path)  # another process was faster
