"""What there is to try the playbooks with: a release packed from this checkout, and an inventory with one clinic's server.

For the tests and for the measurement of how long the playbooks take; the folders of ansible/, appliance/ and images/ are on the
path of whoever imports it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import bootstrap
import releasing
import yaml
from bootstrap import Steps
from debian_server import Server
from playing import BACKUPS, PASSWORD
from qanun_images import wheels


def packed(folder: Path, version: str = "", spoil: Callable[[Path], None] | None = None) -> Path:
    """A release of this checkout's sources in `folder`, changed by `spoil` before. Raises Stale when the mirror has moved on."""
    steps = Steps(1)
    with steps.step("A release of this checkout"), tempfile.TemporaryDirectory(dir=bootstrap.HOME) as place:
        sources = Path(place) / "sources"
        releasing.gather(steps)
        wheels.copy_sources(sources)
        releasing.name_version(sources, version)
        if spoil:
            spoil(sources)
        releasing.pack(sources, releasing.build(steps, sources), folder)
    return folder


def inventory_of(server: Server) -> Path:
    """The one server under two names: `al-razi`, and `ibn-sina`, at whose address nobody answers."""
    public = server.key.with_suffix(".pub").read_text().strip()
    reached = {
        "ansible_host": server.address, "ansible_user": "root", "ansible_ssh_private_key_file": str(server.key),
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={server.known_hosts} -o ControlPath={server.key.parent}/a-%C",
    }  # fmt: skip
    site = {
        "language": "ar",
        "clinic": {"name": "Al-Razi Family Clinic", "name_alt": "عيادة الرازي", "slug": "al-razi", "currency": "MAD",
                   "timezone": "Africa/Casablanca", "country": "MA"},
        "administrator": {"name": "Salma Idrissi", "email": "admin@al-razi.example"},
        "hosts": {"names": ["clinic.lan", server.address]},
        "network": {"mode": "unmanaged"},
        "backup": {"target": BACKUPS, "at": "02:00"},
        "ssh": {"mode": "keys", "keys": [public]},
    }  # fmt: skip
    nobody = {**reached, "ansible_host": server.address, "ansible_port": 9}
    groups = {
        "clinics": {"hosts": {"al-razi": {}}, "vars": {"qanun_site": site, "qanun_administrator_password": PASSWORD}},
        "ring_first": {"hosts": {"al-razi": reached}, "vars": {"qanun_site": site}},
        "ring_second": {"hosts": {"ibn-sina": nobody}},
        "ring_rest": {"hosts": {}},
    }
    path = server.key.parent / "inventory.yml"
    path.write_text(yaml.safe_dump(groups, allow_unicode=True), encoding="utf-8")
    return path
