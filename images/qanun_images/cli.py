"""`images/build`: what a builder types. Exit codes: 0 done, 1 failed, 2 wrong use, 3 the lock is stale."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import bootstrap
from bootstrap import Missing, Steps

from qanun_images import base, disk, lock, release, secure_boot, slot, store, tools, wheels
from qanun_images.places import CACHE, HOME, Stale

_ABOUT = """Makes Qanun's image from debs.lock, wheels.lock and this checkout.

    ./images/build                     slot, boot file, disk (raw and qcow2), installer, into .qanun/image/out
    ./images/build --only slot         the slot and its boot file: what an update consists of
    ./images/build --offline           without any network; everything must have been fetched
    ./images/build fetch               only fetch what the locks name
    ./images/build lock                write debs.lock and tools.lock anew from the machine's package sources
    ./images/build lock --debian       only debs.lock, tools.lock and firmware.lock
    ./images/build lock --wheels       write wheels.lock anew from appliance/locks/runtime.lock
    ./images/build sign OUT --key FILE sign the manifest of a build with an Ed25519 key of your own
"""
STALE = 3


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="images/build", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(run=_build)
    _options(parser)
    commands = parser.add_subparsers(dest="command")
    locking = commands.add_parser("lock", help="write the locks anew")
    only = locking.add_mutually_exclusive_group()
    only.add_argument("--debian", action="store_true", help="only debs.lock, tools.lock and firmware.lock")
    only.add_argument("--wheels", action="store_true", help="only wheels.lock")
    only.add_argument("--firmware", dest="only_firmware", action="store_true", help="only firmware.lock")
    locking.set_defaults(run=_lock)
    commands.add_parser("fetch", help="fetch what the locks name").set_defaults(run=_fetch)
    signing = commands.add_parser("sign", help="sign the manifest of a build")
    signing.add_argument("folder", type=Path)
    signing.add_argument("--key", type=Path, required=True, help="Ed25519 private key (PEM), kept outside the checkout")
    signing.set_defaults(run=_sign)
    options = parser.parse_args(arguments)
    os.umask(0o022)
    bootstrap.check_python()
    try:
        return int(options.run(options))
    except Stale as stale:
        print(f"\n{stale}", file=sys.stderr)
        return STALE
    except Missing as missing:
        print(f"\n{missing}", file=sys.stderr)
        return 1


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=CACHE / "out", help="where the build goes (made anew)")
    parser.add_argument("--only", choices=["slot", "disk"], help="stop after the slot, or after the raw disk")
    parser.add_argument("--offline", action="store_true", help="fail rather than use a network")
    parser.add_argument("--version", help="another version than the distribution's: for tests of updates")
    parser.add_argument("--trust", type=Path, help="public keys whose releases the box takes: base64, one a line")
    parser.add_argument("--secure-boot-key", type=Path, help="RSA key (PEM) that signs what the firmware starts")
    parser.add_argument("--secure-boot-certificate", type=Path, help="its certificate (PEM)")
    parser.add_argument("--sources", type=Path, help="a copy of the sources made before, instead of this checkout")
    parser.add_argument(
        "--firmware", action="store_true", help="also microcode and network cards' firmware, not free software"
    )
    parser.add_argument("--fresh-base", action="store_true", help="make Debian anew although it is kept")
    parser.add_argument("--keep-tree", action="store_true", help="leave the tree that the slot was made from")


def _lock(options: argparse.Namespace) -> int:
    steps = Steps(1 if options.debian or options.wheels or options.only_firmware else 2)
    if options.only_firmware:
        with steps.step("Firmware"):
            lock.write_firmware(steps)
        return 0
    if not options.wheels:
        with steps.step("Debian's packages"):
            lock.write(steps)
            lock.write_firmware(steps)
    if not options.debian:
        with steps.step("Python's wheels"):
            wheels.write(steps)
    print("Look at what changed (git diff images/*.lock), run ./images/verify, and commit.")
    return 0


def _fetch(options: argparse.Namespace) -> int:
    del options
    _fetched(Steps(4), offline=False)
    return 0


def _fetched(steps: Steps, *, offline: bool) -> None:
    with steps.step("Debian's packages"):
        for path in (lock.TOOLS, lock.DEBS):
            store.fetch(lock.read(path).debs, steps, offline=offline)
    with steps.step("Python's wheels"):
        wheels.fetch(steps, offline=offline)
    with steps.step("Tools"):
        tools.make(steps, offline=offline)
    with steps.step("Styles, fonts and icons"):
        if not offline:
            if not bootstrap.PYTHON.exists():
                bootstrap.python_environment(steps, "runtime.lock")
            bootstrap.run([bootstrap.PYTHON, bootstrap.ROOT / "core" / "assets" / "build.py"], on_line=steps.tell)


def _build(options: argparse.Namespace) -> int:
    began = time.monotonic()
    reason = tools.can_enter()
    if reason:
        raise Missing(reason)
    signer = secure_boot.given(options.secure_boot_key, options.secure_boot_certificate)
    HOME.mkdir(parents=True, exist_ok=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    later = {"slot": 1, "disk": 2}.get(options.only, 4)
    steps = Steps(6 + later)
    _fetched(steps, offline=options.offline)
    with steps.step("Debian"):
        base_tar = base.make(steps, offline=options.offline, again=options.fresh_base, firmware=options.firmware)
    folder = options.out.resolve()
    with tempfile.TemporaryDirectory(dir=CACHE) as place:
        sources = options.sources
        if sources is None:
            sources = Path(place) / "sources"
            wheels.copy_sources(sources)
        with steps.step("Slot and boot file"):
            made = slot.build(
                steps,
                folder,
                sources=sources,
                base_tar=base_tar,
                label=options.version,
                trusted=options.trust,
                firmware=options.firmware,
            )
        if options.fresh_base:
            base_tar.unlink()
        unsigned: dict[str, str] = {}
        if signer is not None:
            unsigned = {path.name: release.sha256(path) for path in sorted(folder.glob("*.efi"))}
            secure_boot.sign(made, signer)
        more: list[tuple[str, Callable[[Steps, slot.Slot], object]]] = [
            ("Disk", disk.disk), ("Disk for virtual machines", disk.qcow2), ("Installer", disk.installer),
        ]  # fmt: skip
        for name, make in more[: later - 1]:
            with steps.step(name):
                make(steps, made)
        with steps.step("What is in it, hashes and manifest"):
            release.write(steps, made, sources, unsigned)
    if options.only:
        made.installer_file.unlink()
    for name in ("esp.img", "loader.conf", *(() if options.keep_tree else ("initrd", "vmlinuz"))):
        (folder / name).unlink(missing_ok=True)
    if not options.keep_tree:
        shutil.rmtree(made.tree)
        shutil.rmtree(folder / "wheels")
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    print(f"\nQanun {made.version} is in {folder} ({minutes} min {seconds} s)")
    for path in sorted(folder.iterdir()):
        if path.is_file():
            print(f"  {path.name:<28} {path.stat().st_blocks * 512 / 1e6:8.1f} MB")
    return 0


def _sign(options: argparse.Namespace) -> int:
    release.sign(options.folder, options.key)
    print(f"signed: {options.folder / 'manifest.json.sig'}")
    return 0
