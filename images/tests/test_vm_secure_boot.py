"""A machine whose firmware starts only what was signed: the signed image starts, the other and a changed one do not.

./tests/run images/tests/test_vm_secure_boot.py --long
"""

import shutil
import subprocess

import pytest
from bootstrap import Steps
from qanun_images import disk, secure_boot, vm, vm_disks
from qanun_images.slot import LOADER, Slot

from images.tests import machines
from images.tests.machines import PATIENCE

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("secure-boot")


@pytest.fixture(scope="module")
def key(work):
    return machines.ssh_key(work)


@pytest.fixture(scope="module")
def signed(releases, work, key):
    """The build's disk as `--secure-boot-key` makes it, with the key that this firmware knows."""
    folder = work / "signed"
    folder.mkdir()
    for path in (releases.slot.image, releases.slot.boot_file, releases.slot.installer_file, releases.first / LOADER):
        shutil.copyfile(path, folder / path.name)
    opened = work / "key.pem"
    subprocess.run(
        ["openssl", "pkey", "-in", vm.STRICT_KEY, "-passin", "pass:snakeoil", "-out", opened],
        check=True,
        capture_output=True,
    )
    one = releases.slot
    made = Slot(folder, one.version, one.epoch, one.roothash, one.source)
    signer = secure_boot.given(opened, vm.STRICT_CERTIFICATE)
    steps = Steps(1)
    with steps.step("Disk, signed"):
        secure_boot.sign(made, signer)
        target = disk.disk(steps, made)
    vm_disks.give(target, "qanun/site.toml", machines.site(key).encode(), work)
    return target


def test_firmware_that_wants_signatures_does_not_start_what_has_none(releases, work):
    unsigned = vm_disks.over(releases.first / "disk.raw", work / "unsigned.qcow2", 12 * 1024)
    with vm.started(unsigned, work / "refusing", secure_boot=True) as machine:
        machine.wait_printed("Access Denied", PATIENCE)
        assert "systemd-boot" not in machine.printed() and "Linux version" not in machine.printed()


def test_a_boot_file_with_one_other_byte_is_not_started(signed, releases, work):
    changed = work / "changed.raw"
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", signed, changed], check=True)
    name = f"EFI/Linux/qanun_{releases.version}+3.efi"
    content = bytearray(vm_disks.taken(changed, name, work))
    # In the middle of the kernel, far from every header.
    content[len(content) // 2] ^= 1
    vm_disks.give(changed, name, bytes(content), work)
    with vm.started(changed, work / "changed", secure_boot=True) as machine:
        # The loader is signed and starts; what it is to load is not what was signed.
        machine.wait_printed("Access denied", PATIENCE)
        assert "First start" not in machine.printed()


def test_the_signed_image_starts_to_the_page_and_its_disk_is_bound_to_that(signed, work, key):
    run = vm_disks.over(signed, work / "signed.qcow2", 12 * 1024)
    with vm.started(run, work / "accepting", key=key, secure_boot=True) as machine:
        machine.wait_healthy(PATIENCE)
        state = machine.run("od -An -tu1 -j4 /sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c")
        assert state.split() == ["1"]
        assert "systemd-tpm2" in machine.run("cryptsetup luksDump /dev/disk/by-partlabel/qanun-var")
        # What counts the tries writes to the start-up partition, and the boot file keeps its signature under its new name.
        machines.wait_blessed(machine, machine.run("cat /usr/lib/qanun/slot").strip())
        boot = machine.boot()
        machine.run("systemctl reboot", check=False)
        machine.wait_started_again(boot, PATIENCE)
