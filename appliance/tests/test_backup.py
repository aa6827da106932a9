"""Backups that are proven: a living clinic is saved, restored elsewhere and equal to the last row; damage is refused.

Real restic, real PostgreSQL with its archive, the product's own migrations and demonstration clinics.
"""

import dataclasses
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from appliance.tests.boxes import blank, facts, quiet, running, url, write
from qanun_appliance.backup import (
    Damaged,
    Restic,
    WrongBackupKey,
    back_up,
    back_up_log,
    drill,
    restore,
)
from qanun_appliance.backup.facts import differences
from qanun_appliance.backup.restic import Snapshot
from qanun_appliance.backup.restore import Wish
from qanun_appliance.backup.sets import dispensable, gathered
from qanun_appliance.postgres import prepare_cluster_files, read_marker
from qanun_appliance.secrets import ensure_secrets, readable_key
from qanun_appliance.wizard import homecoming
from qanun_appliance.wizard.desk import Desk

CODE = Path(sys.executable).parent
pytestmark = pytest.mark.skipif(shutil.which("restic") is None, reason="restic is not installed here")


def test_a_blank_machine_gets_everything_back_from_the_disk_and_the_recovery_key_alone(box, shared_folder):
    write(box.sockets, "written-after")  # after the mark: not in an exact restore
    assert box.report["well"] and box.report["rows"] > 500 and box.report["files"] >= 6
    before = os.umask(0o077)  # as the units have it
    try:
        proven = drill(box.site, box.places, say=quiet)
    finally:
        os.umask(before)
    assert proven["well"] and proven["rows"] == box.report["rows"] and proven["clinics"] == 2
    assert not (box.places.data / "drill").exists()
    assert json.loads((box.places.reports / "drill.json").read_text())["last_well"]

    new = blank(shared_folder)
    key = (box.places.secrets / "backup-key").read_text()
    done = restore(
        Restic(target=box.site.backup.target, key=key, cache=new.data / "cache"), new, Wish(latest=False), say=quiet
    )
    assert done["rows"] == box.report["rows"] and done["kept"] == []
    with running(new, box.live.programs) as elsewhere:
        assert differences(box.before, facts(elsewhere)) == []
        with psycopg.connect(url(elsewhere)) as connection:
            assert connection.execute("select count(*) from core_tenant where slug = 'written-after'").fetchone() == (
                0,
            )
    for name in (
        "blobs/a/one",
        "recordings/b/two",
        "keys/master.key",
        "secrets/backup-key",
        "secrets/turn-secret",
        "site.toml",
    ):
        assert (new.data / name).read_bytes() == (box.places.data / name).read_bytes(), name
    assert (new.keys / "master.key").stat().st_mode & 0o777 == 0o600
    assert read_marker(new)["major"] == int(box.live.programs.split("/")[-2])


def test_the_pages_of_a_blank_machine_bring_the_same_back_and_a_mistyped_key_nothing(box, shared_folder):
    new, desk = blank(shared_folder, "by-its-pages"), Desk(shared_folder / "desk")
    new.secrets.mkdir(parents=True)
    # What a machine has that nobody set up yet: the key of its disk, one for backups of its own.
    (new.secrets / "recovery-key").write_text("cbdef-ghijk\n")
    (new.secrets / "backup-key").write_text(readable_key())
    key = (box.places.secrets / "backup-key").read_text().strip()
    disk = Path(box.site.backup.target)
    for typed, code in ((readable_key(), "wrong-key"), (key, "")):
        desk.write("return", {"key": typed.lower().replace("-", " "), "disk": "disk:x", "network": "before"})
        report = homecoming.bring_back(new, desk, disk)
        assert bool(report) == (code == "") and new.site.exists() == bool(report)
        if code:
            assert desk.read("failure")["code"] == code and not desk.read("placed")
    assert report["rows"] >= box.report["rows"] and desk.progress()["at"] == "place"
    assert datetime.now(UTC) - datetime.fromisoformat(desk.read("backup")["until"]) < timedelta(hours=1)
    assert sorted(path.name for path in new.data.glob("*restore*")) == []
    assert (new.secrets / "backup-key").read_text().strip() == key and not (new.secrets / "recovery-key").exists()
    with running(new, box.live.programs) as elsewhere:
        assert facts(elsewhere)["tables"]["core_patient"] == box.before["tables"]["core_patient"]


def test_the_key_of_this_machine_s_disk_stays_whatever_the_backup_brings(box, shared_folder):
    new = blank(shared_folder, "with-a-disk")
    new.secrets.mkdir(parents=True)
    (new.secrets / "recovery-key").write_text("cbdef-ghijk\n")
    done = restore(box.store, new, Wish(), say=quiet)
    assert (new.secrets / "recovery-key").read_text() == "cbdef-ghijk\n"
    assert (new.secrets / "recovery-key").stat().st_mode & 0o777 == 0o600
    [kept] = [path for path in done["kept"] if "secrets" in path]
    assert Path(kept).is_dir()


def test_the_present_is_kept_and_never_replaced_without_being_named(box, shared_folder):
    other = blank(shared_folder, "present")
    other.site.write_text("kept = true\n")
    ensure_secrets(box.site, other, [])
    prepare_cluster_files(other, box.live.programs)
    key = (other.keys / "master.key").read_bytes()
    for refused, sentence in ((Wish(), "--replace"), (Wish(replace="ibn-sina"), "nothing was changed")):
        with pytest.raises(Exception, match=sentence):
            restore(box.store, other, refused, say=quiet)
        assert (other.keys / "master.key").read_bytes() == key and not list(other.data.glob("*before-restore*"))
        assert not list(other.data.glob("restore-*"))
    acts = []
    done = restore(box.store, other, Wish(replace="al-razi"), say=quiet, services=acts.append)
    assert acts == ["stop", "start"] and len(done["kept"]) >= 3
    [kept] = list(other.data.glob("keys.before-restore-*"))
    assert (kept / "master.key").read_bytes() == key and list(other.clusters.glob("*.before-restore-*/PG_VERSION"))
    assert other.site.read_text() == "kept = true\n"
    with running(other, box.live.programs) as elsewhere:
        assert facts(elsewhere)["tables"]["core_tenant"]["rows"] == 2


def test_a_wrong_key_a_missing_disk_and_an_unfinished_backup_say_what_they_are(box, shared_folder):
    new = blank(shared_folder)
    with pytest.raises(WrongBackupKey, match="does not open"):
        restore(Restic(target=box.site.backup.target, key="AAAAA-BBBBB", cache=new.data / "c"), new, Wish(), say=quiet)
    with pytest.raises(Exception, match="plugged in"):
        restore(Restic(target="/nowhere/disk", key="x", cache=new.data / "c"), new, Wish(), say=quiet)
    store = box.copied(shared_folder)
    store.run("forget", gathered(store.snapshots())[-1].parts["facts"].id)
    with pytest.raises(Exception, match="no whole backup"):
        restore(store, new, Wish(), say=quiet)
    assert not new.clusters.exists() and not new.marker.exists()


def flips(folder, count, seed):
    """(path, offset) of random bytes of the repository, larger files more often."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and "locks" not in path.parts]
    sizes = [path.stat().st_size for path in files]
    chooser = random.Random(seed)
    return [(path, chooser.randrange(path.stat().st_size)) for path in chooser.choices(files, weights=sizes, k=count)]


@pytest.mark.parametrize("count", [20, pytest.param(100, marks=pytest.mark.long)])
def test_one_changed_byte_anywhere_in_the_backup_is_refused_and_nothing_is_touched(box, shared_folder, count):
    store = box.copied(shared_folder)
    folder = Path(store.target)
    new = blank(shared_folder)
    kinds = {
        path.parent.name if path.parent != folder else path.name: path for path in folder.rglob("*") if path.is_file()
    }
    assert {"config", "keys", "index", "snapshots"} <= set(kinds)
    each = [(path, path.stat().st_size // 2) for path in kinds.values()]
    for path, offset in [*each, *flips(folder, count, 7)]:
        whole, mode = path.read_bytes(), path.stat().st_mode
        path.chmod(0o600)
        path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 0x41]) + whole[offset + 1 :])
        with pytest.raises((Damaged, WrongBackupKey)) as refused:
            restore(store, new, Wish(), say=quiet)
        assert refused.value.message and list(new.data.iterdir()) == [], path
        path.write_bytes(whole)
        path.chmod(mode)
    store.examine()


def test_a_drill_that_finds_another_row_says_which_table_and_is_not_well(box, shared_folder):
    store = box.copied(shared_folder)
    one = gathered(store.snapshots())[-1]
    numbers = json.loads(store.read(one.parts["facts"], "facts.json"))
    numbers["tables"]["core_patient"]["rows"] += 1
    store.run("forget", one.parts["facts"].id)
    store.save_bytes(json.dumps(numbers).encode(), "facts.json", [f"set={one.name}", "kind=facts"])
    site = dataclasses.replace(box.site, backup=dataclasses.replace(box.site.backup, target=store.target))
    last = json.loads((box.places.reports / "backup.json").read_text())["last_well"]
    with pytest.raises(Damaged, match="core_patient has"):
        drill(site, box.places, say=quiet)
    report = json.loads((box.places.reports / "drill.json").read_text())
    assert not report["well"] and "core_patient" in report["why"] and last


def test_people_write_during_the_backup_and_what_was_written_minutes_ago_comes_back_too(box, shared_folder):
    stop = shared_folder / "stop"
    script = (
        "import psycopg, sys, pathlib, time\n"
        "with psycopg.connect(sys.argv[1], autocommit=True) as c:\n"
        "    n = 0\n"
        "    while not pathlib.Path(sys.argv[2]).exists():\n"
        "        n += 1\n"
        "        time.sleep(0.01)\n"  # a hundred acts a second are more than a clinic's
        "        with c.transaction():\n"
        "            c.execute(\"update core_patient set family = family || '' where id in (select id from core_patient limit 3)\")\n"
        '            c.execute("insert into core_tenant (id, slug, name, name_alt, locale, timezone, currency, country, phone, active)'
        " values (gen_random_uuid(), 'w' || %s, 'w', '', 'en', 'UTC', 'USD', '', '', true)\", (n,))\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", script, url(box.sockets), str(stop)], stderr=subprocess.PIPE)
    sent = []

    def send_the_log():
        while not stop.exists():
            sent.append(back_up_log(box.site, box.places, say=quiet)["well"])

    sender = threading.Thread(
        target=send_the_log
    )  # the timer of every few minutes does not wait for the night's backup
    try:
        time.sleep(0.5)
        sender.start()
        report = back_up(box.site, box.places, box.live, say=quiet)
    finally:
        stop.touch()
        sender.join(60)
        _, said = writer.communicate(timeout=30)
    assert writer.returncode == 0, said.decode()
    assert sent and all(sent)
    with psycopg.connect(url(box.sockets)) as connection:
        assert connection.execute("select count(*) from core_tenant where slug like 'w%'").fetchone()[0] > 5
    assert drill(box.site, box.places, say=quiet)["rows"] == report["rows"]

    write(box.sockets, "minutes-ago")
    (box.places.data / "blobs/a/later").write_bytes(b"later")
    with psycopg.connect(url(box.sockets), autocommit=True) as connection:
        piece = connection.execute("select pg_walfile_name(pg_switch_wal())").fetchone()[0]
    for _ in range(600):
        if (box.places.wal / piece).exists():
            break
        time.sleep(0.1)
    back_up_log(box.site, box.places, say=quiet)
    back_up_log(box.site, box.places, say=quiet)
    newest = gathered(box.store.snapshots())[-1]
    assert len(newest.logs) == len(newest.later) == 1
    now = facts(box.sockets)
    new = blank(shared_folder)
    restore(box.store, new, Wish(latest=True), say=quiet)
    assert (new.data / "blobs/a/later").read_bytes() == b"later"
    with running(new, box.live.programs) as elsewhere:
        assert differences(now, facts(elsewhere)) == []


# --- which sets are kept ---------------------------------------------------------------------------------------------


def one_set(at, *, whole=True):
    name = at.strftime("%Y%m%dT%H%M%SZ")
    kinds = ("base", "wal", "files", "facts", "log", "later") if whole else ("base",)
    return [Snapshot(id=f"{name}-{kind}", at=at, tags=frozenset({f"set={name}", f"kind={kind}"})) for kind in kinds]


def test_a_day_a_week_and_a_month_are_kept_and_the_newest_two_always():
    today = datetime(2026, 11, 25, 2, tzinfo=UTC)
    snapshots = [snapshot for day in range(200) for snapshot in one_set(today - timedelta(days=day))]
    snapshots += one_set(today - timedelta(days=3, hours=1), whole=False)
    sets = gathered(snapshots)
    gone = {snapshot.id for snapshot in dispensable(sets, days=7, weeks=4, months=3)}
    kept = [one for one in sets if one.whole and one.parts["base"].id not in gone]
    assert 7 + 2 + 1 <= len(kept) <= 7 + 4 + 3
    assert kept[-1].at == today and all(snapshot.id not in gone for one in kept[-2:] for snapshot in one.snapshots)
    assert kept[0].at.month == 9
    unfinished = [one for one in sets if not one.whole]
    assert all(snapshot.id in gone for one in unfinished for snapshot in one.snapshots)
    for one in sets:  # a set goes as a whole or stays as a whole
        assert len({snapshot.id in gone for snapshot in one.parts.values()}) == 1


def test_a_backup_that_is_still_being_written_is_never_cleared_away():
    today = datetime(2026, 11, 25, 2, tzinfo=UTC)
    sets = gathered([*one_set(today - timedelta(days=1)), *one_set(today, whole=False)])
    assert dispensable(sets, days=7, weeks=4, months=3) == []
