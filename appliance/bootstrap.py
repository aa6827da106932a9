"""Makes a checkout ready to run on a bare Debian: Python environment, our distributions, assets, Debian's programs.

Plain Python 3.11 and its standard library, because nothing else is there yet. Everything lands in `.qanun/` in the
checkout; the system is not changed, no root is needed. What is there already, and unchanged, costs nothing. It is not
the appliance's installer: an image carries all of this ready-made.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = Path(os.environ.get("QANUN_HOME") or ROOT / ".qanun")
VENV = HOME / "venv"
PYTHON = VENV / "bin" / "python"
PROGRAMS = HOME / "bin"
LOCKS = ROOT / "appliance" / "locks"
DISTRIBUTIONS = [
    ROOT / "core",
    *sorted(path for path in (ROOT / "plugins").iterdir() if (path / "pyproject.toml").exists()),
    ROOT / "appliance",
]


class Missing(Exception):
    """Something that cannot be done on this machine; the message says what, and what follows from it."""


# --- saying what happens -------------------------------------------------------------------------------------------------


class Steps:
    """Numbered lines: what is being done, how far it is, how long it took."""

    def __init__(self, total: int) -> None:
        self.total, self.number = total, 0
        self._shown = ""

    @contextmanager
    def step(self, what: str) -> Iterator[Steps]:
        self.number += 1
        self._what, self._began, self._last = what, time.monotonic(), time.monotonic()
        print(f"[{self.number}/{self.total}] {what} …", end="\n" if not _terminal() else "", flush=True)
        yield self
        took = time.monotonic() - self._began
        line = f"[{self.number}/{self.total}] {what}: done in {took:.0f} s"
        print(f"\r\033[K{line}" if _terminal() else f"      done in {took:.1f} s", flush=True)

    def tell(self, how_far: str) -> None:
        """How far the step is: in place on a terminal, now and then a line elsewhere."""
        if _terminal():
            print(f"\r\033[K[{self.number}/{self.total}] {self._what} … {how_far[:60]}", end="", flush=True)
        elif time.monotonic() - self._last > 10:
            self._last = time.monotonic()
            print(f"      {how_far}", flush=True)


def _terminal() -> bool:
    return sys.stdout.isatty()


def run(command: Sequence[object], *, env: dict[str, str] | None = None, on_line=None, cwd: Path = ROOT) -> str:  # type: ignore[no-untyped-def]
    """Run to the end; raises Missing with the last of what it printed when it fails."""
    process = subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env, cwd=cwd,
        stdin=subprocess.DEVNULL, errors="replace",
    )  # fmt: skip
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if on_line:
            on_line(line.strip())
    if process.wait():
        raise Missing(f"{shlex.join(str(word) for word in command[:4])} … failed:\n{''.join(lines[-25:])}")
    return "".join(lines)


# --- Python ---------------------------------------------------------------------------------------------------------------


def check_python() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036 - this file is what a too old Python would run
        raise SystemExit(f"Qanun needs Python 3.11 or later; this is {sys.version.split()[0]} ({sys.executable})")
    if not sys.platform.startswith("linux"):
        raise SystemExit("Qanun runs on Linux (Debian 12 and 13 are what it is made for)")


@contextmanager
def alone() -> Iterator[None]:
    """One set-up at a time: two starts at once would step on each other's files."""
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another start is setting this checkout up; waiting for it …", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def python_environment(steps: Steps, lock: str, *more: str) -> None:
    """A virtual environment with exactly what the lock names, every file checked against its hash."""
    with steps.step("Python environment"):
        wanted = _digest(*(LOCKS / name for name in (lock, *more)), text=sys.version)
        stamp = VENV / f"installed-{lock}"
        # The tests' lock contains the runtime's: an environment made for the tests serves both.
        larger = VENV / "installed-tests.lock"
        if (PYTHON.exists() and any(_says(place, wanted) for place in (stamp,))) or (
            lock == "runtime.lock" and PYTHON.exists() and larger.exists() and _covers(larger)
        ):
            return
        if not PYTHON.exists() or not _works():
            shutil.rmtree(VENV, ignore_errors=True)
            _make_environment(steps)
        total = len(re.findall(r"^[A-Za-z0-9_.-]+==", (LOCKS / lock).read_text(), re.MULTILINE))
        seen = 0

        def count(line: str) -> None:
            nonlocal seen
            if line.startswith(("Collecting", "Requirement already satisfied")):
                seen += 1
                steps.tell(f"{min(seen, total)} of {total} packages fetched")
            elif line.startswith("Installing collected"):
                steps.tell("installing")

        pip = [PYTHON, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off",
               "--require-hashes", "--only-binary", ":all:"]  # fmt: skip
        run([*pip, "-r", LOCKS / lock], on_line=count)
        for name in more:  # parts of a package whose own requirements are not wanted
            run([*pip, "--no-deps", "-r", LOCKS / name], on_line=count)
        stamp.write_text(wanted)


def _covers(larger: Path) -> bool:
    return _says(larger, _digest(LOCKS / "tests.lock", LOCKS / "media.lock", text=sys.version))


def _says(place: Path, text: str) -> bool:
    return place.exists() and place.read_text() == text


def _works() -> bool:
    return subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0


def _make_environment(steps: Steps) -> None:
    made = subprocess.run([sys.executable, "-m", "venv", VENV], capture_output=True, text=True, check=False)
    if made.returncode == 0 and _works():
        return
    # Debian keeps ensurepip in python3-venv. Its pip is a package of one wheel, which needs no installing.
    shutil.rmtree(VENV, ignore_errors=True)
    steps.tell("fetching pip")
    run([sys.executable, "-m", "venv", "--without-pip", VENV])
    unpacked = unpack_debian("python3-pip-whl", steps)
    wheels = sorted((unpacked / "usr/share/python-wheels").glob("pip-*.whl"))
    if not wheels:
        raise Missing("Debian's package python3-pip-whl holds no pip; install python3-venv and start again")
    run([PYTHON, wheels[-1] / "pip", "install", "--no-index", "--no-input", wheels[-1]])


def our_distributions(steps: Steps) -> None:
    """Core and every plugin, installed from this checkout through their entry points, as a stranger's would be."""
    with steps.step("Core and plugins"):
        wanted = _digest(*(path / "pyproject.toml" for path in DISTRIBUTIONS), text=str(ROOT))
        stamp = VENV / "installed-ours"
        if _says(stamp, wanted):
            return
        command: list[object] = [PYTHON, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--no-deps",
                                 "--no-build-isolation", "--no-index"]  # fmt: skip
        for path in DISTRIBUTIONS:
            command += ["--editable", path]
        run(command)
        stamp.write_text(wanted)


def assets_and_catalogues(steps: Steps) -> None:
    with steps.step("Styles, fonts, icons and translations"):
        run([PYTHON, ROOT / "core" / "assets" / "build.py"], on_line=steps.tell)
        run([PYTHON, "-m", "qanun", "i18n", "compile"], env=environment())


def environment() -> dict[str, str]:
    """The environment of every process that is started from this checkout."""
    path = os.pathsep.join((str(PROGRAMS), str(VENV / "bin"), os.environ.get("PATH", "/usr/bin:/bin")))
    return {**os.environ, "PATH": path, "QANUN_LOCALE_DIR": str(ROOT / "locale"), "PYTHONDONTWRITEBYTECODE": "0"}


def _digest(*files: Path, text: str = "") -> str:
    digest = hashlib.sha256(text.encode())
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()


# --- Debian ---------------------------------------------------------------------------------------------------------------


def _apt(*words: str) -> list[str]:
    """apt-get with lists and downloads of our own: works without root and leaves the system's alone."""
    own = HOME / "apt"
    for place in ("state/lists/partial", "cache/archives/partial"):
        (own / place).mkdir(parents=True, exist_ok=True)
    options = {"Dir::State": own / "state", "Dir::State::status": "/var/lib/dpkg/status", "Dir::Cache": own / "cache",
               "Debug::NoLocking": "1", "Acquire::Languages": "none", "Acquire::Retries": "2", "Acquire::http::Timeout": "30",
               "Dpkg::Use-Pty": "0"}  # fmt: skip
    if os.geteuid() == 0:
        options["APT::Sandbox::User"] = "root"  # the folder is ours; apt's own account need not reach it
    return ["apt-get", "-q", *(word for name, value in options.items() for word in ("-o", f"{name}={value}")), *words]


def unpack_debian(package: str, steps: Steps) -> Path:
    """A Debian package and what it needs beyond this machine, unpacked below `.qanun/debian/`; nothing is installed."""
    folder = HOME / "debian" / package
    if (folder / ".complete").exists():
        return folder
    if not shutil.which("apt-get"):
        raise Missing(f"{package} is needed and there is no apt-get here: install it by hand and start again")
    shutil.rmtree(folder, ignore_errors=True)
    steps.tell("reading Debian's package lists")
    run(_apt("update"), on_line=steps.tell)
    steps.tell(f"fetching {package}")
    archives = HOME / "apt" / "cache" / "archives"
    for old in archives.glob("*.deb"):
        old.unlink()
    run(
        _apt("install", "--yes", "--no-install-recommends", "--download-only", "--reinstall", package),
        on_line=steps.tell,
    )
    folder.mkdir(parents=True)
    for archive in sorted(archives.glob("*.deb")):
        run(["dpkg-deb", "-x", archive, folder])
        archive.unlink()
    (folder / ".complete").write_text("")
    return folder


def debian_program(name: str, package: str, steps: Steps) -> Path:
    """A program: the system's own, or the package's, unpacked, behind a small starter that finds its libraries."""
    starter = PROGRAMS / name
    if starter.exists():
        return starter
    found = shutil.which(name)
    if found:
        return Path(found)
    folder = unpack_debian(package, steps)
    binary = next(
        (folder / place / name for place in ("usr/bin", "usr/sbin", "bin", "sbin") if (folder / place / name).exists()),
        None,
    )
    if binary is None:
        raise Missing(f"Debian's package {package} holds no {name}")
    libraries = sorted({str(path.parent) for path in folder.rglob("*.so*") if path.is_file()})
    PROGRAMS.mkdir(parents=True, exist_ok=True)
    starter.write_text(
        f"#!/bin/sh\n# {package}, unpacked and not installed: no service of it runs but the one that is started here.\n"
        f'export LD_LIBRARY_PATH={shlex.quote(os.pathsep.join(libraries))}\nexec {shlex.quote(str(binary))} "$@"\n'
    )
    starter.chmod(0o755)
    return starter


def install_debian(packages: Sequence[str], steps: Steps) -> None:
    """Install packages on this machine, for tests alone (a browser cannot be unpacked into a folder). Needs root or sudo."""
    missing = [name for name in packages if not _installed(name)]
    if not missing:
        return
    sudo = [] if os.geteuid() == 0 else ["sudo"] if shutil.which("sudo") else None
    if sudo is None or not shutil.which("apt-get"):
        raise Missing(f"needs root or sudo to install {', '.join(missing)}")
    steps.tell(f"installing {', '.join(missing)}")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for attempt in (1, 2):
        try:
            run(
                [*sudo, "apt-get", "install", "-y", "-q", "--no-install-recommends", *missing],
                env=env,
                on_line=steps.tell,
            )
        except Missing:
            if attempt == 2:
                raise
            run([*sudo, "apt-get", "update", "-q"], env=env, on_line=steps.tell)  # an old list is the usual reason
        else:
            return


def _installed(package: str) -> bool:
    asked = subprocess.run(
        ["dpkg-query", "-W", "-f=${db:Status-Status}", package], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() == "installed"
