"""`images/verify`: builds twice, as differently as one machine can, and compares byte for byte.

The second build varies the place of its files, umask, time zone, language, host name, processors and, with --full, makes
Debian anew as well and runs without any network. `--against` compares with a build of somebody else's.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bootstrap import Missing

from qanun_images import compare, tools, wheels
from qanun_images.cli import STALE
from qanun_images.places import CACHE, HERE

COMPARED = ("slot.img", "*.efi", "disk.raw", "disk.qcow2", "installer.raw", "sbom.cdx.json", "manifest.json")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="images/verify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--full", action="store_true", help="make Debian anew, too, and build a third time without a network"
    )
    parser.add_argument("--only", choices=["slot", "disk"], help="as for ./images/build")
    parser.add_argument("--against", type=Path, help="the folder of another build: one build here, compared with it")
    parser.add_argument("--keep", type=Path, help="keep the first build here")
    options = parser.parse_args(arguments)
    reason = tools.can_enter()
    if reason:
        print(reason, file=sys.stderr)
        return 1
    CACHE.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="verify-", dir=CACHE) as place:
        try:
            return _verify(options, Path(place), began)
        except Missing as missing:
            print(f"\n{missing}", file=sys.stderr)
            return 1
        except subprocess.CalledProcessError as failed:
            return STALE if failed.returncode == STALE else 1


def _verify(options: argparse.Namespace, place: Path, began: float) -> int:
    # Others may be writing in this checkout: all builds are made from one copy.
    _run("fetching", [HERE / "build", "fetch"], {})
    sources = place / "sources"
    wheels.copy_sources(sources)
    only = ["--only", options.only] if options.only else []
    common = [HERE / "build", "--sources", sources, "--keep-tree", *only]
    first = options.keep.resolve() if options.keep else place / "first"
    _run("first build", [*common, "--out", first, *(["--fresh-base"] if options.full else [])], {})
    if options.against:
        return _judge(first, options.against.resolve(), "the other build", began)
    second = place / "another folder with a longer name" / "zweiter Bau"
    second.parent.mkdir()
    _run("second build, varied", ["unshare", "--uts", "sh", "-c", 'hostname elsewhere; umask 0077; exec "$@"', "sh",
         *_one_processor(), *common, "--out", second, *(["--fresh-base"] if options.full else [])], VARIED)  # fmt: skip
    code = _judge(first, second, "the varied build", began)
    if options.full and code == 0:
        shutil.rmtree(second)
        third = place / "third"
        _run(
            "third build, without a network",
            ["unshare", "--net", *common, "--out", third, "--offline", "--fresh-base"],
            {},
        )
        code = _judge(first, third, "the build without a network", began)
    return code


VARIED = {
    "TZ": "Asia/Tokyo",
    "LANG": "ar_MA.UTF-8",
    "LC_ALL": "de_DE.UTF-8",
    "HOME": "/nonexistent",
    "USER": "somebody",
}


def _one_processor() -> list[str]:
    """Of those that this process may use: who was given some keeps to them."""
    first = min(os.sched_getaffinity(0))
    return ["taskset", "-c", str(first)] if shutil.which("taskset") else []


def _run(what: str, command: Sequence[object], more: dict[str, str]) -> None:
    print(f"── {what}", flush=True)
    subprocess.run([str(word) for word in command], env={**os.environ, **more}, check=True)


def _judge(one: Path, other: Path, name: str, began: float) -> int:
    differing = []
    for path in sorted({path for pattern in COMPARED for path in one.glob(pattern)}):
        twin = other / path.name
        if not twin.exists():
            differing.append(f"{path.name}: not in {name}")
        elif not compare.same(path, twin):
            differing.append(f"{path.name}: first different byte at {compare.first_difference(path, twin)}")
    if not differing:
        print(f"the same, byte for byte: this build and {name} ({time.monotonic() - began:.0f} s)")
        return 0
    print(f"DIFFERENT: this build and {name}")
    for line in differing:
        print(f"  {line}")
    if (one / "tree").is_dir() and (other / "tree").is_dir():
        print("by file:")
        for line in compare.trees(one / "tree", other / "tree"):
            print(f"  {line}")
    return 1
