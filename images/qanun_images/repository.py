"""A Debian repository of exactly what a lock names, in a folder: what mmdebstrap installs from without any network."""

from __future__ import annotations

import hashlib
import os
import shutil
from email.utils import formatdate
from pathlib import Path

from qanun_images import store
from qanun_images.lock import Lock
from qanun_images.places import ARCHITECTURE, RELEASE


def lay_out(lock: Lock, folder: Path) -> None:
    """Packages are hard links into the store, or copies where that is another disk."""
    shutil.rmtree(folder, ignore_errors=True)
    lists = folder / "dists" / RELEASE / "main" / f"binary-{ARCHITECTURE}"
    pool = folder / "pool"
    lists.mkdir(parents=True)
    pool.mkdir()
    stanzas = []
    for deb in lock.debs:
        source, name = store.place(deb), f"{deb.sha256}.deb"
        try:
            os.link(source, pool / name)
        except OSError:
            shutil.copyfile(source, pool / name)
        stanzas.append(
            f"{store.control(deb)}Filename: pool/{name}\nSize: {source.stat().st_size}\nSHA256: {deb.sha256}\n"
        )
    packages = "\n".join(stanzas).encode()
    (lists / "Packages").write_bytes(packages)
    # Without its code name mmdebstrap chooses no essential packages, and says nothing.
    (folder / "dists" / RELEASE / "Release").write_text(
        f"Suite: {RELEASE}\nCodename: {RELEASE}\nDate: {formatdate(lock.epoch, usegmt=True)}\n"
        f"Architectures: {ARCHITECTURE}\nComponents: main\nSHA256:\n"
        f" {hashlib.sha256(packages).hexdigest()} {len(packages)} main/binary-{ARCHITECTURE}/Packages\n"
    )
