"""Reading the record for the chart: few round trips, columns instead of entities, statements built once.

Nothing is decided or written here. Every statement runs in the asking context's clinic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, JSON, Text, bindparam, case, func, literal, literal_column, select, true
from sqlalchemy.orm import aliased

from qanun.api import Context, Patient, Practitioner, format_number
from qanun_emr.models import (
    AllergyIntolerance,
    Condition,
    Encounter,
    EncounterParticipant,
    MedicationStatement,
    Note,
    NoteAddendum,
    Observation,
)
from qanun_emr.vitals import BY_CODE, VITALS, Vital

TREND = 8
LIST_LIMIT = 100
RECENT = 8

_SPARK_WIDTH, _SPARK_HEIGHT = 112.0, 24.0


@dataclass(frozen=True, slots=True)
class Reading:
    """One vital sign as the panel shows it: the newest value, what it means, and the way there as an SVG polyline."""

    id: UUID
    vital: Vital
    value: str
    at: datetime
    tone: str
    points: str
    last: tuple[float, float]
    band: tuple[float, float] | None
    count: int


@dataclass(frozen=True, slots=True)
class Facts:
    """Allergies, problems and medications of one patient, newest first; and the newest readings of each vital sign."""

    allergies: Sequence[Any]
    conditions: Sequence[Any]
    medications: Sequence[Any]
    readings: Sequence[Any]


def _newest_readings() -> Any:
    """The newest readings of every vital sign of the asked patient as one array of objects, newest first for each."""
    # Not `values()`: SQLAlchemy keeps no compiled form of a statement that holds one, and this is the chart's largest.
    listed = ", ".join(f"'{vital.code}'" for vital in VITALS)  # our own constants, not worth sending with every page
    array = literal_column(f"array[{listed}]", ARRAY(Text))
    codes = func.unnest(array).table_valued("code", name="codes").render_derived()
    newest = (
        select(Observation)
        .where(
            Observation.patient_id == bindparam("patient_id"),
            Observation.code == codes.c.code,
            Observation.voided_at.is_(None),
        )
        .order_by(Observation.effective.desc())
        .limit(literal_column(str(TREND)))
        .lateral("newest")
    )
    reading = aliased(Observation, newest)
    found = (
        select(_object(reading, ("id", "code", "value", "value2", "effective")))
        .select_from(codes)
        .join(newest, true())
        .order_by(reading.effective.desc())
    )
    return func.array(found.scalar_subquery(), type_=ARRAY(JSON))


def _object(model: Any, names: tuple[str, ...]) -> Any:
    columns: list[Any] = []
    for name in names:
        columns += [literal_column(f"'{name}'"), getattr(model, name)]
    return func.json_build_object(*columns)


def _listed(model: Any, names: tuple[str, ...], condition: Any, *order: Any) -> Any:
    """The model's entries of the asked patient as one array of objects with these columns."""
    found = (
        select(_object(model, names))
        .where(model.patient_id == bindparam("patient_id"), model.voided_at.is_(None), condition)
        .order_by(*order)
        .limit(literal_column(str(LIST_LIMIT)))
    )
    return func.array(found.scalar_subquery(), type_=ARRAY(JSON))


# One question instead of four: each costs as much as what it finds.
_FACTS = select(
    _listed(
        AllergyIntolerance,
        ("id", "substance", "criticality", "severity", "reaction"),
        true(),
        # The most dangerous first; one whose danger nobody has judged stands before those judged low.
        case({"high": 0, "unable-to-assess": 1}, value=AllergyIntolerance.criticality, else_=2),
        case({"severe": 0, "moderate": 1, "mild": 2}, value=AllergyIntolerance.severity, else_=3),
        AllergyIntolerance.substance,
    ).label("allergies"),
    _listed(
        Condition,
        ("id", "text", "onset", "clinical_status"),
        true(),
        Condition.clinical_status,
        Condition.created_at.desc(),
    ).label("conditions"),
    _listed(
        MedicationStatement,
        ("id", "text", "strength", "dosage"),
        MedicationStatement.status == "active",
        MedicationStatement.created_at,
    ).label("medications"),
    _newest_readings().label("readings"),
).where(Patient.id == bindparam("patient_id"))

_ENCOUNTERS = (
    select(
        Encounter.id,
        Encounter.status,
        Encounter.class_code,
        Encounter.start,
        Encounter.end,
        Encounter.reason,
        Encounter.signed_at,
        Encounter.signed_name,
        Practitioner.name.label("practitioner"),
        Practitioner.name_alt.label("practitioner_alt"),
        Note.assessment,
        func.count().over().label("total"),
        func.bool_or(Encounter.signed_at.is_(None)).over().label("any_open"),
    )
    .outerjoin(
        Practitioner, (Practitioner.id == Encounter.practitioner_id) & (Practitioner.tenant_id == Encounter.tenant_id)
    )
    .outerjoin(Note, (Note.encounter_id == Encounter.id) & (Note.tenant_id == Encounter.tenant_id))
    .where(Encounter.patient_id == bindparam("patient_id"), Encounter.status != literal_column("'cancelled'"))
    .order_by(Encounter.start.desc())
    .limit(bindparam("limit"))
)

_OPEN = (
    select(Encounter, Note)
    .join(Note, (Note.encounter_id == Encounter.id) & (Note.tenant_id == Encounter.tenant_id))
    .where(
        Encounter.patient_id == bindparam("patient_id"),
        Encounter.signed_at.is_(None),
        Encounter.status.in_(("in-progress", "finished")),
    )
    .order_by(Encounter.start.desc())
    .limit(1)
)


async def facts(ctx: Context, patient_id: UUID) -> Facts:
    """Asked once for all parts of one page."""
    key = ("emr.facts", patient_id)
    if key not in ctx.memory:
        row = (await ctx.db.execute(_FACTS, {"patient_id": patient_id})).first()
        ctx.memory[key] = Facts(*row) if row else Facts((), (), (), ())
    found: Facts = ctx.memory[key]
    return found


async def readings(ctx: Context, patient_id: UUID) -> list[Reading]:
    """The vital signs that this patient has, in the panel's order; missing ones are left out."""
    series: dict[str, list[Any]] = {}
    for one in (await facts(ctx, patient_id)).readings:
        series.setdefault(one["code"], []).append(one)
    found = []
    for vital in VITALS:
        newest_first = series.get(vital.code)
        if newest_first:
            found.append(_reading(vital, newest_first))
    return found


def shown_value(vital: Vital, value: Decimal | float, second: Decimal | float | None) -> str:
    """`118/76`, `36.8`: Latin digits, no trailing zero but where the instrument shows one."""
    text = format_number(value, vital.places)
    return f"{text}/{format_number(second)}" if second is not None else text


def _reading(vital: Vital, newest_first: list[Any]) -> Reading:
    newest = newest_first[0]
    numbers = [float(one["value"]) for one in reversed(newest_first)]
    low, high = min(numbers), max(numbers)
    if vital.usual:
        low, high = min(low, vital.usual[0]), max(high, vital.usual[1])
    span = (high - low) or 1.0

    def y(number: float) -> float:
        return round(_SPARK_HEIGHT - 4 - (number - low) / span * (_SPARK_HEIGHT - 8), 1)

    step = (_SPARK_WIDTH - 8) / max(len(numbers) - 1, 1)
    points = [(round(4 + index * step, 1), y(number)) for index, number in enumerate(numbers)]
    band = (y(vital.usual[1]), round(y(vital.usual[0]) - y(vital.usual[1]), 1)) if vital.usual else None
    out = vital.usual is not None and not vital.usual[0] <= numbers[-1] <= vital.usual[1]
    return Reading(
        id=UUID(newest["id"]),
        vital=vital,
        value=shown_value(vital, newest["value"], newest["value2"]),
        at=datetime.fromisoformat(newest["effective"]),
        tone="hi" if out else "",
        points=" ".join(f"{x},{height}" for x, height in points),
        last=points[-1],
        band=band,
        count=len(numbers),
    )


async def encounters(ctx: Context, patient_id: UUID, limit: int = RECENT) -> Sequence[Any]:
    """Visits, newest first; `total` on each row says how many there are. Asked once for all parts of one page."""
    key = ("emr.encounters", patient_id, limit)
    if key not in ctx.memory:
        ctx.memory[key] = (await ctx.db.execute(_ENCOUNTERS, {"patient_id": patient_id, "limit": limit})).all()
    found: Sequence[Any] = ctx.memory[key]
    return found


async def has_open_encounter(ctx: Context, patient_id: UUID) -> bool:
    """Whether `open_encounter` has something to look for; the page's own list of visits knows."""
    newest = await encounters(ctx, patient_id)
    return bool(newest) and bool(newest[0].any_open)


async def open_encounter(ctx: Context, patient_id: UUID) -> tuple[Encounter, Note] | None:
    """The newest visit that is not signed yet, with its note."""
    row = (await ctx.db.execute(_OPEN, {"patient_id": patient_id})).first()
    return (row[0], row[1]) if row else None


async def participants(ctx: Context, encounter_id: UUID) -> Sequence[EncounterParticipant]:
    statement = (
        select(EncounterParticipant)
        .where(EncounterParticipant.encounter_id == encounter_id)
        .order_by(EncounterParticipant.start)
        .limit(LIST_LIMIT)
    )
    return (await ctx.db.execute(statement)).scalars().all()


async def addenda(ctx: Context, note_id: UUID) -> Sequence[NoteAddendum]:
    statement = select(NoteAddendum).where(NoteAddendum.note_id == note_id).order_by(NoteAddendum.at).limit(LIST_LIMIT)
    return (await ctx.db.execute(statement)).scalars().all()


async def observations_of(ctx: Context, encounter_id: UUID) -> list[tuple[Vital, str]]:
    statement = (
        select(Observation.code, Observation.value, Observation.value2)
        .where(Observation.encounter_id == encounter_id, Observation.voided_at.is_(None))
        .order_by(Observation.effective)
        .limit(LIST_LIMIT)
    )
    rows = (await ctx.db.execute(statement)).all()
    return [
        (BY_CODE[row.code], shown_value(BY_CODE[row.code], row.value, row.value2))
        for row in rows
        if row.code in BY_CODE
    ]


async def newest_patients(ctx: Context, limit: int = 25) -> Sequence[Any]:
    """The patients registered last, with when each was last seen: what an empty search shows."""
    last = (
        select(func.max(Encounter.start))
        .where(Encounter.patient_id == Patient.id, Encounter.tenant_id == Patient.tenant_id)
        .correlate(Patient)
        .scalar_subquery()
    )
    statement = (
        select(
            Patient.id, Patient.mrn, Patient.given, Patient.family, Patient.given_alt, Patient.family_alt, Patient.sex,
            Patient.birth_date, Patient.phone, last.label("seen"), literal(1.0).label("score"),
        )
        .where(Patient.voided_at.is_(None), Patient.merged_into.is_(None))
        .order_by(Patient.id.desc())
        .limit(limit)
    )  # fmt: skip
    return (await ctx.db.execute(statement)).all()
