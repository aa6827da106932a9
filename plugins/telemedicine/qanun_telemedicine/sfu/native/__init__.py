"""The C engine as a shared library beside its source: built where a C compiler is, found by the hash of its source.

    python plugins/telemedicine/qanun_telemedicine/sfu/native/__init__.py      builds it

The build hook of the wheel runs this file, so it needs nothing but the standard library until `load` is called. No library
is linked: libsrtp comes in by the addresses of pylibsrtp's functions. A library of another source is never loaded, and a
worker only compiles in a checkout: what is installed either brought its library along or does without.
"""

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
FLAGS = ("-std=c11", "-O2", "-fPIC", "-shared", "-pthread", "-Wall", "-Wextra")
_PATIENCE_S = 120


class Unavailable(Exception):
    """Why there is no C engine here."""


def library() -> Path:
    """Where the library of exactly this source is, or would be."""
    digest = hashlib.sha256(" ".join((*FLAGS, sysconfig.get_platform())).encode())
    for source in sorted((*FOLDER.glob("*.h"), *FOLDER.glob("*.c"))):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return FOLDER / f"engine-{digest.hexdigest()[:16]}.so"


def compiler() -> str | None:
    return next(
        (found for name in (os.environ.get("CC"), "cc", "gcc", "clang") if name and (found := shutil.which(name))), None
    )


def build() -> Path:
    """Compile unless that is done already; libraries of older sources go."""
    target = library()
    if target.exists():
        return target
    found = compiler()
    if found is None:
        raise Unavailable("there is no C compiler")
    if not sys.platform.startswith("linux"):
        raise Unavailable("it is written for Linux")
    try:
        # Under another name first: several processes may build at once, and none must load half a file.
        with tempfile.NamedTemporaryFile(dir=FOLDER, prefix=".engine-", suffix=".so", delete=False) as file:
            partial = Path(file.name)
    except OSError as error:
        raise Unavailable(f"{FOLDER} cannot be written: {error.strerror}") from error
    try:
        done = subprocess.run(
            [found, *FLAGS, "-o", partial, FOLDER / "engine.c"],
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=False,
        )
        if done.returncode:
            raise Unavailable(f"{found} refused the source:\n{done.stderr[-2000:]}")
        partial.chmod(0o755)
        partial.replace(target)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{found}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    for other in FOLDER.glob("engine-*.so"):
        if other != target:
            other.unlink(missing_ok=True)
    return target


def _in_a_checkout() -> bool:
    return (FOLDER.parents[2] / "pyproject.toml").exists()


@functools.cache
def load() -> tuple[Any, Any]:
    """cffi's view of the library: (ffi, lib). Raises Unavailable."""
    import cffi

    target = library()
    if not target.exists():
        if not _in_a_checkout():
            raise Unavailable("it was installed without its library")
        build()
    _libsrtp_is_as_expected()
    ffi = cffi.FFI()
    ffi.cdef((FOLDER / "engine.h").read_text(encoding="ascii"))
    try:
        return ffi, ffi.dlopen(str(target))
    except OSError as error:
        raise Unavailable(f"{target.name} cannot be loaded: {error}") from error


def _libsrtp_is_as_expected() -> None:
    """The C side calls by address: were the functions' arguments others, nothing would warn."""
    from pylibsrtp._binding import ffi, lib

    for name in ("srtp_protect", "srtp_unprotect"):
        kind = ffi.typeof(ffi.addressof(lib, name))
        if [one.kind for one in kind.args] != ["pointer"] * 3 or kind.args[2].item.cname != "int":
            raise Unavailable(f"{name} of this pylibsrtp takes other arguments")


def addresses() -> tuple[int, int]:
    """Of srtp_protect and srtp_unprotect."""
    from pylibsrtp._binding import ffi, lib

    protect, unprotect = (
        int(ffi.cast("uintptr_t", ffi.addressof(lib, f"srtp_{name}"))) for name in ("protect", "unprotect")
    )
    return protect, unprotect


if __name__ == "__main__":
    try:
        print(build())
    except Unavailable as reason:
        sys.exit(f"no C engine: {reason}")
