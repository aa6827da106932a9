"""Resource providers and the broker that calls them."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from qanun.access import asked_of, closed_to, must_be_open
from qanun.context import Context, ResourceRef
from qanun.errors import Forbidden, NotFound

LIMIT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceProvider:
    """Answers for one FHIR resource type. Every callable gets the asking context and works in its transaction.

    `search(ctx, criteria)` gives resources (dicts with at least `id` and `resourceType`); `read(ctx, id)` raises NotFound;
    `create(ctx, resource)` and `update(ctx, id, changes)` give the stored resource. `read_permission` is needed by staff;
    `patient_permission` lets a patient search, and the broker then forces `patient` to be that patient.
    """

    id: str
    type: str
    read_permission: str
    search: Callable[[Context, Mapping[str, Any]], Awaitable[list[dict[str, Any]]]]
    read: Callable[[Context, uuid.UUID], Awaitable[dict[str, Any]]]
    write_permission: str | None = None
    patient_permission: str | None = None
    create: Callable[[Context, Mapping[str, Any]], Awaitable[dict[str, Any]]] | None = None
    update: Callable[[Context, uuid.UUID, Mapping[str, Any]], Awaitable[dict[str, Any]]] | None = None


class Records:
    """The broker, bound to one context."""

    __slots__ = ("_ctx",)

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def provides(self, type: str) -> bool:
        """Whether an enabled plugin answers for `type`; ask before offering what depends on it."""
        return self._find(type) is not None

    async def search(self, type: str, **criteria: Any) -> list[dict[str, Any]]:
        """At most `LIMIT` resources. Nobody answers for the type: an empty list, as on an appliance without that plugin."""
        provider = self._find(type)
        if provider is None:
            return []
        if self._ctx.actor.kind == "patient":
            self._require(provider.patient_permission)
            criteria["patient"] = self._ctx.actor.patient_id
        else:
            self._require(provider.read_permission)
            if isinstance(criteria.get("patient"), uuid.UUID):
                await must_be_open(self._ctx, criteria["patient"])
        found = (await provider.search(self._ctx, criteria))[:LIMIT]
        # What was not asked for by patient leaves out whose record is closed to who asks.
        shut = await closed_to(self._ctx, {one for one in map(_subject, found) if one is not None})
        found = [one for one in found if type == "Patient" or _subject(one) not in shut]
        patient_id = criteria.get("patient")
        if isinstance(patient_id, uuid.UUID):
            self._ctx.audit("core.records.search", patient_id=patient_id, detail={"type": type, "count": len(found)})
        return found

    async def read(self, type: str, id: uuid.UUID) -> dict[str, Any]:
        """One resource. Raises NotFound: unknown, another clinic's, another patient's, or nobody answers — all the same."""
        provider = self._provider(type)
        own = self._ctx.actor.kind == "patient"
        self._require(provider.patient_permission if own else provider.read_permission)
        resource = await provider.read(self._ctx, id)
        patient_id = _subject(resource)
        if own and patient_id != self._ctx.actor.patient_id:
            raise NotFound(type)
        if patient_id is not None and type != "Patient":
            await must_be_open(self._ctx, patient_id)
        self._ctx.audit("core.records.read", patient_id=patient_id, entity=ResourceRef(type, id))
        return resource

    async def create(self, type: str, resource: Mapping[str, Any]) -> dict[str, Any]:
        provider = self._provider(type)
        if provider.create is None:
            raise NotFound(type)
        self._require(provider.write_permission)
        await self._open(type, resource)
        return await provider.create(self._ctx, resource)

    async def update(self, type: str, id: uuid.UUID, changes: Mapping[str, Any]) -> dict[str, Any]:
        provider = self._provider(type)
        if provider.update is None:
            raise NotFound(type)
        self._require(provider.write_permission)
        if asked_of(self._ctx):
            await self._open(type, await provider.read(self._ctx, id))
        return await provider.update(self._ctx, id, changes)

    async def _open(self, type: str, resource: Mapping[str, Any]) -> None:
        """Raises RecordClosed for a write into a record that is closed to who writes."""
        patient_id = _subject(resource)
        if patient_id is not None and type != "Patient":
            await must_be_open(self._ctx, patient_id)

    def _find(self, type: str) -> ResourceProvider | None:
        entries = self._ctx.registry.entries(ResourceProvider, enabled=self._ctx.enabled)
        return next((entry.item for entry in entries if entry.item.type == type), None)

    def _provider(self, type: str) -> ResourceProvider:
        found = self._find(type)
        if found is None:
            raise NotFound(type)
        return found

    def _require(self, permission: str | None) -> None:
        if permission is None:
            raise Forbidden("not through the broker")
        self._ctx.require(permission)


def _subject(resource: Mapping[str, Any]) -> uuid.UUID | None:
    """The patient a resource is about: `subject` or `patient` reference, or the Patient itself."""
    if resource.get("resourceType") == "Patient":
        return uuid.UUID(str(resource["id"]))
    reference = (resource.get("subject") or resource.get("patient") or {}).get("reference", "")
    kind, _, identity = str(reference).partition("/")
    return uuid.UUID(identity) if kind == "Patient" and identity else None
