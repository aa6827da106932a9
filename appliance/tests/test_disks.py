"""Disks for backups: only what is not the machine's own is offered, nothing that holds anything is erased, and a site that names one has
it mounted by its file system's name."""

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys

import pytest

from appliance.tests.boxes import blank as another_machine
from appliance.tests.boxes import quiet
from appliance.tests.test_stores import reports_kept
from qanun.api import ConfigurationError, Unavailable
from qanun.app import SystemService
from qanun.app.build import gather
from qanun_appliance.apply import apply
from qanun_appliance.backup import back_up, restore, store_at
from qanun_appliance.backup.restore import Wish
from qanun_appliance.places import Places
from qanun_appliance.render import Machine
from qanun_appliance.site import parse_site
from qanun_appliance.site_table import SiteFault
from qanun_appliance.wizard import disks

GB = 1_000_000_000


def disk(name, *children, **more):
    usual = {"name": name, "path": f"/dev/{name}", "type": "disk", "size": 500 * GB, "ro": False, "mountpoints": [None]}
    return {**usual, **({"children": list(children)} if children else {}), **more}


def part(name, **more):
    return {"name": name, "path": f"/dev/{name}", "type": "part", "size": 400 * GB, "mountpoints": [None], **more}


OWN = disk(
    "sda", part("sda1", partlabel="qanun-esp", fstype="vfat", uuid="AAAA-BBBB", mountpoints=["/efi"]),
    part("sda4", partlabel="qanun-var", fstype="crypto_LUKS", uuid="luks"), pttype="gpt",
)  # fmt: skip


def test_the_machines_own_disks_are_never_offered():
    bought = disk("sdb", part("sdb1", fstype="exfat", uuid="1A2B-3C4D", label="KEEP"), pttype="dos", model="Portable ")
    raid = disk("sdc", {"type": "raid1", "name": "md0", "mountpoints": [None], "fstype": "ext4", "uuid": "u"})
    stock = disk("sdd", part("sdd1", fstype="ext4", uuid="root", mountpoints=["/"]), pttype="gpt")
    small, closed = disk("sde", size=GB // 2), disk("sdf", ro=True)
    [only] = disks.found([OWN, bought, raid, stock, small, closed])
    assert (only.choice, only.name, only.label, only.kind, only.gigabytes) == (
        "disk:1A2B-3C4D", "Portable", "KEEP", "exfat", "400",
    )  # fmt: skip
    assert disks.uuid_of(only.choice) == "1A2B-3C4D" and not only.blank


def test_only_a_disk_that_says_nothing_of_itself_counts_as_empty():
    new = disk("sdb", serial="S3R1AL")
    parted = disk("sdc", part("sdc1"), pttype="gpt")
    foreign = disk("sdd", part("sdd1", fstype="ntfs", uuid="0123456789ABCDEF"), pttype="gpt")
    encrypted = disk("sde", fstype="crypto_LUKS", uuid="u")
    offered = [(one.path, one.choice) for one in disks.found([new, parted, foreign, encrypted])]
    assert offered == [("/dev/sdb", "blank:S3R1AL"), ("/dev/sdc", ""), ("/dev/sdd1", ""), ("/dev/sde", "")]


@contextlib.contextmanager
def plugged_in(backing, size):
    """A true block device with nothing on it; its path."""
    if os.geteuid() != 0 or shutil.which("losetup") is None or shutil.which("mkfs.ext4") is None:
        pytest.skip("a loop device needs root")
    with backing.open("wb") as file:
        file.truncate(size)
    made = subprocess.run(["losetup", "--find", "--show", backing], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no loop device here: {made.stderr.strip()}")
    node = made.stdout.strip()
    try:
        yield node
    finally:
        subprocess.run(["losetup", "--detach", node], check=False)


@pytest.fixture
def plugged(tmp_path):
    with plugged_in(tmp_path / "disk", 64 * 1024 * 1024) as node:
        yield node


def blank(node):
    return disks.BackupDisk(choice="blank:S3R1AL", name="New", size=2 * GB, label="", kind="", path=node)


def test_an_empty_disk_gets_a_file_system_by_the_name_that_the_site_says(plugged):
    disks.make_ready("blank:S3R1AL", [blank(plugged)])
    told = subprocess.run(
        ["blkid", "--probe", "--output", "export", plugged], capture_output=True, text=True, check=True
    )
    known = dict(line.split("=", 1) for line in told.stdout.splitlines() if "=" in line)
    assert (known["TYPE"], known["LABEL"], known["UUID"]) == ("ext4", "QANUN-BACKUP", disks.uuid_of("blank:S3R1AL"))


@pytest.mark.parametrize("holds", ["files", "something that nobody knows", "a table of partitions"])
def test_a_disk_that_holds_anything_is_not_touched_whatever_somebody_believes(plugged, holds):
    """What the pages were told may be out of date, or wrong where nobody asked the disk: root looks itself."""
    if holds == "files":
        subprocess.run(["mkfs.ext4", "-q", plugged], check=True)
    elif holds == "a table of partitions":
        subprocess.run(["sfdisk", "--quiet", plugged], input=b"label: gpt\n,,L\n", check=True, capture_output=True)
    else:
        with open(plugged, "r+b") as device:
            device.seek(2_000_000)
            device.write(b"the only copy")
    with open(plugged, "rb") as device:
        before = device.read()
    with pytest.raises(ConfigurationError, match="not empty"):
        disks.make_ready("blank:S3R1AL", [blank(plugged)])
    with open(plugged, "rb") as device:
        assert device.read() == before
    with pytest.raises(ConfigurationError, match="not plugged in any more"):
        disks.make_ready("blank:OTHER", [blank(plugged)])


def test_a_disk_is_mounted_where_backups_go_and_only_there(site_table, tmp_path):
    site_table["backup"] = {"disk": "1A2B-3C4D"}
    site = parse_site(site_table)
    assert site.backup.target == "/mnt/backup"
    on = Machine(memory_mb=4096, cores=2, postgres_bin="/usr/lib/postgresql/17/bin")
    places = Places(tmp_path / "root", tmp_path)
    apply(site, places, gather()[0].all(SystemService), on, [])
    units = places.real("/etc/systemd/system")
    assert "What=/dev/disk/by-uuid/1A2B-3C4D\nWhere=/mnt/backup" in (units / "mnt-backup.mount").read_text()
    assert (units / "multi-user.target.wants/mnt-backup.automount").is_symlink()
    assert "mnt-backup.automount" in (units / "qanun.target").read_text()
    assert (units / r"dev-disk-by\x2duuid-1A2B\x2d3C4D.device.d/qanun.conf").exists()
    assert "ReadWritePaths=-/mnt/backup\n" in (units / "qanun-backup.service").read_text()
    site_table["backup"] = {"target": "/mnt/backup"}
    apply(parse_site(site_table), places, gather()[0].all(SystemService), on, [])
    assert not (units / "mnt-backup.mount").exists()
    site_table["backup"] = {"disk": "1A2B-3C4D", "target": "/srv/backup"}
    with pytest.raises(SiteFault, match="lies elsewhere"):
        parse_site(site_table)
    site_table["backup"] = {"disk": "../../sda"}
    with pytest.raises(SiteFault, match=r"backup\.disk"):
        parse_site(site_table)


def test_the_words_of_lsblk_are_those_that_are_read():
    listed = subprocess.run(
        ["lsblk", "--json", "--bytes", "--output", disks._COLUMNS], capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip(listed.stderr)
    for one in json.loads(listed.stdout)["blockdevices"]:
        assert {"name", "path", "type", "size", "fstype", "uuid", "ro", "pttype", "mountpoints"} <= set(one), (
            sys.platform
        )


@pytest.mark.long
def test_a_clinic_saved_on_a_disk_comes_back_from_it_on_another_machine(box, shared_folder):
    """Plugged in, out, and into another machine; while it is out nothing lands in its place."""
    here, there = shared_folder / "mnt", shared_folder / "elsewhere"
    here.mkdir()
    there.mkdir()
    site = dataclasses.replace(box.site, backup=dataclasses.replace(box.site.backup, target=str(here / "qanun")))
    with plugged_in(shared_folder / "disk", 2 * GB) as node, reports_kept(box):
        disks.make_ready("blank:S3R1AL", [blank(node)])
        mount(node, here)
        try:
            (here / "qanun").mkdir()
            taken = back_up(site, box.places, box.live, say=quiet)
        finally:
            unmount(here)
        with pytest.raises(Unavailable, match="plugged in"):
            back_up(site, box.places, box.live, say=quiet)
        assert list(here.iterdir()) == []
        assert taken["well"]
        new = another_machine(shared_folder, "new")
        mount(node, there)
        try:
            key = (box.places.secrets / "backup-key").read_text()
            done = restore(store_at(new, str(there / "qanun"), key), new, Wish(latest=False), say=quiet)
        finally:
            unmount(there)
    assert (
        done["rows"] == taken["rows"]
        and (new.keys / "master.key").read_bytes() == (box.places.keys / "master.key").read_bytes()
    )


def mount(node, folder):
    subprocess.run(["mount", node, folder], check=True)


def unmount(folder):
    subprocess.run(["umount", folder], check=True)
