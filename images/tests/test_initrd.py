"""What the start-up file does before there is a system, run in the very files that it has, with disks that are only described.

The kernel's folders (/proc, /sys, /dev) are made up, and so is what would open the root: which partition it is asked to open is the
question.
"""

import os
import shutil
import stat
import subprocess

import pytest
from bootstrap import Steps
from qanun_images import tools

SCRIPT = "/scripts/local-top/qanun-verity"
SLOT = "qanun-root-0.1.0"
#: Every program that is not to do its work here says what it was called with.
STANDS_IN = '#!/bin/sh\necho "${0##*/} $*" >> /asked\n'
FIRST, SECOND = "da03b5a3-4c52-4b3f-9d0a-000000000001", "da03b5a3-4c52-4b3f-9d0a-000000000002"


def archives(content):
    """Each part of a start-up file: several cpio archives in a row, the last of them compressed as a whole."""
    at = 0
    while at < len(content):
        if content[at : at + 6] == b"070701":
            end = content.index(b"TRAILER!!!", at)
            end += 12 + (-end - 12) % 4
            yield content[at:end]
            at = end
        elif content[at] == 0:
            at += 1
        else:
            yield content[at:]
            return


def unpack(archive, target):
    """Files, folders and links of a cpio archive ("newc")."""
    at = 0
    while True:
        fields = [int(archive[at + 6 + 8 * number : at + 14 + 8 * number], 16) for number in range(13)]
        mode, size, length = fields[1], fields[6], fields[11]
        name = archive[at + 110 : at + 110 + length - 1].decode()
        if name == "TRAILER!!!":
            return
        start = at + 110 + length
        start += -start % 4
        content = archive[start : start + size]
        at = start + size + (-size) % 4
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if stat.S_ISDIR(mode):
            path.mkdir(exist_ok=True)
        elif stat.S_ISLNK(mode):
            path.symlink_to(content.decode())
        elif stat.S_ISREG(mode):
            path.write_bytes(content)
            path.chmod(mode & 0o7777)


@pytest.fixture(scope="module")
def unpacked(built, tmp_path_factory):
    """The start-up file's own programs and scripts."""
    place = tmp_path_factory.mktemp("initrd")
    *_, last = archives((built.folder / "initrd").read_bytes())
    (place / "last.zst").write_bytes(last)
    (place / "last").write_bytes(b"")
    steps = Steps(1)
    with steps.step("Tools"):
        bench = tools.make(steps)
    binds = {place / "last.zst": "/run/last.zst", place / "last": "/run/last"}
    tools.run_in(bench, ["sh", "-euc", "zstd -qdc /run/last.zst > /run/last"], binds=binds, epoch=0)
    root = place / "root"
    root.mkdir()
    unpack((place / "last").read_bytes(), root)
    return root


class Start:
    """A start with these disks: `disks` are (name → partitions' names, the first of them with the identity given)."""

    def __init__(self, root, noted, model="Some", flags="fpu sse2"):
        self.root = root
        self.write("proc/cmdline", f"quiet qanun.slot={SLOT} qanun.roothash=abc qanun.hashoffset=4096 ro\n")
        self.write("proc/cpuinfo", f"processor\t: 0\nmodel name\t: {model}\nflags\t\t: {flags}\nbugs\t\t: sha_ni\n")
        if noted:
            name = "LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
            content = b"\x06\0\0\0" + noted.encode("utf-16-le") + b"\0\0"
            self.write(f"sys/firmware/efi/efivars/{name}", content)
        for name in ("modprobe", "veritysetup", "mount"):
            found = [place for place in ("usr/sbin", "usr/bin") if (root / place / name).exists()]
            assert found, f"{name} is in the start-up file"
            self.write(f"{found[0]}/{name}", STANDS_IN, 0o755)

    def write(self, name, content, mode=0o644):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(mode)

    def disk(self, name, minor, identity, *labels):
        inside = self.root / "sys/devices" / name
        self.write(f"sys/devices/{name}/dev", f"254:{minor}\n")
        (self.root / "sys/class/block").mkdir(parents=True, exist_ok=True)
        for number, label in enumerate(labels, 1):
            part = f"{name}{number}"
            self.write(f"sys/devices/{name}/{part}/uevent", f"DEVNAME={part}\nDEVTYPE=partition\nPARTNAME={label}\n")
            (self.root / "sys/class/block" / part).symlink_to(f"../../devices/{inside.name}/{part}")
            (self.root / "dev").mkdir(exist_ok=True)
            os.mknod(self.root / "dev" / part, stat.S_IFBLK | 0o600, os.makedev(254, minor + number))
            if label == SLOT:
                self.link(f"by-partlabel/{label}", part)
        self.link(f"by-partuuid/{identity}", f"{name}1")

    def link(self, name, part):
        path = self.root / "dev/disk" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(f"../../{part}")

    def opened(self):
        """What was asked of whom; the rule for the system that comes after."""
        done = subprocess.run(
            ["chroot", self.root, "/bin/sh", SCRIPT], capture_output=True, text=True, timeout=60, check=False
        )
        asked = (self.root / "asked").read_text().splitlines()
        assert done.returncode == 0, (done.stdout, done.stderr, asked)
        assert "not found" not in done.stderr, done.stderr
        rule = (self.root / "run/udev/rules.d/90-qanun.rules").read_text()
        return asked, rule


@pytest.fixture
def start(unpacked, tmp_path):
    def make(noted, **how):
        root = tmp_path / "root"
        shutil.copytree(unpacked, root, symlinks=True)
        return Start(root, noted, **how)

    return make


def both(start):
    # The second one comes last and takes the name.
    start.disk("vda", 0, FIRST, "qanun-esp", SLOT, "_empty", "qanun-var")
    start.disk("vdb", 16, SECOND, "qanun-esp", SLOT, "_empty")
    return start


@pytest.mark.parametrize(("noted", "device", "number"), [(FIRST, "vda2", "254:0"), (SECOND, "vdb2", "254:16")])
def test_of_two_disks_with_the_same_release_the_one_that_was_started_from_is_taken(start, noted, device, number):
    asked, rule = both(start(noted)).opened()
    assert f"veritysetup open /dev/{device} qanun-root /dev/{device} abc --hash-offset=4096" in asked
    assert (
        f'ENV{{ID_PART_ENTRY_DISK}}=="{number}"' in rule and 'SYMLINK+="disk/by-qanun/$env{ID_PART_ENTRY_NAME}"' in rule
    )


def test_firmware_that_notes_nothing_gets_the_release_by_its_name(start):
    made = start("")
    made.disk("sda", 0, FIRST, "qanun-esp", "_empty", SLOT)
    asked, rule = made.opened()
    assert "veritysetup open /dev/sda3 qanun-root /dev/sda3 abc --hash-offset=4096" in asked
    assert '"254:0"' in rule


@pytest.mark.parametrize(
    ("model", "flags", "loaded"),
    [
        ("A real one", "fpu avx2 sha_ni sse2", True),
        ("A real one", "fpu avx2 sse2", True),
        ("QEMU TCG CPU version 2.5+", "fpu avx2 sha_ni", True),
        ("QEMU TCG CPU version 2.5+", "fpu avx2 xsha_ni", False),
    ],
)
def test_the_fast_ways_to_sha256_are_there_before_the_root_but_where_they_are_slower(start, model, flags, loaded):
    asked, _ = both(start(FIRST, model=model, flags=flags)).opened()
    assert ("modprobe -q sha256_ssse3" in asked) == loaded
    order = [line for line in asked if "sha256" in line or line.startswith("veritysetup")]
    assert order[-1].startswith("veritysetup")
    assert "modprobe -q dm_verity" in asked
