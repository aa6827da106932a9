"""Where things are, and the few numbers that every step shares."""

from __future__ import annotations

import re
from pathlib import Path

import bootstrap

HERE = Path(__file__).resolve().parent.parent
ROOT = HERE.parent
HOME = bootstrap.HOME
STORE = HOME / "debs"
WHEELS = HOME / "wheels"
CACHE = HOME / "image"

RELEASE = "trixie"
ARCHITECTURE = "amd64"
PYTHON = "3.13"

MIB = 1024 * 1024
ESP_MIB = 1024
SLOT_MIB = 2048
DISK_MIB = 8192
STICK_ESP_MIB = 256
SLOT_BUDGET = 500 * 1000 * 1000


class Stale(bootstrap.Missing):
    """The mirror no longer has what the lock names. Not a fault of the checkout: exit code 3, so that CI can tell."""


def version() -> str:
    """Of the release: that of the distribution `qanun`."""
    text = (ROOT / "core" / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r'^version = "([0-9][0-9a-z.]*)"$', text, re.MULTILINE)
    assert found is not None
    return found.group(1)
