"""A built slot, started as a container on this machine: its root read-only, /etc an overlay that forgets, var a folder.

For tests and for people who look at a build. It starts the true systemd of the slot, but no kernel, no boot loader and no
encrypted disk: that takes a virtual machine (`vm.py`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# A network of its own for each process: several may try a slot on one machine.
_NETWORK = f"10.{64 + os.getpid() // 250 % 60}.{os.getpid() % 250}"
ADDRESS, OURS = f"{_NETWORK}.2", f"{_NETWORK}.1"


@dataclass(slots=True)
class Box:
    """A running container: its first process, and where its var and its console's output are."""

    pid: int
    var: Path
    console: Path

    def run(
        self, *words: object, check: bool = True, timeout: float = 120, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A command inside, as root. Raises CalledProcessError with what it said."""
        command = ["nsenter", "-t", str(self.pid), "-m", "-u", "-i", "-n", "-p", "-C", "env", "-i",
                   "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LC_ALL=C.UTF-8", "HOME=/root"]  # fmt: skip
        done = subprocess.run([*command, *(str(word) for word in words)], capture_output=True, text=True, timeout=timeout,
                              input=text, check=False)  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def get(
        self, path: str, *, scheme: str = "https", host: str = "clinic.lan", language: str = "en", timeout: float = 15
    ) -> tuple[int, str]:
        """(status, body) as a browser on the network gets it; 0 when nothing answers. The box's own certificate is not looked at."""
        command = ["curl", "-s", "-k", "-m", str(timeout), "--resolve", f"{host}:443:{ADDRESS}", "--resolve", f"{host}:80:{ADDRESS}",
                   "--noproxy", "*", "-H", f"Accept-Language: {language}", "-w", "\n%{http_code}", f"{scheme}://{host}{path}"]  # fmt: skip
        body, _, status = subprocess.run(command, capture_output=True, text=True, check=False).stdout.rpartition("\n")
        return int(status or 0), body

    def wait_healthy(self, within_s: float) -> float:
        """Seconds until /health answers 200. Raises AssertionError with what went wrong inside."""
        began = time.monotonic()
        while time.monotonic() - began < within_s:
            if self.get("/health", timeout=3)[0] == 200:
                return time.monotonic() - began
            time.sleep(0.5)
        said = self.run(
            "sh",
            "-c",
            "systemctl --failed --no-legend; systemctl list-jobs --no-legend; journalctl -b --no-pager | tail -60",
            check=False,
        )
        raise AssertionError(f"not healthy within {within_s:.0f} s:\n{said.stdout}")


def cannot() -> str | None:
    """None, or why no container of a slot can run here."""
    if os.geteuid() != 0:
        return "starting a slot as a container needs root"
    for name in ("systemd-nspawn", "nsenter", "ip", "curl"):
        if not shutil.which(name):
            return f"{name} is not installed (Debian: systemd-container, util-linux, iproute2, curl)"
    known = Path("/proc/filesystems").read_text()
    return None if "overlay" in known and "erofs" in known else "this kernel has no erofs or no overlay file system"


@contextlib.contextmanager
def started(
    image: Path, work: Path, *, site: str | None = None, more: Sequence[str] = (), wait_s: float = 60
) -> Iterator[Box]:
    """The slot's image, running until the end of the block. `site` is the text of a site.toml, `more` options of
    systemd-nspawn; var is kept in `work`."""
    root, var, console = work / "root", work / "var", work / "console.log"
    for path in (root, var):
        path.mkdir(parents=True, exist_ok=True)
    if site is not None:
        data = var / "lib" / "qanun"
        data.mkdir(parents=True, exist_ok=True)
        data.chmod(0o711)
        (data / "site.toml").write_text(site)
        (data / "site.toml").chmod(0o640)
        os.chown(data / "site.toml", 0, 800)
    name = f"qanun{os.getpid()}"[:11]
    subprocess.run(["mount", "-t", "erofs", "-o", "ro", image, root], check=True)
    process = None
    try:
        with console.open("ab") as log:
            process = subprocess.Popen(
                ["systemd-nspawn", "--quiet", "-D", root, "-M", name, "--read-only", "--bind", f"{var}:/var",
                 "--overlay=+/etc::/etc", "--boot", "--register=no", "--keep-unit", "--network-veth", "--link-journal=no",
                 "--console=read-only", "--resolv-conf=off", "--timezone=off", *more],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        leader = _leader(process, console, wait_s)
        _network(name, wait_s)
        yield Box(leader, var, console)
    finally:
        if process is not None:
            _stop(process)
        for _ in range(50):
            if subprocess.run(["umount", root], capture_output=True, check=False).returncode == 0:
                break
            time.sleep(0.1)


def _leader(process: subprocess.Popen[bytes], console: Path, wait_s: float) -> int:
    until = time.monotonic() + wait_s
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            with contextlib.suppress(OSError):
                if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                    return int(child)
        time.sleep(0.05)
    raise AssertionError(f"the slot did not start:\n{console.read_text(errors='replace')[-3000:]}")


def _network(name: str, wait_s: float) -> None:
    link, until = f"ve-{name}", time.monotonic() + wait_s
    while not Path(f"/sys/class/net/{link}").exists():
        if time.monotonic() > until:
            raise AssertionError(f"no network link {link}")
        time.sleep(0.05)
    for words in (["addr", "add", f"{OURS}/24", "dev", link], ["link", "set", link, "up"]):
        subprocess.run(["ip", *words], check=True)


def _stop(process: subprocess.Popen[bytes]) -> None:
    for how, patience in ((signal.SIGTERM, 40), (signal.SIGKILL, 10)):
        if process.poll() is None:
            process.send_signal(how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)


def listeners(box: Box) -> set[tuple[str, str, int]]:
    """(protocol, address, port) of everything that listens inside, unix sockets apart."""
    found = set()
    for line in box.run("ss", "-H", "-l", "-n", "-t", "-u").stdout.splitlines():
        words = line.split()
        address, _, port = words[4].rpartition(":")
        found.add((words[0], address.split("%")[0].strip("[]"), int(port)))
    return found


def temporary() -> tempfile.TemporaryDirectory[str]:
    """A folder for a box: sockets and overlays need a plain local disk."""
    return tempfile.TemporaryDirectory(prefix="qanun-box-", dir="/var/tmp")
