"""How long recordings are kept: the clinic's rule, until when each one is kept by it, what is due, and what holds it.

Nothing is deleted here; `deletion` does that. Without a rule nothing is ever due.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import ColumnElement, Select, func, or_, select

from qanun.api import N_, Conflict, Context, Invalid, NotFound, Patient, ResourceRef, new_id
from qanun_telemedicine.models import Consultation, Recording
from qanun_telemedicine.models_kept import LegalHold, RecordingReview, RetentionPolicy
from qanun_telemedicine.service.jurisdictions import BY_CODE, MAJORITY

LEAST_LETTERS, MOST_LETTERS = 5, 2000
FINISHED = ("stopped", "failed")
_PAGE = 500
LIMIT = 200


def years_later(day: date, years: int) -> date:
    """The same day so many years on; the 29th of February becomes the 1st of March, so nothing ends a day early."""
    try:
        return day.replace(year=day.year + years)
    except ValueError:
        return date(day.year + years, 3, 1)


def keep_until(policy: RetentionPolicy, *, born: date, recorded: date, last_visit: date) -> date:
    """The first day on which a recording need not be kept any more."""
    until = years_later(last_visit if policy.counted_from == "last-visit" else recorded, policy.adult_years)
    if policy.minor_age and recorded < years_later(born, MAJORITY):
        until = max(until, years_later(born, policy.minor_age + policy.minor_years))
    return until


# --- the rule -----------------------------------------------------------------------------------------------------------


async def current_policy(ctx: Context) -> RetentionPolicy | None:
    """The rule that counts now; None when the clinic never set one."""
    found = await policies(ctx, limit=1)
    return found[0] if found else None


async def policies(ctx: Context, *, limit: int = 50) -> Sequence[RetentionPolicy]:
    """Every rule there was, the newest first."""
    statement = select(RetentionPolicy).order_by(RetentionPolicy.set_at.desc(), RetentionPolicy.id.desc()).limit(limit)
    return (await ctx.db.execute(statement)).scalars().all()


async def set_policy(ctx: Context, form: Mapping[str, str]) -> RetentionPolicy:
    """A new rule from what was typed: `jurisdiction`, `adult_years`, `minor_age`, `minor_years`, `counted_from`, `review`
    ("1" for yes), `basis`. Raises Invalid naming the fields. All recordings are reckoned anew in the background."""
    faults: dict[str, object] = {}
    code, counted = form.get("jurisdiction", ""), form.get("counted_from", "")
    if code not in BY_CODE:
        faults["jurisdiction"] = N_("Choose one of the listed values.")
    if counted not in ("recording", "last-visit"):
        faults["counted_from"] = N_("Choose one of the listed values.")
    years = {name: _whole(form.get(name, ""), most) for name, most in _MOST.items()}
    for name, value in years.items():
        if value is None:
            faults[name] = N_("Write a whole number of years.")
    if years["adult_years"] == 0:
        faults["adult_years"] = N_("Write a whole number of years.")
    basis = form.get("basis", "").strip()
    if len(basis) < LEAST_LETTERS:
        faults["basis"] = N_("Write which law or decision this follows. It is the clinic’s own responsibility.")
    elif len(basis) > MOST_LETTERS:
        faults["basis"] = N_("This text is too long.")
    if faults:
        raise Invalid(faults)
    policy = RetentionPolicy(
        id=new_id(), jurisdiction=code, counted_from=counted, review=form.get("review") == "1", basis=basis,
        set_by=ctx.actor.id, set_by_name=ctx.actor.name, set_at=ctx.now,
        **{name: value for name, value in years.items() if value is not None},
    )  # fmt: skip
    ctx.db.add(policy)
    await ctx.db.flush()
    ctx.audit(
        "telemedicine.retention.set", entity=ResourceRef("RetentionPolicy", policy.id),
        detail={"jurisdiction": code, "counted_from": counted, "review": policy.review, **{
            name: value for name, value in years.items() if value is not None
        }},
    )  # fmt: skip
    ctx.defer("telemedicine.reckon")
    return policy


_MOST = {"adult_years": 100, "minor_age": 40, "minor_years": 100}


def _whole(text: str, most: int) -> int | None:
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 3 and int(text) <= most else None


# --- until when ---------------------------------------------------------------------------------------------------------


async def reckon(ctx: Context, only: uuid.UUID | None = None) -> int:
    """Write into every finished recording (or only into one) until when it is kept; how many changed. Birth dates are
    corrected and rules changed, so this is done anew every night."""
    policy = await current_policy(ctx)
    seen = func.max(func.coalesce(Consultation.ended_at, Consultation.admitted_at, Consultation.starts_at))
    visited = select(Consultation.patient_id, seen.label("last")).where(Consultation.admitted_at.is_not(None))
    visits = visited.group_by(Consultation.patient_id).subquery()
    # What visits that were not by video had put off, under the rule that counts now.
    later = select(RecordingReview.recording_id, func.max(RecordingReview.again_on).label("until")).where(
        RecordingReview.decision == "moot", *([RecordingReview.decided_at >= policy.set_at] if policy else [])
    )
    elsewhere = later.group_by(RecordingReview.recording_id).subquery()
    changed, after = 0, None
    while True:
        statement = (
            select(Recording, Patient.birth_date, visits.c.last, elsewhere.c.until)
            .join(Patient, Patient.id == Recording.patient_id)
            .outerjoin(visits, visits.c.patient_id == Recording.patient_id)
            .outerjoin(elsewhere, elsewhere.c.recording_id == Recording.id)
            .where(
                Recording.state.in_(FINISHED), *([Recording.id > after] if after else []),
                *([Recording.id == only] if only else []),
            )
            .order_by(Recording.id)
            .limit(_PAGE)
        )  # fmt: skip
        rows = (await ctx.db.execute(statement)).all()
        for record, born, last, put_off in rows:
            until = None
            if policy is not None:
                until = keep_until(
                    policy, born=born, recorded=_day(ctx, record.started_at),
                    last_visit=_day(ctx, max(last or record.started_at, record.started_at)),
                )  # fmt: skip
                until = max(until, put_off or until)
            if record.keep_until != until:
                record.keep_until, changed = until, changed + 1
        await ctx.db.flush()
        if len(rows) < _PAGE:
            return changed
        after = rows[-1][0].id


async def put_off_by_visits(ctx: Context, record: Recording, policy: RetentionPolicy, born: date) -> bool:
    """Whether a recording that would be due is not, because of visits that were not by video; that is then written down.
    Asked only of what would be due, since every such question stands in the patient's list of who looked."""
    if policy.counted_from != "last-visit" or record.keep_until is None:
        return False
    last = record.started_at
    for encounter in await ctx.records.search("Encounter", patient=record.patient_id):
        period = encounter.get("period") or {}
        for moment in (period.get("end"), period.get("start")):
            if moment:
                last = max(last, datetime.fromisoformat(str(moment)))
                break
    until = keep_until(policy, born=born, recorded=_day(ctx, record.started_at), last_visit=_day(ctx, last))
    if until <= _day(ctx, ctx.now):
        return False
    record.keep_until = until
    ctx.db.add(
        RecordingReview(
            recording_id=record.id, patient_id=record.patient_id, reason="due", listed_at=ctx.now, decision="moot",
            decided_at=ctx.now, again_on=until,
        )
    )  # fmt: skip
    await ctx.db.flush()
    return True


def _day(ctx: Context, moment: datetime) -> date:
    return ctx.local(moment).date()


# --- what is due --------------------------------------------------------------------------------------------------------


async def due(ctx: Context) -> list[tuple[Recording, date]]:
    """Finished recordings whose time is over, with the patient's birth date: not held, not waiting for a decision, not
    put off by one."""
    today = _day(ctx, ctx.now)
    asked = select(RecordingReview.id).where(
        RecordingReview.recording_id == Recording.id,
        or_(RecordingReview.decision.is_(None), RecordingReview.again_on > today),
    )
    statement = (
        select(Recording, Patient.birth_date)
        .join(Patient, Patient.id == Recording.patient_id)
        .where(
            Recording.state.in_(FINISHED), Recording.keep_until <= today, ~asked.exists(), ~_held_by().exists(),
        )
        .order_by(Recording.keep_until, Recording.id)
        .limit(LIMIT)
    )  # fmt: skip
    return [(record, born) for record, born in (await ctx.db.execute(statement)).all()]


async def put_off_again(ctx: Context) -> list[Recording]:
    """Recordings that were kept until a day that has come, whose own time is not over: withdrawn ones, mostly."""
    today = _day(ctx, ctx.now)
    newest = select(func.max(RecordingReview.decided_at)).where(RecordingReview.recording_id == Recording.id)
    waits = select(RecordingReview.id).where(
        RecordingReview.recording_id == Recording.id, RecordingReview.decision.is_(None)
    )
    statement = (
        select(Recording)
        .join(RecordingReview, RecordingReview.recording_id == Recording.id)
        .where(
            Recording.state.in_(FINISHED), RecordingReview.decision == "keep", RecordingReview.again_on <= today,
            RecordingReview.decided_at == newest.correlate(Recording).scalar_subquery(), ~waits.correlate(Recording).exists(),
        )
        .limit(LIMIT)
    )  # fmt: skip
    return list((await ctx.db.execute(statement)).scalars())


# --- legal holds --------------------------------------------------------------------------------------------------------


def _held_by() -> Select[uuid.UUID]:
    return select(LegalHold.id).where(
        LegalHold.patient_id == Recording.patient_id, LegalHold.released_at.is_(None),
        or_(LegalHold.recording_id.is_(None), LegalHold.recording_id == Recording.id),
    )  # fmt: skip


async def held(ctx: Context, record: Recording) -> list[LegalHold]:
    """The holds that stand on a recording: its own and those on all of its patient."""
    statement = select(LegalHold).where(
        LegalHold.patient_id == record.patient_id, LegalHold.released_at.is_(None),
        or_(LegalHold.recording_id.is_(None), LegalHold.recording_id == record.id),
    )  # fmt: skip
    return list((await ctx.db.execute(statement.limit(LIMIT))).scalars())


async def lock(ctx: Context, which: ColumnElement[bool]) -> None:
    """Hold these recordings' rows until the transaction ends, and see them as they are now."""
    statement = select(Recording).where(which).order_by(Recording.id).with_for_update()
    await ctx.db.execute(statement.execution_options(populate_existing=True))


async def standing_holds(ctx: Context) -> list[tuple[LegalHold, Patient]]:
    """Every hold that stands, the newest first."""
    statement = (
        select(LegalHold, Patient)
        .join(Patient, Patient.id == LegalHold.patient_id)
        .where(LegalHold.released_at.is_(None))
        .order_by(LegalHold.placed_at.desc())
        .limit(LIMIT)
    )
    return [(hold, person) for hold, person in (await ctx.db.execute(statement)).all()]


async def place_hold(ctx: Context, record: Recording, reason: str, *, whole_patient: bool = False) -> LegalHold:
    """Keep a recording (or all of its patient) whatever the rule says. Raises Invalid without a reason, Conflict when it
    is destroyed already."""
    await lock(ctx, Recording.patient_id == record.patient_id if whole_patient else Recording.id == record.id)
    if record.state == "deleted" and not whole_patient:
        raise Conflict("this recording is destroyed")
    made = LegalHold(
        id=new_id(), patient_id=record.patient_id, recording_id=None if whole_patient else record.id,
        reason=_reason(reason), placed_by=ctx.actor.id, placed_by_name=ctx.actor.name, placed_at=ctx.now,
    )  # fmt: skip
    ctx.db.add(made)
    await ctx.db.flush()
    ctx.audit(
        "telemedicine.hold.place", patient_id=record.patient_id, entity=ResourceRef("LegalHold", made.id),
        detail={"recording": "" if whole_patient else str(record.id)},
    )  # fmt: skip
    return made


async def release_hold(ctx: Context, id: uuid.UUID, reason: str) -> LegalHold:
    """Twice changes nothing. Raises NotFound, and Invalid without a reason."""
    statement = select(LegalHold).where(LegalHold.id == id).with_for_update()
    found = (await ctx.db.execute(statement)).scalar_one_or_none()
    if found is None:
        raise NotFound("hold")
    if found.released_at is None:
        found.release_reason = _reason(reason)
        found.released_at, found.released_by, found.released_by_name = ctx.now, ctx.actor.id, ctx.actor.name
        ctx.audit(
            "telemedicine.hold.release", patient_id=found.patient_id, entity=ResourceRef("LegalHold", found.id)
        )  # fmt: skip
    return found


def _reason(text: str) -> str:
    text = text.strip()
    if len(text) < LEAST_LETTERS:
        raise Invalid({"reason": N_("Write why, in a few words.")})
    if len(text) > MOST_LETTERS:
        raise Invalid({"reason": N_("This text is too long.")})
    return text


# --- lists --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kept:
    """A line of the list of recordings."""

    record: Recording
    patient: Patient
    held: bool
    waits: bool


async def kept(ctx: Context, *, patient_id: uuid.UUID | None = None, limit: int = LIMIT) -> list[Kept]:
    """Recordings, the newest first, those that are destroyed as well; of one patient or of the clinic."""
    waits = select(RecordingReview.id).where(
        RecordingReview.recording_id == Recording.id, RecordingReview.decision.is_(None)
    )
    statement = (
        select(Recording, Patient, _held_by().exists(), waits.exists())
        .join(Patient, Patient.id == Recording.patient_id)
        .where(*([Recording.patient_id == patient_id] if patient_id else []))
        .order_by(Recording.started_at.desc())
        .limit(limit)
    )
    return [Kept(*row) for row in (await ctx.db.execute(statement)).all()]
