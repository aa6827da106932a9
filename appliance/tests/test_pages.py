"""The administrator's pages show what root found out, in both languages; nobody else sees them, and a wish is only a wish."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from qanun.audit import AuditEvent
from qanun.tenancy import tenant_session
from qanun_appliance.doctor.sentences import SENTENCES

PAGES = ("/appliance/health", "/appliance/backups", "/appliance/updates")


def ago(**more):
    return (datetime.now(UTC) - timedelta(**more)).isoformat(timespec="seconds")


@pytest.fixture
def reports(configuration):
    folder = configuration.state_dir / "reports"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()

    def write(name, **values):
        (folder / f"{name}.json").write_text(json.dumps(values))

    yield write
    for old in folder.iterdir():
        old.unlink()


@pytest.fixture
def wishes(tmp_path, monkeypatch):
    monkeypatch.setenv("QANUN_WISHES_DIR", str(tmp_path))
    return tmp_path


async def test_a_machine_that_nobody_looks_at_says_so(clinic, reports, monkeypatch):
    monkeypatch.setenv("QANUN_WISHES_DIR", "/nowhere")
    client = await clinic.client("administrator")
    for path in PAGES:
        answer = await client.get(path)
        assert answer.status_code == 200 and "<form" not in answer.text.split("<main", 1)[1].split("</main", 1)[0]
    assert "No doctor has looked at this machine yet" in (await client.get(PAGES[0])).text
    assert (await client.post("/appliance/wishes", data={"what": "doctor"})).status_code == 422


async def test_findings_stand_in_the_reader_s_language_with_the_mend_beside_them(clinic, other_clinic, reports, wishes):
    findings = [
        {"code": "ports.open", "level": "crit", "values": {"ports": "tcp/5432"}},
        {"code": "secrets.open", "level": "crit", "values": {"path": "/var/lib/qanun/secrets/x"}},
        {"code": "of.a.later.release", "level": "warn", "values": {"x": "<script>alert(1)</script>"}},
        {"code": "disk.well", "level": "ok", "values": {"free": "60.7", "total": "271"}},
    ]
    reports("doctor", at=ago(minutes=2), version="1.0.0", level="crit", findings=findings)
    english = (await (await clinic.client("administrator")).get(PAGES[0])).text
    assert "2 things want somebody today" in english and '<bdi dir="ltr"><code>ss -ltnup</code></bdi>' in english
    assert '<bdi dir="ltr"><code>chmod 600 /var/lib/qanun/secrets/x</code></bdi>' in english  # copied as it is typed
    assert "<script>alert" not in english and "of.a.later.release" in english and "too long ago" not in english
    arabic = (await (await other_clinic.client("administrator")).get(PAGES[0])).text
    assert (
        "أمران يحتاجان إلى تدخّل اليوم" in arabic
        and "منفذ مفتوح لا ينبغي" in arabic
        and "\u2068tcp/5432" in arabic.replace("\u2066", "\u2068")
    )
    reports("doctor", at=ago(minutes=40), version="1.0.0", level="ok", findings=findings[3:])
    later = (await (await clinic.client("administrator")).get(PAGES[0])).text
    assert "The machine is well" in later and "too long ago" in later


@pytest.mark.parametrize("code", SENTENCES)
async def test_every_sentence_is_translated(clinic, code):
    from qanun.i18n import get_locale

    sentence, arabic = SENTENCES[code], get_locale("ar")
    assert arabic.resolve(sentence.said) != sentence.said
    if sentence.mend:
        typed = [part for number, part in enumerate(str(sentence.mend).split("`")) if number % 2]
        assert all(f"`{part}`" in arabic.resolve(sentence.mend) for part in typed), (
            "what is typed is the same everywhere"
        )


async def test_backups_show_their_age_their_proof_their_room_and_why_one_failed(clinic, other_clinic, reports, wishes):
    space = {"used": 8e9, "free": 40e9, "total": 100e9, "sets": 3, "oldest": "20261101T020000Z"}
    reports("backup", well=True, at=ago(hours=6), last_well=ago(hours=6), rows=48112, files=37, seconds=12.5, **space)
    reports("drill", well=True, at=ago(hours=4), last_well=ago(hours=4), rows=48112)
    reports("log", well=True, at=ago(minutes=2), last_well=ago(minutes=2))
    page = (await (await clinic.client("administrator")).get(PAGES[1])).text
    assert "48112" in page and "40.0 / 100 GB" in page and "3 backups are kept" in page
    assert "Nobody has shown yet that they hold the key" in page and "this week" not in page
    reports("drill", well=False, at=ago(hours=1), last_well=ago(hours=30), why="table core_patient has 3 rows, not 4")
    reports("recovery-key", verified=True)
    page = (await (await other_clinic.client("administrator")).get(PAGES[1])).text
    assert "core_patient has 3 rows" in page and "فشلت المحاولة الأخيرة" in page and "توجد 3 نسخ محفوظة" in page
    assert "لم يُثبت أحد بعد" not in page


async def test_releases_show_what_runs_what_is_ready_and_why_one_was_left(clinic, reports):
    last = {
        "version": "1.1.0",
        "at": ago(hours=1),
        "state": "staged",
        "why": "",
        "notes": {"en": "Calls are clearer.", "ar": "أوضح"},
    }
    reports("update", running="1.0.0", other="1.1.0", last=last, history=[last], interrupted=False)
    client = await clinic.client("administrator")
    page = (await client.get(PAGES[2])).text
    assert "Calls are clearer." in page and "ready to start" in page and "qanun appliance update reboot" in page
    last |= {"state": "left", "why": "web: the page answers 502"}
    reports("update", running="1.0.0", other="", last=last, history=[last], interrupted=True)
    page = (await client.get(PAGES[2])).text
    assert "did not work here and was left" in page and "the page answers 502" in page and "The power went" in page
    assert "update reboot" not in page


async def test_a_wish_is_a_name_left_for_root_and_is_audited(clinic, other_clinic, reports, wishes, assembly):
    client = await clinic.client("administrator")
    assert "Look again now" in (await client.get(PAGES[0])).text
    answer = await client.post("/appliance/wishes", data={"what": "backup"})
    assert answer.status_code == 303 and answer.headers["location"].startswith("/appliance/backups")
    assert "A backup begins now" in (await client.get(answer.headers["location"])).text
    assert [path.name for path in wishes.iterdir()] == ["backup"] and (wishes / "backup").read_text() == ""
    for name in ("../evil", "restore", "", "doctor/../x"):
        assert (await client.post("/appliance/wishes", data={"what": name})).status_code == 422
    assert [path.name for path in wishes.iterdir()] == ["backup"]
    for place, count in ((clinic, 1), (other_clinic, 0)):
        async with tenant_session(assembly.runtime.database, place.tenant.id) as session:
            made = await session.execute(select(AuditEvent.body).where(AuditEvent.type == "appliance.wish.make"))
            assert len(made.all()) == count


@pytest.mark.parametrize("role", ["doctor", "nurse", "reception", "lab-technician"])
async def test_nobody_but_the_administrator_sees_or_asks(clinic, reports, wishes, role):
    client = await clinic.client(role)
    for path in PAGES:
        assert (await client.get(path)).status_code == 403
    assert (await client.post("/appliance/wishes", data={"what": "doctor"})).status_code == 403
    assert list(wishes.iterdir()) == [] and "/appliance/health" not in (await client.get("/account")).text


async def test_a_broken_report_breaks_no_page(clinic, reports, configuration, wishes):
    for name in ("doctor", "backup", "drill", "log", "update"):
        (configuration.state_dir / "reports" / f"{name}.json").write_text("{half")
    client = await clinic.client("administrator")
    for path in PAGES:
        assert (await client.get(path)).status_code == 200
