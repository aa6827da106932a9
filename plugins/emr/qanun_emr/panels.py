"""The record's own panels on the chart, through the same hook as everybody else's, and its timeline."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from qanun.api import (
    N_,
    ChartPanel,
    Context,
    PatientPage,
    SearchHit,
    SearchProvider,
    TimelineEntry,
    TimelineSource,
    View,
    find_patients,
    isolate,
)
from qanun_emr import chart
from qanun_emr.permissions import Emr


async def vitals_panel(ctx: Context, patient_id: UUID) -> View:
    return View(
        "emr/panels/vitals.html",
        {"readings": await chart.readings(ctx, patient_id), "may_write": ctx.can(Emr.RECORD_WRITE), "now": ctx.now},
    )


async def timeline(ctx: Context, patient_id: UUID, limit: int) -> Sequence[TimelineEntry]:
    """Visits, with what was thought (the assessment's first line)."""
    return [visit_entry(ctx, patient_id, row) for row in await chart.encounters(ctx, patient_id, limit)]


def _apart(text: str) -> str:
    """Typed text beside other text: in a direction of its own (U+2068), so that its full stop stays at its end."""
    return f"\u2068{text}\u2069"


def visit_entry(ctx: Context, patient_id: UUID, row: object) -> TimelineEntry:
    _ = ctx.locale.gettext
    virtual = row.class_code == "VR"  # type: ignore[attr-defined]
    title = _("Video visit", domain="qanun_emr") if virtual else _("Visit", domain="qanun_emr")
    if row.reason:  # type: ignore[attr-defined]
        title += f" · {_apart(row.reason)}"  # type: ignore[attr-defined]
    if row.signed_at is None:  # type: ignore[attr-defined]
        title += " — " + (
            _("in progress", domain="qanun_emr") if row.status == "in-progress"  # type: ignore[attr-defined]
            else _("not signed", domain="qanun_emr")
        )  # fmt: skip
    name = row.practitioner or ""  # type: ignore[attr-defined]
    if ctx.locale.code != ctx.tenant.locale and row.practitioner_alt:  # type: ignore[attr-defined]
        name = row.practitioner_alt  # type: ignore[attr-defined]
    first = (row.assessment or "").strip().splitlines()[:1]  # type: ignore[attr-defined]
    return TimelineEntry(
        at=row.start,  # type: ignore[attr-defined]
        title=title,
        text=" · ".join(_apart(part) for part in (name, *first) if part),
        kind="now" if row.signed_at is None else "visit",  # type: ignore[attr-defined]
        href=f"/emr/patients/{patient_id}/encounters/{row.id}",  # type: ignore[attr-defined]
    )


async def search(ctx: Context, query: str, limit: int) -> Sequence[SearchHit]:
    found = await find_patients(ctx, query, limit=limit)
    return [
        SearchHit(
            title=f"{hit.name}  {hit.name_alt}".strip(),
            text=f"{isolate(hit.birth_date.isoformat())} · {isolate(hit.mrn)}",
            href=f"/emr/patients/{hit.id}",
            icon="user",
        )
        for hit in found
    ]


CHART_PANELS = [
    ChartPanel(id="emr.vitals", title=N_("Vitals"), permission=Emr.CHART_READ, render=vitals_panel, column=0, order=10),
]
TIMELINE = [TimelineSource(id="emr.visits", permission=Emr.CHART_READ, entries=timeline)]
PATIENT_PAGES = [
    PatientPage(id="emr.chart", permission=Emr.CHART_READ, href=lambda patient_id: f"/emr/patients/{patient_id}")
]
SEARCH = [SearchProvider(id="emr.patients", label=N_("Patients"), permission=Emr.CHART_READ, search=search, order=10)]
