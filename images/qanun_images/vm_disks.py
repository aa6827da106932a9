"""Disks of virtual machines that are off: blank ones, ones over another that is only read, so that many machines share one build,
and files on their start-up partitions.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from qanun_images import tools
from qanun_images.places import MIB


def over(below: Path, target: Path, size_mib: int = 0) -> Path:
    """A disk that holds what `below` holds and keeps its own changes."""
    target.unlink(missing_ok=True)
    kind = "qcow2" if below.suffix == ".qcow2" else "raw"
    size = [f"{size_mib}M"] if size_mib else []
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", below.resolve(), "-F", kind, target, *size], check=True
    )
    return target


def blank(target: Path, size_mib: int) -> Path:
    target.unlink(missing_ok=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", target, f"{size_mib}M"], check=True)
    return target


def give(disk: Path, name: str, content: bytes, work: Path) -> None:
    """Put a file onto the start-up partition of a raw disk that is not running (`name` as `qanun/site.toml`)."""
    work.mkdir(parents=True, exist_ok=True)
    (work / "given").write_bytes(content)
    inside = f"/run/disk@@{MIB}"
    script = f"mmd -i {inside} ::/{Path(name).parent} || true; mcopy -o -i {inside} /run/given ::/{name}"
    binds = {disk: "/run/disk", work / "given": "/run/given"}
    tools.run_in(tools.folder(), ["sh", "-c", script], binds=binds, epoch=0)


def entries(disk: Path) -> list[str]:
    """Boot files on the start-up partition of a raw disk that is not running."""
    said = tools.run_in(
        tools.folder(), ["mdir", "-b", "-i", f"/run/disk@@{MIB}", "::/EFI/Linux"], binds={disk: "/run/disk"}, epoch=0
    )
    return sorted(line.rsplit("/", 1)[-1] for line in said.split())


def taken(disk: Path, name: str, work: Path) -> bytes:
    """A file of the start-up partition of a raw disk that is not running."""
    work.mkdir(parents=True, exist_ok=True)
    found = work / "taken"
    found.write_bytes(b"")
    script = f"mcopy -o -n -i /run/disk@@{MIB} ::/{name} - > /run/taken"
    tools.run_in(tools.folder(), ["sh", "-euc", script], binds={disk: "/run/disk", found: "/run/taken"}, epoch=0)
    return found.read_bytes()
