"""The disk that a machine starts from: slot and boot file in their partitions.

No loop device and no mount: every partition is written as a file and copied to its place. The disk ends with room for the
encrypted partition that the box makes on its first start; nothing of it is in here.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from bootstrap import Steps

from qanun_images import tools
from qanun_images.places import DISK_MIB, ESP_MIB, MIB, SLOT_MIB, STICK_ESP_MIB
from qanun_images.slot import LOADER, Slot, identity

_ESP_TYPE = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
_ROOT_TYPE = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"
_LOADER = b"timeout 0\nconsole-mode keep\neditor no\n"
_SECTORS = MIB // 512


def disk(steps: Steps, slot: Slot) -> Path:
    """`disk.raw`: the release in slot A, slot B empty. Sparse; 8 GiB, to be copied onto something larger."""
    steps.tell("the disk")
    boot = f"EFI/Linux/qanun_{slot.version}+3.efi"
    partitions = [
        ("qanun-esp", _ESP_TYPE, ESP_MIB),
        (f"qanun-root-{slot.version}", _ROOT_TYPE, SLOT_MIB),
        ("_empty", _ROOT_TYPE, SLOT_MIB),
    ]
    esp = _esp(slot, "esp.img", ESP_MIB, {boot: slot.boot_file})
    return _assemble(slot, "disk.raw", DISK_MIB, partitions, {0: esp, 1: slot.image})


def qcow2(steps: Steps, slot: Slot) -> Path:
    """The disk for virtual machines, compressed."""
    steps.tell("the disk for virtual machines")
    command = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", "-m", "1", "/out/disk.raw", "/out/disk.qcow2"]
    tools.run_in(tools.folder(), command, binds={slot.folder: "/out"}, epoch=slot.epoch)
    return slot.folder / "disk.qcow2"


def installer(steps: Steps, slot: Slot) -> Path:
    """`installer.raw`, for a USB stick: the slot itself with a boot file that starts its installer, and what the installer
    puts beside the slot on the disk. A person adds `qanun/site.toml`, and `qanun/install.toml` to be asked nothing.
    """
    steps.tell("the installer's stick")
    size = -(-slot.image.stat().st_size // MIB)
    partitions = [("qanun-stick", _ESP_TYPE, STICK_ESP_MIB), (f"qanun-installer-{slot.version}", _ROOT_TYPE, size)]
    content = {"slot.img": slot.image, slot.boot_file.name: slot.boot_file}
    files = {name: {"sha256": _sha256(path), "size": path.stat().st_size} for name, path in content.items()}
    manifest = slot.folder / "installer.json"
    manifest.write_text(json.dumps({"version": slot.version, "files": files}, indent=1, sort_keys=True) + "\n")
    esp = _esp(slot, "stick.img", STICK_ESP_MIB, {
        f"EFI/Linux/{slot.installer_file.name}": slot.installer_file,
        f"qanun/{slot.boot_file.name}": slot.boot_file, "qanun/manifest.json": manifest,
        f"qanun/{LOADER}": slot.folder / LOADER,
    })  # fmt: skip
    made = _assemble(slot, "installer.raw", 1 + STICK_ESP_MIB + size + 1, partitions, {0: esp, 1: slot.image})
    esp.unlink()
    manifest.unlink()
    return made


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _esp(slot: Slot, name: str, size: int, files: Mapping[str, Path]) -> Path:
    """A FAT32 image with the boot loader and `files` (path inside → file)."""
    image = slot.folder / name
    image.unlink(missing_ok=True)
    with image.open("wb") as made:
        made.truncate(size * MIB)
    loader = slot.folder / "loader.conf"
    loader.write_bytes(_LOADER)
    wanted = {
        "EFI/BOOT/BOOTX64.EFI": f"/out/{LOADER}",
        f"EFI/systemd/{LOADER}": f"/out/{LOADER}",
        "loader/loader.conf": "/out/loader.conf",
    }
    wanted |= {inside: f"/out/{path.name}" for inside, path in files.items()}
    folders = sorted({str(parent) for inside in wanted for parent in Path(inside).parents if str(parent) != "."})
    script = [
        "set -eu",
        f"mkfs.vfat -F 32 -n QANUN-ESP -i {identity(f'{name} {slot.version}')[:8]} --invariant /out/{name} > /dev/null",
    ]
    for path in {str(path) for path in files.values()} | {str(loader), str(slot.folder / LOADER)}:
        os.utime(path, (slot.epoch, slot.epoch))
    script += [f"mmd -i /out/{name} ::/{folder}" for folder in folders]
    for inside, source in sorted(wanted.items()):
        script.append(f"mcopy -m -i /out/{name} {source} ::/{inside}")
    tools.run_in(tools.folder(), ["sh", "-c", "\n".join(script)], binds={slot.folder: "/out"}, epoch=slot.epoch)
    return image


def _assemble(
    slot: Slot, name: str, size: int, partitions: list[tuple[str, str, int]], contents: Mapping[int, Path]
) -> Path:
    """A GPT disk of `size` MiB with `partitions` (label, type, MiB) from the first MiB on, and what is in them."""
    target = slot.folder / name
    target.unlink(missing_ok=True)
    with target.open("wb") as made:
        made.truncate(size * MIB)
    lines = ["label: gpt", f"label-id: {identity(f'{name} {slot.version}')}", f"first-lba: {_SECTORS}"]
    starts: list[int] = []
    start = 1
    for label, kind, length in partitions:
        ident = identity(f"{name} {slot.version} {len(starts)}")
        lines.append(f'start={start * _SECTORS}, size={length * _SECTORS}, type={kind}, name="{label}", uuid={ident}')
        starts.append(start)
        start += length
    table = slot.folder / "table"
    table.write_text("\n".join(lines) + "\n")
    tools.run_in(
        tools.folder(),
        ["sh", "-c", f"sfdisk --quiet /out/{name} < /out/table"],
        binds={slot.folder: "/out"},
        epoch=slot.epoch,
    )
    table.unlink()
    for number, content in contents.items():
        if content.stat().st_size > partitions[number][2] * MIB:
            raise ValueError(f"{content.name} does not fit into {partitions[number][0]}")
        _copy_into(content, target, starts[number] * MIB)
    return target


def _copy_into(source: Path, target: Path, offset: int) -> None:
    """Copy to an offset, leaving zeros out: the file stays as small as what is in it."""
    with source.open("rb") as read, target.open("r+b") as write:
        position = 0
        while block := read.read(MIB):
            if block.strip(b"\0"):
                write.seek(offset + position)
                write.write(block)
            position += len(block)
