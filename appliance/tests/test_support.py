"""What goes to an engineer elsewhere names nobody: logs are rebuilt from what is harmless, and the whole is searched."""

import json
import tarfile

import pytest

from qanun_appliance.places import Places
from qanun_appliance.site import parse_site
from qanun_appliance.support import Leaks, log_without_words, support_bundle, trace_without_words

CANARIES = ("Zubayda", "Qarmatian", "زبيدة", "zubayda@patient.example", "+212661234567", "AB123456", "Al-Razi", "Salma", "clinic.lan",
            "192.168.7.10", "10.20.30.40", "penicillin", "1991-08-19")  # fmt: skip


def line(message, unit="qanun-web.service"):
    text = json.dumps(message, ensure_ascii=False) if isinstance(message, dict) else message
    return json.dumps({"MESSAGE": text, "_SYSTEMD_UNIT": unit, "__REALTIME_TIMESTAMP": "1795569270000000"})


TRACE = """Traceback (most recent call last):
  File "/opt/qanun/lib/python3.13/site-packages/qanun_emr/service/notes.py", line 42, in sign
    raise Conflict("Zubayda Qarmatian is allergic to penicillin")
qanun.errors.Conflict: Zubayda Qarmatian is allergic to penicillin
psycopg.errors.DataError: invalid input for "Zubayda", born 1991-08-19
"""
LOG = "\n".join((
    line({"event": "note_not_signed", "level": "error", "patient": "Zubayda Qarmatian", "code": "conflict", "plugin": "emr",
          "reason": "phone +212661234567", "path_template": "/emr/patients/{patient_id}", "exception": TRACE}),
    line({"event": "Zubayda was here", "level": "info", "status": 500, "duration_ms": 12.5}),
    line('ERROR:  duplicate key value "zubayda@patient.example" for AB123456', "qanun-postgresql.service"),
    line("DETAIL:  Key (family, given)=(Qarmatian, زبيدة) already exists.", "qanun-postgresql.service"),
    line("session 001: usage: realm=qanun, username=Salma, from 10.20.30.40", "qanun-turn.service"),
    line("LOG: database system is ready to accept connections", "qanun-postgresql.service"),
    line([1, 2]), "not json",
))  # fmt: skip


@pytest.fixture
def places(tmp_path):
    found = Places(tmp_path)
    found.reports.mkdir(parents=True)
    (found.reports / "backup.json").write_text(
        json.dumps(
            {
                "well": False,
                "why": "cannot read blobs of Zubayda in 'Al-Razi'",
                "rows": 48112,
                "last_well": "2026-11-25T02:00:00+00:00",
            }
        )
    )
    (found.reports / "doctor.json").write_text(
        json.dumps({"findings": [{"code": "web.ill", "values": {"why": "no route to 192.168.7.10"}}]})
    )
    return found


def contents(path):
    with tarfile.open(path) as archive:
        return {
            member.name.removeprefix("qanun-support/"): archive.extractfile(member).read().decode()
            for member in archive
        }


def test_no_canary_gets_into_the_file_and_what_an_engineer_needs_does(places, site_table, tmp_path):
    target = tmp_path / "support.tar.gz"
    support_bundle(parse_site(site_table), places, target, journal=LOG)
    parts = contents(target)
    everything = "".join(parts.values())
    for canary in CANARIES:
        for spelled in (canary, json.dumps(canary)[1:-1]):
            assert spelled.lower() not in everything.lower(), canary
    assert target.stat().st_mode & 0o777 == 0o600
    logged = [json.loads(one) for one in parts["log.jsonl"].splitlines()]
    assert logged[0]["event"] == "note_not_signed" and logged[0]["code"] == "conflict"
    assert logged[0]["raised"] == ["notes.py:42 sign", "qanun.errors.Conflict", "psycopg.errors.DataError"]
    assert logged[1] == {
        "unit": "qanun-web.service",
        "at": logged[1]["at"],
        "event": "…",
        "level": "info",
        "status": 500,
        "duration_ms": 12.5,
    }
    assert "database system is ready to accept connections" in parts["log.jsonl"]
    assert json.loads(parts["reports/backup.json"])["rows"] == 48112
    assert json.loads(parts["reports/doctor.json"])["findings"][0]["code"] == "web.ill"
    assert json.loads(parts["site.json"])["network"] == "static" and "qanun-appliance" in parts["versions.json"]


async def test_a_name_that_slips_through_stops_the_file(clinic, places, site_table, tmp_path, postgres):
    await clinic.patient(given="Zubaydah", family="database")  # a name that is a common word in a log
    target = tmp_path / "support.tar.gz"
    url = postgres.superuser_url.replace("/postgres?", "/qanun?")
    with pytest.raises(Leaks, match="would name somebody"):
        support_bundle(parse_site(site_table), places, target, journal=LOG, url=url)
    assert not target.exists()


def test_lines_that_are_no_lines_are_left_out():
    assert log_without_words("half a li\n{}\n[]\n") == "\n"
    assert trace_without_words("nothing to see") == []
