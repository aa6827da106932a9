"""A start that finds the tables where the release wants them says so without loading the product; everything else is looked at."""

import os
import shutil
import subprocess
import sys

import psycopg
import pytest

from qanun.cli.standing import fingerprint, folders, remember, standing
from qanun.testing import ScratchPostgres

#: The command in a process of its own, and whether it had to load what it takes to change tables.
UPGRADE = (
    "import sys; from qanun.cli import main; code = main(['db', 'upgrade', '--superuser-url', sys.argv[1]]);"
    " print('loaded' if 'sqlalchemy' in sys.modules else 'looked'); sys.exit(code)"
)


@pytest.fixture(scope="module")
def scratch():
    found = ScratchPostgres().start()
    yield found
    found.stop()


def upgrade(scratch):
    """(lineages and how they stand, `loaded` or `looked`)."""
    settings = {"QANUN_OWNER_DATABASE_URL": scratch.owner_url, "QANUN_DATABASE_URL": scratch.owner_url,
                "QANUN_STATE_DIR": "/nowhere", "QANUN_MASTER_KEY_FILE": "/nowhere/key"}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", UPGRADE, scratch.superuser_url], env={**os.environ, **settings}, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *lines, how = done.stdout.splitlines()
    return lines, how


def change(scratch, statement):
    with psycopg.connect(scratch.owner_url, autocommit=True) as connection:
        connection.execute(statement)


def test_the_second_start_says_the_same_and_loads_nothing(scratch):
    first, how = upgrade(scratch)
    assert how == "loaded" and len(first) >= 4 and all(": up to date (" in line for line in first)
    again, how = upgrade(scratch)
    assert how == "looked" and sorted(again) == sorted(first)


def test_a_table_that_stands_elsewhere_than_the_mark_says_is_looked_at(scratch):
    upgrade(scratch)
    heads = standing(scratch.owner_url, folders())
    change(scratch, "update alembic_version_core set version_num = 'ffff_of_a_later_release'")
    assert standing(scratch.owner_url, folders()) is None
    lines, how = upgrade(scratch)
    assert how == "loaded" and "core: ahead (ffff_of_a_later_release)" in lines
    # Not the state that this release would bring: the mark does not come back.
    assert standing(scratch.owner_url, folders()) is None
    change(scratch, f"update alembic_version_core set version_num = '{heads['core']}'")


def test_a_release_with_another_byte_in_a_migration_looks(scratch, tmp_path):
    upgrade(scratch)
    known = folders()
    assert standing(scratch.owner_url, known)
    copy = shutil.copytree(known["core"], tmp_path / "migrations")
    assert fingerprint({**known, "core": copy}) == fingerprint(known)
    next((copy / "versions").glob("0*.py")).open("a").write("\n# another\n")
    assert standing(scratch.owner_url, {**known, "core": copy}) is None
    (copy / "versions" / "9999_new.py").write_text("")
    assert standing(scratch.owner_url, {**known, "core": copy}) is None


def test_a_lineage_that_is_missing_leaves_no_mark(scratch):
    upgrade(scratch)
    heads = standing(scratch.owner_url, folders())
    change(scratch, "comment on database qanun is null")
    remember(scratch.owner_url, folders(), {slug: head for slug, head in heads.items() if slug != "emr"})
    assert standing(scratch.owner_url, folders()) is None
    change(scratch, "comment on database qanun is 'somebody''s own words'")
    assert standing(scratch.owner_url, folders()) is None
    assert upgrade(scratch)[1] == "loaded" and standing(scratch.owner_url, folders()) == heads


def test_a_database_that_does_not_answer_is_not_one_that_stands_well(scratch):
    assert (
        standing(scratch.owner_url.replace("dbname=qanun", "dbname=other").replace("/qanun", "/other"), folders())
        is None
    )
