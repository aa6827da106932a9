"""Hours, free slots and a booking in a few words."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from qanun_scheduling import service
from qanun_scheduling.models import IN_PERSON, Schedule
from qanun_scheduling.slots import local_moment


def at(clinic, *, days: int = 1, hour: int = 10, minute: int = 0) -> datetime:
    """A moment so many days from today, by the clinic's own clock."""
    today = datetime.now(UTC).astimezone(clinic.tenant.zone).date()
    moment = local_moment(today + timedelta(days=days), hour * 60 + minute, clinic.tenant.zone)
    assert moment is not None
    return moment


async def open_hours(clinic, *, practitioner_id=None, start=8 * 60, end=18 * 60, minutes=20):
    """The practitioner works every day of the week."""
    async with clinic.context("system") as ctx:
        for weekday in range(7):
            ctx.db.add(
                Schedule(
                    practitioner_id=practitioner_id or clinic.practitioner.id, weekday=weekday, start=start, end=end,
                    slot_minutes=minutes,
                )
            )  # fmt: skip


async def book(clinic, patient, start, *, role="reception", key=None, **more):
    values = {
        "patient_id": patient.id, "practitioner_id": clinic.practitioner.id, "start": start, "minutes": 20,
        "visit_mode": IN_PERSON, "reason": "Cough", "request_key": key or f"test-{uuid.uuid4()}", **more,
    }  # fmt: skip
    async with clinic.context(role) as ctx:
        return await service.book(ctx, **values)


@pytest.fixture
def booking_form(clinic):
    """What the browser sends; overrides by name."""

    def form(patient, start, **overrides):
        slot = f"{clinic.practitioner.id}.{start.astimezone(UTC):%Y%m%dT%H%MZ}.20"
        return {
            "patient": str(patient.id), "slot": slot, "visit_mode": IN_PERSON, "reason": "Cough",
            "request_key": uuid.uuid4().hex, "date": "", **overrides,
        }  # fmt: skip

    return form
