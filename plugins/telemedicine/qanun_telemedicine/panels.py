"""What telemedicine shows on other plugins' pages: the docked call, who waits, the patient's link, the next visit."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from qanun.api import N_, ChartPanel, Context, SlotContent, TimelineEntry, View
from qanun_telemedicine import service
from qanun_telemedicine.models import ENDED, IN_PROGRESS, OPEN, WAITING, WRITTEN, Consultation
from qanun_telemedicine.permissions import Telemedicine
from qanun_telemedicine.service import written
from qanun_telemedicine.service.listing import called
from qanun_telemedicine.service.pictures import pictures_of_patient
from qanun_telemedicine.service.recording import recordings_of, recordings_of_patient
from qanun_telemedicine.service.transcripts import transcripts_of_patient
from qanun_telemedicine.views import call_view, chips_view, on_page, open_on_page, people

#: A scheduled visit is docked on the chart from this many hours before it until as many after.
_NEAR_H = 12


async def docked_call(ctx: Context, patient_id: uuid.UUID, **_: Any) -> View | None:
    row = await open_on_page(ctx, patient_id)
    if row is not None and row.state not in (WAITING, IN_PROGRESS):
        near = abs((row.starts_at - ctx.now).total_seconds()) < _NEAR_H * 3600
        row = row if near else None
    if row is None:
        if ctx.actor.practitioner_id is None:
            return None
        return View("telemedicine/parts/begin.html", {"patient_id": patient_id})
    return View("telemedicine/parts/dock.html", await call_view(ctx, row))


async def banner_chip(ctx: Context, patient_id: uuid.UUID, **_: Any) -> View | None:
    return View("telemedicine/parts/banner.html", await chips_view(ctx, patient_id))


async def waiting(ctx: Context, practitioner_id: uuid.UUID | None = None, **_: Any) -> View | None:
    rows = await service.waiting_list(ctx, practitioner_id)
    late = await written.overdue(ctx, practitioner_id)
    values = {"rows": rows, "now": ctx.now, "practitioner_id": practitioner_id, "overdue": late}
    return View("telemedicine/parts/waiting.html", values)


async def booked_link(ctx: Context, appointment_id: uuid.UUID | None = None, **_: Any) -> View | None:
    row = await service.for_appointment(ctx, appointment_id) if appointment_id else None
    link = await service.invitation_link(ctx, row) if row else ""
    if row is None or not link:
        return None
    return View("telemedicine/parts/link.html", {"consultation": row, "link": link, "may_invite": True})


async def visit_in_chart(
    ctx: Context, patient_id: uuid.UUID, encounter_id: uuid.UUID | None = None, **_: Any
) -> View | None:
    if encounter_id is None:
        return None
    found = select(Consultation).where(Consultation.encounter_id == encounter_id, Consultation.patient_id == patient_id)
    row = (await ctx.db.execute(found)).scalars().first()
    if row is None:
        return None
    values = {
        "consultation": row,
        "stays": [(person, stay) for person, stay in await service.stays(ctx, row) if stay.place == "call"],
        "recordings": await recordings_of(ctx, row.id),
        "check": await service.latest_check(ctx, row.id),
        "may_play": ctx.can(Telemedicine.RECORDING_PLAY),
    }
    return View("telemedicine/parts/visit.html", values)


async def next_visit(ctx: Context, patient_id: uuid.UUID, **_: Any) -> View | None:
    row = await service.open_for_patient(ctx, patient_id)
    if row is None:
        return None
    practitioner = (await people(ctx, row))[1]
    minutes = round((row.starts_at - ctx.now).total_seconds() / 60)
    length = round((row.ends_at - row.starts_at).total_seconds() / 60)
    today = ctx.local(row.starts_at).date() == ctx.local(ctx.now).date()
    values = {
        "consultation": row, "practitioner": practitioner, "with_whom": called(ctx, practitioner), "minutes": minutes, "length": length, "today": today,
        "now": ctx.now,
    }  # fmt: skip
    return View("telemedicine/parts/next_visit.html", values)


async def ask_card(ctx: Context, patient_id: uuid.UUID, **_: Any) -> View | None:
    """On the patient's home: ask in writing, and what became of it."""
    asked = await written.asked(ctx, patient_id=patient_id)
    fresh = [one for one in asked if one.consultation.state in OPEN]
    return View(
        "telemedicine/parts/ask_card.html",
        {
            "open": len(fresh),
            "answered": sum(one.answered for one in fresh),
            "hours": await written.hours(ctx),
        },
    )


async def timeline(ctx: Context, patient_id: uuid.UUID, limit: int) -> Sequence[TimelineEntry]:
    """Visits that were held by video; the encounter itself is the chart's."""
    rows = [row for row in (await on_page(ctx, patient_id)).consultations if row.state == ENDED]
    title = ctx.locale.gettext("Video visit", domain="qanun_telemedicine")
    in_writing = ctx.locale.gettext("Question in writing", domain="qanun_telemedicine")
    return [
        TimelineEntry(
            row.admitted_at or row.starts_at,
            in_writing if row.mode == WRITTEN else title,
            kind="visit",
            href=f"/telemedicine/consultations/{row.id}",
        )
        for row in rows[:limit]
    ]


async def kept_panel(ctx: Context, patient_id: uuid.UUID) -> View | None:
    """Recordings and pictures of this patient's video visits; nothing on a chart that has none."""
    there = await on_page(ctx, patient_id)
    pictures = (
        await pictures_of_patient(ctx, patient_id) if there.pictured and ctx.can(Telemedicine.PICTURE_READ) else []
    )
    recordings = await recordings_of_patient(ctx, patient_id) if there.recorded else []
    may_read = there.said and ctx.can(Telemedicine.CONVERSATION_READ)
    transcripts = await transcripts_of_patient(ctx, patient_id) if may_read else []
    if not recordings and not pictures and not transcripts:
        return None
    values = {
        "patient_id": patient_id, "recordings": recordings, "pictures": pictures,
        "may_see": ctx.can(Telemedicine.PICTURE_READ), "may_play": ctx.can(Telemedicine.RECORDING_PLAY),
        "transcripts": transcripts, "may_read_said": True,
    }  # fmt: skip
    return View("telemedicine/parts/kept.html", values)


CHART_PANELS = (
    ChartPanel(
        id="telemedicine.kept", title=N_("From video visits"), permission=Telemedicine.CONSULTATION_READ,
        render=kept_panel, column=2, order=80,
    ),
)  # fmt: skip

SLOTS = (
    SlotContent(
        id="telemedicine.ask", slot="portal.more", permission=Telemedicine.VISIT_ATTEND, render=ask_card, order=90
    ),
    SlotContent(
        id="telemedicine.dock", slot="chart.dock", permission=Telemedicine.CONSULTATION_HOLD, render=docked_call, order=10
    ),
    SlotContent(
        id="telemedicine.banner", slot="chart.banner", permission=Telemedicine.CONSULTATION_READ, render=banner_chip,
        order=50,
    ),
    SlotContent(
        id="telemedicine.waiting", slot="day.waiting", permission=Telemedicine.CONSULTATION_READ, render=waiting
    ),
    SlotContent(
        id="telemedicine.link", slot="desk.booked", permission=Telemedicine.CONSULTATION_INVITE, render=booked_link
    ),
    SlotContent(
        id="telemedicine.visit", slot="chart.visit", permission=Telemedicine.CONSULTATION_READ, render=visit_in_chart
    ),
    SlotContent(
        id="telemedicine.next_visit", slot="portal.home", permission=Telemedicine.VISIT_ATTEND, render=next_visit, order=10
    ),
)  # fmt: skip
