"""restic, spoken to as a program: an encrypted repository that opens with the clinic's key and with nothing else.

What a set is, and which are kept, is decided elsewhere; here is only the repository.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from qanun.api import QanunError, Unavailable

_LONG_S = 6 * 3600.0
_NAMED_BY_CONTENT = ("data", "index", "snapshots", "keys")


#: What ssh says of a store, and what it means here.
_SSH = {
    "remote host identification has changed": "the store shows another SSH key than before. If its keeper says that this is right, "
    "delete /var/lib/qanun/secrets/backup-known-hosts; otherwise somebody stands in between",
    "permission denied (": "the store does not take this machine's SSH key: qanun appliance backup-store shows what its keeper "
    "puts into authorized_keys",
    "could not resolve hostname": "the store's name is not known in this network",
    "connection refused": "nobody listens at the store's address",
    "no route to host": "the store's address is not reached from here",
    "timed out": "the store does not answer",
    # OpenSSH lets an address that failed to sign in wait before it may try again.
    "not allowed at this time": "the store lets this machine wait after a refused key: try again in a minute",
    # Last: ssh's own words, where there are any, say more.
    "unable to start the sftp session": "the store ended the SSH session before it offered sftp; after a refused key it lets "
    "this machine wait: try again in a minute",
}  # fmt: skip


class Damaged(QanunError):
    """The repository is not what was written into it; nothing of it may be trusted."""

    status = 409
    code = "damaged-backup"


class WrongBackupKey(QanunError):
    """The key does not open this repository."""

    status = 409
    code = "wrong-backup-key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One thing that was put into the repository. `tags` are `set=…` and `kind=…`."""

    id: str
    at: datetime
    tags: frozenset[str]

    def value(self, name: str) -> str:
        return next((tag.split("=", 1)[1] for tag in self.tags if tag.startswith(f"{name}=")), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Restic:
    """`target` as restic writes it; `key` in the clear, handed over in the environment and never on a command line."""

    target: str
    key: str
    cache: Path
    extra: tuple[tuple[str, str], ...] = ()
    #: Words that stand before every command of restic's.
    options: tuple[str, ...] = ()

    @property
    def folder(self) -> Path | None:
        """The repository's folder, when it is one."""
        return Path(self.target) if self.target.startswith("/") else None

    def _environment(self) -> dict[str, str]:
        self.cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        return {
            **os.environ, **dict(self.extra), "RESTIC_REPOSITORY": self.target, "RESTIC_PASSWORD": self.key,
            "RESTIC_CACHE_DIR": str(self.cache), "HOME": str(self.cache), "LC_ALL": "C.UTF-8",
        }  # fmt: skip

    def run(self, *words: str, timeout: float = _LONG_S, **more: Any) -> subprocess.CompletedProcess[bytes]:
        """Raises Damaged, WrongBackupKey or Unavailable with restic's own last words."""
        try:
            done = subprocess.run(
                ["restic", *self.options, *words], env=self._environment(), capture_output=True, check=False, timeout=timeout, cwd="/",
                **{"stdin": subprocess.DEVNULL, **more},
            )  # fmt: skip
        except FileNotFoundError:
            raise Unavailable("restic is not installed here") from None
        if done.returncode:
            raise explained(
                self._all_said(done.stderr.decode(errors="replace") or done.stdout.decode(errors="replace"))
            )
        return done

    def _all_said(self, said: str) -> str:
        """restic may end before it has passed on why ssh did; ssh says it again."""
        command = next((one.partition("=")[2] for one in self.options if one.startswith("sftp.command=")), "")
        if not command or "sftp session" not in said:
            return said
        try:
            asked = subprocess.run(
                shlex.split(command), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60
            )
        except (OSError, subprocess.TimeoutExpired):
            return said
        return f"{asked.stderr}\n{said}"

    def exists(self) -> bool:
        """Whether there is a repository at the target. Raises Unavailable when the target itself is not there."""
        if self.folder is not None:
            try:
                # Listing asks a disk that is mounted when somebody looks; asking for the folder alone does not.
                return "config" in os.listdir(self.folder)
            except OSError:
                raise Unavailable(f"{self.target} is not there; is the backup disk plugged in and mounted?") from None
        try:
            self.run("cat", "config", "--no-lock", timeout=120)
        except Unavailable as error:
            if "unable to open config file" in error.message or "does not exist" in error.message:
                return False
            raise
        return True

    def create(self) -> None:
        self.run("init", timeout=300)

    def snapshots(self) -> list[Snapshot]:
        """All of them, oldest first."""
        listed = json.loads(self.run("snapshots", "--json", "--no-lock", timeout=300).stdout or b"[]")
        found = [
            Snapshot(id=item["id"], at=_moment(item["time"]), tags=frozenset(item.get("tags") or ()))
            for item in listed or []
        ]
        return sorted(found, key=lambda snapshot: snapshot.at)

    def save_output(self, command: Sequence[str], name: str, tags: Iterable[str], **more: Any) -> None:
        """Put what a command prints into the repository as one file. A command that fails leaves no snapshot behind."""
        words = ["restic", *self.options, "backup", "--stdin", "--stdin-filename", name, "--quiet", *_tagged(tags)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/", **more) as source:
            assert source.stdout is not None and source.stderr is not None
            saving = subprocess.Popen(
                words,
                stdin=source.stdout,
                env=self._environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",
            )
            source.stdout.close()  # restic ends when the command does, and the other way round
            _, said = saving.communicate(timeout=_LONG_S)
            complaint = source.stderr.read().decode(errors="replace")
            source.wait(60)
        if saving.returncode:
            raise explained(said.decode(errors="replace"))
        if source.returncode:
            for snapshot in self.snapshots():
                if snapshot.tags == frozenset(tags):
                    self.run("forget", snapshot.id)
            raise Unavailable(f"{Path(command[0]).name}: {complaint.strip()[-600:]}")

    def save_bytes(self, content: bytes, name: str, tags: Iterable[str]) -> None:
        self.run("backup", "--stdin", "--stdin-filename", name, "--quiet", *_tagged(tags), stdin=None, input=content)

    def save_paths(self, paths: Iterable[Path], tags: Iterable[str], *, exclude: Iterable[str] = ()) -> None:
        there = [str(path) for path in paths if path.exists()]
        without = [word for pattern in exclude for word in ("--exclude", pattern)]
        self.run("backup", "--quiet", *_tagged(tags), *without, *there)

    def read(self, snapshot: Snapshot, name: str) -> bytes:
        """One small file out of a snapshot."""
        return self.run("dump", snapshot.id, f"/{name}", "--no-lock").stdout

    def unpack(self, snapshot: Snapshot, name: str, folder: Path, **more: Any) -> None:
        """A tar archive out of a snapshot, unpacked into `folder` as it comes."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with subprocess.Popen(
            ["restic", *self.options, "dump", snapshot.id, f"/{name}", "--no-lock"], env=self._environment(), stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, cwd="/",
        ) as source:  # fmt: skip
            assert source.stdout is not None and source.stderr is not None
            tar = subprocess.run(
                ["tar", "-x", "-C", str(folder), "--no-same-owner", "-p", "-f", "-"], stdin=source.stdout,
                capture_output=True, check=False, timeout=_LONG_S, **more,
            )  # fmt: skip
            source.stdout.close()
            said = source.stderr.read().decode(errors="replace")
            source.wait(60)
        if source.returncode and said.strip():
            raise explained(said)
        if tar.returncode or source.returncode:  # restic says nothing when it is tar that gave up
            raise Unavailable(f"unpacking: {tar.stderr.decode(errors='replace').strip()[-600:]}")

    def restore(self, snapshot: Snapshot, folder: Path, *, include: Iterable[str] = ()) -> None:
        """A snapshot's files below `folder`, with their full paths."""
        only = [word for pattern in include for word in ("--include", pattern)]
        self.run("restore", snapshot.id, "--target", str(folder), "--no-lock", "--quiet", *only)

    def list_files(self, snapshot: Snapshot) -> list[tuple[str, int]]:
        """(path, size) of every file in a snapshot."""
        lines = self.run("ls", "--json", "--no-lock", snapshot.id).stdout.splitlines()
        entries = [json.loads(line) for line in lines]
        return [(entry["path"], int(entry.get("size", 0))) for entry in entries if entry.get("type") == "file"]

    def forget(self, snapshots: Iterable[Snapshot], *, prune: bool) -> None:
        ids = [snapshot.id for snapshot in snapshots]
        if ids:
            self.run("forget", *ids, *(["--prune"] if prune else []))

    def unlock(self) -> None:
        """Take away locks of runs that no longer live (a power cut leaves one)."""
        self.run("unlock", timeout=300)

    def examine(self) -> None:
        """Read every byte of the repository. Raises Damaged naming the first file that is not what it was.

        In a folder every file's name is the hash of its content, which says more, and sooner, than decrypting it all.
        """
        if not self.exists():
            raise Unavailable(f"there is no backup at {self.target}")
        if self.folder is not None:
            for part in _NAMED_BY_CONTENT:
                for path in sorted((self.folder / part).rglob("*")):
                    if path.is_file() and re.fullmatch(r"[0-9a-f]{64}", path.name) and _digest(path) != path.name:
                        raise Damaged(f"the backup is damaged: {path} is not what was written")
            self.run("check", "--no-lock")
        else:
            self.run("check", "--no-lock", "--read-data")


def explained(said: str) -> QanunError:
    """restic's words as one of our errors."""
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "no reason given")
    fatal = next((line.strip() for line in said.splitlines() if "Fatal:" in line), last)
    lower = said.lower()
    if "wrong password" in lower or "no key found" in lower:
        return WrongBackupKey("this key does not open the backup")
    for mark, sentence in _SSH.items():
        if mark in lower:
            return Unavailable(sentence)
    marks = ("ciphertext verification", "hash mismatch", "invalid data", "damaged", "errors were found", "unexpected eof",
             "does not match", "invalid character", "repository contains errors", "contain errors", "not contained in",
             "id mismatch", "config or key", "unmarshal")  # fmt: skip
    if any(mark in lower for mark in marks):
        return Damaged(f"the backup is damaged: {fatal[:400]}")
    return Unavailable(f"restic: {fatal[:600]}")


def _tagged(tags: Iterable[str]) -> list[str]:
    return [word for tag in tags for word in ("--tag", tag)]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _moment(text: str) -> datetime:
    # restic writes nanoseconds, which Python does not read.
    return datetime.fromisoformat(re.sub(r"\.(\d{1,6})\d*", r".\1", text))
