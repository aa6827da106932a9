"""A release comes in by the administrator's browser: in pieces, believed by nobody before root has proven it, started when they say
so; nobody else sends, stages, plans or goes back, and each of these asks who it is."""

import json
import os
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from qanun.api import ConfigurationError, Unavailable
from qanun.audit import AuditEvent
from qanun.tenancy import tenant_session
from qanun_appliance import incoming
from qanun_appliance.commands.releasing import _prove_apart
from qanun_appliance.places import Places
from qanun_appliance.update import Refused
from qanun_appliance.update.wishes import plan_restart, planned_moment, stage_what_came

PIECES = "/appliance/updates/pieces"


@pytest.fixture
def machine(configuration, tmp_path, monkeypatch):
    """The folders that root and the web server share."""
    wishes, reports = tmp_path / "wishes", configuration.state_dir / "reports"
    wishes.mkdir()
    reports.mkdir(exist_ok=True)
    monkeypatch.setenv("QANUN_WISHES_DIR", str(wishes))
    state = configuration.state_dir

    def clean():
        for folder in (reports, incoming.folder(state)):
            for path in folder.iterdir() if folder.is_dir() else ():
                path.unlink()

    clean()
    last = {"version": "1.1.0", "at": datetime.now(UTC).isoformat(), "state": "staged", "why": "", "notes": {}}
    (reports / "update.json").write_text(
        json.dumps({"running": "1.0.0", "other": "1.1.0", "last": last, "history": []})
    )
    yield state, wishes, reports
    clean()


async def send(client, content, offset, size):
    return await client.post(f"{PIECES}?offset={offset}&size={size}", content=content, headers={"x-qanun-json": "1"})


async def audited(assembly, place, kind):
    async with tenant_session(assembly.runtime.database, place.tenant.id) as session:
        return len((await session.execute(select(AuditEvent.body).where(AuditEvent.type == kind))).all())


async def test_a_file_arrives_in_pieces_and_a_broken_line_goes_on_where_it_stopped(
    clinic, other_clinic, machine, assembly
):
    state, wishes, _ = machine
    client = await clinic.client("administrator")
    assert (await send(client, b"aaaa", 0, 10)).json() == {"received": 4, "whole": False}
    again = await send(client, b"cc", 8, 10)
    assert again.status_code == 409 and again.json()["received"] == 4
    assert (await send(client, b"bbbb", 4, 10)).json() == {"received": 8, "whole": False}
    assert (await client.post("/appliance/updates/stage")).status_code == 422  # half a file is none
    assert (await send(client, b"cc", 8, 10)).json() == {"received": 10, "whole": True}
    whole = incoming.folder(state) / incoming.WHOLE
    assert whole.read_bytes() == b"aaaabbbbcc" and whole.stat().st_mode & 0o077 == 0
    assert await audited(assembly, clinic, "appliance.release.send") == 1
    assert await audited(assembly, other_clinic, "appliance.release.send") == 0
    for content, offset, size in ((b"x" * 11, 0, 10), (b"", 0, 0), (b"x", 5, 5), (b"x", -1, 5), (b"x", 0, 6 * 1024**3)):
        assert (await send(client, content, offset, size)).status_code == 422, (offset, size)
    assert list(wishes.iterdir()) == []


async def test_staging_starting_and_going_back_are_asked_for_by_name_and_confirmed(clinic, machine, assembly):
    _, wishes, _ = machine
    client = await clinic.client("administrator")
    await send(client, b"release", 0, 7)
    left = await clinic.client("administrator", fresh=False)
    for act, data in (("stage", {}), ("plan", {"minute": "", "do": "start"}), ("back", {})):
        assert (await left.post(f"/appliance/updates/{act}", data=data)).status_code == 403
    assert list(wishes.iterdir()) == []
    assert (await client.post("/appliance/updates/stage")).status_code == 303
    assert (wishes / "stage").read_text() == ""
    zone = clinic.tenant.zone
    soon = (datetime.now(UTC) + timedelta(hours=5)).astimezone(zone).replace(second=0, microsecond=0)
    assert (
        await client.post("/appliance/updates/plan", data={"minute": soon.strftime("%Y-%m-%dT%H:%M"), "do": "start"})
    ).status_code == 303
    assert datetime.fromisoformat((wishes / "restart").read_text()) == soon
    for wrong in ("tomorrow", "2020-01-01T10:00", (soon + timedelta(days=9)).strftime("%Y-%m-%dT%H:%M")):
        assert (await client.post("/appliance/updates/plan", data={"minute": wrong})).status_code == 422
    await client.post("/appliance/updates/plan", data={"minute": "", "do": "stay"})
    assert (wishes / "restart").read_text() == "never"
    assert (await client.post("/appliance/updates/back")).status_code == 303 and (wishes / "rollback").exists()
    assert {path.name for path in wishes.iterdir()} == {"stage", "restart", "rollback"}
    assert await audited(assembly, clinic, "appliance.release.plan") == 2
    assert await audited(assembly, clinic, "appliance.release.stage") == 1


@pytest.mark.parametrize("role", ["doctor", "reception"])
async def test_nobody_but_the_administrator_touches_releases(clinic, machine, role):
    state, wishes, _ = machine
    client = await clinic.client(role)
    assert (await send(client, b"x", 0, 1)).status_code == 403
    for act in ("stage", "plan", "back"):
        assert (await client.post(f"/appliance/updates/{act}")).status_code == 403
    assert list(wishes.iterdir()) == [] and not incoming.is_whole(state)


async def test_the_page_shows_how_far_it_is_and_why_it_was_not_put_there(clinic, other_clinic, machine):
    _, _, reports = machine
    client, arabic = await clinic.client("administrator"), await other_clinic.client("administrator")
    page = (await client.get("/appliance/updates")).text
    assert "Send it to the machine" in page and "Start into it" in page and "Check it and put it there" not in page
    (reports / "staging.json").write_text(
        json.dumps({"state": "working", "step": "hashes", "at": datetime.now(UTC).isoformat()})
    )
    assert "Every byte is compared" in (await client.get("/appliance/updates/state")).text
    assert "يُقارن كل بايت" in (await arabic.get("/appliance/updates/state")).text
    cut_off = (datetime.now(UTC) - timedelta(hours=9)).isoformat()
    (reports / "staging.json").write_text(json.dumps({"state": "working", "step": "hashes", "at": cut_off}))
    assert "Every byte" not in (await client.get("/appliance/updates/state")).text
    (reports / "staging.json").write_text(json.dumps({"state": "failed", "why": "the signature is <b>nobody's</b>"}))
    page = (await client.get("/appliance/updates")).text
    assert "nothing was changed" in page and "&lt;b&gt;nobody" in page
    (reports / "restart.json").write_text(json.dumps({"planned": (datetime.now(UTC) + timedelta(hours=2)).isoformat()}))
    assert "Take the plan back" in (await client.get("/appliance/updates")).text


# --- root's part -----------------------------------------------------------------------------------------------------


@pytest.fixture
def places(tmp_path):
    found = Places(tmp_path / "root")
    found.reports.mkdir(parents=True)
    incoming.folder(found.data).mkdir()
    return found


def staging(places):
    return json.loads((places.reports / "staging.json").read_text())


def test_root_takes_the_file_away_before_it_looks_at_it_and_says_how_it_went(places):
    came = incoming.folder(places.data) / incoming.WHOLE
    came.write_bytes(b"release")

    def stage(bundle, say):
        assert not came.exists() and bundle.parent == places.data / "updates"
        say("hashes")
        assert staging(places)["step"] == "hashes"
        return {"version": "1.1.0"}

    assert stage_what_came(places, stage) and staging(places)["state"] == "done"
    assert list((places.data / "updates").iterdir()) == []

    def refuses(bundle, say):
        raise Refused("the signature is of nobody that this machine trusts")

    came.write_bytes(b"evil")
    assert not stage_what_came(places, refuses)
    assert staging(places) | {"at": ""} == {
        "state": "failed", "why": "the signature is of nobody that this machine trusts", "at": "",
    }  # fmt: skip
    assert list((places.data / "updates").iterdir()) == [] and not came.exists()


def test_what_is_no_plain_file_is_not_even_opened(places):
    secret = places.root / "secret"
    secret.write_text("of root")
    (incoming.folder(places.data) / incoming.WHOLE).symlink_to(secret)
    assert not stage_what_came(places, lambda *_: pytest.fail("opened"))
    assert "no plain file" in staging(places)["why"] and secret.read_text() == "of root"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now; reboot",
        "2026-11-28T03:00",
        "2020-01-01T00:00:00+00:00",
        "9999-01-01T00:00:00+00:00",
        "$(reboot)",
        "nevermore",
    ],
)
def test_a_wish_names_a_moment_or_nothing_happens(places, text):
    now = datetime(2026, 11, 28, 2, 0, tzinfo=UTC)
    with pytest.raises(ConfigurationError):
        planned_moment(text, now)
    with pytest.raises(ConfigurationError):
        plan_restart(places, text, now)
    assert not (places.reports / "restart.json").exists()


def test_a_plan_is_written_down_and_taken_back(places):
    now = datetime(2026, 11, 28, 2, 0, tzinfo=UTC)
    assert plan_restart(places, "2026-11-28T23:30:00+01:00", now) == datetime(2026, 11, 28, 22, 30, tzinfo=UTC)
    assert json.loads((places.reports / "restart.json").read_text())["planned"] == "2026-11-28T22:30:00+00:00"
    assert plan_restart(places, "never\n", now) is None
    assert json.loads((places.reports / "restart.json").read_text())["planned"] == ""


def test_before_a_release_is_written_the_nights_own_units_save_and_prove_and_their_reason_is_told(
    tmp_path, monkeypatch
):
    """Whoever writes to the disks has no network itself. A report that is not of now counts as none."""
    places = Places(tmp_path / "root")
    places.reports.mkdir(parents=True)
    asked = tmp_path / "asked"
    programs = tmp_path / "bin"
    programs.mkdir()
    systemctl = programs / "systemctl"
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    def units(**outcomes):
        """What each unit leaves behind, by a systemctl that starts nothing else."""
        lines = ["#!/bin/sh", f'echo "$*" >> {asked}', 'case "$2" in']
        for name, outcome in outcomes.items():
            lines.append(f"qanun-{name}.service) echo '{json.dumps(outcome)}' > {places.reports}/{name}.json;;")
        systemctl.write_text("\n".join([*lines, "esac", ""]))
        systemctl.chmod(0o755)

    units(backup={"well": True, "at": "1"}, drill={"well": True, "at": "1"})
    _prove_apart(places)
    assert asked.read_text().splitlines() == ["start qanun-backup.service", "start qanun-drill.service"]
    with pytest.raises(Unavailable, match="backup: it did not run"):
        _prove_apart(places)
    units(backup={"well": True, "at": "2"}, drill={"well": False, "why": "one row differs", "at": "2"})
    with pytest.raises(Unavailable, match="drill: one row differs"):
        _prove_apart(places)
