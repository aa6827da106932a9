"""The installer from its stick, on an emulated machine: with a file that answers everything, and with somebody at the console."""

import json

import pytest
from qanun_images import vm, vm_disks
from qanun_images.places import MIB
from qanun_images.slot import LOADER

from images.tests import machines
from images.tests.machines import PATIENCE
from images.tests.operating import play

pytestmark = pytest.mark.long

UNASKED = 'version = 1\nonto = "only"\nthen = "poweroff"\n'


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("install")


@pytest.fixture(scope="module")
def key(work):
    return machines.ssh_key(work)


def stick(releases, target, site, unasked=None):
    """The stick as somebody prepared it on another machine."""
    target.write_bytes((releases.first / "installer.raw").read_bytes())
    vm_disks.give(target, "qanun/site.toml", site.encode(), target.parent)
    if unasked is not None:
        vm_disks.give(target, "qanun/install.toml", unasked.encode(), target.parent)
    return target


@pytest.fixture(scope="module")
def installed(releases, lived, work, key):
    """A blank disk after the installer has been there without anybody; the stick is left in. The machine had a Qanun before, on
    another disk that its TPM opens."""
    lived.chip(work / "machine")
    disk = vm_disks.blank(work / "server.qcow2", 12 * 1024)
    used = stick(releases, work / "stick.raw", machines.site(key), UNASKED)
    with vm.started(disk, work / "machine", key=key, sticks=[used], from_stick=True) as machine:
        machine.process.wait(PATIENCE)
        said = machine.printed()
    return disk, used, said


def on_stick(disk, name, work):
    return vm_disks.taken(disk, f"qanun/{name}", work).decode()


def test_with_a_file_nothing_is_asked_and_the_machine_switches_itself_off(installed, work):
    _, used, said = installed
    assert "Qanun is installed" in said and "https://clinic.lan" in said, said[-3000:]
    assert "reading back what was written" in said
    noted = on_stick(used, "install.log", work)
    assert "Qanun is installed" in noted and "stopped" not in noted


def test_a_stick_that_is_left_in_and_a_disk_with_a_qanun_are_not_touched_unless_named(installed, releases, work, key):
    before = machines.digest(installed[0])
    again = stick(releases, work / "again.raw", machines.site(key), UNASKED.replace("poweroff", "stay"))
    with vm.started(installed[0], work / "machine", key=key, sticks=[again], from_stick=True) as machine:
        machine.wait_printed("Not installed: vda holds a Qanun", PATIENCE)
        assert "copied" not in machine.printed()
    assert machines.digest(installed[0]) == before


@pytest.fixture(scope="module")
def old(lived, work):
    """The disk of the clinic that lived here before, as it was taken out: (path, digest)."""
    disk = vm_disks.over(lived.disk, work / "old.qcow2")
    return disk, machines.digest(disk)


@pytest.fixture(scope="module")
def server(installed, old, work, key):
    """The machine that the stick left behind, running, with a blank disk and the old one in it."""
    second = vm_disks.blank(work / "second.qcow2", 10 * 1024)
    with vm.started(installed[0], work / "machine", key=key, disks=[second, old[0]]) as machine:
        machine.wait_healthy(PATIENCE)
        yield machine
        machine.switch_off()


def test_the_disk_starts_by_itself_with_the_site_that_the_stick_brought(server, releases, key):
    machines.wait_blessed(server, releases.version)
    assert machines.labels(server) == ["qanun-esp", f"qanun-root-{releases.version}", "_empty", "qanun-var"]
    assert "site.toml" not in server.run("ls /efi/qanun 2>/dev/null", check=False)
    assert server.run("cat /var/lib/qanun/site.toml") == machines.site(key)
    size = (releases.first / "slot.img").stat().st_size
    read = server.run(f"head -c {size} /dev/disk/by-partlabel/qanun-root-{releases.version} | sha256sum")
    assert read.split()[0] == machines.digest(releases.first / "slot.img")


def test_of_two_disks_with_a_qanun_the_one_that_was_started_from_is_used_and_the_other_is_not_touched(server, old):
    """The old disk is still in the machine, whose TPM opens it, when its successor starts for the first time."""
    assert "/dev/vda4" in server.run("cryptsetup status qanun-var")
    assert server.run("ls /efi > /dev/null; findmnt -no SOURCE /efi").split()[-1] == "/dev/vda1"
    assert "/dev/vda2" in server.run("veritysetup status qanun-root")
    # What updates see is the new one's, and the clinic is not the old one.
    told = json.loads(server.run("qanun appliance update status --json"))
    assert [slot["label"] for slot in told["slots"]] == machines.labels(server)[1:3]
    assert machines.written(server) == {"al-razi"}
    found = json.loads(server.run("qanun appliance doctor --json", check=False))["findings"]
    assert [one["values"] for one in found if one["code"] == "disk.another-qanun"] == [{"name": "vdc"}]
    assert "qanun-var" in server.run("lsblk -rno PARTLABEL /dev/vdc")
    assert machines.digest(old[0]) == old[1]


def test_the_same_program_puts_the_image_onto_a_named_disk_over_ssh_and_spares_the_one_in_use(server, releases, work):
    wanted = {"install_onto": "image", "qanun_image": str(releases.first)}
    done = play(server, work, "install.yml", **wanted)
    assert done.code != 0 and "Say onto which disk" in done.said
    before = machines.table(server)
    done = play(server, work, "install.yml", **wanted, install_disk="vda", install_replace="vda")
    assert done.code != 0 and "vda is in use" in done.said, done.said
    assert machines.table(server) == before
    done = play(server, work, "install.yml", **wanted, install_disk="vdb")
    assert done.code == 0 and done.recap["changed"], done.said
    assert server.run("lsblk -rno PARTLABEL /dev/vdb").split() == [
        "qanun-esp",
        f"qanun-root-{releases.version}",
        "_empty",
    ]
    # What the stick wrote onto the disk that runs is what lies here.
    size = (releases.first / "slot.img").stat().st_size
    assert machines.digest(releases.first / "slot.img") in server.run(f"head -c {size} /dev/vdb2 | sha256sum")
    lies = server.run(
        "mount -o ro /dev/vdb1 /mnt/usb && cd /mnt/usb && sha256sum EFI/Linux/* EFI/BOOT/*; cd /; umount /mnt/usb"
    )
    assert dict(reversed(line.split()) for line in lies.splitlines()) == {
        f"EFI/Linux/qanun_{releases.version}+3.efi": machines.digest(releases.slot.boot_file),
        "EFI/BOOT/BOOTX64.EFI": machines.digest(releases.first / LOADER),
    }


def test_a_site_file_with_a_mistake_stops_before_anything_is_written(releases, work, key):
    disk = vm_disks.blank(work / "untouched.qcow2", 12 * 1024)
    before = machines.digest(disk)
    wrong = machines.site(key).replace('slug = "al-razi"', 'slug = "Al Razi"')
    used = stick(releases, work / "wrong.raw", wrong, UNASKED.replace("poweroff", "stay"))
    with vm.started(disk, work / "other", key=key, sticks=[used], from_stick=True) as machine:
        machine.wait_printed("clinic.slug", PATIENCE)
        assert "Not installed" in machine.printed() and "copied" not in machine.printed()
    assert machines.digest(disk) == before


def test_somebody_at_the_console_is_shown_the_disks_and_asked_twice_in_their_language(releases, work, key):
    disk = vm_disks.blank(work / "by-hand.qcow2", 12 * 1024)
    used = stick(releases, work / "by-hand.raw", machines.site(key))
    with vm.started(disk, work / "third", key=key, sticks=[used], from_stick=True) as machine:
        machine.wait_printed("العربية", PATIENCE)
        machine.type("2\n")
        machine.wait_printed("على أي قرص؟", PATIENCE)
        assert "الذاكرة التي بدأت منها" in machine.printed() and "vda" in machine.printed()
        machine.type("sda\n")
        machine.wait_printed("sda هو الذاكرة التي بدأت منها", PATIENCE)
        machine.type("vda\n")
        machine.wait_printed("سيُمحى كل ما على vda", PATIENCE)
        machine.type("no\n")
        machine.wait_printed("لم يتغيّر شيء", PATIENCE)
        machine.type("vda\n")
        machine.type("vda\n")
        machine.wait_printed("اكتمل تثبيت قانون", PATIENCE)
    assert disk.stat().st_size > 400 * MIB
