"""What must not come onto a clinic's disk, and a clinic whose power fails while something does. Emulated firmware, TPM, encrypted
disk, no network: what a container cannot show.

    ./tests/run images/tests/test_vm_staging.py --long
"""

import json
import random
import subprocess
import time

import pytest

from images.tests import machines
from images.tests.lived import NEXT, Clinic, stage
from images.tests.machines import PATIENCE

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def stick(releases, tmp_path_factory):
    """What somebody brings on USB: a good release, and four that must not be taken."""
    good, place = releases.bundle(NEXT), tmp_path_factory.mktemp("stick")
    files = {
        "next.tar": good,
        "tampered.tar": machines.tampered(good, place / "tampered.tar"),
        "short.tar": machines.beginning(good, place / "short.tar", 150_000_000),
        "older.tar": machines.only_a_manifest(good, place / "older.tar", "0.0.9", releases.key),
        "foreign.tar": machines.only_a_manifest(good, place / "foreign.tar", "0.2.0", releases.stranger),
    }
    return machines.with_files(place / "stick.raw", 2048, files, label="RELEASES")


@pytest.fixture(scope="module")
def clinic(lived, stick, tmp_path_factory):
    found = Clinic(lived, stick, tmp_path_factory.mktemp("clinic"))
    yield found
    found.end()


def test_the_disk_starts_to_the_page_by_a_site_file_alone_and_its_boot_file_is_kept(clinic, releases):
    assert clinic.get("/health")[0] == 200
    status, page = clinic.get("/sign-in")
    assert status == 200 and "<form" in page
    machines.wait_blessed(clinic, releases.version)
    assert clinic.run("systemctl --failed --no-legend --plain", check=False).strip() == ""
    waiting = clinic.run("systemctl is-active qanun-wish-{stage,restart,rollback}.path mnt-backup.automount").split()
    assert waiting == ["active"] * 4
    # The disk with the right name is there when somebody looks, and is not the machine's own.
    assert clinic.run("stat /mnt/backup/. > /dev/null && findmnt -no SOURCE,FSTYPE /mnt/backup").split()[-2:] == [
        "/dev/vdb",
        "ext4",
    ]
    assert machines.labels(clinic) == ["qanun-esp", f"qanun-root-{releases.version}", "_empty", "qanun-var"]


def test_a_start_loads_what_checks_the_root_fast_and_nothing_for_what_a_clinic_never_does(clinic):
    checked, processor = clinic.run("dmesg | grep 'verity: sha256'"), clinic.run("cat /proc/cpuinfo").split()
    slow = "TCG" in processor and "sha_ni" not in processor
    assert ("sha256-generic" in checked) == slow, checked
    loaded = {line.split()[0] for line in clinic.run("lsmod").splitlines()[1:]}
    assert "dm_verity" in loaded and not loaded & {"kvm", "kvm_amd", "kvm_intel", "sctp"}, loaded


def test_what_is_entered_lies_encrypted_and_the_tpm_and_the_printed_key_alone_open_it(clinic):
    said = clinic.run("cryptsetup status qanun-var; cryptsetup luksDump /dev/disk/by-partlabel/qanun-var")
    assert "LUKS2" in said and "systemd-tpm2" in said and "systemd-recovery" in said
    keys = said.partition("Keyslots:")[2].partition("Tokens:")[0]
    assert keys.count("luks2") == 2, keys
    assert "var.key" not in clinic.run("ls /efi/qanun", check=False)
    assert clinic.run("findmnt -no SOURCE /var").strip() == "/dev/mapper/qanun-var"


def test_a_clinic_works_here_and_was_saved_with_its_proof(clinic):
    for name in ("backup", "drill"):
        assert json.loads(clinic.run(f"cat /var/lib/qanun/reports/{name}.json"))["well"]
    tables, audit = machines.facts(clinic)
    assert tables["core_patient"]["rows"] >= 12 and len(audit) >= 2
    assert "recordings/made" in machines.files(clinic)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("older.tar", "older than"),
        ("foreign.tar", "nobody that this machine trusts"),
        ("short.tar", "cut short"),
        ("tampered.tar", "slot.img is not what was signed"),
    ],
)
def test_a_release_that_is_not_right_is_refused_and_the_disk_is_as_before(clinic, name, why):
    before = machines.table(clinic), machines.entries(clinic)
    said = clinic.run(f"{stage(name)}; echo code $?", check=False, timeout=PATIENCE)
    assert why in said and "code 1" in said
    assert (machines.table(clinic), machines.entries(clinic)) == before


def test_a_nearly_full_data_disk_is_refused_before_anything_is_written(clinic):
    before = machines.table(clinic), machines.entries(clinic)
    fill = "fallocate -l $(($(df --output=avail -B1 /var | tail -1) * 97 / 100)) /var/lib/qanun/filler"
    clinic.run(fill)
    try:
        assert int(clinic.run("df --output=pcent /var | tail -1").strip(" %\n")) >= 97
        said = clinic.run(f"{stage('next.tar')}; echo code $?", check=False, timeout=PATIENCE)
    finally:
        clinic.run("rm /var/lib/qanun/filler; sync")
    assert "nearly full" in said and "code 1" in said
    assert (machines.table(clinic), machines.entries(clinic)) == before


@pytest.mark.parametrize("after", ["hashes", "writing slot", "reading it back"])
def test_a_power_cut_while_staging_leaves_what_runs_and_no_trace_of_the_half(clinic, releases, after):
    machines.write(clinic, f"before-{after.replace(' ', '-')}")
    before = machines.facts(clinic)[0]
    command = f"PYTHONUNBUFFERED=1 {stage('next.tar')}"
    words = clinic.machine.words(command)
    staging = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    for line in staging.stdout:
        if line.startswith(after):
            break
    else:
        pytest.fail(f"staging ended before {after!r}")
    time.sleep(random.uniform(0, 6))
    clinic.cut()
    staging.kill()
    staging.wait()
    clinic.start()
    machines.wait_for(lambda: "_updating" not in machines.labels(clinic), "the half-written slot says that it is empty")
    assert machines.facts(clinic)[0] == before
    assert clinic.run("cat /usr/lib/qanun/slot").strip() == releases.version
    assert not [name for name in machines.entries(clinic) if NEXT in name and not name.endswith(f"{NEXT}+3.efi")]
    clinic.run('test -z "$(ls -d /var/lib/qanun/updates/tmp* 2>/dev/null)"')
