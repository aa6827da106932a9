"""What the patient's pages show: visits as the broker gives them, and the audit in a patient's words."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select

from qanun.api import (
    Context,
    Forbidden,
    Patient,
    Practitioner,
    Role,
    SlotContent,
    VisitMode,
    record_views,
    specialty_name,
)

HOME = "portal.home"
#: Below what is coming: what else a patient can do, by other plugins.
MORE = "portal.more"
MOST_VISITS = 50
MOST_ENTRIES = 300


@dataclass(frozen=True, slots=True)
class Visit:
    """A visit that was or will be. `mode` is None when nobody knows how it is held."""

    id: uuid.UUID
    start: datetime
    end: datetime | None
    practitioner: str
    specialty: str
    status: str
    mode: VisitMode | None
    href: str = ""
    summary: str = ""


@dataclass(slots=True)
class AccessEntry:
    """What one person did on one day; acts of the same kind are counted, not repeated."""

    who: uuid.UUID | None
    name: str
    roles: tuple[object, ...]
    day: datetime
    acts: dict[object, list[datetime]] = field(default_factory=dict)


async def own_patient(ctx: Context) -> Patient:
    return (await ctx.db.execute(select(Patient).where(Patient.id == ctx.actor.patient_id))).scalar_one()


def greeting_name(patient: Patient, language: str) -> str:
    """The given name in the script of the page, where the clinic knows it."""
    names = [name for name in (patient.given, patient.given_alt) if name]
    arabic = [name for name in names if "\u0600" <= name[0] <= "\u06ff"]
    latin = [name for name in names if name not in arabic]
    wanted = arabic if language == "ar" else latin
    return (wanted or names or [""])[0]


async def coming_visits(ctx: Context) -> list[Visit]:
    """Appointments that are still to come or happen now, the next one first."""
    resources = await _search(ctx, "Appointment")
    staff = await _staff(ctx, resources)
    found = [_appointment(ctx, one, staff) for one in resources]
    coming = [
        visit for visit in found
        if visit is not None and visit.status in ("booked", "arrived", "pending", "checked-in")
        and (visit.end or visit.start) > ctx.now
    ]  # fmt: skip
    return sorted(coming, key=lambda visit: visit.start)


def without_own_card(ctx: Context, coming: Sequence[Visit], cards: Sequence[str]) -> list[Visit]:
    """The visits that no card on the home page shows: a plugin that holds visits and fills the page shows its next one."""
    slot = (entry for entry in ctx.registry.entries(SlotContent, enabled=ctx.enabled) if entry.item.slot == HOME)
    shown_by = {entry.plugin for entry in slot} if cards else set()
    rest = []
    for visit in coming:
        holder = visit.mode.id.partition(".")[0] if visit.mode and visit.href else ""
        if holder in shown_by:
            shown_by.remove(holder)
        else:
            rest.append(visit)
    return rest


async def past_visits(ctx: Context) -> list[Visit]:
    """Encounters that have ended, the newest first."""
    resources = await _search(ctx, "Encounter")
    staff = await _staff(ctx, resources)
    found = [_encounter(ctx, one, staff) for one in resources]
    past = [visit for visit in found if visit is not None and visit.status == "finished"]
    return sorted(past, key=lambda visit: visit.start, reverse=True)[:MOST_VISITS]


async def one_visit(ctx: Context, id: uuid.UUID) -> tuple[Visit, dict[str, Any]]:
    """Raises NotFound: unknown, or somebody else's."""
    resource = await ctx.records.read("Encounter", id)
    visit = _encounter(ctx, resource, await _staff(ctx, [resource]))
    assert visit is not None
    return visit, resource


async def who_opened(ctx: Context, limit: int = MOST_ENTRIES) -> list[AccessEntry]:
    """What members of staff did with this patient's record, day by day, newest first."""
    assert ctx.actor.patient_id is not None
    labels = {role.name: role.label for role in ctx.registry.all(Role)}
    entries: list[AccessEntry] = []
    for act in await record_views(ctx, ctx.actor.patient_id, limit=limit):
        if act.actor_kind != "user":
            continue
        day = ctx.local(act.at)
        last = next(
            (one for one in reversed(entries[-8:]) if one.who == act.actor_id and one.day.date() == day.date()), None
        )
        if last is None:
            last = AccessEntry(act.actor_id, act.name, tuple(labels.get(role, role) for role in act.roles), day)
            entries.append(last)
        last.acts.setdefault(act.label, []).append(act.at)
    return entries


async def _search(ctx: Context, type: str) -> list[dict[str, Any]]:
    try:
        return await ctx.records.search(type)
    except Forbidden:
        return []  # whoever keeps these records does not show them to patients


def _moment(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text)) if text else None
    except ValueError:
        return None


def _mode(ctx: Context, resource: Mapping[str, Any]) -> VisitMode | None:
    """By the mode's id where the schedule says it, else by FHIR's class code."""
    codes = {str(resource.get("class", {}).get("code", "")) if isinstance(resource.get("class"), dict) else ""}
    for concept in (resource.get("appointmentType") or {}, *(resource.get("serviceType") or [])):
        for coding in concept.get("coding", []) if isinstance(concept, dict) else []:
            codes.add(str(coding.get("code", "")))
    for mode in ctx.registry.all(VisitMode, enabled=ctx.enabled):
        if mode.id in codes or mode.code in codes:
            found: VisitMode = mode
            return found
    return None


def _appointment(ctx: Context, resource: Mapping[str, Any], staff: Mapping[str, Practitioner]) -> Visit | None:
    start = _moment(resource.get("start"))
    if start is None:
        return None
    mode = _mode(ctx, resource)
    id = uuid.UUID(str(resource["id"]))
    href = f"/portal/{ctx.tenant.slug}/{mode.patient_href(id).lstrip('/')}" if mode and mode.patient_href else ""
    return Visit(
        id,
        start,
        _moment(resource.get("end")),
        *_practitioner(ctx, resource, staff),
        str(resource.get("status", "")),
        mode,
        href,
    )


def _encounter(ctx: Context, resource: Mapping[str, Any], staff: Mapping[str, Practitioner]) -> Visit | None:
    period = resource.get("period") or {}
    start = _moment(period.get("start"))
    if start is None:
        return None
    id = uuid.UUID(str(resource["id"]))
    return Visit(
        id, start, _moment(period.get("end")), *_practitioner(ctx, resource, staff), str(resource.get("status", "")),
        _mode(ctx, resource), f"/portal/{ctx.tenant.slug}/encounters/{id}", _summary(resource),
    )  # fmt: skip


def _references(resource: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(practitioner's id, display) of everybody of the clinic who takes part."""
    found = []
    for participant in resource.get("participant") or []:
        who = participant.get("individual") or participant.get("actor") or {}
        kind, _, id = str(who.get("reference", "")).partition("/")
        if kind == "Practitioner" and id:
            found.append((id, str(who.get("display") or "")))
    return found


async def _staff(ctx: Context, resources: Sequence[Mapping[str, Any]]) -> dict[str, Practitioner]:
    """The practitioners that the resources name, by id."""
    ids = {uuid.UUID(id) for resource in resources for id, _ in _references(resource)}
    if not ids:
        return {}
    found = select(Practitioner).where(Practitioner.id.in_(ids))
    return {str(one.id): one for one in (await ctx.db.execute(found)).scalars()}


def _practitioner(ctx: Context, resource: Mapping[str, Any], staff: Mapping[str, Practitioner]) -> tuple[str, str]:
    """Name, in the script of the page where the clinic knows it, and specialty of the first."""
    for id, display in _references(resource):
        known = staff.get(id)
        if known and known.name_alt and ctx.locale.code != ctx.tenant.locale:
            return known.name_alt, specialty_name(known.specialty, ctx.locale)
        name = display or (known.name if known else "")
        return name, specialty_name(known.specialty, ctx.locale) if known else ""
    return "", ""


def _summary(resource: Mapping[str, Any]) -> str:
    """What the clinic wrote for the patient: the reason, when the record has one."""
    texts = [str(reason.get("text", "")) for reason in resource.get("reasonCode") or [] if isinstance(reason, dict)]
    return " · ".join(text for text in texts if text)


def stays(resource: Mapping[str, Any]) -> list[tuple[str, datetime, datetime | None]]:
    """Who was in it, from when to when, where the encounter says so."""
    found = []
    for participant in resource.get("participant") or []:
        period = participant.get("period") or {}
        start = _moment(period.get("start"))
        who = participant.get("individual") or participant.get("actor") or {}
        if start is not None and who.get("display"):
            found.append((str(who["display"]), start, _moment(period.get("end"))))
    return found
