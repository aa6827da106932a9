"""An open visit and the audit, for the record's tests. Clinics and people come from `qanun.testing`."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from qanun.audit import AuditEvent
from qanun_emr import service


@dataclass(frozen=True)
class OpenVisit:
    """A patient with a visit in progress at `clinic`."""

    clinic: Any
    patient: Any
    id: UUID

    @property
    def chart(self) -> str:
        return f"/emr/patients/{self.patient.id}"

    @property
    def note(self) -> str:
        return f"/emr/encounters/{self.id}/note"

    @property
    def sign(self) -> str:
        return f"/emr/encounters/{self.id}/sign"

    async def stored(self) -> Any:
        async with self.clinic.context() as ctx:
            return await service.note_of(ctx, self.id)

    async def save(self, version: int = 0, role: str = "doctor", **sections: str) -> Any:
        async with self.clinic.context(role) as ctx:
            return await service.save_note(ctx, self.id, version=version, sections=sections)


@pytest.fixture
def begin() -> Callable[..., Awaitable[OpenVisit]]:
    """`await begin(clinic)`: a registered patient with an open visit."""

    async def start(clinic: Any, **values: Any) -> OpenVisit:
        patient = await clinic.patient()
        async with clinic.context() as ctx:
            encounter = await service.start_encounter(ctx, patient.id, **values)
        return OpenVisit(clinic, patient, encounter.id)

    return start


@pytest.fixture
def audited() -> Callable[..., Awaitable[list[str]]]:
    """`await audited(clinic, patient)`: the types of all acts on that patient's record, oldest first."""

    async def read(clinic: Any, patient: Any) -> list[str]:
        async with clinic.context("system") as ctx:
            statement = select(AuditEvent.type).where(AuditEvent.patient_id == patient.id).order_by(AuditEvent.seq)
            return list((await ctx.db.execute(statement)).scalars())

    return read
