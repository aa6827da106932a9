"""Pages and forms of the record: parse → service → render. htmx gets the part that changed, a plain form a redirect."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from litestar import Controller, Response
from sqlalchemy import select

from qanun.api import (
    ChartPanel,
    Context,
    Form,
    Invalid,
    NotFound,
    Patient,
    ResourceRef,
    TimelineSource,
    find_patients,
    fragment,
    get,
    json_response,
    page,
    patient,
    post,
    put,
    redirect,
    render_contribution,
    render_slot,
)
from qanun_emr import chart, service
from qanun_emr.models import Encounter, Note
from qanun_emr.permissions import Emr
from qanun_emr.vitals import VITALS

WRITABLE = {
    "allergy": service.record_allergy,
    "condition": service.record_condition,
    "medication": service.record_medication,
}
TIMELINE_LIMIT = chart.RECENT


async def _note_values(ctx: Context, patient_id: UUID, found: tuple[Encounter, Note] | None) -> dict[str, Any]:
    encounter, note = found or (None, None)
    return {
        "patient_id": patient_id,
        "encounter": encounter,
        "note": note,
        "busy": service.written_by_another(ctx, note) if note else "",
        "may_write_note": ctx.can(Emr.ENCOUNTER_WRITE),
        "may_sign": ctx.can(Emr.ENCOUNTER_SIGN),
        "errors": {},
    }


async def _panels(ctx: Context, patient_id: UUID) -> dict[int, list[str]]:
    """Every plugin's panels by column; a failed one is a small card."""
    columns: dict[int, list[str]] = {0: [], 1: [], 2: []}
    for entry in ctx.registry.entries(ChartPanel, enabled=ctx.enabled):
        if ctx.can(entry.item.permission):
            html = await render_contribution(ctx, entry, entry.item.render, ctx, patient_id)
            columns[entry.item.column].append(html)
    return columns


async def _timeline(ctx: Context, patient_id: UUID) -> list[Any]:
    entries: list[Any] = []
    for entry in ctx.registry.entries(TimelineSource, enabled=ctx.enabled):
        if ctx.can(entry.item.permission):
            found = await ctx.registry.call_soft(entry, entry.item.entries, ctx, patient_id, TIMELINE_LIMIT)
            if isinstance(found, list | tuple):
                entries += found
    return sorted(entries, key=lambda item: item.at, reverse=True)[:TIMELINE_LIMIT]


async def _summary(ctx: Context, patient_id: UUID) -> dict[str, Any]:
    """What the summary shows; the same for the whole page and for a refresh of it."""
    return {
        "facts": await chart.facts(ctx, patient_id),
        "panels": await _panels(ctx, patient_id),
        "timeline": await _timeline(ctx, patient_id),
        "may_write": ctx.can(Emr.RECORD_WRITE),
    }


async def _chart(ctx: Context, person: Patient) -> dict[str, Any]:
    """Everything of the chart page, and the one audit entry that says it was opened."""
    ctx.audit("emr.chart.read", patient_id=person.id, entity=ResourceRef("Patient", person.id))
    may_be_open = await chart.has_open_encounter(ctx, person.id)
    opened = await chart.open_encounter(ctx, person.id) if may_be_open else None
    return {
        "patient": person,
        "tab": "summary",
        **await _summary(ctx, person.id),
        "dock": await render_slot(ctx, "chart.dock", patient_id=person.id),
        "chips": await render_slot(ctx, "chart.banner", patient_id=person.id),
        **await _note_values(ctx, person.id, opened),
        "vitals": VITALS,
        "values": {},
    }


class Patients(Controller):
    """Finding a patient."""

    @get("/emr/patients", permission=Emr.CHART_READ)
    async def patients(self, ctx: Context, q: str = "") -> Response[str]:
        if q.strip():
            found: Any = await find_patients(ctx, q, limit=50)
            ctx.audit("core.patient.search", detail={"found": len(found)})
        else:
            found = await chart.newest_patients(ctx)
        values = {"found": found, "query": q}
        if ctx.web.fragment:
            return fragment(ctx, "emr/parts/patient_rows.html", **values)
        return page(ctx, "emr/patients.html", **values)


class Chart(Controller):
    """One patient's record."""

    path = "/emr/patients/{patient_id:uuid}"

    @get(permission=Emr.CHART_READ)
    async def chart(self, ctx: Context, patient_id: UUID) -> Response[str]:
        person = await patient(ctx, patient_id)
        if person.id != patient_id:
            return redirect(ctx, f"/emr/patients/{person.id}")
        return page(ctx, "emr/chart.html", media=True, **await _chart(ctx, person))

    @get("/summary", permission=Emr.CHART_READ, live=True)
    async def summary(self, ctx: Context, patient_id: UUID) -> Response[str]:
        """The summary's panels and the banner's allergies, after something was recorded."""
        person = await patient(ctx, patient_id)
        ctx.audit("emr.chart.read", patient_id=person.id, entity=ResourceRef("Patient", person.id))
        return fragment(ctx, "emr/parts/summary.html", patient=person, refresh=True, **await _summary(ctx, person.id))

    @get("/encounters", permission=Emr.CHART_READ)
    async def visits(self, ctx: Context, patient_id: UUID) -> Response[str]:
        person = await patient(ctx, patient_id)
        ctx.audit("emr.chart.read", patient_id=person.id, entity=ResourceRef("Patient", person.id))
        return page(
            ctx, "emr/visits.html", patient=person, tab="visits", facts=await chart.facts(ctx, person.id),
            encounters=await chart.encounters(ctx, person.id, chart.LIST_LIMIT), limit=chart.LIST_LIMIT,
            chips=await render_slot(ctx, "chart.banner", patient_id=person.id),
        )  # fmt: skip

    @get("/encounters/{encounter_id:uuid}", permission=Emr.CHART_READ)
    async def visit(self, ctx: Context, patient_id: UUID, encounter_id: UUID) -> Response[str]:
        return await _visit_page(ctx, patient_id, encounter_id)

    @post("/encounters", permission=Emr.ENCOUNTER_WRITE)
    async def start(self, ctx: Context, patient_id: UUID) -> Response[str]:
        person = await service.hold_patient(ctx, patient_id)
        opened = await chart.open_encounter(ctx, person.id)
        if opened is None:
            await service.start_encounter(ctx, person.id)
            opened = await chart.open_encounter(ctx, person.id)
        if ctx.web.fragment:
            return fragment(ctx, "emr/workspaces/note.html", **await _note_values(ctx, person.id, opened))
        return redirect(ctx, f"/emr/patients/{person.id}")

    @get("/workspaces/note", permission=Emr.CHART_READ, live=True)
    async def note_workspace(self, ctx: Context, patient_id: UUID) -> Response[str]:
        person = await patient(ctx, patient_id)
        opened = await chart.open_encounter(ctx, person.id)
        return fragment(ctx, "emr/workspaces/note.html", **await _note_values(ctx, person.id, opened))

    @post("/vitals", permission=Emr.RECORD_WRITE)
    async def record_vitals(self, ctx: Context, patient_id: UUID, form: Form) -> Response[str]:
        opened = await chart.open_encounter(ctx, patient_id)
        values: dict[str, Any] = {"patient_id": patient_id, "vitals": VITALS, "may_write": True}
        try:
            await service.record_vitals(ctx, patient_id, form, encounter_id=opened[0].id if opened else None)
        except Invalid as error:
            if ctx.web.fragment:
                return fragment(
                    ctx, "emr/workspaces/vitals.html", status=422, values=form, errors=error.fields, **values
                )
            person = await patient(ctx, patient_id)
            shown = await _chart(ctx, person) | {"values": form, "errors": error.fields, "open": "vitals"}
            return page(ctx, "emr/chart.html", status=422, media=True, **shown)
        if ctx.web.fragment:
            return fragment(ctx, "emr/workspaces/vitals.html", values={}, errors={}, saved=True, **values)
        return redirect(ctx, f"/emr/patients/{patient_id}")

    @post("/facts/{kind:str}", permission=Emr.RECORD_WRITE)
    async def record_fact(self, ctx: Context, patient_id: UUID, kind: str, form: Form) -> Response[str]:
        """An allergy, a problem or a medicine, by the name in the address."""
        record = WRITABLE.get(kind)
        if record is None:
            raise NotFound(kind)
        values: dict[str, Any] = {"patient_id": patient_id, "may_write": True, "kind": kind}
        try:
            await record(ctx, patient_id, form)
        except Invalid as error:
            if ctx.web.fragment:
                template = f"emr/workspaces/{kind}.html"
                return fragment(ctx, template, status=422, values=form, errors=error.fields, **values)
            person = await patient(ctx, patient_id)
            shown = await _chart(ctx, person) | {"values": form, "errors": error.fields, "open": kind}
            return page(ctx, "emr/chart.html", status=422, media=True, **shown)
        if ctx.web.fragment:
            return fragment(ctx, f"emr/workspaces/{kind}.html", values={}, errors={}, saved=True, **values)
        return redirect(ctx, f"/emr/patients/{patient_id}")


class Encounters(Controller):
    """Writing and signing a visit."""

    path = "/emr/encounters/{encounter_id:uuid}"

    @put("/note", permission=Emr.ENCOUNTER_WRITE)
    async def save_note(self, ctx: Context, encounter_id: UUID, form: Form) -> Response[bytes]:
        """The draft, a moment after each change. 409 with what is stored when somebody else was faster."""
        version = _version(form)
        try:
            saved = await service.save_note(ctx, encounter_id, version=version, sections=form)
        except service.NoteConflict as conflict:
            stored = {name: getattr(conflict.note, name) for name in service.SECTIONS}
            signed = conflict.note.signed_at is not None
            answer = {
                "version": conflict.note.version,
                "by": conflict.note.saved_name,
                "signed": signed,
                "stored": stored,
            }
            return json_response(answer, status=409)
        return json_response({"version": saved.version, "time": f"{ctx.local(saved.at):%H:%M}"})

    @post("/sign", permission=Emr.ENCOUNTER_SIGN)
    async def sign(self, ctx: Context, encounter_id: UUID, form: Form) -> Response[str]:
        encounter = await service.encounter_of(ctx, encounter_id, lock=True)
        version: int | None = _version(form) if form.text("version") else None
        typed = bool(set(service.SECTIONS) & set(form))
        try:
            if typed:
                await service.save_note(ctx, encounter_id, version=version or 0, sections=form)
                version = None
            await service.sign_encounter(ctx, encounter_id, version=version)
        except (Invalid, service.NoteConflict) as error:
            note = await service.note_of(ctx, encounter_id)
            values = await _note_values(ctx, encounter.patient_id, (encounter, note))
            values["conflict"] = isinstance(error, service.NoteConflict)
            values["errors"] = error.fields if isinstance(error, Invalid) else {}
            values["typed"] = form if typed else None
            status = 409 if values["conflict"] else 422
            if ctx.web.fragment:
                return fragment(ctx, "emr/workspaces/note.html", status=status, **values)
            person = await patient(ctx, encounter.patient_id)
            return page(ctx, "emr/chart.html", status=status, media=True, **await _chart(ctx, person) | values)
        if ctx.web.fragment:
            note = await service.note_of(ctx, encounter_id)
            return fragment(
                ctx, "emr/workspaces/note.html", **await _note_values(ctx, encounter.patient_id, (encounter, note))
            )
        return redirect(ctx, f"/emr/patients/{encounter.patient_id}/encounters/{encounter_id}")

    @post("/addenda", permission=Emr.ENCOUNTER_WRITE)
    async def add(self, ctx: Context, encounter_id: UUID, form: Form) -> Response[str]:
        encounter = await service.encounter_of(ctx, encounter_id)
        try:
            await service.add_addendum(ctx, encounter_id, form.text("text"))
        except Invalid as error:
            return await _visit_page(
                ctx, encounter.patient_id, encounter_id, status=422, values=form, errors=error.fields
            )
        return redirect(ctx, f"/emr/patients/{encounter.patient_id}/encounters/{encounter_id}")


@post("/emr/facts/{kind:str}/{entry_id:uuid}/void", permission=Emr.RECORD_WRITE)
async def void(ctx: Context, kind: str, entry_id: UUID, form: Form) -> Response[str]:
    try:
        patient_id = await service.void_entry(ctx, kind, entry_id, form.text("reason"))
    except Invalid as error:
        if not ctx.web.fragment:
            raise
        values: dict[str, Any] = {"kind": kind, "entry_id": entry_id, "values": form, "errors": error.fields}
        return fragment(ctx, "emr/parts/take_back.html", status=422, **values)
    if ctx.web.fragment:
        return Response("", status_code=204)
    return redirect(ctx, f"/emr/patients/{patient_id}")


def _version(form: Form) -> int:
    """The version a text grew from. Raises Invalid for anything but a whole number."""
    text = form.text("version", "0") or "0"
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Invalid({"version": "must be a whole number"})
    return int(text)


async def _visit_page(
    ctx: Context, patient_id: UUID, encounter_id: UUID, *, status: int = 200, values: Any = None, errors: Any = None
) -> Response[str]:
    person = await patient(ctx, patient_id)
    statement = select(Encounter).where(Encounter.id == encounter_id, Encounter.patient_id == person.id)
    encounter = (await ctx.db.execute(statement)).scalar_one_or_none()
    if encounter is None:
        raise NotFound("encounter")
    note = await service.note_of(ctx, encounter_id)
    ctx.audit("emr.encounter.read", patient_id=person.id, entity=ResourceRef("Encounter", encounter_id))
    return page(
        ctx, "emr/visit.html", status=status, media=True, patient=person, tab="visits", encounter=encounter, note=note,
        facts=await chart.facts(ctx, person.id), addenda=await chart.addenda(ctx, note.id),
        participants=await chart.participants(ctx, encounter_id), vitals=await chart.observations_of(ctx, encounter_id),
        chips=await render_slot(ctx, "chart.banner", patient_id=person.id),
        more=await render_slot(ctx, "chart.visit", patient_id=person.id, encounter_id=encounter_id),
        may_write=ctx.can(Emr.ENCOUNTER_WRITE), values=values or {}, errors=errors or {},
    )  # fmt: skip


ROUTES = [Patients, Chart, Encounters, void]
