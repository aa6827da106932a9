"""A release of this checkout, a stock Debian 13 server, and the playbooks run against it as an operator does."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# The folder itself, ansible/, and what the release is made with.
sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "appliance"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "images"))

import debian_server
from bootstrap import Missing
from playing import BACKUPS
from qanun_images.places import Stale
from trying import inventory_of, packed


@pytest.fixture(scope="session")
def make_release() -> Callable[..., Path]:
    """Packs this checkout's sources, as a later version if one is named, changed by `spoil` before."""
    reason = debian_server.why_not()
    if reason:
        pytest.skip(reason)

    def make(folder: Path, version: str = "", spoil: Callable[[Path], None] | None = None) -> Path:
        try:
            return packed(folder, version, spoil)
        except Stale as stale:
            pytest.skip(str(stale))

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
    return inventory_of(server)
