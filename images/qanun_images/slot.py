"""One slot: the tree with Debian, the application and what makes it a box; as one file with its hashes; and its boot file.

`slot.img` is an erofs file system followed by the tree of its hashes (dm-verity). The hash over all of them is in the boot
file's command line, so a boot file starts exactly one slot. Both are written to a partition and to the start-up partition
as they are, by the installer and by updates.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bootstrap import Missing, Steps

from qanun_images import application, lock, tools, wheels
from qanun_images.places import HERE, SLOT_BUDGET, version

_NAMES = uuid.UUID("c0a5f4e2-51c7-4d44-9f0e-6a2b1d2f7a11")
_BLOCK = 4096
#: The boot loader, as it lies beside the slot and on every start-up partition.
LOADER = "systemd-bootx64.efi"
# Debian's own account of what is installed would go stale on a var that outlives the slot; the list in /usr stays true.
_GONE = (
    "var/lib/dpkg", "var/lib/apt", "var/cache", "var/log", "var/backups", "var/lib/ucf", "var/lib/ieee-data", "var/lib/pam", "var/lib/python",
    "var/lib/systemd/deb-systemd-helper-enabled", "var/lib/systemd/deb-systemd-user-helper-enabled", "var/tmp", "var/mail",
    "var/local", "var/opt", "var/lock", "var/run", "var/spool", "var/lib/initramfs-tools", "var/lib/dbus",
)  # fmt: skip


# Programs that look, at every start and before anything else, for what this box never has: other init systems' scripts, clusters
# in Debian's order, disks to find by their kind, a sleep to wake from. The one of SSH would even open sshd on the hypervisor's own
# line, whatever the site file says of it.
_NOT_ASKED = (
    "postgresql-generator", "systemd-gpt-auto-generator", "systemd-hibernate-resume-generator", "systemd-integritysetup-generator",
    "systemd-rc-local-generator", "systemd-run-generator", "systemd-ssh-generator", "systemd-system-update-generator",
    "systemd-sysv-generator",
)  # fmt: skip
# Nobody but root signs in on the box: of Debian's programs that lend root's rights, only these are of use.
_PRIVILEGED = frozenset({"unix_chkpwd", "dbus-daemon-launch-helper"})
# The appliance's own `apply` writes the units, so that there is one place that knows them; of a box that has no site yet,
# only that it waits for one.
_STATIC = r"""
root=/run/sample
mkdir -p $root/usr/lib/postgresql $root/var/lib/qanun
cp -r --no-dereference /usr/lib/postgresql/[0-9]* $root/usr/lib/postgresql/
cd /run
export QANUN_CODE_DIR=/opt/qanun/bin PYTHONDONTWRITEBYTECODE=1
/opt/qanun/bin/qanun appliance apply --root $root --site /run/site.toml > /run/said || { cat /run/said; exit 1; }
/opt/qanun/bin/qanun appliance services > /run/services.json
install -m 644 /run/services.json /opt/qanun/share/qanun/services.json
units=/usr/lib/systemd/system
cd $root/etc/systemd/system
for name in qanun-apply.service qanun-restored.service qanun-prepare.service qanun-health.service qanun-setup.service qanun-setup-*; do
    install -m 644 $name $units/$name
done
printf '[Unit]\nDescription=Qanun\n' > $units/qanun.target
mkdir -p $units/qanun-health.service.d
printf '[Unit]\nConditionPathExists=/var/lib/qanun/site.toml\n' > $units/qanun-health.service.d/waits-for-a-site.conf
"""


@dataclass(frozen=True, slots=True)
class Slot:
    """What a build left in its folder. `roothash` is hexadecimal."""

    folder: Path
    version: str
    epoch: int
    roothash: str
    source: str

    @property
    def image(self) -> Path:
        return self.folder / "slot.img"

    @property
    def boot_file(self) -> Path:
        return self.folder / f"qanun_{self.version}.efi"

    @property
    def installer_file(self) -> Path:
        """Starts the slot's installer from a stick."""
        return self.folder / f"qanun-installer_{self.version}.efi"

    @property
    def tree(self) -> Path:
        return self.folder / "tree"


def identity(what: str) -> str:
    """A UUID that is the same in every build of the same thing."""
    return str(uuid.uuid5(_NAMES, what))


def build(
    steps: Steps,
    folder: Path,
    *,
    sources: Path,
    base_tar: Path,
    label: str | None = None,
    trusted: Path | None = None,
    firmware: bool = False,
) -> Slot:
    """Build into `folder` (made anew) from copied sources and a base. `label` is another version for tests of updates;
    `trusted` lists the public keys whose releases the box takes (base64 of 32 bytes, one a line).
    """
    release = label or version()
    epoch = lock.read(lock.DEBS).epoch
    bench = tools.make(steps)
    shutil.rmtree(folder, ignore_errors=True)
    tree = folder / "tree"
    tree.mkdir(parents=True)
    folder.chmod(0o755)
    tree.chmod(0o755)
    steps.tell("unpacking Debian")
    tools.run_in(
        bench, ["tar", "-xpf", "/in/base.tar", "-C", "/out/tree", "--numeric-owner", "--xattrs", "--xattrs-include=*"],
        binds={base_tar: "/in/base.tar", folder: "/out"}, epoch=epoch,
    )  # fmt: skip
    packages = [f"{deb.name} {deb.version} {deb.architecture}\n" for deb in lock.of_box(firmware=firmware).debs]
    wheels.ours(steps, bench, sources, folder / "wheels", epoch)
    application.install(steps, tree, bench, sources, folder / "wheels", epoch)
    steps.tell("making a box of it")
    _overlay(tree)
    about = tree / "usr/lib/qanun"
    (about / "packages").write_text("".join(packages))
    if trusted is not None:
        shutil.copyfile(trusted, about / "trusted-keys")
        (about / "trusted-keys").chmod(0o644)
    _name(tree, release)
    _units(tree, epoch)
    steps.tell("start-up file system")
    kernel = _start_up(tree, folder, epoch)
    _var(tree)
    _tidy(tree, epoch)
    steps.tell("compressing the root")
    roothash, size = _seal(bench, folder, release, epoch)
    _boot_files(bench, folder, release, epoch, kernel, roothash, size)
    shutil.copyfile(bench / "usr/lib/systemd/boot/efi/systemd-bootx64.efi", folder / LOADER)
    if (folder / "slot.img").stat().st_size > SLOT_BUDGET:
        raise Missing(f"the slot has {(folder / 'slot.img').stat().st_size} bytes; {SLOT_BUDGET} is the most")
    source = hashlib.sha256(
        "".join(f"{path.name} {_sha(path)}\n" for path in sorted((folder / "wheels").iterdir())).encode()
    )
    return Slot(folder, release, epoch, roothash, source.hexdigest())


def _sha(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _overlay(tree: Path) -> None:
    """Our own files, with the two modes that git knows."""
    for path in sorted((HERE / "overlay").rglob("*")):
        target = tree / path.relative_to(HERE / "overlay")
        if path.is_dir():
            target.mkdir(exist_ok=True)
            target.chmod(0o755)
        else:
            shutil.copyfile(path, target)
            target.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    for name in ("efi", "var"):
        (tree / name).mkdir(exist_ok=True)
    (tree / "etc/hostname").write_text("qanun\n")
    (tree / "etc/hosts").write_text("127.0.0.1 localhost qanun\n::1 localhost qanun\n")
    resolv = tree / "etc/resolv.conf"
    resolv.unlink(missing_ok=True)
    resolv.symlink_to("../run/systemd/resolve/stub-resolv.conf")


def again(steps: Steps, made: Slot, folder: Path, label: str, change: Callable[[Path], None] | None = None) -> Slot:
    """Another release out of a build that kept its tree, kernel and start-up files: for tests of updates, which want two
    releases and not two builds. `change` may do something to the new tree."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    steps.tell(f"{made.version} once more, as {label}")
    subprocess.run(["cp", "--archive", "--reflink=auto", made.tree, folder / "tree"], check=True)
    for name in ("vmlinuz", "initrd"):
        shutil.copyfile(made.folder / name, folder / name)
    tree = folder / "tree"
    _name(tree, label)
    if change is not None:
        change(tree)
    bench = tools.make(steps)
    roothash, size = _seal(bench, folder, label, made.epoch)
    kernel = next((tree / "usr/lib/modules").iterdir()).name
    _boot_files(bench, folder, label, made.epoch, kernel, roothash, size)
    return Slot(folder, label, made.epoch, roothash, made.source)


def _name(tree: Path, release: str) -> None:
    (tree / "usr/lib/qanun/slot").write_text(f"{release}\n")
    (tree / "usr/lib/os-release").write_text(
        f'NAME="Qanun"\nID=qanun\nID_LIKE=debian\nPRETTY_NAME="Qanun {release}"\nVERSION_ID="{release}"\n'
        f'IMAGE_ID=qanun\nIMAGE_VERSION="{release}"\nVERSION_CODENAME=trixie\n'
    )


def _units(tree: Path, epoch: int) -> None:
    """The units that must be there before the site is applied, and the list of what starts."""
    # /etc is empty of us at every start: what writes it, and what judges the start, lie in the read-only part.
    for name in _NOT_ASKED:
        (tree / "usr/lib/systemd/system-generators" / name).unlink(missing_ok=True)
    # Nothing here is started by the name of a file of compiled Python.
    for path in (tree / "usr/lib/binfmt.d").glob("python*.conf"):
        path.unlink()
    tools.run_in(tree, ["sh", "-euc", _STATIC], binds={HERE / "sample-site.toml": "/run/site.toml"}, epoch=epoch)
    for wants in (tree / "etc/systemd/system").iterdir():
        if wants.is_symlink():
            wants.unlink()
        elif wants.is_dir() and wants.suffix in {".wants", ".requires"}:
            shutil.rmtree(wants)
    preset = tree / "usr/lib/systemd/system-preset/00-qanun.preset"
    for unit in re.findall(r"^enable (\S+)$", preset.read_text(), re.MULTILINE):
        if not (tree / "usr/lib/systemd/system" / unit).exists():
            raise Missing(f"{preset.name} enables {unit}, which no package brings")
    tools.run_in(tree, ["systemctl", "--root=/", "--quiet", "preset-all"], epoch=epoch)


def _start_up(tree: Path, folder: Path, epoch: int) -> str:
    """The kernel and its start-up file system, out of the tree; returns the kernel's name."""
    kernel = next((tree / "boot").glob("vmlinuz-*"))
    name = kernel.name.removeprefix("vmlinuz-")
    tools.run_in(tree, ["mkinitramfs", "-o", "/mnt/initrd", name], binds={folder: "/mnt"}, epoch=epoch)
    shutil.copyfile(kernel, folder / "vmlinuz")
    for path in (tree / "boot").iterdir():
        path.unlink()
    for link in ("vmlinuz", "vmlinuz.old", "initrd.img", "initrd.img.old"):
        (tree / link).unlink(missing_ok=True)
    return name


def _var(tree: Path) -> None:
    """var comes from the data disk: what packages expect there becomes rules that make it, at every start, if it is missing."""
    for name in _GONE:
        path = tree / name
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() and not path.is_symlink() else path.unlink(
            missing_ok=True
        )
    rules = []
    factory = tree / "usr/share/factory"
    for path in sorted((tree / "var").rglob("*")):
        inside, info = path.relative_to(tree), path.lstat()
        if path.is_symlink():
            rules.append(f"L /{inside} - - - - {os.readlink(path)}\n")
        elif path.is_dir():
            rules.append(f"d /{inside} {stat.S_IMODE(info.st_mode):04o} {info.st_uid} {info.st_gid} -\n")
        else:
            (factory / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, factory / inside)
            os.chown(factory / inside, info.st_uid, info.st_gid)
            rules.append(f"C /{inside} {stat.S_IMODE(info.st_mode):04o} {info.st_uid} {info.st_gid} -\n")
    shutil.rmtree(tree / "var")
    # What starts before the data disk is there, with a private /tmp, wants this folder to put something over.
    for name, mode in (("var", 0o755), ("var/tmp", 0o1777)):
        (tree / name).mkdir()
        (tree / name).chmod(mode)
    (tree / "usr/lib/tmpfiles.d/qanun-var.conf").write_text("".join(rules))


def _tidy(tree: Path, epoch: int) -> None:
    """Nothing of this machine, of this build or of this minute."""
    (tree / "etc/machine-id").write_text("")
    for path in (*tree.glob("etc/*-"), tree / "etc/.pwd.lock"):
        path.unlink(missing_ok=True)
    for folder in (
        "tmp",
        "run",
        "dev",
        "proc",
        "sys",
        "mnt",
        "root",
        "home",
        "srv",
        "opt/qanun/share/qanun/locale/glossary",
    ):
        for path in (tree / folder).iterdir() if (tree / folder).is_dir() else ():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    # Where disks are put that come and go: the root cannot be given a folder later.
    for name in ("backup", "usb"):
        (tree / "mnt" / name).mkdir(mode=0o755)
    for path in _everything(tree):
        info = path.lstat()
        if stat.S_ISREG(info.st_mode) and info.st_mode & 0o6000 and path.name not in _PRIVILEGED:
            path.chmod(stat.S_IMODE(info.st_mode) & 0o1777)
        if info.st_mtime > epoch or path.is_dir():
            os.utime(path, (epoch, epoch), follow_symlinks=False)
    os.utime(tree, (epoch, epoch))


def _everything(tree: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(tree):
        for name in (*folders, *files):
            yield Path(folder) / name


def _seal(bench: Path, folder: Path, release: str, epoch: int) -> tuple[str, int]:
    """erofs with its hashes behind it; returns the hash over all of them, and where they begin."""
    ident = identity(f"slot {release}")
    salt = hashlib.sha256(f"qanun slot {release}".encode()).hexdigest()
    binds = {folder: "/out"}
    tools.run_in(
        bench, ["mkfs.erofs", "--quiet", "-zlz4hc,9", "-C16384",
                f"-T{epoch}", "--mkfs-time", f"-U{ident}", "/out/slot.img", "/out/tree"],
        binds=binds, epoch=epoch,
    )  # fmt: skip
    size = -(-(folder / "slot.img").stat().st_size // _BLOCK) * _BLOCK
    os.truncate(folder / "slot.img", size)
    said = tools.run_in(
        bench, ["veritysetup", "format", f"--uuid={ident}", f"--salt={salt}", f"--hash-offset={size}", "/out/slot.img",
                "/out/slot.img"],
        binds=binds, epoch=epoch,
    )  # fmt: skip
    found = re.search(r"^Root hash:\s+([0-9a-f]{64})$", said, re.MULTILINE)
    assert found is not None
    return found.group(1), size


def _boot_files(bench: Path, folder: Path, release: str, epoch: int, kernel: str, roothash: str, size: int) -> None:
    """What starts the slot from a disk, and what starts its installer from a stick: they differ in the command line only."""
    # /etc forgets, so systemd takes every start for the first after an update, and would make anew what the slot brings: the
    # linker's list, accounts, the hardware's names. Large pages are for whoever asks: looking for others costs more than they give.
    common = (f"root=/dev/mapper/qanun-root rootfstype=erofs ro qanun.roothash={roothash} qanun.hashoffset={size} "
              "systemd.machine_id=firmware systemd.condition_needs_update=no transparent_hugepage=madvise panic=10 quiet "
              "console=ttyS0,115200 console=tty0")  # fmt: skip
    # The stick is never written to by the system: what needs a var gets one of memory.
    installs = (f"qanun.slot=qanun-installer-{release} qanun.install systemd.unit=qanun-install.target fstab=no "
                "systemd.mount-extra=tmpfs:/var:tmpfs:mode=0755")  # fmt: skip
    for name, words in ((f"qanun_{release}.efi", f"qanun.slot=qanun-root-{release}"),
                        (f"qanun-installer_{release}.efi", installs)):  # fmt: skip
        command = [
            "ukify", "build", "--linux=/out/vmlinuz", "--initrd=/out/initrd", f"--uname={kernel}",
            "--stub=/usr/lib/systemd/boot/efi/linuxx64.efi.stub", "--os-release=@/out/tree/usr/lib/os-release",
            f"--cmdline={common} {words}", f"--output=/out/{name}",
        ]  # fmt: skip
        tools.run_in(bench, command, binds={folder: "/out"}, epoch=epoch)
        (folder / name).chmod(0o644)
