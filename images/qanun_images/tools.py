"""The folder of tools, unpacked from tools.lock, and the running of things in it: no network, a clean environment.

Nothing is configured in there; unpacked is enough for programs that only read and write files. What a step may touch is
bound into it under a fixed path, so that the place of the checkout cannot show in the result.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bootstrap import Missing, Steps, run

from qanun_images import lock, store
from qanun_images.places import CACHE

_RECIPE = "1"
# Before anything is bound into the folder the mounts are this process's own: nothing is left behind, however it ends.
_ENTER = """
cd "$1"; shift
hostname qanun-build
mount -t proc proc proc
mount --rbind /dev dev
mount -t sysfs -o ro sysfs sys
mount -t tmpfs tmpfs tmp
mount -t tmpfs tmpfs run
while [ "$1" != -- ]; do
    if [ -d "$1" ]; then mkdir -p "./$2"; else mkdir -p "./$(dirname "$2")"; : > "./$2"; fi
    mount --rbind "$1" "./$2"; shift 2
done
shift
exec chroot . "$@"
"""


def folder() -> Path:
    return CACHE / f"tools-{hashlib.sha256(lock.TOOLS.read_bytes() + _RECIPE.encode()).hexdigest()[:16]}"


def make(steps: Steps, *, offline: bool = False) -> Path:
    """Returns the folder, made if need be (15 s)."""
    place = folder()
    if (place / ".complete").exists():
        return place
    debs = lock.read(lock.TOOLS).debs
    store.fetch(debs, steps, offline=offline)
    for old in CACHE.glob("tools-*"):
        shutil.rmtree(old)
    place.mkdir(parents=True)
    place.chmod(0o755)
    # base-files brings the links /bin → usr/bin, which everything after it needs.
    ordered = sorted(debs, key=lambda deb: deb.name != "base-files")
    for number, deb in enumerate(ordered, 1):
        steps.tell(f"{number} of {len(ordered)} tools unpacked")
        run(["dpkg-deb", "-x", store.place(deb), place])
    for name in ("proc", "dev", "sys", "tmp", "run", "var/lib/dpkg/info", "var/lib/dpkg/updates", "etc/apt"):
        (place / name).mkdir(parents=True, exist_ok=True)
    (place / "var/lib/dpkg/status").write_text("")
    (place / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\n_apt:x:42:65534::/nonexistent:/usr/sbin/nologin\n"
    )
    (place / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    (place / ".complete").write_text("")
    return place


def run_in(
    place: Path, command: Sequence[object], *, binds: Mapping[Path, str] | None = None, epoch: int,
    more: Mapping[str, str] | None = None, cwd: str = "/", on_line: Callable[[str], None] | None = None,
) -> str:  # fmt: skip
    """Run a program of the folder as root, with what `binds` names at the paths it names. Raises Missing when it fails."""
    if os.geteuid() != 0:
        raise Missing("an image is made as root: files get their owners, and folders are entered as roots. Nothing outside "
                      "the checkout is changed.")  # fmt: skip
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8", "TZ": "UTC",
        "SOURCE_DATE_EPOCH": str(epoch), "PYTHONHASHSEED": "0", "DEBIAN_FRONTEND": "noninteractive",
        "MTOOLS_SKIP_CHECK": "1", **(more or {}),
    }  # fmt: skip
    bound = [str(word) for pair in (binds or {}).items() for word in pair]
    inside = ["/bin/sh", "-c", f'umask 022; cd {shlex.quote(cwd)}; exec "$@"', "sh", *(str(word) for word in command)]
    return run(
        ["unshare", "--mount", "--net", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--propagation", "private",
         "sh", "-euc", _ENTER, "sh", place, *bound, "--", *inside],
        env=environment, on_line=on_line, cwd=Path("/"),
    )  # fmt: skip


def can_enter() -> str | None:
    """None, or why this machine cannot make an image."""
    if os.geteuid() != 0:
        return "making an image needs root"
    if not shutil.which("dpkg-deb") or not shutil.which("apt-get"):
        return "making an image needs Debian's dpkg and apt"
    tried = subprocess.run(["unshare", "--mount", "--net", "--pid", "--fork", "true"], capture_output=True, check=False)
    return None if tried.returncode == 0 else "this machine allows no namespaces of one's own"
