#!/usr/bin/env python3
"""Puts Qanun onto a disk: from its own stick with a menu, from its stick by a file, or from any rescue system by its options.

Stands alone with the files beside it (Python 3.11, util-linux, dosfstools), because it also runs where nothing of Qanun is yet.
Which disk may be taken is judged in `install_disks`; what is written, in `install_writing`.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from install_disks import Disk, chosen, disks, run
from install_words import Stop, Voice, word
from install_writing import Source, mounted, put, source_of

_STICK = "qanun-installer-"
#: What may stand in install.toml.
_KNOWN = {"version", "onto", "replace", "then"}


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
    parser.add_argument("--judge", action="store_true", help="only say whether --onto may be taken and --site is right")
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
        if options.judge:
            chosen(disks(), options.onto, options.replace)
            if options.site:
                judge(options.site)
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
