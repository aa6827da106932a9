"""Who acts, where and in which language: the one object a service needs.

A `Context` is bound to one clinic and one transaction. It names what a service may use as plain attributes and
protocols; `qanun.access` opens it and writes what it gathered — audit, events, jobs, live notices — in the same
transaction. It contains no policy of its own.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from qanun.errors import ConfirmationNeeded, Forbidden
from qanun.tenancy.models import TenantInfo

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

ActorKind = Literal["user", "patient", "guest", "system"]

#: How long somebody who has said who they are is taken at their word for acts that ask for it.
FRESH = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class ResourceRef:
    """A typed reference across plugins, FHIR style: `ResourceRef("Encounter", id)`; `str()` gives `Encounter/…`."""

    type: str
    id: uuid.UUID

    def __str__(self) -> str:
        return f"{self.type}/{self.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """The person (or the system) that acts. `id` is a user's, a portal account's, a guest pass's, or the zero UUID for the system."""

    kind: ActorKind
    id: uuid.UUID
    name: str = ""
    roles: frozenset[str] = frozenset()
    permissions: frozenset[str] = frozenset()
    session_id: uuid.UUID | None = None
    patient_id: uuid.UUID | None = None
    practitioner_id: uuid.UUID | None = None
    #: When they last proved who they are, by signing in or by confirming it.
    confirmed_at: datetime | None = None

    def is_fresh(self, now: datetime) -> bool:
        """Whether that was at most `FRESH` ago. The system needs no proof; a guest has none to give."""
        return self.kind == "system" or (self.confirmed_at is not None and now - self.confirmed_at <= FRESH)


SYSTEM = Actor(kind="system", id=uuid.UUID(int=0), name="system")


class LocaleLike(Protocol):
    """What the context promises of a language; `qanun.i18n.Locale` is the real one."""

    @property
    def code(self) -> str: ...
    @property
    def direction(self) -> str: ...


class EventLike(Protocol):
    """An announcement: a frozen dataclass with a class-level `type` (`slug.resource.past_tense`), ids and codes only."""

    type: ClassVar[str]


class RecordsLike(Protocol):
    """The broker between plugins; see `qanun.records`."""

    async def search(self, type: str, **criteria: Any) -> list[dict[str, Any]]: ...
    async def read(self, type: str, id: uuid.UUID) -> dict[str, Any]: ...
    async def create(self, type: str, resource: Mapping[str, Any]) -> dict[str, Any]: ...
    async def update(self, type: str, id: uuid.UUID, changes: Mapping[str, Any]) -> dict[str, Any]: ...
    def provides(self, type: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One act, waiting to be written with the transaction that did it."""

    type: str
    patient_id: uuid.UUID | None
    entity: ResourceRef | None
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A job to be deferred in this transaction; `at` delays it."""

    name: str
    arguments: Mapping[str, Any]
    at: datetime | None = None


class Context:
    """One actor in one clinic in one transaction. Not shared between tasks, not kept after its transaction."""

    __slots__ = (
        "actor", "address", "audits", "blobs", "db", "enabled", "events", "jobs", "keys", "locale", "marks", "memory", "notices", "now",
        "records", "registry", "runtime", "tenant", "web",
    )  # fmt: skip

    def __init__(
        self,
        *,
        actor: Actor,
        tenant: TenantInfo,
        locale: Any,
        db: AsyncSession,
        runtime: Any,
        address: str = "",
        enabled: frozenset[str] = frozenset(),
        now: datetime | None = None,
    ) -> None:
        self.actor = actor
        self.tenant = tenant
        self.locale = locale
        self.db = db
        self.runtime = runtime
        self.registry = runtime.registry
        self.blobs = runtime.blobs
        self.keys = runtime.keys
        self.address = address
        self.enabled = enabled
        self.now = now or datetime.now(UTC)
        self.records: RecordsLike = runtime.records_for(self)
        self.web: Any = None  # set by `qanun.web` for requests: path, whether htmx asks for a fragment
        #: What this one page has read already and several of its parts ask for; gone with the transaction.
        self.memory: dict[Any, Any] = {}
        #: Said with every act of this context in the audit: by which broken glass somebody is in.
        self.marks: dict[str, str] = {}
        self.audits: list[AuditEntry] = []
        self.events: list[Any] = []
        self.jobs: list[JobRequest] = []
        self.notices: list[tuple[str, dict[str, str]]] = []

    def can(self, permission: str) -> bool:
        """Whether the actor holds `permission` in this clinic. The system holds every one."""
        return self.actor.kind == "system" or str(permission) in self.actor.permissions

    def require(self, permission: str) -> None:
        """Raises Forbidden (and leaves an audit entry through the caller's failed transaction) when `can` says no."""
        if not self.can(permission):
            raise Forbidden(f"{permission} is needed", permission=str(permission))

    def require_fresh(self) -> None:
        """Raises ConfirmationNeeded unless the actor has just signed in or confirmed who they are.

        A route says the same with `fresh=True`, before its form is read; this is for acts that only sometimes need it.
        """
        if not self.actor.is_fresh(self.now):
            raise ConfirmationNeeded("confirm who you are")

    def audit(
        self,
        type: str,
        *,
        patient_id: uuid.UUID | None = None,
        entity: ResourceRef | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Record an act. Written with this transaction or not at all; `detail` holds ids, codes and counts, never names."""
        self.audits.append(AuditEntry(type, patient_id, entity, {**self.marks, **(detail or {})}))

    def emit(self, event: EventLike) -> None:
        """Announce to other plugins: stored with this transaction, delivered after it, at least once."""
        self.events.append(event)

    def defer(self, job: str, *, at: datetime | None = None, **arguments: Any) -> None:
        """Queue background work with this transaction. Arguments must be JSON values; the tenant is added."""
        self.jobs.append(JobRequest(job, arguments, at))

    def notify(self, topic: str, **ids: object) -> None:
        """Tell open pages of this clinic, after commit, that something changed. Ids only: pages fetch the rest."""
        self.notices.append((topic, {key: str(value) for key, value in ids.items()}))

    def local(self, moment: datetime) -> datetime:
        """`moment` in the clinic's time zone."""
        return moment.astimezone(self.tenant.zone)
