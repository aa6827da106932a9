"""A stock Debian 13 server for the tests: a tree of the machine's own package sources, started by systemd-nspawn, with SSH.

The tree is what a person has after installing Debian: an administrator's key, Python, no package of ours. Its package
source is a folder that is bound into it, so that a test needs no network once the tree is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import bootstrap
import yaml
from bootstrap import Missing, Steps
from qanun_images import lock, repository, sources, store, tools

KEPT = bootstrap.HOME / "ansible"
_STOCK = (
    "systemd-sysv", "systemd-timesyncd", "dbus", "libpam-systemd", "openssh-server", "python3", "python3-apt", "apt",
    "ca-certificates", "debian-archive-keyring", "iproute2", "procps", "netbase", "tzdata", "sudo",
)  # fmt: skip
#: What the playbooks ask the server's package source for.
_WANTED = tuple(
    yaml.safe_load((Path(__file__).parent.parent / "roles/packages/vars/main.yml").read_text())["packages_wanted"]
)
_RECIPE = "3"
_NAME, _HERE, _THERE = "qanun-ans", "10.79.77.1", "10.79.77.2"
_BEFORE = """set -eu
printf '#!/bin/sh\\nexit 101\\n' > "$1/usr/sbin/policy-rc.d"; chmod 755 "$1/usr/sbin/policy-rc.d"
"""
_AFTER = """set -eu
root=$1
rm -f "$root"/usr/sbin/policy-rc.d "$root"/etc/ssh/ssh_host_*
echo 'deb [trusted=yes] file:/srv/packages trixie main' > "$root/etc/apt/sources.list"
rm -rf "$root"/etc/apt/sources.list.d/*
: > "$root/etc/machine-id"
echo clinic-server > "$root/etc/hostname"
printf '127.0.0.1 localhost clinic-server\\n' > "$root/etc/hosts"
printf '[Match]\\nName=host0\\n[Network]\\nAddress=HERE/30\\nGateway=GATE\\nLinkLocalAddressing=no\\nLLMNR=no\\nMulticastDNS=no\\n' > "$root/etc/systemd/network/10-test.network"
chroot "$root" systemctl enable systemd-networkd.service ssh.service
chroot "$root" systemctl mask systemd-networkd-wait-online.service
"""


def why_not() -> str:
    """Why this machine cannot start a server of its own; empty when it can."""
    reason = tools.can_enter()
    if reason:
        return reason.replace("making an image", "starting a server of its own")
    for program in ("systemd-nspawn", "ssh", "ssh-keygen", "ip", "setpriv"):
        if not shutil.which(program):
            return f"{program} is not installed here"
    tried = subprocess.run(
        ["unshare", "--net", "ip", "link", "add", "name", "v0", "type", "veth"], capture_output=True, check=False
    )
    return "" if tried.returncode == 0 else "this machine's kernel has no virtual network cards"


def tree() -> Path:
    """The folder with the server's `tree` and its package source `packages`, made anew when what they are made of changed.

    Raises Missing.
    """
    steps = Steps(1)
    recipe = "\0".join((*_STOCK, *_WANTED, _RECIPE, _BEFORE, _AFTER, lock.DEBS.read_text(), lock.TOOLS.read_text()))
    place = KEPT / f"server-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"
    if (place / "complete").exists():
        return place
    with steps.step("A stock Debian 13 server"):
        sources.update(steps)
        stock = sources.resolve(_STOCK)
        # Resolved apart: what is wanted may push out what is there (one keeper of time replaces another).
        all_of_it = {deb.name: deb for deb in (*sources.resolve([*_WANTED, "systemd-sysv"]), *stock)}
        store.fetch(list(all_of_it.values()), steps)
        bench = tools.make(steps)
        for old in KEPT.glob("server-*"):
            shutil.rmtree(old)
        KEPT.mkdir(parents=True, exist_ok=True)
        place.mkdir()
        epoch = sources.newest_release()
        repository.lay_out(lock.Lock(epoch, tuple(all_of_it.values())), place / "packages")
        with tempfile.TemporaryDirectory(dir=KEPT) as work:
            (Path(work) / "before").write_text(_BEFORE)
            (Path(work) / "after").write_text(_AFTER.replace("HERE", _THERE).replace("GATE", _HERE))
            command = [
                "mmdebstrap", "--variant=essential", "--mode=root", "--format=tar", '--aptopt=APT::Install-Recommends "false"',
                '--essential-hook=sh /in/before "$1"', '--customize-hook=sh /in/after "$1"',
                "--include=" + ",".join(deb.name for deb in stock),
                "trixie", "/out/tree.tar", "deb [trusted=yes] copy:/packages trixie main",
            ]  # fmt: skip
            tools.run_in(
                bench, command, binds={Path(work): "/in", place / "packages": "/packages", place: "/out"}, epoch=epoch,
                on_line=steps.tell,
            )  # fmt: skip
        (place / "tree").mkdir(mode=0o755)
        bootstrap.run(
            [
                "tar",
                "-xpf",
                place / "tree.tar",
                "-C",
                place / "tree",
                "--numeric-owner",
                "--xattrs",
                "--xattrs-include=*",
            ]
        )
        (place / "tree.tar").unlink()
        (place / "complete").write_text("")
    return place


@dataclass(slots=True)
class Server:
    """A running server. `address` is where it listens, `key` an SSH key of its administrator."""

    address: str
    key: Path
    known_hosts: Path

    def ssh(self, command: str, *, check: bool = True, text: str = "") -> str:
        """Run a command line there; returns what it printed."""
        words = ["ssh", "-i", str(self.key), "-o", f"UserKnownHostsFile={self.known_hosts}", "-o", "BatchMode=yes",
                 "-o", "ControlMaster=auto", "-o", "ControlPersist=60", "-o", f"ControlPath={self.key.parent}/c-%C",
                 f"root@{self.address}", command]  # fmt: skip
        done = subprocess.run(words, capture_output=True, text=True, check=False, input=text, timeout=300)
        if check and done.returncode:
            raise AssertionError(f"{command!r} said {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout


#: In namespaces of its own, and ended with whoever started it: nothing of it outlives a test that was killed.
_START = """
[ "$3" = memory ] && mount -t tmpfs -o size=10g,mode=0755 tmpfs "$2/server"
cp -a "$1/tree/." "$2/server/"
mkdir -p -m 700 "$2/server/root/.ssh"
install -m 600 "$2/key.pub" "$2/server/root/.ssh/authorized_keys"
install -m 600 "$2/host" "$2/server/etc/ssh/ssh_host_ed25519_key"
exec systemd-nspawn -q -D "$2/server" -M "$4" --boot --register=no --keep-unit --network-veth --link-journal=no \\
    --console=pipe "--bind-ro=$1/packages:/srv/packages" --resolv-conf=off --timezone=off
"""
_MEMORY_KB = 12_000_000


@contextlib.contextmanager
def started(folder: Path) -> Iterator[Server]:
    """A fresh server in `folder`, up with SSH answering; gone at the end. One at a time on a machine.

    Its disk is in memory where there is plenty: what is tried here is not the disk's patience.
    """
    place = tree()
    (folder / "server").mkdir(mode=0o755)
    for name in ("key", "host"):
        bootstrap.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "tests", "-f", folder / name])
    known = folder / "known_hosts"
    known.write_text(f"{_THERE} {(folder / 'host.pub').read_text()}")
    free = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
    disk = "memory" if int(free.split()[1]) > _MEMORY_KB else "disk"
    console = folder / "console"
    with console.open("wb") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child",
             "--mount-proc", "sh", "-uc", _START, "sh", place, folder, disk, _NAME],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        _connect(process, console)
        _wait_for_ssh(process, console)
        yield Server(_THERE, folder / "key", known)
    finally:
        # Nothing of it is wanted any more: its power is cut. The kernel ends what ran in it.
        process.kill()
        process.wait(60)
        shutil.rmtree(folder / "server", ignore_errors=True)


def _connect(process: subprocess.Popen[bytes], console: Path) -> None:
    card = f"ve-{_NAME}"[:15]
    deadline = time.monotonic() + 120
    while not os.path.exists(f"/sys/class/net/{card}"):
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"the server does not start: {console.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)
    bootstrap.run(["ip", "address", "add", f"{_HERE}/30", "dev", card])
    bootstrap.run(["ip", "link", "set", card, "up"])


def _wait_for_ssh(process: subprocess.Popen[bytes], console: Path) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((_THERE, 22), timeout=1) as line:
            line.settimeout(2)
            if line.recv(4) == b"SSH-":
                return
        time.sleep(0.1)
    raise AssertionError(f"SSH does not answer: {console.read_text(errors='replace')[-2000:]}")


__all__ = ["Missing", "Server", "started", "tree", "why_not"]
