"""A large clinic is saved, the night's drill proves it, and a blank machine gets it back: how long each takes.

python -m tests.load backup [--patients 100000] [--observations 1000000]

Root, Debian's PostgreSQL and restic are needed: it is the box's own code over a box in a folder.
"""

import argparse
import time
from pathlib import Path

import psycopg

from tests.load.bars import Bar, judged
from tests.load.chart import records
from tests.load.clinic import Clinic


def main(arguments: list[str]) -> int:
    from appliance.tests.boxes import blank, facts, made_box, quiet, running
    from appliance.tests.conftest import SITE
    from qanun_appliance.backup import Restic, back_up, drill, restore
    from qanun_appliance.backup.facts import differences
    from qanun_appliance.backup.restore import Wish

    parser = argparse.ArgumentParser(prog="python -m tests.load backup", description="Backup, drill and restore.")
    parser.add_argument("--patients", type=int, default=100_000)
    parser.add_argument("--observations", type=int, default=1_000_000)
    options = parser.parse_args(arguments)
    with made_box(SITE) as box:
        superuser = f"postgresql://postgres@/qanun?host={box.sockets}"
        with psycopg.connect(superuser) as connection:
            found = connection.execute("select id::text from core_tenant order by slug limit 1").fetchone()
        assert found is not None
        clinic = Clinic(found[0], superuser, {}, "", None)
        clinic.patients(options.patients)
        records(clinic, options.observations)
        clinic.analyse()
        with psycopg.connect(superuser) as connection:
            size = connection.execute("select pg_database_size('qanun')").fetchone()
        assert size is not None
        print(f"{options.patients} patients, {options.observations} observations: {size[0] / 1e6:.0f} MB of database")
        before = facts(box.sockets)
        saved, report = _timed(lambda: back_up(box.site, box.places, box.live, say=quiet))
        proven, _ = _timed(lambda: drill(box.site, box.places, say=quiet))
        new = blank(Path(box.places.root), "blank")
        key = (box.places.secrets / "backup-key").read_text()
        store = Restic(target=box.site.backup.target, key=key, cache=new.data / "cache")  # type: ignore[attr-defined]
        back, _ = _timed(lambda: restore(store, new, Wish(), say=quiet))
        with running(new, box.live.programs) as elsewhere:
            wrong = differences(before, facts(elsewhere))
    print(f"{report['rows']} rows, {report['files']} files; what differs after the restore: {wrong or 'nothing'}")
    return judged(
        [
            Bar("backup", saved, 300, "s"),
            Bar("drill", proven, 1800, "s"),
            Bar("restore onto a blank machine", back, 1800, "s"),
            Bar("differences", len(wrong), 0, ""),
        ]
    )


def _timed(act):  # type: ignore[no-untyped-def]
    began = time.perf_counter()
    result = act()
    return time.perf_counter() - began, result
