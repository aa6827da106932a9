"""A start that finds the tables where the release wants them says so without loading the product; everything else is looked at."""

import os
import shutil
import subprocess
import sys

import psycopg
import pytest

from qanun.cli.standing import fingerprint, folders, remember, standing
from qanun.testing import ScratchPostgres

#: A command in a process of its own, and whether it had to load what it takes to change tables.
COMMAND = (
    "import sys; from qanun.cli import main; code = main(['db', *sys.argv[1:]]);"
    " print(code, 'loaded' if 'sqlalchemy' in sys.modules else 'looked')"
)


@pytest.fixture(scope="module")
def scratch():
    found = ScratchPostgres().start()
    yield found
    found.stop()


def run(scratch, *words):
    """(what it says, its code, `loaded` or `looked`)."""
    settings = {"QANUN_OWNER_DATABASE_URL": scratch.owner_url, "QANUN_DATABASE_URL": scratch.owner_url,
                "QANUN_STATE_DIR": "/nowhere", "QANUN_MASTER_KEY_FILE": "/nowhere/key"}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *words], env={**os.environ, **settings}, capture_output=True, text=True,
        timeout=300, check=True,
    )  # fmt: skip
    *lines, end = done.stdout.splitlines()
    code, how = end.split()
    return lines, int(code), how


def upgrade(scratch):
    """(lineages and how they stand, `loaded` or `looked`)."""
    lines, code, how = run(scratch, "upgrade", "--superuser-url", scratch.superuser_url)
    assert code == 0
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


def test_who_asks_how_it_stands_is_told_the_same_with_the_mark_and_without(scratch):
    upgrade(scratch)
    told, code, how = run(scratch, "status")
    assert (code, how) == (0, "looked") and all(": up to date (" in line for line in told)
    change(scratch, "comment on database qanun is null")
    looked, code, how = run(scratch, "status")
    assert (code, how) == (0, "loaded") and sorted(looked) == sorted(told)
    upgrade(scratch)


def test_tables_that_nobody_owns_and_tables_elsewhere_are_told_whatever_the_mark_says(scratch):
    upgrade(scratch)
    heads = standing(scratch.owner_url, folders())
    change(scratch, "create table alembic_version_gone (version_num text)")
    told, code, how = run(scratch, "status")
    assert (code, how) == (0, "looked")
    assert told[-1] == "gone: orphaned (its plugin is not installed; its data is kept)"
    change(scratch, "update alembic_version_emr set version_num = 'ffff_of_a_later_release'")
    told, code, how = run(scratch, "status")
    assert (code, how) == (1, "loaded") and told[-1].startswith("gone: orphaned")
    assert [line for line in told if line.startswith("emr: ahead (ffff_of_a_later_release of ")]
    change(scratch, f"update alembic_version_emr set version_num = '{heads['emr']}'")
    change(scratch, "drop table alembic_version_gone")
