"""A release of this checkout, a stock Debian 13 server, and the playbooks run against it as an operator does."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

# The folder itself, ansible/, and what the release is made with.
sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "appliance"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "images"))

import bootstrap
import debian_server
import releasing
from bootstrap import Missing, Steps
from playing import BACKUPS, PASSWORD
from qanun_images import wheels
from qanun_images.places import Stale


@pytest.fixture(scope="session")
def make_release() -> Callable[..., Path]:
    """Packs this checkout's sources, as a later version if one is named, changed by `spoil` before."""
    reason = debian_server.why_not()
    if reason:
        pytest.skip(reason)

    def make(folder: Path, version: str = "", spoil: Callable[[Path], None] | None = None) -> Path:
        steps = Steps(1)
        try:
            with steps.step("A release of this checkout"), tempfile.TemporaryDirectory(dir=bootstrap.HOME) as place:
                sources = Path(place) / "sources"
                releasing.gather(steps)
                wheels.copy_sources(sources)
                releasing.name_version(sources, version)
                if spoil:
                    spoil(sources)
                releasing.pack(sources, releasing.build(steps, sources), folder)
        except Stale as stale:
            pytest.skip(str(stale))
        return folder

    return make


@pytest.fixture(scope="session")
def release(make_release, tmp_path_factory) -> Path:
    return make_release(tmp_path_factory.mktemp("releases") / "present")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A stock Debian 13, up, with a disk for backups plugged in."""
    reason = debian_server.why_not()
    if reason:
        pytest.skip(reason)
    try:
        debian_server.tree()
    except Missing as missing:
        pytest.skip(f"no Debian 13 to start: {missing}")
    with debian_server.started(tmp_path_factory.mktemp("server")) as running:
        running.ssh(f"mkdir {BACKUPS}; apt-get -q update")
        yield running


@pytest.fixture(scope="module")
def inventory(server) -> Path:
    """An inventory with the one server under two names: `al-razi`, and `ibn-sina`, at whose address nobody answers."""
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
