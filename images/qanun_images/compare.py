"""Where two builds differ: by bytes first, and then, file by file, what is different in the trees they were made from."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_CHUNK = 4 * 1024 * 1024


def same(one: Path, other: Path) -> bool:
    """Byte for byte. Holes of sparse files cost nothing where both have them."""
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as left, other.open("rb") as right:
        position, end = 0, one.stat().st_size
        while position < end:
            position = min(_next_data(left.fileno(), position, end), _next_data(right.fileno(), position, end))
            left.seek(position)
            right.seek(position)
            if left.read(_CHUNK) != right.read(_CHUNK):
                return False
            position += _CHUNK
    return True


def _next_data(descriptor: int, position: int, end: int) -> int:
    try:
        return os.lseek(descriptor, position, os.SEEK_DATA)
    except OSError:  # ENXIO: only a hole from here on
        return end


def trees(one: Path, other: Path) -> Iterator[str]:
    """A line for each path that is not the same in both: what of it differs."""
    left, right = _listed(one), _listed(other)
    for name in sorted(left.keys() | right.keys()):
        if name not in right:
            yield f"{name}: only in the first"
        elif name not in left:
            yield f"{name}: only in the second"
        elif left[name] != right[name]:
            yield f"{name}: " + ", ".join(
                f"{what} {a} / {b}" for what, a, b in zip(_WHAT, left[name], right[name], strict=True) if a != b
            )


_WHAT = ("mode", "owner", "group", "time", "size", "content", "attributes")


def _listed(root: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder) / name
            info = path.lstat()
            if stat.S_ISLNK(info.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(info.st_mode):
                with path.open("rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()[:16]
            else:
                content = ""
            size = info.st_size if stat.S_ISREG(info.st_mode) else 0
            extra = tuple(
                (key, os.getxattr(path, key, follow_symlinks=False))
                for key in sorted(os.listxattr(path, follow_symlinks=False))
            )
            found[str(path.relative_to(root))] = (
                oct(info.st_mode), info.st_uid, info.st_gid, int(info.st_mtime), size, content, extra,
            )  # fmt: skip
    return found


def first_difference(one: Path, other: Path) -> int | None:
    """The offset of the first byte that differs, or None."""
    with one.open("rb") as left, other.open("rb") as right:
        position = 0
        while True:
            a, b = left.read(_CHUNK), right.read(_CHUNK)
            if a != b:
                return position + next(
                    (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
                )
            if not a:
                return None
            position += len(a)
