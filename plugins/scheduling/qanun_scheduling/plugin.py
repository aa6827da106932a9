"""Scheduling's manifest: wiring only."""

from __future__ import annotations

from typing import Any

from qanun.api import N_, DemoSeeder, Plugin, VisitMode, hookimpl
from qanun_scheduling import demo, events, fhir, handlers, panels, routes
from qanun_scheduling.audit import AUDIT_EVENTS
from qanun_scheduling.permissions import GRANTS, Scheduling


class SchedulingPlugin(Plugin):
    """Hours, appointments, the doctor's day and the reception desk."""

    slug = "scheduling"
    label = N_("Appointments")

    @hookimpl
    def permissions(self) -> list[Any]:
        return [Scheduling]

    @hookimpl
    def roles(self) -> list[Any]:
        return GRANTS

    @hookimpl
    def audit_events(self) -> list[Any]:
        return AUDIT_EVENTS

    @hookimpl
    def routes(self) -> list[Any]:
        return routes.ROUTES

    @hookimpl
    def nav_items(self) -> list[Any]:
        return panels.NAV_ITEMS

    @hookimpl
    def patient_pages(self) -> list[Any]:
        return panels.PATIENT_PAGES

    @hookimpl
    def search_providers(self) -> list[Any]:
        return panels.SEARCH

    @hookimpl
    def visit_modes(self) -> list[Any]:
        return [VisitMode(id="scheduling.in-person", label=N_("At the clinic"), icon="building", code="AMB", order=10)]

    @hookimpl
    def event_types(self) -> list[Any]:
        return events.EVENT_TYPES

    @hookimpl
    def event_handlers(self) -> list[Any]:
        return handlers.HANDLERS

    @hookimpl
    def resource_providers(self) -> list[Any]:
        return fhir.PROVIDERS

    @hookimpl
    def demo_data(self) -> list[Any]:
        return [DemoSeeder(id="scheduling.week", seed=demo.seed, renew=demo.renew, order=30)]


plugin = SchedulingPlugin()
