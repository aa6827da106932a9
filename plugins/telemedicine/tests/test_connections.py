"""How connections were: what a sample takes and leaves, the score, the live view and the report; each clinic's own."""

import uuid
from datetime import timedelta

import pytest
from sqlalchemy import select

from plugins.telemedicine.tests.conftest import until
from plugins.telemedicine.tests.test_sockets import call
from qanun.api import AuditEvent
from qanun_telemedicine.models import QualitySample
from qanun_telemedicine.nodes.registry import Registry
from qanun_telemedicine.nodes.witness import witness
from qanun_telemedicine.service import quality
from qanun_telemedicine.service.quality import score
from qanun_telemedicine.service.servers import Server

GOOD = {"state": "good", "rtt_ms": 40.2, "loss_down": 0.0, "loss_up": 0.0, "jitter_ms": 3.0, "budget": 2_000_000}
BAD = {"state": "weak", "rtt_ms": 700.0, "loss_down": 0.08, "loss_up": 0.01, "jitter_ms": 60.0, "budget": 120_000}


def test_a_score_falls_with_everything_that_disturbs_and_stays_within_its_limits():
    def scored(**how):
        return score(**{"loss": 0.0, "rtt_ms": 30, "jitter_ms": 2, "freezes": 0, "state": "good", **how})

    assert scored(jitter_ms=0) == 100
    assert scored() > scored(loss=0.01) > scored(loss=0.05)
    assert scored() > scored(rtt_ms=400)
    assert scored() > scored(jitter_ms=50)
    assert scored() > scored(freezes=2)
    assert scored() > scored(state="weak") > scored(state="audio-only") > scored(state="reconnecting")
    assert scored(loss=1.0, rtt_ms=9000, jitter_ms=900, freezes=50, state="reconnecting") == 0
    assert score(loss=None, rtt_ms=None, jitter_ms=None, freezes=None, state="") == 100


async def put(visit, who: str, figures: dict, told: dict | None = None, *, days_ago: int = 0) -> None:
    async with visit.acting(who) as (ctx, row, person):
        kept = quality.sample(ctx, row.id, person.id, figures, told or {})
        kept.at = ctx.now - timedelta(days=days_ago)


async def test_what_a_browser_says_is_taken_within_limits(clinic, other_clinic, book):
    visit = await book(clinic)
    await visit.admit()
    for who in ("doctor", "patient"):
        await visit.come(who)
    wild = {"freezes": 10**9, "width": -5, "relayed": "yes", "network": "<script>"}
    await put(
        visit, "patient", {"state": "x", "rtt_ms": 1e12, "loss_down": 7, "jitter_ms": True, "budget": "much"}, wild
    )
    async with clinic.context() as ctx:
        found = (await ctx.db.execute(select(QualitySample))).scalar_one()
    assert (found.freezes, found.width, found.relayed, found.network) == (100, 0, None, "")
    assert (found.rtt_ms, found.loss, found.jitter_ms, found.budget) == (60_000, 1.0, None, None)
    async with other_clinic.context() as ctx:
        assert (await ctx.db.execute(select(QualitySample))).first() is None


async def test_support_sees_who_is_in_a_call_now_the_worst_first_and_nobody_of_another_clinic(
    clinic, other_clinic, book
):
    visit, theirs, waiting = await book(clinic), await book(other_clinic), await book(clinic)
    for one in (visit, theirs):
        await one.admit()
        for who in ("doctor", "patient"):
            await one.come(who)
    await waiting.wait()
    await put(visit, "doctor", GOOD, {"network": "ethernet", "relayed": False})
    await put(visit, "patient", GOOD)
    await put(visit, "patient", BAD, {"network": "cellular", "relayed": True, "freezes": 2})
    await put(theirs, "patient", GOOD)
    async with clinic.context("administrator") as ctx:
        legs = await quality.live_legs(ctx)
    assert [leg.participant.kind for leg in legs] == ["patient", "practitioner"]
    assert legs[0].newest.score < quality.POOR < quality.FAIR < legs[1].newest.score
    admin = await clinic.client("administrator")
    page = (await admin.get("/telemedicine/quality")).text
    assert visit.href in page and theirs.href not in page and "Mobile network" in page
    assert visit.href in (await admin.get("/telemedicine/quality/live")).text
    for role in ("reception", "nurse", "lab-technician"):
        assert (await (await clinic.client(role)).get("/telemedicine/quality")).status_code == 403
    portal = await clinic.portal(visit.patient)
    assert (await portal.get("/telemedicine/quality")).status_code == 303


async def test_the_report_adds_up_by_network_and_forgets_what_is_too_old(clinic, other_clinic, book):
    visit, theirs = await book(clinic), await book(other_clinic)
    for one in (visit, theirs):
        await one.admit()
    await put(visit, "patient", BAD, {"network": "cellular", "relayed": True, "freezes": 1})
    await put(visit, "patient", BAD, {"network": "cellular", "relayed": True, "freezes": 2})
    await put(visit, "doctor", GOOD, {"network": "ethernet", "relayed": False})
    await put(visit, "doctor", BAD, {"network": "wifi"}, days_ago=10)
    await put(theirs, "doctor", BAD, {"network": "3g"})
    async with clinic.context() as ctx:
        week, month = await quality.by_network(ctx, 7), await quality.by_network(ctx, 30)
        people = await quality.of_consultation(ctx, visit.id)
    assert [(one.label, one.relayed, one.legs, one.samples, one.freezes) for one in week] == [
        ("cellular", True, 1, 2, 3),
        ("ethernet", False, 1, 1, 0),
    ], "the worst first"
    assert (week[0].poor, week[1].poor) == (1.0, 0.0)
    assert week[0].loss == pytest.approx(0.08) and week[0].rtt_p95_ms == 700
    assert {one.label for one in month} == {"cellular", "ethernet", "wifi"}
    assert {one.label for one in people} == {visit.patient.name, clinic.users["doctor"].name}
    shown = (await (await clinic.client()).get(visit.href)).text
    assert "Connections" in shown and "through the relay" in shown
    assert "through the relay" not in (await (await clinic.client("reception")).get(visit.href)).text
    assert (await (await clinic.client()).get("/telemedicine/quality?days=99999")).status_code == 200


async def test_a_call_leaves_samples_with_what_both_sides_know(clinic, book, worker, monkeypatch):
    visit = await book(clinic)
    doctor, patient = await call(visit)
    patient.page.send("seen", freezes=2, width=640, relayed=False, network="wifi")
    patient.page.send("ping")

    async def sampled() -> QualitySample | None:
        await patient.peer.speak()
        await doctor.peer.speak()
        async with clinic.context() as ctx:
            found = select(QualitySample).where(QualitySample.network == "wifi")
            return (await ctx.db.execute(found)).scalars().first()

    found = await until(sampled, "a sample is kept")
    assert (found.width, found.relayed) == (640, False) and found.freezes == 2
    assert found.score is not None and found.budget is not None


async def test_who_carries_calls_is_listed_for_support_and_for_nobody_else(clinic, tmp_path, monkeypatch):
    admin = await clinic.client("administrator")
    page = await admin.get("/telemedicine/quality")
    assert 'id="telemedicine-servers"' in page.text
    lines = [
        Server("media", False, "serving", 1, 2, 0.25, 120), Server("radiology", True, "silent"), Server("attic", True, "drains", 1, 2),
    ]  # fmt: skip

    async def servers(ctx):
        return lines

    monkeypatch.setattr("qanun_telemedicine.routes.quality.servers", servers)
    text = (await admin.get("/telemedicine/quality/servers")).text
    assert "radiology" in text and "Does not answer" in text and "Takes no new rooms" in text and "25" in text
    arabic = (await admin.get("/telemedicine/quality/servers", headers={"Accept-Language": "ar"})).text
    assert "radiology" in arabic
    for role in ("doctor", "administrator"):
        assert (await (await clinic.client(role)).get("/telemedicine/quality/servers")).status_code == 200
    for role in ("nurse", "reception"):
        assert (await (await clinic.client(role)).get("/telemedicine/quality/servers")).status_code == 403


async def test_what_is_done_with_media_nodes_stands_in_every_clinic_s_audit_once(clinic, other_clinic):
    async with clinic.context() as ctx:
        folder = ctx.runtime.config.state_dir / "nodes"
    registry = Registry(folder)
    name = f"n{uuid.uuid4().hex[:8]}"
    node, _ = registry.invite(name, ["192.0.2.7"], 3600, "somebody")
    registry.join(node, b"x" * 32, "0.1")
    registry.revoke(node, "somebody")
    for one in (clinic, other_clinic, clinic):
        async with one.context() as ctx:
            await witness(ctx)
    for one in (clinic, other_clinic):
        async with one.context() as ctx:
            chosen = AuditEvent.entity == f"Device/{uuid.UUID(node.id)}"
            found = (await ctx.db.execute(select(AuditEvent).where(chosen).order_by(AuditEvent.seq))).scalars().all()
        assert [event.type.rpartition(".")[2] for event in found] == ["invite", "join", "revoke"]
        assert "somebody" in found[0].body and "somebody" not in found[1].body
