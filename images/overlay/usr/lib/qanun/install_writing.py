"""Puts a release onto a disk: partitions, the slot, what is read back of it, and last what starts it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from install_disks import MIB, Disk, run
from install_words import Stop, Voice, word

ESP_MIB, SLOT_MIB = 1024, 2048
_ESP_TYPE = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
_ROOT_TYPE = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"
_LOADER = b"timeout 0\nconsole-mode keep\neditor no\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is put onto the disk: `slot` is a file or a partition of which `size` bytes count."""

    version: str
    slot: Path
    size: int
    sha256: str
    boot_file: Path
    boot_sha256: str
    loader: Path
    site: bytes | None = None


def source_of(folder: Path, site: Path | None, slot: Path | None = None) -> Source:
    """A release from the folder with its manifest; `slot` is where its root lies when it is not beside it."""
    try:
        table = json.loads((folder / "manifest.json").read_bytes())
        version, files = str(table["version"]), table["files"]
        boot = f"qanun_{version}.efi"
        return Source(
            version=version, slot=slot or folder / "slot.img", size=int(files["slot.img"]["size"]),
            sha256=files["slot.img"]["sha256"], boot_file=folder / boot, boot_sha256=files[boot]["sha256"],
            loader=folder / "systemd-bootx64.efi", site=site.read_bytes() if site else None,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Stop(f"{folder}: {type(error).__name__}: {error}") from None


def put(source: Source, disk: Disk, voice: Voice) -> None:
    """The disk gets its partitions, the slot and, last, what starts it. Raises Stop; then the disk does not start."""
    voice.say("partitions", name=disk.name)
    run("wipefs", "--all", "--force", "--quiet", disk.path)
    table = (
        f"label: gpt\nfirst-lba: {2048}\nsize={ESP_MIB}MiB, type={_ESP_TYPE}, name=qanun-esp\n"
        f"size={SLOT_MIB}MiB, type={_ROOT_TYPE}, name=_updating\nsize={SLOT_MIB}MiB, type={_ROOT_TYPE}, name=_empty\n"
    )
    run("sfdisk", "--quiet", "--wipe", "always", "--wipe-partitions", "always", disk.path, text=table)
    subprocess.run(["udevadm", "settle", "--timeout=30"], check=False, capture_output=True)
    esp, slot = (Path(node) for node in _nodes(disk)[:2])
    if _copy(source.slot, slot, source.size, voice) != source.sha256:
        raise Stop(word(voice.language, "bad-source"))
    voice.say("reading-back")
    if _digest(slot, source.size) != source.sha256:
        raise Stop(word(voice.language, "bad-disk").format(name=disk.name))
    run("sfdisk", "--quiet", "--no-reread", "--force", "--part-label", disk.path, 2, f"qanun-root-{source.version}")
    voice.say("start-up")
    run("mkfs.vfat", "-F", "32", "-n", "QANUN-ESP", esp)
    with mounted(esp) as place:
        _start_up(source, place, voice)
    os.sync()
    _announce(disk)


def _nodes(disk: Disk) -> list[str]:
    return [part["node"] for part in json.loads(run("sfdisk", "--json", disk.path))["partitiontable"]["partitions"]]


def _copy(source: Path, target: Path, size: int, voice: Voice) -> str:
    """The hash of what was read."""
    digest, done, shown = hashlib.sha256(), 0, -1
    with source.open("rb") as reading, target.open("r+b") as writing:
        while done < size:
            block = reading.read(min(4 * MIB, size - done))
            if not block:
                break
            digest.update(block)
            writing.write(block)
            done += len(block)
            if done * 10 // size > shown:
                shown = done * 10 // size
                voice.say("copied", percent=shown * 10)
        writing.flush()
        os.fsync(writing.fileno())
    return digest.hexdigest()


def _digest(path: Path, size: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as source:
        # The disk is read, not our memory of what was written.
        os.posix_fadvise(source.fileno(), 0, size, os.POSIX_FADV_DONTNEED)
        left = size
        while left and (block := source.read(min(4 * MIB, left))):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()


def _start_up(source: Source, esp: Path, voice: Voice) -> None:
    loader = source.loader.read_bytes()
    files = {"EFI/BOOT/BOOTX64.EFI": loader, "EFI/systemd/systemd-bootx64.efi": loader, "loader/loader.conf": _LOADER}
    if source.site is not None:
        files["qanun/site.toml"] = source.site
    boot = source.boot_file.read_bytes()
    if hashlib.sha256(boot).hexdigest() != source.boot_sha256:
        raise Stop(word(voice.language, "bad-source"))
    # The way into the slot comes last.
    files[f"EFI/Linux/qanun_{source.version}+3.efi"] = boot
    for name, content in files.items():
        path = esp / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    for name, content in files.items():
        if (esp / name).read_bytes() != content:
            raise Stop(word(voice.language, "bad-disk").format(name=str(esp)))


@contextlib.contextmanager
def mounted(partition: Path, options: str = "umask=0077") -> Iterator[Path]:
    place = Path(f"/run/qanun-install-{partition.name}")
    place.mkdir(exist_ok=True)
    subprocess.run(["modprobe", "-q", "-a", "vfat", "nls_ascii", "nls_cp437"], check=False, capture_output=True)
    run("mount", "-t", "vfat", "-o", options, partition, place)
    try:
        yield place
    finally:
        run("umount", place)


def _announce(disk: Disk) -> None:
    """An entry in the firmware, so that the machine starts from its disk although a stick is in it. Without one, the
    firmware finds the disk by itself, as it finds a stick."""
    if Path("/sys/firmware/efi").is_dir():
        subprocess.run(
            ["mount", "-t", "efivarfs", "efivarfs", "/sys/firmware/efi/efivars"], check=False, capture_output=True
        )
        subprocess.run(
            ["efibootmgr", "--quiet", "--create", "--disk", disk.path, "--part", "1", "--label", "Qanun", "--loader",
             r"\EFI\systemd\systemd-bootx64.efi"], check=False, capture_output=True,
        )  # fmt: skip
