"""Opens `/var`'s encrypted disk, and makes it on the first start. Runs before anything is mounted on it.

Order of keys: the TPM (bound to the firmware's secure-boot state), the key file on the start-up partition where there is
no TPM, the recovery key typed by a person. The partition gets its final name last: a first start that lost its power is
begun again, and a disk that was finished once is never made anew. Only the disk that this start came from is looked at:
another one in the same machine may hold a Qanun, too.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path

NAME, LABEL, HALF_MADE = "qanun-var", "qanun-var", "_qanun-var"
MAPPED = Path("/dev/mapper") / NAME
KEY = Path("/run/qanun-var.key")
ESP = Path("/run/qanun-esp")
NEW = Path("/run/qanun-new-var")
TYPE = "4D21B016-B534-45C2-A9FB-5C16E091FD2D"
ON_ESP = Path("qanun/var.key")


def main() -> int:
    if MAPPED.exists():
        return 0
    disk = root_disk()
    partition = find(disk, LABEL)
    if partition is None:
        make(disk)
    else:
        open_var(disk, partition)
    return 0


def run(*words: object, secret: str | None = None) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, input=secret, check=False)
    if done.returncode:
        raise SystemExit(f"{words[0]}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def root_disk(blocks: Path = Path("/sys/class/block")) -> Path:
    """The disk of the slot that runs: the one below the checked root."""
    for name in blocks.glob("dm-*/dm/name"):
        if name.read_text().strip() == "qanun-root":
            [slot] = (name.parent.parent / "slaves").iterdir()
            return Path("/dev") / (blocks / slot.name).resolve().parent.name
    raise SystemExit("this system does not run from a checked slot")


def find(disk: Path, label: str) -> Path | None:
    """The partition of that name, from the disk's own table: what else knows it may not have looked yet."""
    listed = json.loads(run("sfdisk", "--json", disk))["partitiontable"]["partitions"]
    found = next((Path(part["node"]) for part in listed if part.get("name") == label), None)
    if found is not None and not found.exists():
        settle()
    return found


def settle() -> None:
    subprocess.run(["udevadm", "settle", "--timeout=30"], check=False)


def esp(disk: Path) -> Path:
    """The start-up partition of this disk, mounted for this process."""
    ESP.mkdir(exist_ok=True)
    if not os.path.ismount(ESP):
        subprocess.run(["modprobe", "-q", "vfat"], check=False)
        run("mount", "-t", "vfat", "-o", "umask=0077", find(disk, "qanun-esp") or "", ESP)
    return ESP


def has_tpm() -> bool:
    return Path("/dev/tpmrm0").exists()


def make(disk: Path) -> None:
    print("First start: making the encrypted disk for everything that is entered", flush=True)
    partition = find(disk, HALF_MADE)
    if partition is None:
        run("sfdisk", "--quiet", "--no-reread", "--force", "--relocate", "gpt-bak-std", disk)
        run("sfdisk", "--quiet", "--no-reread", "--force", "--append", disk,
            secret=f"size=+, type={TYPE}, name={HALF_MADE}\n")  # fmt: skip
        subprocess.run(["partx", "--update", disk], capture_output=True, check=False)
        settle()
        partition = find(disk, HALF_MADE)
        if partition is None:
            raise SystemExit(f"{disk} has no room for a partition of its own for the data")
    run("cryptsetup", "close", NAME) if MAPPED.exists() else None
    KEY.touch(mode=0o600)
    KEY.write_text(secrets.token_hex(32))
    # The key has 256 random bits: stretching it would only make every start slower.
    run("cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", 1000,
        "--label", LABEL, "--key-file", KEY, partition)  # fmt: skip
    recovery = (
        run("systemd-cryptenroll", "--recovery-key", f"--unlock-key-file={KEY}", partition).strip().splitlines()[-1]
    )
    bound = has_tpm() and bind_to_tpm(partition)
    run("cryptsetup", "open", "--key-file", KEY, partition, NAME)
    run("mkfs.ext4", "-q", "-L", LABEL, MAPPED)
    fill(disk, recovery)
    if bound:
        # Only the TPM and the printed key open it from now on.
        run("systemd-cryptenroll", "--wipe-slot=password", partition)
    else:
        place = esp(disk) / ON_ESP
        place.parent.mkdir(exist_ok=True)
        place.write_text(KEY.read_text())
        print("This machine has no TPM: the disk's key lies beside it, on the start-up partition", flush=True)
    if os.path.ismount(ESP):
        run("umount", ESP)
    KEY.unlink()
    os.sync()
    number = partition.name[len(partition.name.rstrip("0123456789")) :]
    run("sfdisk", "--quiet", "--no-reread", "--force", "--part-label", disk, number, LABEL)
    subprocess.run(["partx", "--update", disk], capture_output=True, check=False)
    subprocess.run(["udevadm", "trigger", "--settle", str(partition)], check=False)


def bind_to_tpm(partition: Path) -> bool:
    done = subprocess.run(
        ["systemd-cryptenroll", "--tpm2-device=auto", "--tpm2-pcrs=7", f"--unlock-key-file={KEY}", partition],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        print(f"The TPM could not take the disk's key: {done.stderr.strip().splitlines()[-1:]}", flush=True)
    return done.returncode == 0


def fill(disk: Path, recovery: str) -> None:
    """The recovery key for the page that prints it, and a site file that came along on the start-up partition."""
    NEW.mkdir(exist_ok=True)
    run("mount", MAPPED, NEW)
    try:
        data = NEW / "lib" / "qanun"
        data.mkdir(parents=True)
        data.chmod(0o711)
        (data / "secrets").mkdir(mode=0o700)
        keep(data / "secrets" / "recovery-key", recovery.encode() + b"\n", 0o600)
        (NEW / "log" / "journal").mkdir(parents=True)
        given = esp(disk) / "qanun" / "site.toml"
        if given.exists():
            keep(data / "site.toml", given.read_bytes(), 0o640)
            shutil.chown(data / "site.toml", 0, 800)
    finally:
        run("umount", NEW)
    given = esp(disk) / "qanun" / "site.toml"
    given.unlink(missing_ok=True)


def keep(path: Path, content: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def open_var(disk: Path, partition: Path) -> None:
    if has_tpm() and attach(partition, "-", "tpm2-device=auto,headless=1"):
        return
    key = esp(disk) / ON_ESP
    try:
        if key.exists() and attach(partition, str(key), ""):
            return
    finally:
        run("umount", ESP)
    print("The disk does not open by itself. Type the recovery key that was printed at the installation.", flush=True)
    while not attach(partition, "-", "tries=3"):
        time.sleep(1)


def attach(partition: Path, key: str, options: str) -> bool:
    words = [
        "/usr/lib/systemd/systemd-cryptsetup",
        "attach",
        NAME,
        str(partition),
        key,
        f"luks,discard,{options}".rstrip(","),
    ]
    return subprocess.run(words, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
