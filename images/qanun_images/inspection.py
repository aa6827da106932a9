"""What a tree holds that must be known: privileges, accounts, what starts; and what must not be in it: keys and identities."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

_PEM = re.compile(rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----\s+(?:[\w-]+: .*\n)*[A-Za-z0-9+/=\s]{100,}-----END")
_NAMES = re.compile(
    r"(^|/)(ssh_host_\w+_key(\.pub)?|ssl-cert-snakeoil\.\w+|PG_VERSION|random-seed|master\.key|authorized_keys|id_(rsa|ed25519|ecdsa)"
    r"|\.bash_history|credential\.secret|installed-ours)$"
)


def _files(tree: Path) -> Iterator[tuple[str, os.stat_result, Path]]:
    for folder, folders, files in os.walk(tree):
        for name in sorted((*folders, *files)):
            path = Path(folder) / name
            yield str(path.relative_to(tree)), path.lstat(), path


def privileged(tree: Path) -> list[str]:
    """`mode owner group path` of every set-user-id, set-group-id program and file with capabilities."""
    found = []
    for name, info, path in _files(tree):
        if stat.S_ISREG(info.st_mode):
            capable = "security.capability" in os.listxattr(path, follow_symlinks=False)
            if info.st_mode & 0o6000 or capable:
                found.append(
                    f"{info.st_mode & 0o7777:04o}{'+cap' if capable else ''} {info.st_uid} {info.st_gid} /{name}"
                )
    return sorted(found, key=lambda line: line.split(" ")[-1])


def accounts(tree: Path) -> list[str]:
    """`user name id group shell` and `group name id members`."""
    users = [line.split(":") for line in (tree / "etc/passwd").read_text().splitlines()]
    groups = [line.split(":") for line in (tree / "etc/group").read_text().splitlines()]
    found = [f"user {name} {uid} {gid} {shell}" for name, _, uid, gid, _, _, shell in users]
    return sorted(found) + sorted(f"group {name} {gid} {members}".rstrip() for name, _, gid, members in groups)


def started(tree: Path) -> list[str]:
    """`target unit` of everything that the image starts by itself."""
    folder = tree / "etc/systemd/system"
    return sorted(f"{link.parent.name} {link.name}" for link in folder.glob("*.*/*") if link.is_symlink())


def identities(tree: Path) -> list[str]:
    """What would be secret, or the same on two machines that must differ. Empty in a good image."""
    found = []
    for name, info, path in _files(tree):
        if _NAMES.search(name):
            found.append(f"/{name}: belongs to one machine")
        if stat.S_ISREG(info.st_mode) and info.st_size < 4 * 1024 * 1024:
            content = path.read_bytes()
            # Cryptographic libraries carry the published keys of their self-tests in their code.
            if not content.startswith(b"\x7fELF") and _PEM.search(content):
                found.append(f"/{name}: holds a private key")
    if (tree / "etc/machine-id").read_bytes():
        found.append("/etc/machine-id: is not empty")
    for line in (tree / "etc/shadow").read_text().splitlines():
        name, password = line.split(":")[:2]
        if password not in {"*", "!", "!*", "!!"}:
            found.append(f"/etc/shadow: {name} has a password")
    return found


def ownerless(tree: Path) -> list[str]:
    """Files of numbers that no account has, and files that everybody may write."""
    users = {int(line.split(":")[2]) for line in (tree / "etc/passwd").read_text().splitlines()}
    groups = {int(line.split(":")[2]) for line in (tree / "etc/group").read_text().splitlines()}
    found = []
    for name, info, _ in _files(tree):
        if info.st_uid not in users or info.st_gid not in groups:
            found.append(f"/{name}: {info.st_uid}:{info.st_gid}")
        if info.st_mode & 0o002 and not stat.S_ISLNK(info.st_mode) and not info.st_mode & stat.S_ISVTX:
            found.append(f"/{name}: everybody may write")
    return found


def traces(tree: Path, *words: str) -> list[str]:
    """Files of ours that name the place they were built in."""
    wanted = [word.encode() for word in words]
    return [
        f"/{name}"
        for name, info, path in _files(tree / "opt")
        if stat.S_ISREG(info.st_mode) and any(word in path.read_bytes() for word in wanted)
    ]
