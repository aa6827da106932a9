"""The doctor says what is, and beside it how it is mended; a check that cannot look stops no other."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from qanun.app import SystemService
from qanun.app.build import gather
from qanun_appliance.apply import apply
from qanun_appliance.backup.take import where
from qanun_appliance.commands.keeping import doctor_command
from qanun_appliance.doctor import Finding, checks, examine, keeping, worst
from qanun_appliance.doctor.sentences import SENTENCES, in_words
from qanun_appliance.places import Places
from qanun_appliance.render import Machine
from qanun_appliance.site import parse_site

SERVICES = gather()[0].all(SystemService)
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.fixture
def places(tmp_path):
    found = Places(tmp_path)
    found.reports.mkdir(parents=True)
    return found


@pytest.fixture
def site(site_table):
    return parse_site(site_table)


def codes(findings):
    return {finding.code: finding.level for finding in findings}


def report(places, name, **values):
    (places.reports / f"{name}.json").write_text(json.dumps(values))


def ago(hours):
    return (NOW - timedelta(hours=hours)).isoformat()


def test_every_sentence_that_is_not_well_says_how_it_is_mended_and_fills_with_its_values():
    for code in SENTENCES:
        names = {"why", "count", "unit", "names", "free", "total", "days", "seconds", "ports", "path", "hours", "rows", "files",
                 "minutes", "name", "version", "old", "new", "size"}  # fmt: skip
        said, mend = in_words(code, dict.fromkeys(names, "VALUE"))
        assert "%(" not in said + mend, code
        harmless = code.endswith((".well", "-there")) or code in {"services.unknown", "check.failed"}
        assert mend or harmless, code
    assert in_words("of.a.later.release", {}) == ("of.a.later.release", "")


@pytest.mark.parametrize(
    ("taken", "proven", "expected"),
    [
        ({}, {}, {"backup.never": "warn", "drill.never": "warn"}),
        ({"well": True, "last_well": ago(8)}, {"well": True, "last_well": ago(6)}, {"backup.well": "ok", "drill.well": "ok"}),
        ({"well": False, "why": "no disk", "last_well": ago(32)}, {"well": True, "last_well": ago(6)},
         {"backup.failed": "warn", "drill.well": "ok"}),
        ({"well": False, "why": "no disk", "last_well": ago(60)}, {"well": True, "last_well": ago(60)},
         {"backup.old": "crit", "drill.old": "warn"}),
        ({"well": False, "why": "no disk"}, {"well": False, "why": "core_patient has 3 rows, not 4", "last_well": ago(30)},
         {"backup.failed": "crit", "drill.failed": "crit"}),
        ({"well": True, "last_well": ago(1), "free": 4e9, "total": 100e9}, {"well": True, "last_well": ago(1)},
         {"backup.well": "ok", "drill.well": "ok", "backup.disk": "crit"}),
    ],
)  # fmt: skip
def test_a_backup_turns_yellow_and_red_long_before_it_is_too_late(places, site, taken, proven, expected):
    report(places, "backup", **taken)
    report(places, "drill", **proven)
    assert codes(keeping.backups(site, places, NOW)) == expected


def test_a_log_that_no_longer_arrives_is_seen_within_minutes(places, site):
    report(places, "backup", well=True, last_well=ago(5))
    report(places, "drill", well=True, last_well=ago(4))
    report(places, "log", well=False, last_well=ago(0.5), why="no disk")
    assert codes(keeping.backups(site, places, NOW))["log.old"] == "warn"


def test_a_backup_disk_that_is_out_is_said_so_and_a_folder_beside_the_data_is_no_other_disk(places, site):
    assert codes(keeping.backup_disk(site, places)) == {"backup.disk-out": "crit"}
    disk = places.real(site.backup.target)
    disk.mkdir(parents=True)
    assert codes(keeping.backup_disk(site, places)) == {"backup.same-disk": "warn"}
    report(places, "backup", well=True, where=where(site.backup.target))
    assert codes(keeping.backup_disk(site, places)) == {"backup.disk-out": "crit"}, "an empty mount point"
    (disk / "config").touch()
    assert codes(keeping.backup_disk(site, places)) == {"backup.same-disk": "warn"}


def test_a_store_in_the_network_is_no_disk(places, site_table):
    site_table["backup"]["target"] = "sftp:clinic@store.lan:/srv/backup"
    assert keeping.backup_disk(parse_site(site_table), places) == []


def test_no_backup_target_is_an_alarm_and_a_key_that_nobody_holds_is_told(places, site, site_table):
    assert codes(keeping.recovery_key(site, places)) == {"key.unverified": "warn"}
    report(places, "recovery-key", verified=True)
    assert keeping.recovery_key(site, places) == []
    site_table["backup"] = {}
    assert codes(keeping.backups(parse_site(site_table), places)) == {"backup.none": "crit"}


def test_disk_memory_and_clock(places):
    assert codes(checks.disk(places, (1000, 0, 20))) == {"disk.full": "crit"}
    assert codes(checks.disk(places, (1000, 0, 100))) == {"disk.low": "warn"}
    assert codes(checks.disk(places, (1000, 0, 500))) == {"disk.well": "ok"}
    assert codes(checks.memory("MemTotal: 4096000 kB\nMemAvailable: 100000 kB\n")) == {"memory.low": "warn"}
    good = "C0A80701,192.168.7.1,3,1795569270.0,0.000012,0,0,0,0,0,0,0,0,Normal"
    assert codes(checks.clock(good)) == {"clock.well": "ok"}
    assert codes(checks.clock(good.replace("0.000012", "-7.2"))) == {"clock.off": "crit"}
    assert codes(checks.clock("00000000,,0,0.0,0.0,0,0,0,0,0,0,0,0,Not synchronised")) == {"clock.alone": "warn"}


def test_a_listener_that_is_on_no_list_is_named_and_local_ones_are_not(site):
    listing = (
        "tcp LISTEN 0 511 127.0.0.1:8000 0.0.0.0:*\ntcp LISTEN 0 128 *:443 *:*\nudp UNCONN 0 0 *:8100 *:*\nudp UNCONN 0 0 [2001:db8::5]:3478 [::]:*\n"
        "udp UNCONN 0 0 127.0.0.53%lo:53 0.0.0.0:*\nudp UNCONN 0 0 0.0.0.0:68 0.0.0.0:*\n"
    )
    assert codes(checks.ports(site, SERVICES, listing)) == {"ports.well": "ok"}
    [finding] = checks.ports(
        site,
        SERVICES,
        listing + "tcp LISTEN 0 9 0.0.0.0:5432 *:*\nudp UNCONN 0 0 [::]:5355 *:*\ntcp LISTEN 0 9 0.0.0.0:22 *:*\n",
    )
    assert finding == Finding("ports.open", "crit", {"ports": "tcp/22, tcp/5432, udp/5355"})


def test_a_stranger_is_named_by_its_unit(site):
    line = "tcp LISTEN 0 9 0.0.0.0:5432 0.0.0.0:* cgroup:/system.slice/system-postgresql.slice/postgresql@15-main.service\n"
    [finding] = checks.ports(site, SERVICES, line)
    assert finding.values == {"ports": "tcp/5432 (postgresql@15-main.service)"}


def test_another_disk_with_a_qanun_is_named_and_the_own_one_is_not(places):
    listing = """sda  
sda1 sda qanun-esp
sda2 sda qanun-root-0.1.0
sda4 sda qanun-var
qanun-var sda4 
sdb  
sdb1 sdb qanun-esp
sdb4 sdb qanun-var
sdc  
sdc1 sdc Some\\x20files
"""  # noqa: W291 - as lsblk prints it: what is empty ends the line with a space
    assert checks.other_systems(places, listing) == []  # a server without the image
    root = places.real("/sys/class/block/dm-0")
    for folder in ("dm", "slaves/sda2"):
        (root / folder).mkdir(parents=True)
    (root / "dm/name").write_text("qanun-root\n")
    [finding] = checks.other_systems(places, listing)
    assert (finding.code, finding.level, finding.values) == ("disk.another-qanun", "info", {"name": "sdb"})
    assert checks.other_systems(places, listing.replace("sdb1 sdb qanun-esp", "sdb1 sdb films")) == []


def test_keys_that_lie_where_they_protect_nothing_are_told(site, places):
    places.secrets.mkdir(parents=True)
    assert checks.startup_key(places) == [] and "key.on-machine" not in codes(keeping.recovery_key(site, places))
    places.real("/efi/qanun").mkdir(parents=True)
    places.real("/efi/qanun/var.key").write_text("")
    (places.secrets / "recovery-key").write_text("cbdef-ghijk\n")
    assert codes(checks.startup_key(places)) == {"disk.key-beside": "info"}
    assert codes(keeping.recovery_key(site, places))["key.on-machine"] == "warn"


def test_the_disk_s_reserve_is_given_free_in_need_said_and_taken_back(places):
    from qanun_appliance.reserve import Room, look_after, reserve_size

    total = 1000 * 1024**2
    file = places.data / "reserve"
    places.reports.mkdir(parents=True, exist_ok=True)
    assert look_after(places, Room(total, total // 20)) == "none" and not file.exists()
    assert look_after(places, Room(total, total // 2)) == "taken"
    assert file.stat().st_size == reserve_size(total) and file.stat().st_blocks * 512 >= file.stat().st_size
    assert look_after(places, Room(total, total // 20)) == "held" and file.exists()
    assert codes(checks.disk(places, (1000, 0, 50))) == {"disk.low": "warn"}
    assert look_after(places, Room(total, total // 100)) == "given" and not file.exists()
    # The room that it made must not hide that the disk was full.
    assert codes(checks.disk(places, (1000, 0, 500))) == {"disk.reserve-given": "crit"}
    assert look_after(places, Room(total, total // 10)) == "none"
    assert look_after(places, Room(total, total // 2)) == "taken"
    assert codes(checks.disk(places, (1000, 0, 500))) == {"disk.well": "ok"}


def test_a_newer_postgresql_an_interrupted_upgrade_and_an_old_cluster_are_told(places):
    for number in (15, 18):
        folder = places.real(f"/usr/lib/postgresql/{number}/bin")
        folder.mkdir(parents=True)
        (folder / "postgres").write_text("")
    (places.clusters / "15").mkdir(parents=True)
    (places.clusters / "15" / "PG_VERSION").write_text("15\n")
    assert codes(keeping.clusters(places)) == {"postgres.newer": "info"}
    (places.clusters / ".18.carried").mkdir()
    assert codes(keeping.clusters(places))["postgres.unfinished"] == "warn"
    (places.clusters / "13.before-15").mkdir()
    assert codes(keeping.clusters(places))["postgres.kept"] == "info"


def test_a_media_node_that_is_silent_is_named_and_without_nodes_nobody_is_asked(site, site_table, places):
    assert checks.media_nodes(site, places) == []
    wide = parse_site(site_table | {"media": {"nodes": ["192.168.7.20"]}})
    one = {"name": "attic", "state": "serving", "heard": time.time()}
    other = {"name": "cellar", "state": "silent", "heard": time.time() - 600}
    waits = {"name": "new", "state": "invited", "heard": 0}
    assert codes(checks.media_nodes(wide, places, json.dumps([one, waits]))) == {"nodes.well": "ok"}
    (found,) = checks.media_nodes(wide, places, json.dumps([one, other]))
    assert (found.code, found.level, found.values) == ("node.silent", "warn", {"name": "cellar", "minutes": 10})
    assert codes(checks.media_nodes(wide, places, "")) == {"nodes.unknown": "warn"}


def test_a_firewall_that_lets_everything_in_is_down():
    up = "table inet qanun {\n chain input {\n type filter hook input priority filter; policy drop;\n"
    assert codes(checks.firewall(up)) == {"firewall.well": "ok"}
    assert (
        codes(checks.firewall(up.replace("drop", "accept"))) == codes(checks.firewall("")) == {"firewall.down": "crit"}
    )


def test_rules_that_nobody_lets_us_see_are_no_finding(monkeypatch):
    from subprocess import CompletedProcess

    def answer(error):
        return lambda *_, **__: CompletedProcess([], 1, "", error)

    monkeypatch.setattr(checks.subprocess, "run", answer("Operation not permitted (you must be root)"))
    assert checks.firewall() == []
    monkeypatch.setattr(checks.subprocess, "run", answer("Error: No such file or directory; did you mean table"))
    assert codes(checks.firewall()) == {"firewall.down": "crit"}


def test_certificate_and_closed_files(site, site_table, places):
    apply(site, places, SERVICES, Machine(memory_mb=1024, cores=1, postgres_bin="/usr/lib/postgresql/17/bin"))
    assert codes(checks.certificate(site, places)) == {"certificate.well": "ok"}
    assert codes(checks.certificate(site, places, datetime.now(UTC) + timedelta(days=350))) == {
        "certificate.soon": "warn"
    }
    assert codes(checks.certificate(site, places, datetime.now(UTC) + timedelta(days=400))) == {
        "certificate.over": "crit"
    }
    site_table["hosts"]["names"] = ["other.lan"]
    assert "certificate.names" in codes(checks.certificate(parse_site(site_table), places))
    assert codes(checks.closed(places)) == {"secrets.well": "ok"}
    (places.secrets / "turn-secret").chmod(0o644)
    assert codes(checks.closed(places)) == {"secrets.open": "crit"}
    (places.keys / "master.key").unlink()
    assert codes(checks.closed(places)) == {"secrets.open": "crit", "secrets.missing": "crit"}


def test_a_release_that_was_left_again_is_remembered_with_its_reason(places):
    boots = [{"version": "1.0", "well": True, "faults": {}}, {"version": "1.1", "well": False, "faults": {"web": "502"}},
             {"version": "1.0", "well": True, "faults": {}}]  # fmt: skip
    report(places, "boot", boots=boots)
    [finding] = keeping.rolled_back(places)
    assert finding.values == {"version": "1.1", "why": "web: 502"}
    report(places, "boot", boots=boots[:1])
    assert keeping.rolled_back(places) == []


def test_the_command_tells_people_and_programs_the_same_and_a_wrong_site_file_is_one_finding(
    places, site_text, capsys, monkeypatch
):
    places.site.write_text(site_text.replace("192.168.7.10/24", "192.168.7.10"))
    assert doctor_command(["--root", str(places.root)]) == 2
    said = capsys.readouterr().out
    assert "NOW  The site file cannot be used: network.address" in said and "→ Correct /var/lib/qanun/site.toml" in said
    assert doctor_command(["--root", str(places.root), "--json", "--write"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert told["level"] == "crit" and told["findings"][0]["mend"].startswith("Correct")
    assert json.loads((places.reports / "doctor.json").read_text())["findings"][0]["code"] == "site.wrong"


def test_a_check_that_breaks_stops_no_other(places, site_text, monkeypatch):
    places.site.write_text(site_text)

    def broken(*_):
        raise OSError("no such device")

    monkeypatch.setattr(checks, "disk", broken)
    found = codes(examine(places, SERVICES))
    assert found["check.failed"] == "info" and "backup.never" in found and worst([]) == "ok"
