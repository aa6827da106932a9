"""What a patient's pages are to know of their consultations, in one question. It changes nothing."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, bindparam, or_, select

from qanun.api import Context, Patient
from qanun_telemedicine.models import ENDED, IN_PROGRESS, OPEN, SCHEDULED, WAITING, WRITTEN, Consultation, Recording
from qanun_telemedicine.models_kept import Snapshot, Transcript


@dataclass(frozen=True, slots=True)
class Concerning:
    """What a patient's page is to know of: consultations, newest first (open ones, and held ones that no encounter tells of),
    and whether there is a finished recording, a picture, a document of what was said."""

    consultations: Sequence[Consultation]
    recorded: bool
    pictured: bool
    said: bool


def _is_there(model: Any, condition: Any) -> Any:
    return select(model.id).where(model.patient_id == Patient.id, condition).correlate(Patient).exists()


# One question instead of two: each costs as much as what it finds, and most patients have nothing of it.
_CONCERNING = (
    select(
        Consultation,
        _is_there(Recording, Recording.state.in_(("stopped", "failed"))).label("recorded"),
        _is_there(Snapshot, Snapshot.taken_at.is_not(None)).label("pictured"),
        _is_there(Transcript, Transcript.destroyed_at.is_(None)).label("said"),
    )
    .select_from(Patient)
    .outerjoin(
        Consultation,
        and_(
            Consultation.patient_id == Patient.id,
            or_(Consultation.state.in_(OPEN), and_(Consultation.state == ENDED, Consultation.encounter_id.is_(None))),
        ),
    )
    .where(Patient.id == bindparam("patient_id"))
    .order_by(Consultation.starts_at.desc())
    .limit(50)
)


async def about_patient(ctx: Context, patient_id: uuid.UUID) -> Concerning:
    rows = (await ctx.db.execute(_CONCERNING, {"patient_id": patient_id})).all()
    if not rows:
        return Concerning((), False, False, False)
    found = [row[0] for row in rows if row[0] is not None]
    return Concerning(found, bool(rows[0][1]), bool(rows[0][2]), bool(rows[0][3]))


async def concerning(ctx: Context, patient_id: uuid.UUID) -> Sequence[Consultation]:
    return (await about_patient(ctx, patient_id)).consultations


async def open_for_patient(ctx: Context, patient_id: uuid.UUID) -> Consultation | None:
    """The one that matters now: in progress, else waiting, else the nearest scheduled one."""
    return nearest(ctx, await concerning(ctx, patient_id))


def nearest(ctx: Context, rows: Sequence[Consultation]) -> Consultation | None:
    """Of these the one that matters now, as `open_for_patient` says."""
    order = {IN_PROGRESS: 0, WAITING: 1, SCHEDULED: 2}
    found = [row for row in rows if row.state in order and row.mode != WRITTEN]
    return min(found, key=lambda row: (order[row.state], abs(row.starts_at - ctx.now)), default=None)
