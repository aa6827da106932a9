"""The clinic machine's list of media nodes, and the journal of what was done with them. One process writes: the gateway.

Files, not tables: a node serves the whole machine and no single clinic, and calls go on while the database is away. Every clinic's
audit gets what the journal says (`witness`).
"""

import json
import os
import re
import time
import uuid
from pathlib import Path
from typing import Any, Literal

import msgspec

from qanun_telemedicine.nodes.identity import Token, new_secret
from qanun_telemedicine.sfu.addresses import reachable

_NAME = re.compile(r"[a-z][a-z0-9-]{0,20}")
_MOST_NODES = 64
#: How long a token is good for, at most.
LONGEST_S = 7 * 86_400


class Refusal(Exception):
    """Something that cannot be done; `code` for programs, the message for people."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(words)
        self.code = code


class Node(msgspec.Struct):
    """A machine that was invited, has joined, or was revoked. Times are seconds since 1970."""

    id: str
    name: str
    #: Where browsers reach its media: fixed by who invited it, so that a node cannot point the relay at somebody else.
    addresses: list[str]
    state: Literal["invited", "joined", "revoked"] = "invited"
    invited_at: float = 0.0
    expires_at: float = 0.0
    #: Digest of the token's secret, until it was used.
    token: str = ""
    #: SHA-256 of its certificate.
    certificate: str = ""
    joined_at: float = 0.0
    revoked_at: float = 0.0
    draining: bool = False
    release: str = ""
    #: When it was last heard, as of the last time that this file was written.
    heard_at: float = 0.0


class Entry(msgspec.Struct):
    """One act, as the journal keeps it."""

    id: str
    at: float
    act: Literal["invite", "join", "revoke", "drain", "resume", "refuse"]
    node: str
    name: str
    #: The account of the machine that gave the order; empty for what a node did.
    by: str = ""
    why: str = ""


class Registry:
    """All nodes, by id. What changes is on the disk when the method returns."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "nodes.json"
        self._journal = folder / "journal.jsonl"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.nodes: dict[str, Node] = {}
        if self._path.exists():
            listed = msgspec.json.decode(self._path.read_bytes(), type=list[Node])
            self.nodes = {node.id: node for node in listed}

    def invite(self, name: str, addresses: list[str], seconds: float, by: str) -> tuple[Node, bytes]:
        """A place for a node, and the secret that fills it once."""
        if not _NAME.fullmatch(name):
            raise Refusal("name", "a node's name is a small letter, then small letters, digits and hyphens: 21 at most")
        if not 60 <= seconds <= LONGEST_S:
            raise Refusal("expires", "a token is good for one minute to seven days")
        if not addresses:
            raise Refusal("address", "say at which address browsers reach the node's media (--address)")
        try:
            wanted = list(dict.fromkeys(reachable(one) for one in addresses))
        except ValueError as error:
            raise Refusal("address", str(error)) from None
        now = time.time()
        for node in list(self.nodes.values()):
            if node.name == name and node.state == "joined":
                raise Refusal("name", f"there is a node {name!r} already: revoke it first, or choose another name")
            if node.name == name or (node.state == "invited" and node.expires_at < now):
                del self.nodes[node.id]  # an earlier invitation of that name works no longer
        if len(self.nodes) >= _MOST_NODES:
            raise Refusal("full", f"no more than {_MOST_NODES} nodes")
        secret = new_secret()
        node = Node(uuid.uuid4().hex, name, wanted, "invited", now, now + seconds, Token.digest(secret))
        self.nodes[node.id] = node
        self._save()
        self.note("invite", node, by)
        return node, secret

    def invited(self, secret: bytes) -> Node:
        """Whose invitation this is. Raises Refusal."""
        digest = Token.digest(secret)
        node = next((node for node in self.nodes.values() if node.token and node.token == digest), None)
        if node is None or node.state != "invited":
            raise Refusal("token", "this token was used already, was replaced, or was never given out: make a new one")
        if node.expires_at < time.time():
            raise Refusal("token", "this token is too old: make a new one")
        return node

    def join(self, node: Node, certificate: bytes, release: str) -> None:
        node.state, node.token, node.certificate = "joined", "", certificate.hex()
        node.joined_at = node.heard_at = time.time()
        node.release = release
        self._save()
        self.note("join", node)

    def of_certificate(self, digest: bytes) -> Node:
        """Whose certificate this is. Raises Refusal for one that is revoked or was never given out."""
        node = next((node for node in self.nodes.values() if node.certificate == digest.hex()), None)
        if node is None or node.state != "joined":
            raise Refusal("revoked", "this node was revoked: to use it again, invite it and let it join anew")
        return node

    def named(self, name: str) -> Node:
        node = next((node for node in self.nodes.values() if node.name == name and node.state != "revoked"), None)
        if node is None:
            raise Refusal("name", f"there is no node {name!r}")
        return node

    def revoke(self, node: Node, by: str) -> None:
        node.state, node.token, node.revoked_at = "revoked", "", time.time()
        self._save()
        self.note("revoke", node, by)

    def drain(self, node: Node, on: bool, by: str) -> None:
        node.draining = on
        self._save()
        self.note("drain" if on else "resume", node, by)

    def heard(self, node: Node, release: str = "") -> None:
        """Write down that it was heard just now."""
        node.heard_at = time.time()
        node.release = release or node.release
        self._save()

    def note(self, act: Any, node: Node, by: str = "", why: str = "") -> None:
        entry = Entry(str(uuid.uuid4()), time.time(), act, node.id, node.name, by, why)
        with os.fdopen(os.open(self._journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as file:
            file.write(msgspec.json.encode(entry) + b"\n")
            os.fsync(file.fileno())

    def _save(self) -> None:
        partial = self._path.with_suffix(".json.new")
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(list(self.nodes.values())), indent=1))
            os.fsync(file.fileno())
        partial.replace(self._path)


def journal(folder: Path, most: int = 200) -> list[Entry]:
    """The newest acts, the oldest first; a line that cannot be read is left out."""
    try:
        lines = (folder / "journal.jsonl").read_bytes().splitlines()[-most:]
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            found.append(msgspec.convert(json.loads(line), Entry))
        except (ValueError, msgspec.ValidationError):
            continue
    return found
