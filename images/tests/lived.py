"""Machines that others go on from: a clinic that has lived for a while, and a bare one that waits for somebody.

Each is made once for a run and frozen as it stands, disk and memory; every suite that wants one goes on from there with one of its
own. An emulated first start alone takes two to three minutes.
"""

import contextlib
import fcntl
import shutil
import time

from qanun_images import vm, vm_disks

from images.tests import machines
from images.tests.machines import PATIENCE

#: The release that comes after what is installed.
NEXT = "0.1.1"


def stage(name):
    """The command that puts a release from the stick beside what runs."""
    return f"qanun appliance update stage /mnt/usb/{name} --without-backup test"


class Frozen:
    """What a machine left when it was frozen: its disk, its firmware and TPM, its memory. Made once for a build by `_make`."""

    name: str

    def __init__(self, releases):
        self.releases, self.folder = releases, releases.folder / self.name
        self.disk, self.memory = self.folder / "disk.qcow2", self.folder / "memory"
        made_by = self.folder / "made-by"
        # Memory can be gone on with by a machine of the same make alone.
        made = f"{releases.slot.roothash} {vm.processors()}"
        with (releases.folder / f"{self.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made_by.exists() or made_by.read_text() != made:
                shutil.rmtree(self.folder, ignore_errors=True)
                self.folder.mkdir()
                self._make()
                made_by.write_text(made)

    def machine(self, work):
        """Firmware and TPM of another machine like it, in `work`."""
        self.chip(work)
        shutil.copy(self.folder / "machine/firmware.fd", work)
        return work

    def chip(self, work):
        """The TPM alone: what opens the disk to the machine that it was made in."""
        shutil.copytree(self.folder / "machine/tpm", work / "tpm")


class Lived(Frozen):
    """A clinic, with the disk of its backups and the key that root inside accepts."""

    name = "lived"

    def __init__(self, releases):
        super().__init__(releases)
        self.key, self.backup = machines.ssh_key(self.folder), self.folder / "backup.raw"

    def _make(self):
        key = machines.ssh_key(self.folder)
        base = self.releases.disk(self.folder)
        vm_disks.give(base, "qanun/site.toml", machines.site(key).encode(), self.folder)
        vm_disks.over(base, self.disk, 12 * 1024)
        backup = machines.backup_disk(self.folder / "backup.raw")
        with vm.started(self.disk, self.folder / "machine", key=key, disks=[backup]) as machine:
            told_healthy(machine)
            machines.wait_blessed(machine, self.releases.version)
            machines.seed(machine)
            machine.run("qanun appliance backup && qanun appliance drill", timeout=PATIENCE)
            machine.freeze(self.memory)


class Bare(Frozen):
    """A machine as it came out of its box, without a disk for backups, waiting for somebody who reads the `code` on its screen."""

    name = "bare"

    def __init__(self, releases):
        super().__init__(releases)
        self.code = (self.folder / "code").read_text()

    def _make(self):
        vm_disks.over(self.releases.first / "disk.raw", self.disk, 12 * 1024)
        with vm.started(self.disk, self.folder / "machine") as machine:
            machine.wait_printed("type this code:", PATIENCE)
            machines.wait_for(lambda: machine.get("/health", machines.BARE)[0] == 503, "the pages answer")
            print(f"the code after {machine.worked():.0f} s of a processor")
            (self.folder / "code").write_text(machines.code_of(machine))
            machine.freeze(self.memory)

    @contextlib.contextmanager
    def running(self, work, key=None):
        """One that goes on from there: (the machine, its disk)."""
        disk = vm_disks.over(self.disk, work / "bare.qcow2")
        with vm.started(disk, self.machine(work / "machine"), key=key, memory=self.memory) as machine:
            machines.wait_for(lambda: machine.get("/health", machines.BARE)[0] == 503, "the pages answer")
            yield machine, disk


class Clinic:
    """One that goes on from what was lived; it can be cut off and started again. Everything else is the running machine's."""

    def __init__(self, lived, stick, work):
        self.key, self.work = lived.key, work
        self.disk = vm_disks.over(lived.disk, work / "clinic.qcow2")
        self.backup = vm_disks.over(lived.backup, work / "backup.qcow2")
        self.stick = stick
        self._start(
            vm.started(
                self.disk, lived.machine(work / "machine"), key=self.key, disks=[self.backup], memory=lived.memory
            )
        )
        told_healthy(self.machine)
        self.machine.run(f"date --set=@{time.time():.0f}")
        self.machine.plug_in(stick)
        self._find_stick()

    def start(self):
        self._start(
            vm.started(self.disk, self.work / "machine", key=self.key, disks=[self.backup], sticks=[self.stick])
        )
        told_healthy(self.machine)
        self._find_stick()

    def _start(self, opened):
        self._open = opened
        self.machine = opened.__enter__()

    def _find_stick(self):
        self.machine.run(
            "timeout 60 sh -c 'until test -e /dev/disk/by-label/RELEASES; do sleep 1; done';"
            " mountpoint -q /mnt/usb || mount -o ro /dev/disk/by-label/RELEASES /mnt/usb"
        )

    def end(self):
        self._open.__exit__(None, None, None)

    def cut(self):
        self.machine.cut()
        self.end()

    def __getattr__(self, name):
        return getattr(self.machine, name)


def told_healthy(machine):
    """Waits for it, and says how long that took."""
    print(f"/health after {machine.wait_healthy(PATIENCE):.0f} s, {machine.worked():.0f} s of a processor")
