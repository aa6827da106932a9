"""The public API: what a plugin may import, and nothing else of `qanun`.

Only re-exports; nothing is defined here. `core/docs/api-surface.txt` lists every name, and a test compares.
A name is imported when it is first asked for (see `lazy`): a process that uses one room loads that one room.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qanun.access import Core, Grant, Permissions, Role, Runtime, TrailEntry, closed_to, must_be_open, record_views
    from qanun.app.build import Assembly, assemble, gather
    from qanun.app.founding import NewClinic, found_clinic
    from qanun.app.lifespan import CliCommand, DemoClinic, DemoSeeder, Lifespan, SystemService
    from qanun.app.logs import configure_logs
    from qanun.audit import AuditEvent, AuditEventType
    from qanun.config import Config
    from qanun.context import SYSTEM, Actor, Context, ResourceRef
    from qanun.contracts import (
        BookedAppointment,
        ChartPanel,
        PatientPage,
        TimelineEntry,
        TimelineSource,
        View,
        VisitMode,
    )
    from qanun.crypto import (
        BadSignature,
        CryptoError,
        Key,
        NotSealed,
        SealedReader,
        SealedWriter,
        SigningKey,
        Tampered,
        WrongKey,
        bind,
        random_token,
        same,
        token_hash,
    )
    from qanun.crypto import verify as verify_signature
    from qanun.db import TenantModel, new_id, patient_key, practitioner_key, ref
    from qanun.errors import (
        ConfigurationError,
        ConfirmationNeeded,
        Conflict,
        Forbidden,
        Invalid,
        NotFound,
        QanunError,
        RecordClosed,
        TooMany,
        Unauthenticated,
        Unavailable,
    )
    from qanun.events import Event, EventHandler, EventType
    from qanun.i18n import (
        N_,
        Locale,
        fold_name,
        format_number,
        get_locale,
        isolate,
        locales,
        parse_decimal,
        to_ascii_digits,
        v,
    )
    from qanun.identity import (
        Patient,
        PatientDraft,
        PatientIdentifier,
        PatientSummary,
        Practitioner,
        find_patients,
        patient,
        register_patient,
    )
    from qanun.identity.guests import invite_guest, revoke_guest
    from qanun.identity.passwords import acceptable as acceptable_password
    from qanun.identity.patients import likely_duplicates
    from qanun.identity.signin import invite
    from qanun.identity.specialties import specialty_name
    from qanun.jobs import Job
    from qanun.notifications import NotificationChannel, notify_patient
    from qanun.plugins import Plugin, hookimpl
    from qanun.records import ResourceProvider
    from qanun.registry import Contributed, Registry
    from qanun.tenancy import TenantInfo
    from qanun.web import (
        Form,
        NavItem,
        OpenContext,
        PageScript,
        SearchHit,
        SearchProvider,
        SlotContent,
        delete,
        fragment,
        get,
        json_response,
        page,
        patch,
        patient_href,
        post,
        put,
        redirect,
        render_slot,
        websocket,
    )
    from qanun.web.authorise import still_allowed
    from qanun.web.bare import bare_application, bare_page, reader_locale
    from qanun.web.pages import render_contribution
    from qanun.web.security import media_headers
    from qanun.web.templating import initials, render
    from qanun.web.way_in import clinic_context
else:
    from qanun.api.lazy import on_demand

    __getattr__ = on_demand(__name__)

__all__ = [
    "N_",
    "SYSTEM",
    "Actor",
    "Assembly",
    "AuditEvent",
    "AuditEventType",
    "BadSignature",
    "BookedAppointment",
    "ChartPanel",
    "CliCommand",
    "Config",
    "ConfigurationError",
    "ConfirmationNeeded",
    "Conflict",
    "Context",
    "Contributed",
    "Core",
    "CryptoError",
    "DemoClinic",
    "DemoSeeder",
    "Event",
    "EventHandler",
    "EventType",
    "Forbidden",
    "Form",
    "Grant",
    "Invalid",
    "Job",
    "Key",
    "Lifespan",
    "Locale",
    "NavItem",
    "NewClinic",
    "NotFound",
    "NotSealed",
    "NotificationChannel",
    "OpenContext",
    "PageScript",
    "Patient",
    "PatientDraft",
    "PatientIdentifier",
    "PatientPage",
    "PatientSummary",
    "Permissions",
    "Plugin",
    "Practitioner",
    "QanunError",
    "RecordClosed",
    "Registry",
    "ResourceProvider",
    "ResourceRef",
    "Role",
    "Runtime",
    "SealedReader",
    "SealedWriter",
    "SearchHit",
    "SearchProvider",
    "SigningKey",
    "SlotContent",
    "SystemService",
    "Tampered",
    "TenantInfo",
    "TenantModel",
    "TimelineEntry",
    "TimelineSource",
    "TooMany",
    "TrailEntry",
    "Unauthenticated",
    "Unavailable",
    "View",
    "VisitMode",
    "WrongKey",
    "acceptable_password",
    "assemble",
    "bare_application",
    "bare_page",
    "bind",
    "clinic_context",
    "closed_to",
    "configure_logs",
    "delete",
    "find_patients",
    "fold_name",
    "format_number",
    "found_clinic",
    "fragment",
    "gather",
    "get",
    "get_locale",
    "hookimpl",
    "initials",
    "invite",
    "invite_guest",
    "isolate",
    "json_response",
    "likely_duplicates",
    "locales",
    "media_headers",
    "must_be_open",
    "new_id",
    "notify_patient",
    "page",
    "parse_decimal",
    "patch",
    "patient",
    "patient_href",
    "patient_key",
    "post",
    "practitioner_key",
    "put",
    "random_token",
    "reader_locale",
    "record_views",
    "redirect",
    "ref",
    "register_patient",
    "render",
    "render_contribution",
    "render_slot",
    "revoke_guest",
    "same",
    "specialty_name",
    "still_allowed",
    "to_ascii_digits",
    "token_hash",
    "v",
    "verify_signature",
    "websocket",
]
