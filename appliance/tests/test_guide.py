"""Every command of the operator's guide is run as it is printed, on a box in a folder, and does what the guide says."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from appliance.tests.boxes import blank
from qanun_appliance.commands import COMMANDS
from qanun_appliance.site import parse_site

GUIDE = Path(__file__).parents[1] / "docs" / "operators-guide.md"
TEXT = GUIDE.read_text(encoding="utf-8")
PRINTED = [
    line.strip() for block in re.findall(r"^ *```sh\n(.*?)^ *```", TEXT, re.MULTILINE | re.DOTALL) for line in block.splitlines()
]  # fmt: skip


def run(command, root, **more):
    """As printed; only the places that differ between a box and a folder are given in the environment."""
    words = command.split()
    assert words[:2] == ["qanun", "appliance"]
    environment = {
        **os.environ,
        "QANUN_ROOT": str(root),
        "QANUN_CODE_DIR": str(Path(sys.executable).parent),
        **more.pop("env", {}),
    }
    return subprocess.run(
        [sys.executable, "-m", *words], env=environment, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL, **more
    )  # fmt: skip


def test_the_site_file_that_is_printed_is_right():
    [block] = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    assert parse_site(tomllib.loads(block)).clinic.slug == "al-razi"


def test_every_printed_command_exists_and_every_command_for_operators_is_printed():
    named = {command.split()[2] for command in PRINTED}
    known = {command.id.split(".", 1)[1] for command in COMMANDS}
    assert named <= known
    inner = {
        "addresses",
        "relay-certificate",
        "prepare",
        "services",
        "first-boot",
        "setup",
        "disk-watch",
        "wish",
    }  # units and the build of an image call them; a person never does
    assert known - inner == named
    mentioned = set(re.findall(r"`qanun appliance ([a-z-]+)", TEXT))
    assert mentioned <= known


@pytest.fixture
def machine(box, shared_folder):
    """A folder that is installed like a box, with the backup disk of the seeded one at hand."""
    place = blank(shared_folder, "machine")
    (place.root / "usr/lib").mkdir(parents=True)
    (place.root / "usr/lib/postgresql").symlink_to("/usr/lib/postgresql")
    (place.root / "proc").mkdir()
    (place.root / "proc/cmdline").write_text("root=/dev/vda1")
    place.site.write_text(box.places.site.read_text())
    return place


def test_install_first_hour_and_trouble(machine, shared_folder, box):
    env = {"QANUN_LIVE_DATABASE": box.live.url}
    assert "would change" in run("qanun appliance apply --check", machine.root).stdout
    assert not (machine.root / "etc").exists()
    assert "changed=" in run("qanun appliance apply", machine.root).stdout
    assert run("qanun appliance apply", machine.root).stdout.splitlines()[-1] == "changed=0"
    health = run("qanun appliance health --wait 120".replace("120", "0"), machine.root)
    assert health.returncode == 1 and "web: " in health.stdout  # nothing runs in a folder, and it says so
    key = run("qanun appliance recovery-key", machine.root)
    assert key.returncode == 1 and "on a terminal only" in key.stderr
    secret = (machine.secrets / "backup-key").read_text()
    assert secret not in key.stdout + key.stderr
    proved = run(f"qanun appliance recovery-key --verify {secret.rsplit('-', 1)[-1].lower()}", machine.root)
    assert proved.returncode == 0 and "holds the recovery key" in proved.stdout
    for command in ("qanun appliance doctor", "qanun appliance doctor --quiet", "qanun appliance doctor --json"):
        said = run(command, machine.root)
        assert said.returncode == 2 and said.stderr == "" and "The pages do not answer" in said.stdout
    target = shared_folder / "support.tar.gz"
    packed = run(f"qanun appliance support-bundle {target}", machine.root, env=env)
    assert packed.returncode == 0 and target.exists(), packed.stderr
    for command in PRINTED:
        if " update " in command:
            refused = run(command, machine.root)
            assert refused.returncode == 1 and "upgraded by Ansible" in refused.stderr, command


def test_backup_and_drill_as_printed_and_restore_onto_a_blank_machine(box, machine, shared_folder):
    import shutil

    disk = shared_folder / "copy"
    shutil.copytree(box.site.backup.target, disk)
    key = shared_folder / "key"
    key.write_text((box.places.secrets / "backup-key").read_text().lower() + "\n")
    printed = list(dict.fromkeys(command for command in PRINTED if " restore " in command))
    assert len(printed) == 2
    first, again = (f"{command.replace('/mnt/backup', str(disk))} --key-file {key}" for command in printed)
    done = run(first, machine.root)
    assert done.returncode == 0 and "2 clinics are back" in done.stdout, done.stderr
    refused = run(first, machine.root)
    assert refused.returncode == 1 and "--replace" in refused.stderr
    done = run(again, machine.root)
    assert done.returncode == 0 and "kept: " in done.stdout, done.stderr
    # On the box itself: backup and drill, word for word; one PostgreSQL is installed, so there is nothing to carry over.
    shelf = box.places.real("/usr/lib/postgresql")
    shelf.parent.mkdir(parents=True, exist_ok=True)
    if not shelf.exists():
        shelf.symlink_to("/usr/lib/postgresql")
    for command in ("qanun appliance carry-over --check", "qanun appliance carry-over"):
        assert "newest PostgreSQL" in run(command, box.places.root).stdout
    env = {"QANUN_LIVE_DATABASE": box.live.url}
    reached = run("qanun appliance backup-store", box.places.root)
    assert (reached.returncode, reached.stdout.strip()) == (0, "reached: there are backups"), reached.stderr
    [elsewhere] = [command for command in PRINTED if " --at " in command]
    away = run(elsewhere.replace("store.lan", "store.invalid"), box.places.root)
    assert away.returncode == 1 and "ssh-ed25519 " in away.stdout and "is not known in this network" in away.stderr
    saved = run("qanun appliance backup", box.places.root, env=env)
    assert saved.returncode == 0 and " rows, " in saved.stdout, saved.stderr
    proven = run("qanun appliance drill", box.places.root)
    assert proven.returncode == 0 and "0 differences" in proven.stdout, proven.stderr
