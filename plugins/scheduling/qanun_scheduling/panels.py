"""What the schedule puts into the frame of every page: its entries in the rail, where reception opens a patient."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode
from uuid import UUID

from qanun.api import N_, Context, NavItem, PatientPage, SearchHit, SearchProvider, find_patients, isolate
from qanun_scheduling.permissions import Scheduling


def desk_href(patient_id: UUID) -> str:
    return "/scheduling/desk?" + urlencode({"patient": patient_id})


async def search(ctx: Context, query: str, limit: int) -> Sequence[SearchHit]:
    found = await find_patients(ctx, query, limit=limit)
    return [
        SearchHit(
            title=f"{hit.name}  {hit.name_alt}".strip(),
            text=f"{isolate(hit.birth_date.isoformat())} · {isolate(hit.mrn)}",
            href=desk_href(hit.id),
            icon="user",
        )
        for hit in found
    ]


NAV_ITEMS = [
    NavItem(
        id="scheduling.day", label=N_("Day"), icon="layout-dashboard", href="/scheduling/day",
        permission=Scheduling.DAY_READ, key="d", order=10,
    ),
    NavItem(
        id="scheduling.desk", label=N_("Desk"), icon="calendar-event", href="/scheduling/desk",
        permission=Scheduling.DESK_USE, key="r", order=10,
    ),
    NavItem(
        id="scheduling.hours", label=N_("Hours"), icon="calendar-clock", href="/scheduling/hours",
        permission=Scheduling.HOURS_MANAGE, key="h", order=60,
    ),
]  # fmt: skip
PATIENT_PAGES = [PatientPage(id="scheduling.desk", permission=Scheduling.DESK_USE, href=desk_href, order=200)]
SEARCH = [
    SearchProvider(
        id="scheduling.patients", label=N_("Patients"), permission=Scheduling.DESK_USE, search=search, order=15
    )
]
