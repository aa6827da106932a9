"""Every hook: one sentence, one list of frozen dataclasses. Asked once at start, without request, session or tenant."""

from __future__ import annotations

from typing import Any

import pluggy

hookspec = pluggy.HookspecMarker("qanun")
hookimpl = pluggy.HookimplMarker("qanun")


@hookspec
def permissions() -> list[Any]:
    """The plugin's `Permissions` enums."""


@hookspec
def roles() -> list[Any]:
    """`Role`s the plugin adds and `Grant`s that say which roles hold its permissions from the start."""


@hookspec
def audit_events() -> list[Any]:
    """`AuditEventType`s the plugin writes, each with how it is redacted."""


@hookspec
def routes() -> list[Any]:
    """Litestar controllers and handlers, made with the decorators of `qanun.api`."""


@hookspec
def nav_items() -> list[Any]:
    """`NavItem`s for the rail."""


@hookspec
def slot_contents() -> list[Any]:
    """`SlotContent`s for named places on other plugins' pages."""


@hookspec
def page_scripts() -> list[Any]:
    """`PageScript`s that run on every page of the staff's frame."""


@hookspec
def search_providers() -> list[Any]:
    """`SearchProvider`s for the palette."""


@hookspec
def chart_panels() -> list[Any]:
    """`ChartPanel`s for the chart's summary."""


@hookspec
def timeline_sources() -> list[Any]:
    """`TimelineSource`s for the chart's timeline."""


@hookspec
def patient_pages() -> list[Any]:
    """`PatientPage`s: where a patient is opened."""


@hookspec
def visit_modes() -> list[Any]:
    """`VisitMode`s that can be chosen when booking."""


@hookspec
def event_types() -> list[Any]:
    """`EventType`s the plugin announces, each with an example."""


@hookspec
def event_handlers() -> list[Any]:
    """`EventHandler`s: reactions to other plugins' events."""


@hookspec
def resource_providers() -> list[Any]:
    """`ResourceProvider`s that answer `ctx.records` for a FHIR type."""


@hookspec
def jobs() -> list[Any]:
    """`Job`s for the background worker."""


@hookspec
def notification_channels() -> list[Any]:
    """`NotificationChannel`s: ways to reach a patient outside of the portal."""


@hookspec
def lifespans() -> list[Any]:
    """`Lifespan`s: connections the web process keeps open while it runs."""


@hookspec
def system_services() -> list[Any]:
    """`SystemService`s the plugin needs beside the web process: daemons and their ports, for the appliance."""


@hookspec
def demo_data() -> list[Any]:
    """`DemoSeeder`s that fill a demonstration clinic."""


@hookspec
def cli_commands() -> list[Any]:
    """`CliCommand`s under `qanun <slug>`."""
