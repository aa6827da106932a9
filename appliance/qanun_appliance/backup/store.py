"""Where backups go and how they are reached: a folder, or a store in the network with the credentials that it wants.

A machine has an SSH key of its own for a store behind `sftp:`, and remembers the store's key from the first time on. What other
stores want to know (`rest:`, `s3:`) stands in one file that root alone reads. Saving, proving and restoring reach alike.
"""

from __future__ import annotations

import re
import shlex
from contextlib import suppress
from pathlib import Path

from qanun.api import ConfigurationError
from qanun_appliance.backup.restic import Restic
from qanun_appliance.places import Places
from qanun_appliance.secrets import STORE_KEY
from qanun_appliance.site import Site

HOSTS, ENVIRONMENT = "backup-known-hosts", "backup.env"
_SFTP = re.compile(
    r"sftp:(?://(?:(?P<user>[^@/]+)@)?(?P<host>\[[^\]]+\]|[^:/]+)(?::(?P<port>\d+))?/|(?:(?P<user2>[^@:/]+)@)?(?P<host2>[^:/]+):)"
)


def repository(site: Site, places: Places) -> Restic:
    """The site's repository. Raises ConfigurationError when none is named or its key is missing."""
    if not site.backup.target:
        raise ConfigurationError(
            "no backup target: write [backup] target = … into site.toml, then: qanun appliance apply"
        )
    path = places.secrets / "backup-key"
    if not path.exists():
        raise ConfigurationError(f"{path} is missing: qanun appliance apply makes it")
    return store_at(places, site.backup.target, path.read_text(encoding="ascii").strip())


def store_at(places: Places, target: str, key: str) -> Restic:
    """Any repository, as this machine reaches it. Raises ConfigurationError for an address that is none."""
    options = ("-o", f"sftp.command={_command(places, target)}") if target.startswith("sftp:") else ()
    return Restic(
        target=target, key=key, cache=places.data / "backup-cache", extra=_environment(places), options=options
    )


def _environment(places: Places) -> tuple[tuple[str, str], ...]:
    """What a store wants to know, as restic's documentation names it: NAME=value, one a line."""
    found = []
    with suppress(FileNotFoundError):
        for line in (places.secrets / ENVIRONMENT).read_text(encoding="utf-8").splitlines():
            name, equals, value = line.partition("=")
            if equals and not line.lstrip().startswith("#"):
                found.append((name.strip(), value.strip()))
    return tuple(found)


def _command(places: Places, target: str) -> str:
    """ssh, as restic starts it. Root's own keys and settings hold beside the machine's."""
    found = _SFTP.match(target)
    if found is None:
        raise ConfigurationError(f"{target} is not sftp:user@host:/folder, nor sftp://user@host:port//folder")
    host, user, port = found["host"] or found["host2"], found["user"] or found["user2"], found["port"]
    words = ["ssh", "-i", str(places.secrets / STORE_KEY), "-o", "BatchMode=yes", "-o", "ConnectTimeout=20",
             "-o", "ServerAliveInterval=30", "-o", "ServerAliveCountMax=6",
             # Whoever answers the first time is remembered; another one later is refused.
             "-o", "StrictHostKeyChecking=accept-new",
             "-o", f"UserKnownHostsFile={places.secrets / HOSTS} ~/.ssh/known_hosts"]  # fmt: skip
    words += ["-p", port] if port else []
    words += ["-l", user] if user else []
    return shlex.join([*words, host.strip("[]"), "-s", "sftp"])


def public_key(places: Places) -> str:
    """The line that the store's keeper puts into its `authorized_keys`; empty where there is no key."""
    try:
        return Path(f"{places.secrets / STORE_KEY}.pub").read_text(encoding="ascii").strip()
    except OSError:
        return ""
