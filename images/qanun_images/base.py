"""Debian as the lock names it, as a tar: made by mmdebstrap from the store without a network, kept by the hash of what it is made from."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from bootstrap import Steps

from qanun_images import lock, repository, store, tools
from qanun_images.places import CACHE, HERE, RELEASE

_RECIPE = "4"

# Packages that make accounts find theirs; PostgreSQL makes no cluster (each box makes its own), and keeps looking into conf.d.
_BEFORE_PACKAGES = r"""
root=$1
while read -r kind name id rest; do
    case $kind in
    group) echo "$name:x:$id:" >> "$root/etc/group"; echo "$name:!::" >> "$root/etc/gshadow" ;;
    esac
done < /in/accounts.txt
while read -r kind name id group home shell description; do
    case $kind in
    user) gid=$(sed -n "s/^$group:x:\([0-9]*\):.*/\1/p" "$root/etc/group")
          echo "$name:x:$id:$gid:$description:$home:$shell" >> "$root/etc/passwd"
          echo "$name:!*:$DAY::::::" >> "$root/etc/shadow" ;;
    esac
done < /in/accounts.txt
mkdir -p "$root/etc/postgresql-common"
printf "create_main_cluster = false\nadd_include_dir = 'conf.d'\n" > "$root/etc/postgresql-common/createcluster.conf"
# No service starts while packages are set up, whoever asks.
printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
# The start-up file system is made once, at the end, not with every package.
ln -s /bin/true "$root/usr/local/sbin/update-initramfs"
"""
# What differs from build to build, or must never be the same on two boxes.
_AFTER_PACKAGES = r"""
root=$1
rm -f "$root"/usr/local/sbin/update-initramfs "$root"/usr/sbin/policy-rc.d "$root"/etc/ssh/ssh_host_* "$root"/etc/ssl/private/ssl-cert-snakeoil.key "$root"/etc/ssl/certs/ssl-cert-snakeoil.pem
find "$root/etc/ssl/certs" -xtype l -delete
rm -rf "$root"/var/cache/debconf "$root"/var/cache/apt "$root"/var/cache/ldconfig "$root"/var/cache/fontconfig "$root"/var/log/* "$root"/etc/*- "$root"/var/lib/dpkg/*-old
rm -rf "$root"/boot/initrd* "$root"/var/lib/systemd/random-seed "$root"/etc/apt/sources.list "$root"/etc/resolv.conf
: > "$root/etc/machine-id"
rm -rf "$root"/usr/lib/python3/dist-packages/ansible_test "$root"/usr/bin/*telnet*
"""


def _patterns() -> list[str]:
    kinds = {"-": "path-exclude", "+": "path-include"}
    lines = [line.split(" ", 1) for line in lock.names(HERE / "not-wanted.txt")]
    return [f"--dpkgopt={kinds[sign]}={pattern}" for sign, pattern in lines]


def place(*, firmware: bool = False) -> Path:
    locks = (lock.DEBS, lock.TOOLS, *((lock.FIRMWARE,) if firmware else ()))
    parts = [path.read_bytes() for path in (*locks, HERE / "accounts.txt", HERE / "not-wanted.txt")]
    parts += [_BEFORE_PACKAGES.encode(), _AFTER_PACKAGES.encode(), _RECIPE.encode()]
    digest = hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
    return CACHE / f"base-{digest[:16]}.tar"


def make(steps: Steps, *, offline: bool = False, again: bool = False, firmware: bool = False) -> Path:
    """Returns the tar, made if need be (a minute). `again` makes one beside the kept one, for comparing."""
    target = place(firmware=firmware)
    if target.exists() and not again:
        return target
    debs = lock.of_box(firmware=firmware)
    store.fetch(debs.debs, steps, offline=offline)
    bench = tools.make(steps, offline=offline)
    CACHE.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="base-", dir=CACHE))
    try:
        repository.lay_out(debs, work / "repository")
        for name, text in (("before", _BEFORE_PACKAGES), ("after", _AFTER_PACKAGES)):
            (work / name).write_text("set -eu\n" + text)
        shutil.copy(HERE / "accounts.txt", work / "accounts.txt")
        total, seen = 2 * len(debs.debs), 0

        def count(line: str) -> None:
            nonlocal seen
            if line.startswith(("Unpacking ", "Setting up ")):
                seen += 1
                steps.tell(f"Debian: {min(seen, total) * 100 // total} %")
            elif line.startswith("I: "):
                steps.tell(line[3:])

        command = [
            "mmdebstrap", "--verbose", "--variant=essential", "--mode=root", "--format=tar",
            '--aptopt=APT::Install-Recommends "false"', *_patterns(),
            "--essential-hook=sh /in/before \"$1\"", "--customize-hook=sh /in/after \"$1\"",
            "--include=" + ",".join(deb.name for deb in debs.debs),
            RELEASE, "/in/base.tar", f"deb [trusted=yes] copy:/in/repository {RELEASE} main",
        ]  # fmt: skip
        tools.run_in(
            bench, command, binds={work: "/in"}, epoch=debs.epoch, more={"DAY": str(debs.epoch // 86400)}, on_line=count
        )
        if again:
            target = Path(tempfile.mkstemp(prefix="again-", suffix=".tar", dir=CACHE)[1])
        else:
            for old in CACHE.glob("base-*.tar"):
                if old not in {place(), place(firmware=lock.FIRMWARE.exists())}:
                    old.unlink()
        os.replace(work / "base.tar", target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target
