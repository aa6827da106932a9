"""A built disk, started as a virtual machine: firmware, boot loader, kernel, encrypted disk. For tests; no network reaches out.

Emulated unless `QANUN_ACCEL` names an accelerator: `/dev/kvm` is often there and of no use. `QANUN_VM_PROCESSORS` (2) says how
many processors a machine has, where there are as many. Disks are files (`vm_disks.py`); flushes of the guest reach them, so that
cutting the power loses what a real cut would lose and no more. A running machine can be frozen with all it has in memory, and any number of
others go on from there (`Machine.freeze`, `started(memory=…)`): an emulated first start takes minutes.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shlex
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_CODE, _VARS = Path("/usr/share/OVMF/OVMF_CODE_4M.fd"), Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
#: Firmware that starts only what is signed by the one pair of keys it knows, which Debian publishes for tests. Its variables
#: are kept from the system by the processor's management mode.
_STRICT_CODE, _STRICT_VARS = (
    Path("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd"),
    Path("/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd"),
)
_STRICT = ["-global", "driver=cfi.pflash01,property=secure,value=on", "-global", "ICH9-LPC.disable_s3=1"]
#: Everything that can be emulated but the copying of memory by one instruction, which an emulator does byte by byte: programs
#: copy in their other way.
_CPU = "max,erms=off,fsrm=off"
STRICT_KEY, STRICT_CERTIFICATE = (
    Path("/usr/share/ovmf/PkKek-1-snakeoil.key"),
    Path("/usr/share/ovmf/PkKek-1-snakeoil.pem"),
)


def cannot() -> str | None:
    """None, or why no virtual machine can run here."""
    programs = {
        "qemu-system-x86_64": "qemu-system-x86",
        "qemu-img": "qemu-utils",
        "swtpm": "swtpm",
        "swtpm_setup": "swtpm-tools",
        "ssh": "openssh-client",
    }
    for name, package in programs.items():
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
    control: Path
    key: Path | None = None
    began: float = field(default_factory=time.monotonic)

    def worked(self) -> float:
        """Seconds of a processor that the emulator has used: unlike a clock's, the same on a busy host."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def get(self, path: str = "/health", host: str = "clinic.lan", timeout: float = 10) -> tuple[int, str]:
        """(status, body); 0 when nothing answers. The certificate is the box's own and is not looked at."""
        raw = f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode()
        try:
            with self._line(host, timeout) as secure:
                secure.sendall(raw)
                answer = b""
                while block := secure.recv(65536):
                    answer += block
        except OSError:
            return 0, ""
        head, _, body = answer.partition(b"\r\n\r\n")
        words = head.split(b" ", 2)
        return (int(words[1]) if len(words) > 1 and words[1].isdigit() else 0), body.decode(errors="replace")

    def _line(self, host: str, timeout: float) -> ssl.SSLSocket:
        """Raises OSError."""
        trust = ssl.create_default_context()
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
        plain = socket.create_connection(("127.0.0.1", self.port), timeout)
        try:
            return trust.wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise

    def run(self, command: str, *, check: bool = True, timeout: float = 180, text: str = "") -> str:
        """What a command says, run by root inside over ssh. Raises AssertionError when it fails and `check` is set."""
        done = self._ssh(command, timeout, text)
        if check and done.returncode:
            raise AssertionError(f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout if check else done.stdout + done.stderr

    def words(self, command: str, *, anew: bool = False) -> list[str]:
        """How a command is run inside: by the way in that the last one opened, or `anew` by one of its own. To open one costs
        an emulated processor seconds."""
        assert self.key is not None
        way = ["-o", "ControlPath=none"] if anew else ["-o", "ControlMaster=auto", "-o", "ControlPersist=300", "-o",
                                                      f"ControlPath={self._way}"]  # fmt: skip
        found = ["ssh", "-i", self.key, "-p", self.ssh_port, "-F", "/dev/null", "-o", "StrictHostKeyChecking=no",
                 "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=30", "-o", "BatchMode=yes",
                 # A machine that starts again in the middle of a command does not say so.
                 "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=6", *way, "root@127.0.0.1", command]  # fmt: skip
        return [str(word) for word in found]

    @property
    def _way(self) -> Path:
        return self.control.with_name("way")

    def forget_the_way_in(self) -> None:
        """Whoever is at its other end is gone, which nobody may have said."""
        self._way.unlink(missing_ok=True)

    def _ssh(
        self, command: str, timeout: float, text: str = "", *, anew: bool = False
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.words(command, anew=anew), capture_output=True, text=True, timeout=timeout, input=text, check=False
        )

    def boot(self) -> str:
        """Which start this is, as the kernel calls it; empty while nobody answers."""
        try:
            done = self._ssh("cat /proc/sys/kernel/random/boot_id", 40, anew=True)
        except subprocess.TimeoutExpired:
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""

    def wait_healthy(self, within_s: float) -> float:
        """Seconds until /health answers 200. Raises AssertionError with the end of what the machine printed."""
        until = time.monotonic() + within_s
        # One line that is kept: a handshake costs an emulated processor a tenth of a second and more, which what starts is
        # waiting for; asked seldom instead, the answer would come as late.
        with contextlib.ExitStack() as lines:
            asked = None
            while time.monotonic() < until and self.process.poll() is None:
                try:
                    if asked is None:
                        asked = lines.enter_context(contextlib.closing(http.client.HTTPConnection("clinic.lan")))
                        asked.auto_open = 0
                        asked.sock = self._line("clinic.lan", 10)
                    asked.request("GET", "/health")
                    answer = asked.getresponse()
                    answer.read()
                    if answer.status == 200:
                        return time.monotonic() - self.began
                except (OSError, http.client.HTTPException):
                    lines.close()
                    asked = None
                time.sleep(1)
        raise AssertionError(f"not healthy within {within_s:.0f} s:\n{self.printed()[-4000:]}")

    def wait_started_again(self, before: str, within_s: float) -> None:
        """Until another start than `before` answers with 200."""
        until = time.monotonic() + within_s
        while (asked := time.monotonic()) < until and self.process.poll() is None:
            # The page first: it costs less to ask for than a way in.
            if self.get(timeout=5)[0] == 200 and self.boot() not in {"", before}:
                self.forget_the_way_in()
                return
            time.sleep(min(20.0, max(2.0, 5 * (time.monotonic() - asked))))
        raise AssertionError(f"no other healthy start within {within_s:.0f} s:\n{self.printed()[-4000:]}")

    def wait_printed(self, words: str, within_s: float) -> None:
        until = time.monotonic() + within_s
        while words not in self.printed():
            if time.monotonic() > until or self.process.poll() is not None:
                raise AssertionError(f"{words!r} was not printed within {within_s:.0f} s:\n{self.printed()[-4000:]}")
            time.sleep(0.5)

    def printed(self) -> str:
        """What this start's serial line said."""
        text = self.serial.read_text(errors="replace") if self.serial.exists() else ""
        return text.rpartition(_POWER)[2]

    def type(self, text: str) -> None:
        """On the serial line, as somebody who sits there."""
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(self.serial.with_suffix(".in")))
            line.sendall(text.encode())

    def freeze(self, target: Path) -> None:
        """Its memory into a file; the machine is over. Who goes on from it needs the disks, `work` and processors of this moment.
        Raises AssertionError when that fails."""
        self.ask("migrate-set-parameters", **{"max-bandwidth": 1 << 34})
        self.ask("migrate", uri=f"exec:cat > {shlex.quote(str(target))}")
        while (told := self.ask("query-migrate")["return"])["status"] in {"setup", "active", "device"}:
            time.sleep(0.5)
        self.cut()
        if told["status"] != "completed":
            raise AssertionError(told)

    def cut(self) -> None:
        """The plug is pulled."""
        self.process.kill()
        self.process.wait()

    def switch_off(self, within_s: float = 120) -> None:
        """As by the button, and then as by the plug."""
        if self.process.poll() is not None:
            return
        self.ask("system_powerdown")
        try:
            self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.cut()

    def ask(self, command: str, **arguments: Any) -> Any:
        """The emulator itself, in its own protocol (QMP)."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(30)
            line.connect(str(self.control))
            with line.makefile("rwb", buffering=0) as talk:
                talk.readline()
                answer: Any = None
                for words in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                    talk.write(json.dumps(words).encode() + b"\n")
                    while "return" not in (answer := json.loads(talk.readline())) and "error" not in answer:
                        pass
        return answer

    def plug_in(self, disk: Path) -> None:
        """A disk on USB, while the machine runs."""
        kind = "qcow2" if disk.suffix == ".qcow2" else "raw"
        file = {"driver": "file", "filename": str(disk)}
        answers = (
            self.ask("blockdev-add", **{"driver": kind, "node-name": "plugged", "file": file}),
            self.ask("device_add", driver="usb-storage", drive="plugged", bus="xhci.0", removable=True, id="plugged"),
        )
        wrong = [answer["error"] for answer in answers if "error" in answer]
        if wrong:
            raise AssertionError(wrong)

    def picture(self, target: Path) -> None:
        """What the screen shows, as PNG."""
        self.ask("screendump", filename=str(target), format="png")


_POWER = "\n===== power =====\n"


def _chip(folder: Path) -> None:
    """A TPM as it is sold: with one bank of hashes. With swtpm's four the firmware hashes whatever it starts four times."""
    folder.mkdir()
    subprocess.run(
        ["swtpm_setup", "--tpm2", "--tpmstate", folder, "--pcr-banks", "sha256"], check=True, capture_output=True
    )


def processors() -> int:
    """Of a machine. Two emulated ones on one real one wait for each other most of the time."""
    return min(int(os.environ.get("QANUN_VM_PROCESSORS", "2")), len(os.sched_getaffinity(0)))


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _drive(number: int, disk: Path, bus: str) -> list[str]:
    kind = "qcow2" if disk.suffix == ".qcow2" else "raw"
    name = f"d{number}"
    device = {"virtio": f"virtio-blk-pci,drive={name},serial={disk.stem[:20]}",
              "usb": f"usb-storage,drive={name},bus=xhci.0,removable=on,serial={disk.stem[:20]}"}[bus]  # fmt: skip
    return ["-drive", f"if=none,id={name},file={disk},format={kind},cache=writeback,discard=unmap", "-device",
            f"{device},bootindex={number}"]  # fmt: skip


@contextlib.contextmanager
def started(
    disk: Path, work: Path, *, tpm: bool = True, disks: Sequence[Path] = (), sticks: Sequence[Path] = (),
    memory_mib: int = 2048, words: str = "", key: Path | None = None, from_stick: bool = False, secure_boot: bool = False,
    memory: Path | None = None,
) -> Iterator[Machine]:  # fmt: skip
    """The machine, running until the end of the block and then cut off. Firmware and TPM remember what `work` holds.

    `disks` are further ones, `sticks` are on USB; `from_stick` starts from the first of those. `words` go to the kernel's
    command line; `key` is the private key that root inside accepts. With `secure_boot` the firmware starts only what
    `STRICT_KEY` signed. With the `memory` of a frozen machine it goes on where that one was, whose clock it has.
    """
    work.mkdir(parents=True, exist_ok=True)
    variables, serial, control = work / "firmware.fd", work / "serial.log", work / "control"
    if not variables.exists():
        shutil.copy(_STRICT_VARS if secure_boot else _VARS, variables)
    with serial.open("ab") as log:
        log.write(_POWER.encode())
    accelerator = os.environ.get("QANUN_ACCEL", "tcg,thread=multi")
    port, ssh_port = _port(), _port()
    order = [(path, "usb") for path in sticks] if from_stick else []
    order += [(path, "virtio") for path in (disk, *disks)]
    order += [] if from_stick else [(path, "usb") for path in sticks]
    typed = serial.with_suffix(".in")
    command: list[object] = [
        "qemu-system-x86_64", "-machine", "q35,smm=on" if secure_boot else "q35",
        *(_STRICT if secure_boot else ()), "-accel", accelerator, "-cpu", os.environ.get("QANUN_CPU", _CPU), "-m", memory_mib, "-smp", processors(),
        "-display", "none", "-nodefaults", "-no-user-config", "-device", "virtio-rng-pci", "-device", "VGA",
        "-drive", f"if=pflash,format=raw,readonly=on,file={_STRICT_CODE if secure_boot else _CODE}", "-drive", f"if=pflash,format=raw,file={variables}",
        "-device", "qemu-xhci,id=xhci",
        *(word for number, (path, bus) in enumerate(order, 1) for word in _drive(number, path, bus)),
        "-netdev", f"user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:443,hostfwd=tcp:127.0.0.1:{ssh_port}-:22",
        "-device", "virtio-net-pci,netdev=n0", "-qmp", f"unix:{control},server=on,wait=off",
        "-chardev", f"socket,id=serial,path={typed},server=on,wait=off,logfile={serial},logappend=on",
        "-serial", "chardev:serial", "-smbios", "type=1,uuid=c0a5f4e2-0000-4000-8000-0000000000ff",
    ]  # fmt: skip
    # On a busy host an emulated machine's first timer ticks come too late for the kernel, which then stands still.
    words = f"no_timer_check {words}".strip()
    command += ["-smbios", f"type=11,value=io.systemd.stub.kernel-cmdline-extra={words}"]
    chip = None
    if tpm:
        if not (work / "tpm").exists():
            _chip(work / "tpm")
        channel = work / "tpm.sock"
        channel.unlink(missing_ok=True)
        chip = subprocess.Popen(["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={work / 'tpm'}", "--ctrl",
                                 f"type=unixio,path={channel}", "--terminate"])  # fmt: skip
        for _ in range(200):
            if channel.exists():
                break
            time.sleep(0.05)
        command += ["-chardev", f"socket,id=tpm,path={channel}", "-tpmdev", "emulator,id=tpm0,chardev=tpm",
                    "-device", "tpm-crb,tpmdev=tpm0"]  # fmt: skip
    if memory is not None:
        command += ["-incoming", f"exec:cat {shlex.quote(str(memory))}"]
    process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL)
    try:
        machine = Machine(process, port, ssh_port, serial, control, key)
        machine.forget_the_way_in()
        yield machine
    finally:
        for one in (process, chip):
            if one is not None and one.poll() is None:
                one.terminate()
                try:
                    one.wait(20)
                except subprocess.TimeoutExpired:
                    one.kill()
                    one.wait()
