"""`qanun appliance doctor | backup | drill | restore | recovery-key`: what keeps a clinic's data, and knows that it does."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from qanun.api import CliCommand
from qanun_appliance.commands.setting_up import parser, places_of, services
from qanun_appliance.places import Places
from qanun_appliance.site import load_site

_MARKS = {"ok": "well", "info": "note", "warn": "SOON", "crit": "NOW"}


def doctor_command(arguments: Sequence[str]) -> int:
    """0 all well, 1 something wants a person this week, 2 today."""
    from qanun_appliance.doctor import examine, worst, written
    from qanun_appliance.doctor.sentences import in_words, plain

    words = parser("doctor", "look at everything a person would, and say how it is mended")
    words.add_argument("--json", action="store_true", help="for programs")
    words.add_argument(
        "--write", action="store_true", help="also put the report where the administrator's pages find it"
    )
    words.add_argument("--quiet", action="store_true", help="only what wants somebody")
    options = words.parse_args(list(arguments))
    places = places_of(options)
    findings = examine(places, services())
    if options.write:
        written(places, findings)
    level = worst(findings)
    if options.json:
        listed = [
            {"code": one.code, "level": one.level, "values": one.values,
             **dict(zip(("said", "mend"), map(plain, in_words(one.code, one.values)), strict=True))}
            for one in findings
        ]  # fmt: skip
        print(json.dumps({"level": level, "findings": listed}, indent=1))
    else:
        for one in findings:
            said, mend = map(plain, in_words(one.code, one.values))
            if options.quiet and one.level in {"ok", "info"}:
                continue
            print(f"{_MARKS[one.level]:>4}  {said}")
            if mend and one.level != "ok":
                print(f"      → {mend}")
    return {"ok": 0, "info": 0, "warn": 1, "crit": 2}[level]


def backup_command(arguments: Sequence[str]) -> int:
    from qanun_appliance.apply import postgres_programs
    from qanun_appliance.backup import Live, back_up, back_up_log
    from qanun_appliance.backup.take import live_url

    words = parser("backup", "save everything a restore needs, encrypted with the clinic's key")
    words.add_argument("--log-only", action="store_true", help="only what was written since the last whole backup")
    words.add_argument(
        "--begin", action="store_true", help="where backups were and are gone: begin anew on an empty disk"
    )
    options = words.parse_args(list(arguments))
    places = places_of(options)
    site = load_site(places.site)
    if options.log_only:
        back_up_log(site, places)
        return 0
    report = back_up(site, places, Live(programs=postgres_programs(Places()), url=live_url()), begin=options.begin)
    print(f"{report['set']}: {report['rows']} rows, {report['files']} files, {report['seconds']} s")
    return 0


def drill_command(arguments: Sequence[str]) -> int:
    from qanun_appliance.backup import drill

    options = parser("drill", "restore the newest backup into a copy and compare it to the last row").parse_args(
        list(arguments)
    )
    places = places_of(options)
    report = drill(load_site(places.site), places)
    print(
        f"{report['set']}: {report['rows']} rows of {report['clinics']} clinics, 0 differences, {report['seconds']} s"
    )
    return 0


def restore_command(arguments: Sequence[str]) -> int:
    from qanun_appliance.backup import restore, store_at
    from qanun_appliance.backup.exchange import clear, settle
    from qanun_appliance.backup.restore import Wish

    words = parser("restore", "get a clinic back from its backup and the recovery key alone")
    source = words.add_mutually_exclusive_group(required=True)
    source.add_argument("--from", dest="source", metavar="TARGET", help="the backup's folder or address")
    source.add_argument(
        "--finish", action="store_true", help="only finish what was proven and cut off; the machine's start does it"
    )
    words.add_argument("--key-file", type=Path, help="holds the recovery key; it is asked for when absent")
    words.add_argument("--set", default="", help="a backup by its name (the newest)")
    words.add_argument("--exact", action="store_true", help="its own moment, compared to the last row; nothing later")
    words.add_argument(
        "--replace", default="", metavar="CLINIC", help="the clinic's short name: put it in place of what is here"
    )
    options = words.parse_args(list(arguments))
    places = places_of(options)
    if options.finish:
        done = settle(places)
        clear(places)
        print(f"{done}: in place now" if done else "nothing was cut off")
        return 0
    key = options.key_file.read_text(encoding="ascii") if options.key_file else getpass.getpass("Recovery key: ")
    places.data.mkdir(parents=True, exist_ok=True)
    store = store_at(places, options.source, key.strip().upper())
    report = restore(store, places, Wish(name=options.set, latest=not options.exact, replace=options.replace))
    print(f"{report['set']}: {report['rows']} rows of {report['clinics']} clinics are back, {report['seconds']} s")
    for kept in report["kept"]:
        print(f"kept: {kept}")
    if places.is_machine:
        print("next: qanun appliance apply, qanun appliance health --wait 120, qanun appliance backup")
    return 0


def backup_store_command(arguments: Sequence[str]) -> int:
    """0 reached (with backups in it or still empty), 1 not, with the reason."""
    from qanun_appliance.backup import WrongBackupKey, store_at
    from qanun_appliance.backup.store import public_key
    from qanun_appliance.secrets import ensure_store_key

    words = parser("backup-store", "where backups go: the key that a store wants to know, and whether it is reached")
    words.add_argument(
        "--at", default="", metavar="TARGET", help="another one than the site file's, to restore from it"
    )
    options = words.parse_args(list(arguments))
    places = places_of(options)
    target = options.at or load_site(places.site).backup.target
    if not target:
        print("site.toml names no [backup] target", file=sys.stderr)
        return 1
    if target.startswith("sftp:"):
        ensure_store_key(places)
        print(f"The store's keeper puts this line into its authorized_keys:\n\n  {public_key(places)}\n")
    key_file = places.secrets / "backup-key"
    key = key_file.read_text(encoding="ascii").strip() if key_file.exists() else "unknown"
    try:
        found = store_at(places, target, key).exists()
    except WrongBackupKey:
        # Of another machine: whoever restores from it has its key on paper.
        print("reached: there are backups of another key")
        return 0
    print("reached: there are backups" if found else "reached: nothing is there yet")
    return 0


def recovery_key_command(arguments: Sequence[str]) -> int:
    """Show the keys on a terminal only, and note that somebody typed their last groups back. The disk's leaves the machine."""
    from qanun_appliance.reports import note

    words = parser("recovery-key", "show the recovery key once more, and prove that it was written down")
    words.add_argument("--verify", metavar="LAST", help="the last group of the key as it stands on paper")
    words.add_argument(
        "--verify-disk", metavar="LAST", help="the last group of the disk's own key, where it is still here"
    )
    options = words.parse_args(list(arguments))
    places = places_of(options)
    disk = places.secrets / "recovery-key"
    key = (places.secrets / "backup-key").read_text(encoding="ascii").strip()
    asked = [("the backup", key, options.verify)]
    if disk.exists():
        asked.append(("this machine's disk", disk.read_text(encoding="ascii").strip(), options.verify_disk))
    given = options.verify is not None or options.verify_disk is not None
    if not given:
        if not sys.stdout.isatty():
            print("the recovery key is shown on a terminal only", file=sys.stderr)
            return 1
        for what, one, _ in asked:
            print(f"\n  of {what}:\n    {one}")
        print("\nWrite it down, keep it away from this machine. Without it no backup opens.")
    for what, one, last in asked:
        typed = last if given else input(f"Type the last group of the key of {what} back: ")
        if typed is None:
            continue
        if typed.strip().upper() != one.upper().rsplit("-", 1)[-1]:
            print("that is not its last group", file=sys.stderr)
            return 1
        if one == key:
            note(places, "recovery-key", {"well": True, "verified": True})
        else:
            disk.unlink()
    print("noted: somebody holds the recovery key")
    return 0


def disk_watch_command(arguments: Sequence[str]) -> int:
    from qanun_appliance.reserve import look_after

    options = parser("disk-watch", "hold a reserve of the data disk, and give it free when it is full").parse_args(
        list(arguments)
    )
    said = {
        "held": "held",
        "given": "the disk is full: its reserve is free now",
        "taken": "held anew",
        "none": "no room",
    }
    print(f"reserve: {said[look_after(places_of(options))]}")
    return 0


def support_bundle_command(arguments: Sequence[str]) -> int:
    from qanun_appliance.backup.take import live_url
    from qanun_appliance.support import support_bundle

    words = parser("support-bundle", "a file for an engineer elsewhere, with nothing about anybody in it")
    words.add_argument("target", type=Path)
    words.add_argument("--no-search", action="store_true", help="when the database does not answer")
    options = words.parse_args(list(arguments))
    places = places_of(options)
    names = support_bundle(load_site(places.site), places, options.target, url="" if options.no_search else live_url())
    print(f"{options.target}: {', '.join(names)}")
    return 0


COMMANDS = (
    CliCommand(id="appliance.doctor", run=doctor_command, summary="look at everything, say how it is mended (--json)"),
    CliCommand(id="appliance.backup", run=backup_command, summary="take a whole backup (--log-only: what came since)"),
    CliCommand(
        id="appliance.backup-store", run=backup_store_command, summary="where backups go, and whether it is reached"
    ),
    CliCommand(id="appliance.drill", run=drill_command, summary="prove the newest backup by restoring it into a copy"),
    CliCommand(id="appliance.restore", run=restore_command, summary="get a clinic back (--from TARGET)"),
    CliCommand(
        id="appliance.recovery-key", run=recovery_key_command, summary="show the recovery key, prove it is kept"
    ),
    CliCommand(
        id="appliance.disk-watch", run=disk_watch_command, summary="hold a reserve of the data disk (by a timer)"
    ),
    CliCommand(
        id="appliance.support-bundle", run=support_bundle_command, summary="a file for an engineer, about nobody"
    ),
)
