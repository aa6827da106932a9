"""A built disk, started as a virtual machine: firmware, boot loader, kernel, encrypted disk. For tests; no network reaches out.

Emulated unless `QANUN_ACCEL` names an accelerator: `/dev/kvm` is often there and of no use.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qanun_images import tools
from qanun_images.places import MIB

_CODE, _VARS = Path("/usr/share/OVMF/OVMF_CODE_4M.fd"), Path("/usr/share/OVMF/OVMF_VARS_4M.fd")


def cannot() -> str | None:
    """None, or why no virtual machine can run here."""
    for name, package in (("qemu-system-x86_64", "qemu-system-x86"), ("swtpm", "swtpm")):
        if not shutil.which(name):
            return f"{name} is not installed (Debian: {package})"
    return None if _CODE.exists() else "no UEFI firmware for virtual machines (Debian: ovmf)"


@dataclass(slots=True)
class Machine:
    """A machine that runs. `port` on this host's loopback is its HTTPS; `serial` is what its kernel and services print."""

    process: subprocess.Popen[bytes]
    port: int
    ssh_port: int
    serial: Path
    began: float = field(default_factory=time.monotonic)

    def get(self, path: str = "/health", host: str = "clinic.lan", timeout: float = 10) -> tuple[int, str]:
        """(status, body); 0 when nothing answers. The certificate is the box's own and is not looked at."""
        trust = ssl.create_default_context()
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
        raw = f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode()
        try:
            with (
                socket.create_connection(("127.0.0.1", self.port), timeout) as plain,
                trust.wrap_socket(plain, server_hostname=host) as secure,
            ):
                secure.sendall(raw)
                answer = b""
                while block := secure.recv(65536):
                    answer += block
        except OSError:
            return 0, ""
        head, _, body = answer.partition(b"\r\n\r\n")
        words = head.split(b" ", 2)
        return (int(words[1]) if len(words) > 1 and words[1].isdigit() else 0), body.decode(errors="replace")

    def wait_healthy(self, within_s: float) -> float:
        """Seconds until /health answers 200. Raises AssertionError with the end of what the machine printed."""
        until = time.monotonic() + within_s
        while time.monotonic() < until and self.process.poll() is None:
            if self.get(timeout=5)[0] == 200:
                return time.monotonic() - self.began
            time.sleep(1)
        raise AssertionError(f"not healthy within {within_s:.0f} s:\n{self.printed()[-4000:]}")

    def printed(self) -> str:
        return self.serial.read_text(errors="replace") if self.serial.exists() else ""


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def started(
    disk: Path,
    work: Path,
    *,
    tpm: bool = True,
    more_disks: Sequence[Path] = (),
    memory_mib: int = 2048,
    words: str = "",
) -> Iterator[Machine]:
    """The machine, running until the end of the block and then cut off. `words` go to the kernel's command line."""
    work.mkdir(parents=True, exist_ok=True)
    variables, serial = work / "firmware.fd", work / "serial.log"
    if not variables.exists():
        shutil.copy(_VARS, variables)
    with serial.open("ab") as log:
        log.write(b"\n===== power =====\n")
    accelerator = os.environ.get("QANUN_ACCEL", "tcg")
    port, ssh_port = _port(), _port()
    command = [
        "qemu-system-x86_64", "-machine", f"q35,accel={accelerator}", "-cpu", "max", "-m", str(memory_mib), "-smp", "2",
        "-display", "none", "-nodefaults", "-no-user-config", "-device", "virtio-rng-pci",
        "-drive", f"if=pflash,format=raw,readonly=on,file={_CODE}", "-drive", f"if=pflash,format=raw,file={variables}",
        "-drive", f"file={disk},format=raw,if=virtio,cache=unsafe",
        *(word for path in more_disks for word in ("-drive", f"file={path},format=raw,if=virtio")),
        "-netdev", f"user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:443,hostfwd=tcp:127.0.0.1:{ssh_port}-:22",
        "-device", "virtio-net-pci,netdev=n0", "-chardev", f"file,id=serial,path={serial},append=on", "-serial", "chardev:serial",
        "-smbios", "type=1,uuid=c0a5f4e2-0000-4000-8000-0000000000ff",
    ]  # fmt: skip
    if words:
        command += ["-smbios", f"type=11,value=io.systemd.stub.kernel-cmdline-extra={words}"]
    chip = None
    if tpm:
        (work / "tpm").mkdir(exist_ok=True)
        channel = work / "tpm.sock"
        chip = subprocess.Popen(["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={work / 'tpm'}", "--ctrl",
                                 f"type=unixio,path={channel}", "--terminate"])  # fmt: skip
        for _ in range(100):
            if channel.exists():
                break
            time.sleep(0.05)
        command += ["-chardev", f"socket,id=tpm,path={channel}", "-tpmdev", "emulator,id=tpm0,chardev=tpm",
                    "-device", "tpm-crb,tpmdev=tpm0"]  # fmt: skip
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        yield Machine(process, port, ssh_port, serial)
    finally:
        for one in (process, chip):
            if one is not None and one.poll() is None:
                one.terminate()
                try:
                    one.wait(20)
                except subprocess.TimeoutExpired:
                    one.kill()
                    one.wait()


def give(disk: Path, name: str, content: bytes, work: Path) -> None:
    """Put a file onto the start-up partition of a disk that is not running (`name` as `qanun/site.toml`)."""
    (work / "given").write_bytes(content)
    inside = f"/disk@@{MIB}"
    script = f"mmd -i {inside} ::/{Path(name).parent} || true; mcopy -o -i {inside} /given ::/{name}"
    binds = {disk: "/disk", work / "given": "/given"}
    tools.run_in(tools.folder(), ["sh", "-c", script], binds=binds, epoch=0)


def entries(disk: Path) -> list[str]:
    """Boot files on the start-up partition of a disk that is not running."""
    said = tools.run_in(
        tools.folder(), ["mdir", "-b", "-i", f"/disk@@{MIB}", "::/EFI/Linux"], binds={disk: "/disk"}, epoch=0
    )
    return sorted(line.rsplit("/", 1)[-1] for line in said.split())
