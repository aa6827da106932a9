#!/usr/bin/env python3
"""Puts Qanun onto a disk: from its own stick with a menu, from its stick by a file, or from any rescue system by its options.

Stands alone (Python 3.11, util-linux, dosfstools), because it also runs where nothing of Qanun is yet. It never chooses a
disk by guessing: the stick it came from, disks in use and disks that hold something are refused unless somebody named them.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from install_words import word

MIB = 1024 * 1024
ESP_MIB, SLOT_MIB, LEAST_MIB = 1024, 2048, 8192
_ESP_TYPE = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
_ROOT_TYPE = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"
_LOADER = b"timeout 0\nconsole-mode keep\neditor no\n"
_STICK = "qanun-installer-"
_OURS = re.compile(r"qanun-(root-.*|var|esp)|_qanun-var")
#: What may stand in install.toml.
_KNOWN = {"version", "onto", "replace", "then"}


class Stop(Exception):
    """Nothing more is done; the sentence says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """`holds` says what is on it, for people; `ours` whether that is a Qanun; `busy` why it cannot be used at all."""

    name: str
    path: Path
    size: int
    model: str
    serial: str
    holds: str
    ours: bool
    busy: str

    def called(self, name: str) -> bool:
        """Whether this is what somebody wrote: its name, serial number or path, or a link to it (/dev/disk/by-id/…)."""
        if name.startswith("/"):
            return Path(name).resolve() == self.path
        return bool(name) and name in {self.name, self.serial}


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


@dataclass(slots=True)
class Voice:
    """Where sentences go: this terminal, or every console when nobody was asked; and a note of all of them."""

    language: str = "en"
    consoles: Sequence[Path] = ()
    said: list[str] = field(default_factory=list)

    def say(self, sentence: str, /, **values: object) -> None:
        self.line(word(self.language, sentence).format(**values))

    def line(self, text: str) -> None:
        self.said.append(text)
        if not self.consoles:
            print(text, flush=True)
        for console in self.consoles:
            with contextlib.suppress(OSError), console.open("w", encoding="utf-8") as out:
                out.write(text + "\r\n")

    def ask(self, sentence: str, /, **values: object) -> str:
        try:
            return input(word(self.language, sentence).format(**values) + " ").strip()
        except EOFError:
            raise Stop(word(self.language, "nobody")) from None


def run(*words: object, text: str | None = None) -> str:
    done = subprocess.run([str(one) for one in words], capture_output=True, text=True, input=text, check=False)
    if done.returncode:
        raise Stop(f"{words[0]}: {(done.stderr or done.stdout).strip()[-400:]}")
    return done.stdout


# --- disks -----------------------------------------------------------------------------------------------------------


def disks(not_this: str = "", listed: str | None = None) -> list[Disk]:
    """Every disk of this machine; `not_this` is the name of the one that the installer came from."""
    columns = "NAME,PATH,SIZE,MODEL,SERIAL,TYPE,RO,FSTYPE,LABEL,PARTLABEL,MOUNTPOINTS"
    text = listed if listed is not None else run("lsblk", "--json", "--bytes", "--output", columns)
    found = []
    for entry in json.loads(text)["blockdevices"]:
        if entry["type"] != "disk" or not entry["size"] or re.match(r"(loop|ram|zram|sr|fd|nbd)\d", entry["name"]):
            continue
        parts = list(_below(entry))
        labels = [str(part.get("partlabel") or part.get("label") or part.get("fstype") or "?") for part in parts]
        used = [str(place) for part in (entry, *parts) for place in part.get("mountpoints") or () if place]
        busy = ""
        if entry["name"] == not_this:
            busy = "stick"
        elif entry["ro"]:
            busy = "read-only"
        elif used or any(part["type"] not in {"part", "disk"} for part in parts):
            busy = "in-use"
        elif int(entry["size"]) < LEAST_MIB * MIB:
            busy = "small"
        found.append(Disk(
            name=entry["name"], path=Path(entry["path"]), size=int(entry["size"]), model=(entry.get("model") or "").strip(),
            serial=(entry.get("serial") or "").strip(), holds=", ".join(labels) or str(entry.get("fstype") or ""),
            ours=any(_OURS.fullmatch(str(part.get("partlabel") or "")) for part in parts), busy=busy,
        ))  # fmt: skip
    return found


def _below(entry: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for child in entry.get("children") or ():
        yield child
        yield from _below(child)


def chosen(found: Sequence[Disk], onto: str, replace: str, language: str = "en") -> Disk:
    """The disk that is meant. Raises Stop for every doubt: none, several, in use, or holding something nobody named."""

    def stop(sentence: str, /, **values: object) -> Stop:
        return Stop(word(language, sentence).format(**values))

    if onto == "only":
        free = [disk for disk in found if not disk.busy]
        if len(free) != 1:
            raise stop("not-one", count=len(free))
        disk = free[0]
    else:
        named = [disk for disk in found if disk.called(onto)]
        if len(named) != 1:
            raise stop("no-such", name=onto)
        disk = named[0]
    if disk.busy:
        raise stop(f"busy-{disk.busy}", name=disk.name, least=LEAST_MIB // 1024)
    if disk.holds and not disk.called(replace):
        raise stop("holds-qanun" if disk.ours else "holds", name=disk.name, what=disk.holds)
    return disk


# --- writing ---------------------------------------------------------------------------------------------------------


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


# --- where it came from ----------------------------------------------------------------------------------------------


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


def stick() -> tuple[str, Path, Path]:
    """(the stick's name, its slot, its start-up partition): the disk that this system was started from."""
    words = Path("/proc/cmdline").read_text(encoding="ascii", errors="replace").split()
    label = next((one.partition("=")[2] for one in words if one.startswith("qanun.slot=")), "")
    if not label.startswith(_STICK):
        raise Stop("this system was not started from the installer's stick; --release names the folder of a release")
    slot = Path(f"/dev/disk/by-partlabel/{label}").resolve()
    name = run("lsblk", "--noheadings", "--nodeps", "--output", "PKNAME", slot).strip()
    nodes = json.loads(run("sfdisk", "--json", f"/dev/{name}"))["partitiontable"]["partitions"]
    return name, slot, Path(nodes[0]["node"])


def wishes(path: Path) -> dict[str, str]:
    """install.toml. Raises Stop naming the field."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise Stop(f"install.toml: {error}") from None
    unknown = sorted(set(table) - _KNOWN)
    if unknown:
        raise Stop(f"install.toml: {unknown[0]} is not known; look for a typing mistake")
    if table.get("version") != 1:
        raise Stop("install.toml: version must be 1")
    for name in _KNOWN - {"version"}:
        if not isinstance(table.get(name, ""), str):
            raise Stop(f"install.toml: {name} must be a text")
    if not table.get("onto"):
        raise Stop('install.toml: onto names the disk (its name, serial number or path), or says "only"')
    if table.get("then", "poweroff") not in {"poweroff", "reboot", "stay"}:
        raise Stop("install.toml: then must be poweroff, reboot or stay")
    return {name: str(value) for name, value in table.items()}


def judge(site: Path) -> None:
    """Raises Stop when the site file has faults: on the machine itself they would only show where nobody can mend them."""
    python = Path("/opt/qanun/bin/python")
    if not python.exists():
        return
    ask = "import sys,pathlib; from qanun_appliance.site import load_site; load_site(pathlib.Path(sys.argv[1]))"
    done = subprocess.run([python, "-I", "-c", ask, site], capture_output=True, text=True, check=False)
    if done.returncode:
        _, _, faults = done.stderr.partition("site.toml cannot be used:")
        raise Stop("site.toml cannot be used:" + (faults.rstrip() or f" {done.stderr.strip()[-300:]}"))


# --- the three ways --------------------------------------------------------------------------------------------------


def by_hand(source: Source, name: str, voice: Voice) -> Disk:
    """Ask until one disk is meant; its name is typed twice."""
    voice.say("welcome", version=source.version)
    voice.say("site-there" if source.site is not None else "site-missing")
    while True:
        found = disks(name)
        voice.say("disks")
        for disk in found:
            about = (
                word(voice.language, f"is-{disk.busy}") if disk.busy else disk.holds or word(voice.language, "is-empty")
            )
            voice.line(f"  {disk.name:<10} {disk.size / 1e9:8.1f} GB  {disk.model} {disk.serial}  [{about}]")
        typed = voice.ask("which")
        if not typed:
            continue
        try:
            disk = chosen(found, typed, typed, voice.language)
            if voice.ask("sure", name=disk.name, what=disk.holds or "—") == disk.name:
                return disk
            voice.say("not-sure")
        except Stop as stop:
            voice.line(str(stop))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="install.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="say which disks there are, as JSON, and do nothing")
    parser.add_argument(
        "--release", type=Path, help="a folder with manifest.json, slot.img, boot file, systemd-bootx64.efi"
    )
    parser.add_argument("--site", type=Path, help="the machine's site.toml")
    parser.add_argument("--onto", default="", help='the disk: name, serial number or path; or "only"')
    parser.add_argument("--replace", default="", help="the same once more, when the disk holds something")
    parser.add_argument("--console", default="", help="started from the stick: the terminal that this is")
    options = parser.parse_args(arguments)
    voice = Voice()
    try:
        if options.list:
            print(json.dumps([{"name": disk.name, "size": disk.size, "model": disk.model, "serial": disk.serial,
                               "holds": disk.holds, "qanun": disk.ours, "busy": disk.busy} for disk in disks()]))  # fmt: skip
            return 0
        if options.release:
            source = source_of(options.release, options.site)
            disk = chosen(disks(), options.onto, options.replace)
            if options.site:
                judge(options.site)
            put(source, disk, voice)
            voice.say("done", name=disk.name)
            return 0
        return _from_stick(options.console, voice)
    except Stop as stop:
        voice.say("stopped", why=stop)
        return 1


def _from_stick(console: str, voice: Voice) -> int:
    name, slot, partition = stick()
    with mounted(partition) as place, _alone(console) as first:
        folder = place / "qanun"
        site = folder / "site.toml"
        unasked = folder / "install.toml"
        if not unasked.exists():
            source = source_of(folder, site if site.exists() else None, slot)
            if site.exists():
                judge(site)
            # A line with a terminal at its end draws Arabic, the machine's own screen does not.
            if console.startswith("ttyS"):
                voice.language = "ar" if voice.ask("language") == "2" else "en"
            else:
                voice.say("no-arabic-here")
            disk = by_hand(source, name, voice)
            _once(first)
            put(source, disk, voice)
            _tell_next(voice, source)
            voice.ask("press")
            _end("reboot")
            return 0
        if not first():
            return 0
        voice.consoles = _consoles()
        then = "stay"
        try:
            wanted = wishes(unasked)
            if site.exists():
                judge(site)
            source = source_of(folder, site if site.exists() else None, slot)
            disk = chosen(disks(name), wanted["onto"], wanted.get("replace", ""))
            put(source, disk, voice)
            _tell_next(voice, source)
            # The next start from this stick must not begin again.
            unasked.replace(folder / "install.done.toml")
            then = wanted.get("then", "poweroff")
        except Stop as stop:
            voice.say("stopped", why=stop)
        (folder / "install.log").write_text("\n".join(voice.said) + "\n", encoding="utf-8")
    _end(then)
    return 0


def _once(first: Callable[[], bool]) -> None:
    if not first():
        raise Stop("another console is installing already")


@contextlib.contextmanager
def _alone(console: str) -> Iterator[Callable[[], bool]]:
    """Gives a function: whether this is the one console that installs."""
    with Path("/run/qanun-install.lock").open("w") as lock:

        def first() -> bool:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            lock.write(console)
            return True

        yield first


def _consoles() -> list[Path]:
    active = Path("/sys/class/tty/console/active").read_text(encoding="ascii").split()
    return [Path("/dev") / name for name in active]


def _tell_next(voice: Voice, source: Source) -> None:
    voice.say("next")
    if source.site is not None:
        names = tomllib.loads(source.site.decode()).get("hosts", {}).get("names", [])
        voice.say("open", name=names[0] if names else "?")
    else:
        voice.say("later")


def _end(then: str) -> None:
    os.sync()
    if then in {"poweroff", "reboot"}:
        subprocess.run(["systemctl", "--no-block", then], check=False)


if __name__ == "__main__":
    sys.exit(main())
