"""What this machine alone knows: made once, never printed, never made again while anything depends on it."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from qanun.api import ConfigurationError
from qanun_appliance.places import Places
from qanun_appliance.site import Site

#: Letters and digits that nobody mistakes for one another when they are read from paper.
_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_GROUPS, _LENGTH = 8, 5


STORE_KEY = "backup-ssh"


def ensure_secrets(site: Site, places: Places, addresses: Sequence[str], *, slot: bool = False) -> list[str]:
    """Make what is missing; returns a sentence for each thing made. A second run makes nothing.

    The master key lies in `keys/` (the web server's account), the rest in `secrets/` (root), certificates in `tls/`.
    """
    made = []
    for folder, owner, mode in (
        (places.secrets, "root", 0o700),
        (places.keys, "qanun", 0o700),
        (places.tls, "root", 0o750),
    ):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(mode)
        give(folder, places, owner, "caddy" if folder == places.tls else owner)
    master = places.keys / "master.key"
    if not master.exists():
        if places.marker.exists():
            raise ConfigurationError(
                f"{master} is gone although this machine has data: restore it from the backup; a new key opens nothing"
            )
        write_private(master, secrets.token_bytes(32))
        give(master, places, "qanun", "qanun")
        made.append("the master key")
    for name, what in (("turn-secret", "the relay's secret"), ("backup-key", "the backup's key")):
        path = places.secrets / name
        if not path.exists():
            text = readable_key() if name == "backup-key" else secrets.token_urlsafe(32)
            write_private(path, text.encode())
            made.append(what)
    if site.backup.target.startswith("sftp:") and ensure_store_key(places):
        made.append("an SSH key for the backup's store")
    administrator = places.secrets / "administrator"
    # Once the clinic is open the first password has done its work; whoever deletes it does not want it back.
    if not administrator.exists() and not (places.keys / "founded").exists():
        write_private(administrator, readable_key(groups=4).lower().encode())
        made.append("the administrator's first password")
    made += _certificate(site, places, addresses)
    if slot and site.ssh == "keys":
        made += _host_key(places)
    return made


def readable_key(groups: int = _GROUPS, length: int = _LENGTH) -> str:
    """A key that a person can copy from paper: groups of letters, 25 bits each (eight groups: 200 bits)."""
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(length)) for _ in range(groups))


def tidy_key(typed: str) -> str:
    """A key as somebody typed it from paper, in the way in which it was made: capitals, groups with hyphens between them."""
    letters = "".join(letter for letter in typed.upper() if letter.isalnum())
    if len(letters) == _GROUPS * _LENGTH:
        return "-".join(letters[at : at + _LENGTH] for at in range(0, len(letters), _LENGTH))
    return typed.strip().upper()


def write_private(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Whole or not at all, on the disk when this returns, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def give(path: Path, places: Places, owner: str, group: str) -> None:
    """Hand a file to an account; in a tree that is only rendered, and where accounts are missing, it stays ours."""
    if not places.is_machine or os.geteuid() != 0:
        return
    try:
        shutil.chown(path, owner, group)
    except LookupError:
        raise ConfigurationError(f"the account {owner} or the group {group} does not exist here") from None


def _certificate(site: Site, places: Places, addresses: Sequence[str]) -> list[str]:
    # Whoever only writes a file does not load what certificates take.
    from qanun_appliance.local_ca import server_certificate
    from qanun_appliance.trust import profile

    if site.certificate.kind == "acme":
        return []
    served = places.tls / "server.crt"
    before = served.read_bytes() if served.exists() else b""
    if site.certificate.kind == "given":
        for source, target in (
            (site.certificate.certificate, served),
            (site.certificate.key, places.tls / "server.key"),
        ):
            path = places.real(source)
            if not path.is_file():
                raise ConfigurationError(f"certificate: {source} is not there")
            if not target.exists() or target.read_bytes() != path.read_bytes():
                write_private(target, path.read_bytes())
        root: Path | None = None
    else:
        chain, key, root = server_certificate(places.secrets / "ca", [*site.hosts, *addresses], own_names=False)
        for source_path, target in ((chain, served), (key, places.tls / "server.key")):
            if not target.exists() or target.read_bytes() != source_path.read_bytes():
                write_private(target, source_path.read_bytes())
        for name, content in (
            ("qanun-ca.crt", root.read_bytes()),
            ("qanun-ca.mobileconfig", profile(root.read_bytes())),
        ):
            public = places.tls / name
            if not public.exists() or public.read_bytes() != content:
                write_private(public, content, 0o644)
    closed = (("server.crt", 0o644), ("server.key", 0o640), ("qanun-ca.crt", 0o644), ("qanun-ca.mobileconfig", 0o644))
    for name, mode in closed:
        path = places.tls / name
        if path.exists():
            path.chmod(mode)
            give(path, places, "root", "caddy")
    return ["a certificate"] if served.read_bytes() != before else []


def _host_key(places: Places) -> list[str]:
    return ["a host key for SSH"] if _ssh_key(places.data / "ssh" / "ssh_host_ed25519_key", "") else []


def ensure_store_key(places: Places) -> bool:
    """The machine's own key for a backup's store behind SSH; whether it was made now."""
    path = places.secrets / STORE_KEY
    made = _ssh_key(path, "qanun-backup")
    if made:
        Path(f"{path}.pub").chmod(0o600)  # beside secrets nothing is open, not even what could be
    return made


def _ssh_key(path: Path, comment: str) -> bool:
    if path.exists():
        return False
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
    made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if made.returncode:
        raise ConfigurationError(f"ssh-keygen: {made.stderr.strip()}")
    return True
