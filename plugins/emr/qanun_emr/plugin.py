"""The manifest of `emr`: what it contributes, and nothing else."""

from __future__ import annotations

from typing import Any

from qanun.api import N_, AuditEventType, DemoSeeder, NavItem, Plugin, hookimpl
from qanun_emr import demo, events, fhir, panels, routes
from qanun_emr.permissions import GRANTS, Emr

AUDIT = [
    AuditEventType(id="emr.chart.read", label=N_("Opened the record"), action="read"),
    AuditEventType(id="emr.encounter.read", label=N_("Opened a visit"), action="read"),
    AuditEventType(id="emr.encounter.start", label=N_("Started a visit"), action="create"),
    AuditEventType(id="emr.encounter.finish", label=N_("Ended a visit"), action="update"),
    AuditEventType(id="emr.encounter.sign", label=N_("Signed a visit"), action="update"),
    AuditEventType(id="emr.note.draft", label=N_("Wrote the visit note"), action="update"),
    AuditEventType(id="emr.note.addendum", label=N_("Added to a signed note"), action="update"),
    AuditEventType(id="emr.observation.record", label=N_("Recorded vital signs"), action="create"),
    AuditEventType(id="emr.observation.void", label=N_("Took back a vital sign"), action="update"),
    AuditEventType(id="emr.allergy.record", label=N_("Recorded an allergy"), action="create"),
    AuditEventType(id="emr.allergy.void", label=N_("Took back an allergy entry"), action="update"),
    AuditEventType(id="emr.condition.record", label=N_("Recorded a problem"), action="create"),
    AuditEventType(id="emr.condition.void", label=N_("Took back a problem entry"), action="update"),
    AuditEventType(id="emr.medication.record", label=N_("Recorded a medicine"), action="create"),
    AuditEventType(id="emr.medication.void", label=N_("Took back a medicine entry"), action="update"),
]


class EmrPlugin(Plugin):
    """Records: visits and notes, allergies, vital signs, problems, medicines; host of the chart."""

    slug = "emr"
    label = N_("Records")

    @hookimpl
    def permissions(self) -> list[Any]:
        return [Emr]

    @hookimpl
    def roles(self) -> list[Any]:
        return GRANTS

    @hookimpl
    def audit_events(self) -> list[Any]:
        return AUDIT

    @hookimpl
    def routes(self) -> list[Any]:
        return routes.ROUTES

    @hookimpl
    def nav_items(self) -> list[Any]:
        return [
            NavItem(
                id="emr.patients", label=N_("Patients"), icon="users", href="/emr/patients", permission=Emr.CHART_READ,
                key="s", order=20,
            )
        ]  # fmt: skip

    @hookimpl
    def chart_panels(self) -> list[Any]:
        return panels.CHART_PANELS

    @hookimpl
    def timeline_sources(self) -> list[Any]:
        return panels.TIMELINE

    @hookimpl
    def patient_pages(self) -> list[Any]:
        return panels.PATIENT_PAGES

    @hookimpl
    def search_providers(self) -> list[Any]:
        return panels.SEARCH

    @hookimpl
    def event_types(self) -> list[Any]:
        return events.EVENT_TYPES

    @hookimpl
    def resource_providers(self) -> list[Any]:
        return fhir.PROVIDERS

    @hookimpl
    def demo_data(self) -> list[Any]:
        return [DemoSeeder(id="emr.record", seed=demo.seed, order=20)]


plugin = EmrPlugin()
