"""Working hours, appointments, and the sessions that take a practitioner's time without belonging to one patient.

A slot cannot be booked twice: an exclusion constraint says so, whatever the code above believes.
"""

from __future__ import annotations

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ExcludeConstraint
from sqlalchemy.orm import Mapped, mapped_column

from qanun.api import TenantModel, patient_key, practitioner_key

STATUSES = ("booked", "arrived", "checked-in", "fulfilled", "cancelled", "noshow", "entered-in-error")
LIVE = ("booked", "arrived", "checked-in", "fulfilled")
IN_PERSON = "scheduling.in-person"


class Schedule(TenantModel):
    """FHIR Schedule, as weekly hours: on `weekday` (0 Monday) from `start` to `end` (minutes after local midnight)."""

    __tablename__ = "scheduling_schedule"
    __table_args__ = (
        CheckConstraint("weekday between 0 and 6", name="weekday"),
        CheckConstraint('start >= 0 and start < "end" and "end" <= 1440', name="hours"),
        CheckConstraint("slot_minutes between 5 and 240", name="slot_minutes"),
    )

    practitioner_id: Mapped[UUID] = practitioner_key(index=True)
    weekday: Mapped[int]
    start: Mapped[int]
    end: Mapped[int]
    slot_minutes: Mapped[int] = mapped_column(default=20)


class ScheduleException(TenantModel):
    """Days that differ from the week: of one practitioner, or (without one) of the whole clinic. With hours they are there
    then and only then; without, not at all."""

    __tablename__ = "scheduling_exception"
    __table_args__ = (
        CheckConstraint("first <= last", name="days"),
        CheckConstraint('(start is null) = ("end" is null)', name="both"),
        CheckConstraint('start is null or (start >= 0 and start < "end" and "end" <= 1440)', name="hours"),
        CheckConstraint("start is null or practitioner_id is not null", name="clinic_is_shut"),
        Index("ix_scheduling_exception_days", "tenant_id", "last"),
    )

    practitioner_id: Mapped[UUID | None] = practitioner_key(nullable=True)
    first: Mapped[date]
    last: Mapped[date]
    start: Mapped[int | None]
    end: Mapped[int | None]
    note: Mapped[str] = mapped_column(default="")


class Appointment(TenantModel):
    """FHIR Appointment of one patient with one practitioner. `visit_mode` names a contributed way of holding it.

    Without a patient it is a session: time that another plugin holds for several, such as a group; `reason` is its title then.
    Both lie in one table, because only one constraint can keep the practitioner from being booked twice.
    """

    __tablename__ = "scheduling_appointment"
    __table_args__ = (
        CheckConstraint(
            "status in ('booked','arrived','checked-in','fulfilled','cancelled','noshow','entered-in-error')",
            name="status",
        ),
        CheckConstraint('start < "end"', name="period"),
        CheckConstraint("patient_id is not null or reason <> ''", name="session"),
        UniqueConstraint("tenant_id", "request_key"),
        ExcludeConstraint(
            ("tenant_id", "="),
            ("practitioner_id", "="),
            (text('tstzrange(start, "end")'), "&&"),
            where=text("status in ('booked', 'arrived', 'checked-in', 'fulfilled')"),
            using="gist",
            name="ex_scheduling_appointment_slot",
        ),
        Index("ix_scheduling_appointment_day", "tenant_id", "practitioner_id", "start"),
        Index("ix_scheduling_appointment_patient", "tenant_id", "patient_id", "start"),
    )

    patient_id: Mapped[UUID | None] = patient_key(nullable=True)
    practitioner_id: Mapped[UUID] = practitioner_key()
    start: Mapped[datetime]
    end: Mapped[datetime]
    status: Mapped[str] = mapped_column(default="booked")
    visit_mode: Mapped[str] = mapped_column(default=IN_PERSON)
    reason: Mapped[str] = mapped_column(default="")
    request_key: Mapped[str]
    booked_by: Mapped[UUID]
    arrived_at: Mapped[datetime | None]
    called_at: Mapped[datetime | None]
    cancelled_at: Mapped[datetime | None]
    cancel_reason: Mapped[str] = mapped_column(default="")
