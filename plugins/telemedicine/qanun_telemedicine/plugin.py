"""Telemedicine's manifest: wiring only."""

from __future__ import annotations

import uuid
from typing import Any

from qanun.api import (
    N_,
    Grant,
    NavItem,
    PageScript,
    Plugin,
    SystemService,
    TimelineSource,
    VisitMode,
    hookimpl,
)
from qanun_telemedicine.audit import AUDIT_EVENTS
from qanun_telemedicine.captions.line import LIFESPAN as CAPTIONS
from qanun_telemedicine.commands import COMMANDS
from qanun_telemedicine.events import EVENT_TYPES
from qanun_telemedicine.handlers import HANDLERS
from qanun_telemedicine.jobs import JOBS
from qanun_telemedicine.media import LIFESPAN
from qanun_telemedicine.panels import CHART_PANELS, SLOTS, timeline
from qanun_telemedicine.permissions import Telemedicine
from qanun_telemedicine.routes import ROUTES
from qanun_telemedicine.service import prepare, prepare_encrypted, prepare_voice
from qanun_telemedicine.service.together import GROUP_MODE


def _staff_href(appointment_id: uuid.UUID) -> str:
    return f"/telemedicine/appointments/{appointment_id}"


def _patient_href(appointment_id: uuid.UUID) -> str:
    # Below the clinic's portal, whose address only the page knows.
    return f"visits/for/{appointment_id}"


class TelemedicinePlugin(Plugin):
    """Video visits: from the invitation to the sealed recording."""

    slug = "telemedicine"
    label = N_("Video visits")

    @hookimpl
    def permissions(self) -> list[Any]:
        return [Telemedicine]

    @hookimpl
    def roles(self) -> list[Any]:
        read, hold = Telemedicine.CONSULTATION_READ, Telemedicine.CONSULTATION_HOLD
        invite, play = Telemedicine.CONSULTATION_INVITE, Telemedicine.RECORDING_PLAY
        copy, seen = Telemedicine.RECORDING_EXPORT, Telemedicine.PICTURE_READ
        said, lines = Telemedicine.CONVERSATION_READ, Telemedicine.QUALITY_READ
        return [
            Grant(role="doctor", permissions=(read, said, hold, invite, play, copy, seen, lines)),
            Grant(role="nurse", permissions=(read, said, invite, seen)),
            Grant(role="reception", permissions=(read, invite)),
            Grant(
                role="administrator",
                permissions=(read, Telemedicine.RETENTION_MANAGE, Telemedicine.TERMS_MANAGE, lines),
            ),
            Grant(role="patient", permissions=(Telemedicine.VISIT_ATTEND,)),
            Grant(role="guest", permissions=(Telemedicine.GUEST_ATTEND,)),
        ]

    @hookimpl
    def audit_events(self) -> list[Any]:
        return list(AUDIT_EVENTS)

    @hookimpl
    def routes(self) -> list[Any]:
        return list(ROUTES)

    @hookimpl
    def nav_items(self) -> list[Any]:
        return [
            NavItem(
                id="telemedicine.calls", label=N_("Calls"), icon="video", href="/telemedicine/consultations",
                permission=Telemedicine.CONSULTATION_READ, key="c", order=40,
            ),
            NavItem(
                id="telemedicine.retention", label=N_("Recordings"), icon="archive", href="/telemedicine/retention",
                permission=Telemedicine.RETENTION_MANAGE, order=80,
            ),
        ]  # fmt: skip

    @hookimpl
    def page_scripts(self) -> list[Any]:
        return [
            PageScript(
                id="telemedicine.summons", src="telemedicine/summons.js", permission=Telemedicine.CONSULTATION_HOLD
            )
        ]  # fmt: skip

    @hookimpl
    def slot_contents(self) -> list[Any]:
        return list(SLOTS)

    @hookimpl
    def chart_panels(self) -> list[Any]:
        return list(CHART_PANELS)

    @hookimpl
    def timeline_sources(self) -> list[Any]:
        return [
            TimelineSource(id="telemedicine.visits", permission=Telemedicine.CONSULTATION_READ, entries=timeline)
        ]  # fmt: skip

    @hookimpl
    def visit_modes(self) -> list[Any]:
        return [
            VisitMode(
                id="telemedicine.video", label=N_("Video visit"), icon="video", code="VR", prepare=prepare,
                staff_href=_staff_href, patient_href=_patient_href, order=20,
            ),
            VisitMode(
                id="telemedicine.encrypted", label=N_("Video visit, end-to-end encrypted"), icon="lock", code="VR",
                prepare=prepare_encrypted, staff_href=_staff_href, patient_href=_patient_href, order=25,
            ),
            VisitMode(
                id="telemedicine.voice", label=N_("Voice visit"), icon="phone", code="VR", prepare=prepare_voice,
                staff_href=_staff_href, patient_href=_patient_href, order=30,
            ),
            VisitMode(
                id=GROUP_MODE, label=N_("Group by video"), icon="users", code="VR", staff_href=_staff_href,
                bookable=False, order=40,
            ),
        ]  # fmt: skip

    @hookimpl
    def event_types(self) -> list[Any]:
        return list(EVENT_TYPES)

    @hookimpl
    def event_handlers(self) -> list[Any]:
        return list(HANDLERS)

    @hookimpl
    def jobs(self) -> list[Any]:
        return list(JOBS)

    @hookimpl
    def lifespans(self) -> list[Any]:
        return [LIFESPAN, CAPTIONS]

    @hookimpl
    def cli_commands(self) -> list[Any]:
        return list(COMMANDS)

    @hookimpl
    def system_services(self) -> list[Any]:
        return [
            SystemService(
                id="telemedicine.media",
                command=(
                    "{python}", "-m", "qanun_telemedicine.sfu.worker", "--socket", "{media_socket}",
                    "--listen", "{media_listen}", "--advertise", "{media_advertise}",
                ),
                ports=(("udp", 8100),), per_core=True, folders=("recordings",),
            ),
            SystemService(
                id="telemedicine.nodes", command=("{python}", "-m", "qanun", "telemedicine", "nodes-gateway"),
                ports=(("tcp", 8110),), folders=("nodes", "recordings"), needs="media_nodes",
            ),
            SystemService(
                id="telemedicine.captions", command=("{python}", "-m", "qanun", "telemedicine", "captions"),
                needs="captions",
            ),
            SystemService(
                id="telemedicine.turn", command=("turnserver", "-c", "{state_dir}/turn/turnserver.conf"),
                prepare=("{python}", "-m", "qanun", "telemedicine", "turn-configuration"),
                ports=(("udp", 3478), ("tcp", 3478)), user="turnserver", folders=("turn",),
            ),
        ]  # fmt: skip


plugin = TelemedicinePlugin()
