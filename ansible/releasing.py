"""Packs what a server of a clinic's own gets: the wheels that the image has, by the same locks, and the translations.

The result is one tar and a small file that names its hash, which the playbooks read. The same sources give the same
bytes. It installs nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import re
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "appliance"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "images"))

import bootstrap
from bootstrap import Missing, Steps
from qanun_images import lock, tools, wheels
from qanun_images.places import PYTHON, Stale

ROOT = bootstrap.ROOT
OUT = bootstrap.HOME / "release"
_ABOUT = """Packs this checkout for the playbooks, into .qanun/release/.

    sudo ./ansible/release                  from the locks; fetches what is not there yet
    sudo ./ansible/release --out FOLDER     somewhere else, for a stick or a second release beside the first
    sudo ./ansible/release --offline        without any network

Needs root, because our wheels are built in a folder of pinned tools, as the image's are.
"""
_VERSION = re.compile(r'^version = "([0-9][0-9a-z.]*)"$', re.MULTILINE)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 done, 1 failed, 3 a lock is stale."""
    parser = argparse.ArgumentParser(
        prog="ansible/release", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--offline", action="store_true", help="fail rather than use a network")
    options = parser.parse_args(arguments)
    os.umask(0o022)
    bootstrap.check_python()
    try:
        bootstrap.HOME.mkdir(parents=True, exist_ok=True)
        steps = Steps(3)
        with steps.step("What it is made of"):
            gather(steps, offline=options.offline)
        with tempfile.TemporaryDirectory(dir=bootstrap.HOME) as place:
            sources = Path(place) / "sources"
            with steps.step("Our wheels"):
                wheels.copy_sources(sources)
                built = build(steps, sources)
            with steps.step("Packing"):
                told = pack(sources, built, options.out)
    except Stale as stale:
        print(f"\n{stale}", file=sys.stderr)
        return 3
    except Missing as missing:
        print(f"\n{missing}", file=sys.stderr)
        return 1
    print(f"\nQanun {told['version']} ({told['id']}) is in {options.out}")
    return 0


def gather(steps: Steps, *, offline: bool = False) -> None:
    """Everything that is not ours: fetched by the locks' hashes. Raises Missing, or Stale when a mirror moved on."""
    reason = tools.can_enter()
    if reason:
        raise Missing(reason)
    wheels.fetch(steps, offline=offline)
    tools.make(steps, offline=offline)
    if not bootstrap.PYTHON.exists():
        bootstrap.python_environment(steps, "runtime.lock")
        bootstrap.our_distributions(steps)
    if not offline:
        bootstrap.run([bootstrap.PYTHON, ROOT / "core" / "assets" / "build.py"], on_line=steps.tell)


def name_version(sources: Path, version: str = "") -> str:
    """The release's version; with `version`, written into these copied sources first (tests make a newer one that way)."""
    path = sources / "core" / "pyproject.toml"
    text = path.read_text(encoding="utf-8")
    if version:
        text = _VERSION.sub(f'version = "{version}"', text, count=1)
        path.write_text(text, encoding="utf-8")
    found = _VERSION.search(text)
    assert found is not None
    return found.group(1)


def build(steps: Steps, sources: Path) -> Path:
    """Our wheels and the compiled translations from copied sources; returns the folder with the wheels, beside them."""
    built = sources.parent / "wheels"
    shutil.rmtree(built, ignore_errors=True)
    wheels.ours(steps, tools.make(steps), sources, built, lock.read(lock.DEBS).epoch)
    compiled = {**bootstrap.environment(), "QANUN_LOCALE_DIR": str(sources / "locale")}
    bootstrap.run([bootstrap.PYTHON, "-m", "qanun", "i18n", "compile"], env=compiled)
    return built


def pack(sources: Path, built: Path, folder: Path) -> dict[str, str]:
    """Write `folder` anew; returns what release.json says: `version`, `id`, `file`, `sha256` (hex), `python`."""
    own = sorted(built.glob("*.whl"))
    others = [wheel for wheel in wheels.read() if wheel.use == "box"]
    lines = [f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n" for wheel in others]
    lines += [f"{_distribution(path)} --hash=sha256:{_sha256(path)}\n" for path in own]
    version = name_version(sources)
    content: dict[str, Path | bytes] = {
        "requirements.txt": "".join(sorted(lines)).encode(),
        "version": f"{version}\n".encode(),
    }
    content |= {f"wheels/{path.name}": path for path in own} | {f"wheels/{wheel.file}": wheel.place for wheel in others}
    locale = sources / "locale"
    content |= {f"locale/{path.relative_to(locale)}": path for path in locale.rglob("*.mo")}
    draft = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    name = f"qanun-{version}.tar"
    _tar(draft / name, content, lock.read(lock.DEBS).epoch)
    digest = _sha256(draft / name)
    told = {"version": version, "id": f"{version}-{digest[:12]}", "file": name, "sha256": digest, "python": PYTHON}
    (draft / "release.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)
    return told


def _tar(target: Path, content: dict[str, Path | bytes], epoch: int) -> None:
    with tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(content):
            data = content[name]
            body = data if isinstance(data, bytes) else data.read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.mode = len(body), epoch, 0o644
            tar.addfile(entry, io.BytesIO(body))


def _distribution(wheel: Path) -> str:
    name, version = wheel.name.split("-")[:2]
    return f"{name.replace('_', '-')}=={version}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    raise SystemExit(main())
