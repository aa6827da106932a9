"""What each finding says and how it is mended. `%(name)s` are its values; a mend may be empty when all is well.

What somebody types stands between backticks, so that a page can set it apart in every direction of writing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qanun.api import N_

_MARKS = re.compile("[\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class Sentence:
    said: Any
    mend: Any = ""


SENTENCES: Mapping[str, Sentence] = {
    "site.well": Sentence(N_("The site file is right, and the machine is set up as it says")),
    "site.wrong": Sentence(
        N_("The site file cannot be used: %(why)s"),
        N_("Correct `/var/lib/qanun/site.toml`, then: `qanun appliance apply`"),
    ),
    "site.behind": Sentence(
        N_("Files that differ from what the site file says: %(count)s"),
        N_("See them with: `qanun appliance apply --check`. Put them right with: `qanun appliance apply`"),
    ),
    "web.well": Sentence(N_("The pages answer through the proxy")),
    "web.ill": Sentence(
        N_("The pages do not answer: %(why)s"),
        N_("`systemctl status qanun-web caddy`; then: `systemctl restart qanun-web caddy`"),
    ),
    "database.well": Sentence(N_("The database answers")),
    "database.ill": Sentence(
        N_("The database does not answer: %(why)s"),
        N_(
            "`systemctl status qanun-postgresql qanun-prepare`. If its files are gone: mend the disk or restore; never make new ones"
        ),
    ),
    "media.well": Sentence(N_("Calls: the media server answers")),
    "media.ill": Sentence(
        N_("Calls cannot connect, the media server does not answer: %(why)s"), N_("`systemctl restart qanun-media@1`")
    ),
    "turn.well": Sentence(N_("Calls from strict networks: the relay answers")),
    "turn.ill": Sentence(
        N_("Calls from strict networks fail, the relay does not answer: %(why)s"), N_("`systemctl restart qanun-turn`")
    ),
    "nodes.well": Sentence(N_("Media nodes on other machines that answer: %(count)s")),
    "nodes.unknown": Sentence(
        N_("Media nodes cannot be asked for: the place where they call in does not answer"),
        N_("`systemctl restart qanun-nodes`"),
    ),
    "node.silent": Sentence(
        N_("The media node %(name)s has been silent for %(minutes)s minutes; its calls go on at other servers"),
        N_(
            "Look at that machine: `systemctl status qanun-node`, its network, its clock. If it is gone for good: "
            "`qanun telemedicine node revoke %(name)s`"
        ),
    ),
    "service.failed": Sentence(
        N_("A service has failed: %(unit)s"), N_("`journalctl -u %(unit)s -n 50`; then: `systemctl restart %(unit)s`")
    ),
    "services.well": Sentence(N_("No service has failed")),
    "services.unknown": Sentence(N_("The services could not be asked: systemd does not run here")),
    "schema.well": Sentence(N_("The tables are those of this release")),
    "schema.behind": Sentence(
        N_("Tables that are not those of this release: %(names)s"),
        N_("`systemctl restart qanun-migrate`; then: `qanun db status`"),
    ),
    "disk.well": Sentence(N_("The data disk has room: %(free)s GB free of %(total)s")),
    "disk.low": Sentence(
        N_("The data disk fills up: %(free)s GB free of %(total)s"),
        N_("Make room or add a disk now; below 3 %% free nothing more is accepted"),
    ),
    "disk.full": Sentence(
        N_("The data disk is nearly full: %(free)s GB free of %(total)s"),
        N_("Make room at once: old copies of a restore lie in `/var/lib/qanun/*.before-restore-*`"),
    ),
    "disk.reserve-given": Sentence(
        N_(
            "The data disk was full; its reserve was given free so that people can go on: %(free)s GB free of %(total)s"
        ),
        N_(
            "Delete or move something today: old copies lie in `/var/lib/qanun/*.before-restore-*`. The reserve comes back by itself"
        ),
    ),
    "disk.key-beside": Sentence(
        N_(
            "This machine has no TPM: the disk’s key lies on the start-up partition, so the disk protects no stolen machine"
        ),
        N_("Lock the room, or use a machine with a TPM"),
    ),
    "disk.another-qanun": Sentence(
        N_("Another disk of this machine holds a Qanun, too: %(name)s. It is not used"),
        N_("When everything is here, take it out, and keep or erase it: it holds what was entered there"),
    ),
    "postgres.newer": Sentence(
        N_("The database is of PostgreSQL %(old)s, and %(new)s is here"),
        N_("In a quiet hour: `qanun appliance carry-over`"),
    ),
    "postgres.unfinished": Sentence(
        N_("Carrying the database over to PostgreSQL %(new)s was interrupted; the clinic’s is as it was"),
        N_("`qanun appliance carry-over` begins again"),
    ),
    "postgres.kept": Sentence(
        N_("The database of before takes %(size)s GB: %(path)s"),
        N_("When the new one has been well for a month: `rm -r %(path)s`"),
    ),
    "memory.low": Sentence(
        N_("Little memory is left: %(free)s MB of %(total)s"),
        N_("See who uses it: `systemd-cgtop -m`. Four gigabytes are the least"),
    ),
    "memory.well": Sentence(N_("There is memory to spare: %(free)s MB of %(total)s")),
    "clock.well": Sentence(N_("The clock agrees with its time servers")),
    "clock.off": Sentence(
        N_("The clock is off by %(seconds)s seconds"), N_("`chronyc sources`; then: `systemctl restart chrony`")
    ),
    "clock.alone": Sentence(
        N_("The clock agrees with nobody: no time server answers"),
        N_(
            "Name a time server that this network reaches under `[time]` in the site file, then: `qanun appliance apply`"
        ),
    ),
    "certificate.well": Sentence(N_("The certificate is good for another %(days)s days")),
    "certificate.soon": Sentence(
        N_("The certificate ends in %(days)s days"),
        N_("`qanun appliance apply` renews an own one; a given one must be replaced"),
    ),
    "certificate.over": Sentence(
        N_("The certificate has ended: browsers refuse this clinic"),
        N_("`qanun appliance apply` renews an own one; a given one must be replaced"),
    ),
    "certificate.names": Sentence(
        N_("The certificate does not name %(names)s"),
        N_("Write the name under `[hosts]` in the site file, then: `qanun appliance apply`"),
    ),
    "ports.well": Sentence(N_("Nothing listens that should not")),
    "ports.open": Sentence(
        N_("Something listens that should not: %(ports)s"),
        N_("Find it with: `ss -ltnup`. Stop it; the firewall keeps others away from it as long as it runs"),
    ),
    "firewall.well": Sentence(N_("The firewall is up")),
    "firewall.down": Sentence(N_("The firewall is down"), N_("`systemctl enable --now nftables`")),
    "secrets.well": Sentence(N_("Keys and secrets are closed to everybody else")),
    "secrets.open": Sentence(
        N_("Others can read %(path)s"), N_("`chmod 600 %(path)s`, and think about who could have copied it")
    ),
    "secrets.missing": Sentence(
        N_("%(path)s is missing"),
        N_("If there is data here, restore it from the backup; otherwise: `qanun appliance apply`"),
    ),
    "administrator.waits": Sentence(
        N_("The administrator's first password still lies on this machine"),
        N_("When the administrator has signed in: `rm /var/lib/qanun/secrets/administrator`"),
    ),
    "backup.well": Sentence(N_("The last backup is %(hours)s hours old: %(rows)s rows, %(files)s files")),
    "backup.none": Sentence(
        N_("There is no backup: if this disk dies, everything is lost"),
        N_("Write `[backup] target` into the site file, then: `qanun appliance apply`, `qanun appliance backup`"),
    ),
    "backup.never": Sentence(N_("No backup has been taken yet"), N_("`qanun appliance backup`")),
    "backup.old": Sentence(
        N_("The last good backup is %(hours)s hours old"),
        N_("Is the backup disk there? Then: `qanun appliance backup`"),
    ),
    "backup.failed": Sentence(
        N_("The last backup failed: %(why)s"), N_("Mend what it says, then: `qanun appliance backup`")
    ),
    "backup.disk-there": Sentence(N_("The backup disk is there, at %(path)s")),
    "backup.disk-out": Sentence(
        N_("The backup disk is not plugged in: no backup lies at %(path)s"),
        N_("Plug it in; it is used by itself. For a new disk in its place: `qanun appliance backup --begin`"),
    ),
    "backup.same-disk": Sentence(
        N_("Backups lie on the same disk as the data, at %(path)s: if it dies, both are lost"),
        N_(
            "Name another disk or a store in the network under `[backup]` in the site file, then: `qanun appliance apply`"
        ),
    ),
    "backup.disk": Sentence(
        N_("The backup disk fills up: %(free)s GB free of %(total)s"),
        N_("Replace it by a larger one, or keep fewer backups (`[backup] keep_days` in the site file)"),
    ),
    "log.old": Sentence(
        N_("What was written in the last %(minutes)s minutes is not in the backup yet"),
        N_("`systemctl status qanun-wal`"),
    ),
    "drill.well": Sentence(N_("The backup is proven: restored and compared %(hours)s hours ago, 0 differences")),
    "drill.never": Sentence(N_("No backup has been proven yet by restoring it"), N_("`qanun appliance drill`")),
    "drill.old": Sentence(N_("The last restore that was proven is %(hours)s hours old"), N_("`qanun appliance drill`")),
    "drill.failed": Sentence(
        N_("The backup could not be restored: %(why)s"),
        N_("Take a new one to another disk: `qanun appliance backup`; then: `qanun appliance drill`"),
    ),
    "key.unverified": Sentence(
        N_("Nobody has shown that they hold the recovery key: without it a backup opens for nobody"),
        N_("`qanun appliance recovery-key` shows it once; write it down, keep it elsewhere, and type part of it back"),
    ),
    "key.on-machine": Sentence(
        N_("The recovery key of the disk still lies on this machine, where it is of no use"),
        N_("`qanun appliance recovery-key` shows it; write it down and type part of it back, and it is deleted here"),
    ),
    "check.failed": Sentence(N_("A check could not look: %(why)s")),
    "boot.rolled-back": Sentence(
        N_("Release %(version)s did not work here and was left again: %(why)s"),
        N_("The clinic runs the release before it. See: `qanun appliance update status`"),
    ),
}


def plain(text: str) -> str:
    """For a terminal: without the marks around what is typed."""
    return text.replace("`", "")


def pieces(text: str) -> list[tuple[str, bool]]:
    """(text, whether it is typed) for a page. What is typed keeps no invisible mark that a copy would carry along."""
    parts = enumerate(text.split("`"))
    return [(_MARKS.sub("", part) if number % 2 else part, number % 2 == 1) for number, part in parts if part]


def in_words(code: str, values: Mapping[str, Any], resolve: Any = str) -> tuple[str, str]:
    """(what is, how it is mended) of a finding in the language of `resolve`; a code of another release shows as it is."""
    sentence = SENTENCES.get(code)
    if sentence is None:
        return code, ""
    said, mend = resolve(sentence.said), resolve(sentence.mend) if sentence.mend else ""
    try:
        return said % values, mend % values if mend else ""
    except (KeyError, ValueError, TypeError):
        return said, mend
