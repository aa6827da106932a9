"""What the reception desk shows: the week's free slots, the day by practitioner, who is expected, who is in the house."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from qanun.api import (
    N_,
    Context,
    Invalid,
    NotFound,
    PatientDraft,
    PatientSummary,
    Practitioner,
    VisitMode,
    find_patients,
    fold_name,
    locales,
    patient,
    random_token,
    render_slot,
    to_ascii_digits,
)
from qanun_scheduling import reading, service, sessions
from qanun_scheduling.agenda import minutes_since, parse_day, spoken_name, wait_tone
from qanun_scheduling.models import IN_PERSON, Appointment
from qanun_scheduling.reading import Offer, Row
from qanun_scheduling.slots import Slot

DAYS = 7
_FEW = 4
_YEARS = 2000, 2200
_MOMENT = "%Y%m%dT%H%MZ"
WEEKDAYS = (N_("Mon"), N_("Tue"), N_("Wed"), N_("Thu"), N_("Fri"), N_("Sat"), N_("Sun"))
SEXES = (("female", N_("Female")), ("male", N_("Male")), ("other", N_("Other")), ("unknown", N_("Unknown")))
DRAFT_FIELDS = (
    "given",
    "family",
    "given_alt",
    "family_alt",
    "birth_date",
    "sex",
    "phone",
    "email",
    "language",
    "address",
)


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What the desk is asked to show. `values`/`errors` of the booking, `draft`/`faults` of the registration."""

    day: date
    patient_id: UUID | None = None
    appointment_id: UUID | None = None
    booked: bool = False
    query: str = ""
    slot: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, object] = field(default_factory=dict)
    draft: Mapping[str, str] = field(default_factory=dict)
    faults: Mapping[str, object] = field(default_factory=dict)
    duplicates: Sequence[tuple[PatientSummary, list[object]]] = ()
    notice: object = ""


# --- slots as a form writes them ----------------------------------------------------------------------------------------


def slot_text(practitioner_id: UUID, start: datetime, minutes: int) -> str:
    """`<practitioner>.<20260512T1050Z>.<minutes>`: whom, when and how long in one field."""
    return f"{practitioner_id}.{start.astimezone(UTC):{_MOMENT}}.{minutes}"


def slot_key(slot: Slot) -> str:
    return slot_text(slot.practitioner_id, slot.start, int((slot.end - slot.start).total_seconds() // 60))


def parse_slot(text: str) -> tuple[UUID, datetime, int]:
    """Raises Invalid naming `slot` for what `slot_text` did not write."""
    try:
        whom, moment, length = text.split(".")
        found = UUID(whom), datetime.strptime(moment, _MOMENT).replace(tzinfo=UTC), int(length)
    except ValueError:
        raise Invalid({"slot": N_("Choose a slot.")}) from None
    if slot_text(*found) != text or not _YEARS[0] <= found[1].year <= _YEARS[1] or not 5 <= found[2] <= 240:
        raise Invalid({"slot": N_("Choose a slot.")})
    return found


def day_of(ctx: Context, date_text: str, slot: str) -> date:
    """The day to show: the chosen slot's, else the one asked for. Raises Invalid for a slot or a day that is none."""
    day = parse_day(ctx, date_text)
    return ctx.local(parse_slot(slot)[1]).date() if slot else day


# --- week and day ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Load:
    """One practitioner's day in the week's strip. `taken` is a percentage."""

    day: date
    state: str
    free: int
    taken: int


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands at one time in one practitioner's column."""

    kind: str
    row: Row | None = None
    slot: Slot | None = None
    key: str = ""
    tone: str = ""
    session: sessions.Session | None = None


def _load(day: date, offer: Offer, practitioner_id: UUID) -> Load:
    total = sum(slot.practitioner_id == practitioner_id for slot in offer.all)
    free = sum(slot.practitioner_id == practitioner_id for slot in offer.free)
    if not total:
        return Load(day, "off", 0, 100)
    state = "full" if not free else "mid" if free < _FEW else "open"
    return Load(day, state, free, round(100 * (total - free) / total))


def _tone(row: Row) -> str:
    if row.status in {"fulfilled", "noshow"}:
        return "done"
    if row.status in {"arrived", "checked-in"}:
        return "tele" if row.virtual else "in"
    return "tele" if row.virtual else ""


def _grid(
    rows: Sequence[Row], held: Sequence[sessions.Session], offer: Offer, team: Sequence[Practitioner]
) -> list[tuple[datetime, list[Cell]]]:  # fmt: skip
    """One line per moment at which something begins, one cell per practitioner."""
    booked: dict[tuple[datetime, UUID], Row] = {}
    for row in rows:
        kept = booked.get((row.start, row.practitioner_id))
        if kept is None or kept.status == "noshow":
            booked[row.start, row.practitioner_id] = row
    groups = {(one.start, one.practitioner_id): one for one in held}
    free = {(slot.start, slot.practitioner_id): slot for slot in offer.free}
    hours = {(slot.start, slot.practitioner_id) for slot in offer.all}
    lines = []
    for moment in sorted({start for start, _ in (*booked, *groups, *hours)}):
        cells = []
        for doctor in team:
            at = moment, doctor.id
            there, slot = booked.get(at), free.get(at)
            if at in groups:
                cells.append(Cell("taken", session=groups[at], tone="done" if groups[at].done else "tele"))
            elif any(one.practitioner_id == doctor.id and one.start < moment < one.end for one in held):
                cells.append(Cell("held"))
            elif there is not None and not (there.status == "noshow" and slot is not None):
                cells.append(Cell("taken", row=there, tone=_tone(there)))
            elif slot is not None:
                cells.append(Cell("free", slot=slot, key=slot_key(slot)))
            else:
                cells.append(Cell("past" if at in hours else "off"))
        lines.append((moment, cells))
    return lines


async def board_values(
    ctx: Context,
    day: date,
    *,
    patient_id: UUID | None = None,
    slot: str = "",
    errors: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """The week's strip and the chosen day; the same for the page and for a refresh of it. Raises Invalid for a bad slot."""
    today = ctx.local(ctx.now).date()
    first = today + timedelta(days=(day - today).days // DAYS * DAYS)
    offers = await reading.offers(ctx, first, DAYS)
    team = await _columns(ctx, offers)
    faults = dict(errors or {})
    free = {slot_key(one) for one in offers[day].free}
    if slot:
        _, start, _ = parse_slot(slot)
        if slot not in free and ctx.local(start).date() == day and "slot" not in faults:
            faults["slot"] = service.TAKEN
    query = f"&patient={patient_id}" if patient_id else ""
    lines = _grid(await reading.day(ctx, day), await sessions.of_day(ctx, day), offers[day], team)
    passed = [moment for moment, _ in lines if moment <= ctx.now]
    return {
        "day": day,
        "today": today,
        "days": list(offers),
        "weekdays": WEEKDAYS,
        "week_before": first - timedelta(days=1),
        "week_after": first + timedelta(days=DAYS),
        "team": [(doctor, spoken_name(ctx, doctor)) for doctor in team],
        "week": [(spoken_name(ctx, doctor), [_load(d, o, doctor.id) for d, o in offers.items()]) for doctor in team],
        "lines": lines,
        "now_line": passed[-1] if passed and day == today else None,
        "slot": slot,
        "slot_error": faults.get("slot", ""),
        "also": query,
        "now": ctx.now,
    }


async def _columns(ctx: Context, offers: Mapping[date, Offer]) -> list[Practitioner]:
    """Practitioners with hours in this week; when nobody has any, everybody, so that the page says what is missing."""
    everybody = list(await reading.practitioners(ctx))
    working = {slot.practitioner_id for offer in offers.values() for slot in offer.all}
    return [doctor for doctor in everybody if doctor.id in working] or everybody


# --- who comes, who is here -----------------------------------------------------------------------------------------------


async def arrivals_values(ctx: Context, *, notice: object = "") -> dict[str, Any]:
    """Today: who is expected and who is in the house."""
    rows = await reading.day(ctx, ctx.local(ctx.now).date())
    names = {doctor.id: spoken_name(ctx, doctor) for doctor in await reading.practitioners(ctx)}
    expected = [row for row in rows if row.status == "booked"]
    missed = [row for row in rows if row.status == "noshow"]
    present = [row for row in rows if row.status in {"arrived", "checked-in"}]
    soon = ctx.now + timedelta(minutes=30)
    return {
        "expected": expected,
        "present": [(row, minutes_since(row.arrived_at, ctx.now)) for row in present],
        "missed": missed,
        "wait_tone": wait_tone,
        "names": names,
        "now": ctx.now,
        "late_before": ctx.now - timedelta(minutes=10),
        "soon": soon,
        "notice": notice,
        "refresh": False,
        "counts": {
            "booked": sum(row.status != "noshow" for row in rows),
            "present": sum(not row.virtual for row in present),
            "soon": sum(row.start <= soon for row in expected),
            "missed": len(missed),
        },
    }


# --- finding, registering ---------------------------------------------------------------------------------------------------


async def found_values(ctx: Context, query: str, day: date) -> dict[str, Any]:
    typed = query.strip()[:80]
    found = await find_patients(ctx, typed) if len(typed) >= 2 else []
    if len(typed) >= 2:
        ctx.audit("core.patient.search", detail={"found": len(found)})
    return {"found": found, "query": typed, "day": day}


def draft_of(form: Mapping[str, str]) -> PatientDraft:
    fields: dict[str, Any] = {name: form.get(name, "").strip() for name in DRAFT_FIELDS}
    return PatientDraft(**fields)


def likeness(draft: PatientDraft, found: PatientSummary) -> list[object]:
    """Why somebody who is registered may be the person who stands here, in words."""
    reasons: list[object] = []
    typed = {fold_name(f"{draft.given} {draft.family}"), fold_name(f"{draft.given_alt} {draft.family_alt}")} - {""}
    known = {fold_name(found.name), fold_name(found.name_alt)} - {""}
    if typed & known:
        reasons.append(N_("Same name"))
    elif {word for name in typed for word in name.split()} & {word for name in known for word in name.split()}:
        reasons.append(N_("Similar name"))
    if to_ascii_digits(draft.birth_date).strip() == found.birth_date.isoformat():
        if not reasons:
            reasons.append(N_("Similar name"))
        reasons.append(N_("Same date of birth"))
    digits = "".join(filter(str.isdigit, to_ascii_digits(draft.phone)))
    if len(digits) >= 7 and digits in "".join(filter(str.isdigit, found.phone)):
        reasons.append(N_("Same phone"))
    return reasons


# --- the page ---------------------------------------------------------------------------------------------------------------


async def desk_values(ctx: Context, desk: Desk) -> dict[str, Any]:
    """Everything on the desk. Raises NotFound for a patient or an appointment that is not this clinic's."""
    person = await patient(ctx, desk.patient_id) if desk.patient_id else None
    board = await board_values(
        ctx, desk.day, patient_id=person.id if person else None, slot=desk.slot, errors=desk.errors
    )
    values = {"visit_mode": IN_PERSON, "request_key": random_token(), **desk.values}
    return {
        **await found_values(ctx, desk.query, desk.day),
        **await arrivals_values(ctx, notice=desk.notice),
        **board,
        "person": person,
        "upcoming": await reading.of_patient(ctx, person.id) if person else [],
        "modes": [(mode.id, mode.label) for mode in ctx.registry.all(VisitMode, enabled=ctx.enabled) if mode.bookable],
        "chosen_slot": await _chosen(ctx, desk.slot),
        "values": values,
        "errors": desk.errors,
        "draft": {"language": ctx.tenant.locale, **desk.draft},
        "faults": desk.faults,
        "duplicates": desk.duplicates,
        "sexes": SEXES,
        "languages": [(locale.code, locale.name) for locale in locales()],
        **await _appointment(ctx, desk),
    }


async def _chosen(ctx: Context, slot: str) -> tuple[str, datetime, datetime] | None:
    """The chosen slot in words: with whom, from when, until when."""
    if not slot:
        return None
    whom, start, minutes = parse_slot(slot)
    doctor = await service.practitioner_of(ctx, whom)
    return spoken_name(ctx, doctor), start, start + timedelta(minutes=minutes)


async def _appointment(ctx: Context, desk: Desk) -> dict[str, Any]:
    if desk.appointment_id is None:
        return {"appointment": None, "booked": False, "filled": []}
    stored = await service.appointment_of(ctx, desk.appointment_id)
    if stored.patient_id is None:
        raise NotFound("appointment")
    row = (await reading.rows(ctx, Appointment.id == stored.id))[0]
    return {
        "appointment": row,
        "stored": stored,
        "booked": desk.booked,
        "filled": await render_slot(ctx, "desk.booked", appointment_id=row.id)
        if row.status in {"booked", "arrived", "checked-in"}
        else [],
    }
