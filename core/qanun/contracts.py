"""What one plugin hosts and others fill: pure dataclasses that neither side owns.

The chart (in `emr`) asks for `ChartPanel`s, the schedule for `VisitMode`s; who contributes them does not know the host,
and the host does not know who contributes. No behaviour lives here.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from qanun.context import Context


@dataclass(frozen=True, slots=True)
class View:
    """A template of the contributor's own and the values for it; the host renders it in its place."""

    template: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartPanel:
    """A panel on the chart's summary. `render(ctx, patient_id)` gives its view, or None when there is nothing to show.

    `column` 0 is the wide top row, 1 stands before the record's own panels, 2 after them.
    """

    id: str
    title: object
    permission: str
    render: Callable[[Context, uuid.UUID], Awaitable[View | None]]
    column: int = 1
    order: int = 100


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One line of a chart's timeline. `title` and `text` are already in the reader's language; `href` is local."""

    at: datetime
    title: str
    text: str = ""
    kind: str = "visit"
    href: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineSource:
    """Entries for a chart's timeline: `entries(ctx, patient_id, limit)`, newest first."""

    id: str
    permission: str
    entries: Callable[[Context, uuid.UUID, int], Awaitable[Sequence[TimelineEntry]]]
    order: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class BookedAppointment:
    """What a visit mode learns of an appointment, in the booking's own transaction. Times are aware."""

    id: uuid.UUID
    patient_id: uuid.UUID
    practitioner_id: uuid.UUID
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitMode:
    """A way of holding a visit: in the room, by video. Chosen when booking.

    `prepare` runs inside the booking's transaction; `staff_href`/`patient_href` say where either side goes for it (empty:
    nowhere, the patient comes in); `invitation_path` is where a patient's one-time link leads. One that is not `bookable` is
    not offered with an appointment: its plugin takes a practitioner's time for it, as for a group of patients.
    """

    id: str
    label: object
    icon: str
    code: str
    prepare: Callable[[Context, BookedAppointment], Awaitable[None]] | None = None
    staff_href: Callable[[uuid.UUID], str] | None = None
    patient_href: Callable[[uuid.UUID], str] | None = None
    order: int = 100
    bookable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientPage:
    """Where a person with `permission` opens a patient; the first permitted one (by `order`) is linked everywhere."""

    id: str
    permission: str
    href: Callable[[uuid.UUID], str]
    order: int = 100
