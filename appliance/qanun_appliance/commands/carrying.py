"""`qanun appliance carry-over`: the database to the newest PostgreSQL that this release brings, or back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from qanun.api import CliCommand, ConfigurationError
from qanun_appliance.commands.setting_up import parser, places_of, services
from qanun_appliance.places import Places
from qanun_appliance.secrets import write_private
from qanun_appliance.site import load_site

#: Whatever writes to the database or to the backup of its log, in the order of stopping.
_STOPPED = (
    "qanun-wal.timer", "qanun-backup.timer", "qanun-drill.timer", "qanun-doctor.timer", "qanun-wal.service",
    "qanun-backup.service", "qanun-drill.service", "qanun-web.service", "qanun-jobs.service", "qanun-migrate.service",
    "qanun-prepare.service", "qanun-postgresql.service",
)  # fmt: skip


def carry_over_command(arguments: Sequence[str]) -> int:
    """0 done or nothing to do, 3 with --check when something could be carried over."""
    from qanun_appliance import major

    words = parser("carry-over", "the database to the newest PostgreSQL that is installed; the old one is kept")
    acts = words.add_mutually_exclusive_group()
    acts.add_argument("--check", action="store_true", help="say what would be done, and do nothing")
    acts.add_argument(
        "--back", action="store_true", help="the kept database again; what was written since stays beside it"
    )
    options = words.parse_args(list(arguments))
    places = places_of(options)
    site = load_site(places.site)
    if options.back:
        with _stopped(places):
            print(f"{major.go_back(places)} is the clinic's again")
        _settled(places)
        return 0
    majors = major.to_carry(places)
    if majors is None:
        print("the database is of the newest PostgreSQL that is installed")
        return 0
    if options.check:
        print(f"PostgreSQL {majors.old_major} → {majors.new_major}: qanun appliance carry-over")
        return 3
    with _stopped(places):
        done = major.carry_over(places, majors)
    _settled(places)
    print(f"PostgreSQL {done['from']} → {done['to']}: {done['rows']} rows, 0 differences; kept: {done['kept']}")
    if site.backup.target and places.is_machine:
        # A backup of the old one cannot take the new one's log.
        subprocess.run(["systemctl", "start", "--no-block", "qanun-backup.service"], check=False, timeout=60)
        print("a new backup begins")
    return 0


@contextmanager
def _stopped(places: Places) -> Iterator[None]:
    """Nobody writes; people see why. Whatever happens, the machine is started again afterwards, on the cluster that counts."""
    if not places.is_machine:
        yield
        return
    write_private(places.real("/etc/qanun/maintenance.html"), _PAGE.encode(), 0o644)
    subprocess.run(["systemctl", "stop", *_STOPPED], capture_output=True, check=False, timeout=300)
    try:
        _must_stand()
        yield
    except BaseException:
        _settled(places)
        raise


def _must_stand() -> None:
    still = subprocess.run(["systemctl", "is-active", "--quiet", "qanun-postgresql.service"], check=False, timeout=30)
    if still.returncode == 0:
        raise ConfigurationError("the database does not stop; nothing was done")


def _settled(places: Places) -> None:
    from qanun_appliance.addresses import own_addresses
    from qanun_appliance.apply import apply, machine

    if not places.is_machine:
        return
    site = load_site(places.site)
    apply(site, places, services(), machine(places), own_addresses(site, wait=0))
    timers = [name for name in _STOPPED if name.endswith(".timer")]
    subprocess.run(["systemctl", "start", *timers], capture_output=True, check=False, timeout=120)
    try:
        subprocess.run(["systemctl", "start", "qanun.target"], capture_output=True, check=False, timeout=300)
    except subprocess.TimeoutExpired:
        # systemd goes on with it; what was carried over is in its place already.
        print("The services are still starting. 'qanun appliance doctor' says how they are.", file=sys.stderr)


_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><meta http-equiv="refresh" content="10"><title>Qanun</title>
<p>The database is being carried over to a newer version. It takes some minutes; this page looks again every ten seconds. Everything
that was saved is safe.
<p lang="ar" dir="rtl">تُنقل قاعدة البيانات إلى إصدار أحدث. يستغرق ذلك بضع دقائق؛ تُعيد هذه الصفحة المحاولة كل عشر ثوانٍ. كل ما حُفظ في
أمان.
</html>
"""

COMMANDS = (
    CliCommand(
        id="appliance.carry-over",
        run=carry_over_command,
        summary="the database to a newer PostgreSQL (--check, --back)",
    ),
)
