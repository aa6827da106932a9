"""Virtual machines for the image's tests: one build with its disk and installer, a few releases made from it, and what is asked of
a clinic (`lived.py` has one).

Everything is made once for a run: a build takes minutes, a start about one on a quiet machine, and nothing is thrown away
that another test can go on with.
"""

import base64
import fcntl
import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import subprocess
import tarfile
import time
import urllib.parse
import uuid
from pathlib import Path

from bootstrap import Steps
from qanun_images import cli, release, slot, tools, vm
from qanun_images.places import CACHE, MIB

from qanun_appliance.update import pack

#: What a start may take before a test gives up; nothing is measured by it.
PATIENCE = 1500
SITE = """
version = 1
language = "ar"

[clinic]
name = "Al-Razi Family Clinic"
name_alt = "عيادة الرازي"
slug = "al-razi"
timezone = "Africa/Casablanca"

[administrator]
name = "Salma Idrissi"
email = "admin@al-razi.example"

[hosts]
names = ["clinic.lan", "10.0.2.15"]

[backup]
target = "/mnt/backup"
# By hand only, so that nothing runs beside what a test looks at.
at = "23:59"
drill_at = "23:58"

[ssh]
mode = "keys"
keys = ["{key}"]
"""


def make_key(target):
    """An Ed25519 key to sign releases with, and the line by which a box trusts it."""
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", target], check=True, capture_output=True)
    public = subprocess.run(
        ["openssl", "pkey", "-in", target, "-pubout", "-outform", "DER"], check=True, capture_output=True
    )
    return base64.b64encode(public.stdout[-32:]).decode()


class Releases:
    """The build that is installed, and what can be put after it. `folder` outlives a run: it is the cache of the next.

    Of those who run beside each other (`run` is what they have in common) the first makes it and the others wait for it.
    """

    def __init__(self, folder, run=""):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.key, self.stranger = folder / "release.key", folder / "stranger.key"
        self.first, made_by = folder / "first", folder / "made-by"
        given = os.environ.get("QANUN_VM_BUILT")  # for whoever works on these tests: what an earlier run made
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not given and not (run and made_by.exists() and made_by.read_text() == run):
                self._make()
                made_by.write_text(run)
        table = json.loads((self.first / "manifest.json").read_bytes())
        self.slot = slot.Slot(self.first, table["version"], table["epoch"], table["roothash"], table["distributions"])
        self.version = table["version"]

    def _make(self):
        for path in (*self.folder.glob("*.tar"), self.folder / "made-by"):
            path.unlink(missing_ok=True)
        (self.folder / "trusted").write_text(make_key(self.key) + "\n")
        make_key(self.stranger)
        words = ["--keep-tree", "--trust", self.folder / "trusted", "--out", self.first]
        code = cli.main([str(word) for word in words])
        if code:
            raise LookupError("the mirror no longer has what debs.lock names" if code == cli.STALE else "no build")

    def bundle(self, version, change=None):
        """A signed release made of the first one's tree, as one file; made once."""
        target = self.folder / f"{version}.tar"
        with (self.folder / f"{version}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.exists():
                self._pack(target, version, change)
        return target

    def _pack(self, target, version, change):
        steps = Steps(1)
        with steps.step(f"Release {version}"):
            made = slot.again(steps, self.slot, self.folder / f"next-{version}", version, change)
        try:
            release.write_manifest(made, release.schema(made.tree))
            release.sign(made.folder, self.key)
            pack(made.folder, target)
        finally:
            shutil.rmtree(made.folder)

    def disk(self, work):
        """A copy of the build's disk, still off."""
        copy = work / "disk.raw"
        subprocess.run(["cp", "--sparse=always", "--reflink=auto", self.first / "disk.raw", copy], check=True)
        return copy


def ssh_key(folder):
    path = folder / "ssh"
    if not path.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path], check=True)
    return path


def site(key):
    return SITE.replace("{key}", key.with_suffix(".pub").read_text().strip())


def with_files(target, size_mib, files, *, label):
    """A stick with one FAT partition as people have them: `files` are (name on it → file)."""
    with target.open("wb") as made:
        made.truncate(size_mib * MIB)
    lines = [f"mkfs.vfat -F 32 -n {label} --offset 2048 /run/stick {(size_mib - 2) * 1024} > /dev/null",
             "echo 'start=2048, type=c' | sfdisk --quiet --label dos --no-reread --wipe never --wipe-partitions never /run/stick",
             *(f"mcopy -i /run/stick@@{MIB} /run/from/{path.name} ::/{name}" for name, path in files.items())]  # fmt: skip
    binds = {target: "/run/stick", **{path: f"/run/from/{path.name}" for path in files.values()}}
    tools.run_in(tools.folder(), ["sh", "-euc", "\n".join(lines)], binds=binds, epoch=0)
    return target


def backup_disk(target, size_mib=3072):
    """A disk for backups, empty, called as the box looks for it."""
    with target.open("wb") as made:
        made.truncate(size_mib * MIB)
    command = ["mke2fs", "-q", "-F", "-t", "ext4", "-L", "QANUN-BACKUP", "/run/backup"]
    tools.run_in(tools.folder(), command, binds={target: "/run/backup"}, epoch=0)
    return target


def tampered(bundle, target):
    """One bit of the slot is another."""
    shutil.copyfile(bundle, target)
    with tarfile.open(bundle) as archive:
        start = archive.getmember("slot.img").offset_data
    with target.open("r+b") as file:
        file.seek(start + 50_000_000)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    return target


def beginning(bundle, target, size):
    with bundle.open("rb") as source, target.open("wb") as cut:
        cut.write(source.read(size))
    return target


def only_a_manifest(bundle, target, version, key):
    """The release as it would be called `version` and signed by `key`, with nothing behind its manifest: what is refused
    for what it says must be refused before anything else is read."""
    place = target.with_suffix(".folder")
    place.mkdir()
    with tarfile.open(bundle) as archive:
        content = json.loads(archive.extractfile("manifest.json").read())
    boot = content["files"].pop(f"qanun_{content['version']}.efi")
    content |= {"version": version, "files": {**content["files"], f"qanun_{version}.efi": boot}}
    (place / "manifest.json").write_text(json.dumps(content))
    release.sign(place, key)
    with tarfile.open(target, "w") as archive:
        for name in ("manifest.json", "manifest.json.sig"):
            archive.add(place / name, arcname=name)
    return target


# --- asking a clinic -------------------------------------------------------------------------------------------------

FACTS = """
import json, psycopg
from qanun_appliance.backup.facts import take_facts
with psycopg.connect("postgresql://postgres@/qanun?host=/run/postgresql") as connection:
    print(json.dumps(take_facts(connection)))
"""
#: Written by the clinic's people alone: what background work and sessions write besides may grow while a test looks.
PEOPLES = ("emr_", "scheduling_", "telemedicine_", "core_patient", "core_user", "core_tenant", "core_practitioner")


def facts(machine):
    """Rows and hashes of what people wrote, and the head of every audit chain."""
    found = json.loads(machine.run("/opt/qanun/bin/python -I -", text=FACTS, timeout=600))
    return {name: one for name, one in found["tables"].items() if name.startswith(PEOPLES)}, found["audit"]


def files(machine):
    """Every blob and recording with its hash."""
    return machine.run(
        "cd /var/lib/qanun && find blobs recordings -type f -print0 | sort -z | xargs -0 sha256sum", timeout=600
    )


def as_product(command):
    return (
        "set -a; . /etc/qanun/qanun.env; set +a; cd /; exec setpriv --reuid=qanun --regid=qanun --init-groups "
        f"/opt/qanun/bin/qanun {command}"
    )


def seed(machine, patients=12):
    """Two demonstration clinics beside the founded one, a blob and a recording."""
    machine.run(as_product(f"demo seed --patients {patients}"), timeout=1200)
    machine.run(
        "cd /var/lib/qanun && for name in blobs/made recordings/made; do head -c 300000 /dev/urandom > $name;"
        " chown qanun:qanun $name; chmod 600 $name; done; sync"
    )


def row(slug):
    """The command that writes somebody's row, of now."""
    return (
        'psql -h /run/postgresql -U postgres -d qanun -Xqc "insert into core_tenant (id, slug, name, name_alt, locale, timezone,'
        f" currency, country, phone, active) values (gen_random_uuid(), '{slug}', '{slug}', '', 'en', 'UTC', 'USD', '', '', true)"
        ' on conflict do nothing"'
    )


def write(machine, slug):
    """Somebody's row, once."""
    machine.run(row(slug))


def written(machine):
    return set(machine.run('psql -h /run/postgresql -U postgres -d qanun -XtAc "select slug from core_tenant"').split())


def labels(machine):
    return machine.run("lsblk -rno PARTLABEL /dev/vda").split()


def table(machine):
    """The partition table, to the byte."""
    return machine.run("sfdisk --dump /dev/vda")


def entries(machine):
    return machine.run("ls /efi/EFI/Linux").split()


def wait_for(true, what, within_s=PATIENCE):
    until = time.monotonic() + within_s
    while not _asked(true):
        assert time.monotonic() < until, what


def _asked(true):
    """The answer. After a no it waits longer the longer that took: to ask is a handshake, which on an emulated processor keeps
    what is waited for from going on."""
    began = time.monotonic()
    if found := true():
        return found
    time.sleep(min(30, max(3, 4 * (time.monotonic() - began))))
    return found


def starts(machine):
    """Every start that the journal knows, as the kernel calls them, the newest last."""
    lines = machine.run("journalctl --list-boots --quiet --no-pager").splitlines()
    return [str(uuid.UUID(line.split()[1])) for line in lines if line.strip()]


def wait_blessed(machine, version, within_s=PATIENCE):
    """Until the boot counter is gone from the name: systemd then holds the start for good."""
    wait_for(lambda: f"qanun_{version}.efi" in entries(machine), f"{version} is kept", within_s)


class Browser:
    """Forms and pages of a machine, with the cookies it gave, as a browser has them. The certificate is the machine's own."""

    def __init__(self, machine, host="clinic.lan"):
        self.machine, self.host, self.cookies = machine, host, {}

    def ask(self, path, form=None):
        """(status, where it leads, body)."""
        trust = ssl.create_default_context()
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
        line = http.client.HTTPSConnection("127.0.0.1", self.machine.port, timeout=120, context=trust)
        headers = {"Host": self.host, "Origin": f"https://{self.host}", "Accept-Language": "en"}
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        body = None
        if form is not None:
            body, headers["Content-Type"] = urllib.parse.urlencode(form), "application/x-www-form-urlencoded"
        line.request("GET" if form is None else "POST", path, body, headers)
        answer = line.getresponse()
        for name, value in answer.getheaders():
            if name.lower() == "set-cookie":
                key, _, rest = value.partition("=")
                self.cookies[key] = rest.partition(";")[0]
        return answer.status, answer.getheader("Location", ""), answer.read().decode(errors="replace")


#: Of a machine in the emulator's network that nobody set up yet.
BARE = "10.0.2.15"


def code_of(machine):
    return re.findall(r"type this code:\s+([0-9A-Z]{4}-[0-9A-Z]{4})", machine.printed())[-1]


def set_up_by_browser(machine, code):
    """The pages of a bare machine, entered with the code of its screen."""
    browser = Browser(machine, BARE)
    assert browser.ask("/setup", {"code": code})[:2] == (303, "/setup")
    return browser


def set_up(machine, browser, seen=None):
    """Whether the clinic has the pages' place, as their script finds out. Raises AssertionError when the work failed."""
    try:
        status, _, said = browser.ask("/setup/progress")
    except OSError:
        return machine.get("/health")[0] == 200
    states = set(re.findall(r'"state":\s?"([a-z]+)"', said)) if status == 200 else set()
    assert "failed" not in states, said
    if seen is not None:
        seen.update(states)
    return machine.get("/health")[0] == 200


def sign_in(machine, email, password):
    """(status, whether a session came with it), as a browser gets them."""
    browser = Browser(machine)
    status, _, _ = browser.ask("/sign-in", {"email": email, "password": password})
    return status, bool(browser.cookies)


def digest(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cannot():
    return tools.can_enter() or vm.cannot()


PLACE = Path(CACHE) / "machines"
