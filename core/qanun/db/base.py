"""Base model: what every table shares.

Two kinds of table exist. A `GlobalModel` holds nothing clinical (tenants, users, sessions). A `TenantModel` belongs to
one clinic: its primary key is `(tenant_id, id)`, every reference to another tenant table is a composite foreign key, so
a row of one clinic cannot point at a row of another whatever the code above does.
"""

from __future__ import annotations

import os
import time
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Date,
    DateTime,
    ForeignKeyConstraint,
    MetaData,
    Numeric,
    Text,
    func,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.dialects.postgresql import UUID as PgUUID  # noqa: N811 - a type
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


def new_id() -> uuid.UUID:
    """A UUIDv7 (RFC 9562): 48 bits of milliseconds, then random bits. Sorts by time of creation, guessable by nobody."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & (1 << 48) - 1) << 80 | 0x7 << 76 | 0b10 << 62
    random = int.from_bytes(os.urandom(10), "big")
    value |= (random >> 62 & 0xFFF) << 64 | random & (1 << 62) - 1
    return uuid.UUID(int=value)


def _now() -> datetime:
    return datetime.now(UTC)


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {
        datetime: DateTime(timezone=True),
        date: Date(),
        uuid.UUID: PgUUID(as_uuid=True),
        str: Text(),
        bool: Boolean(),
        Decimal: Numeric(),
        dict[str, Any]: JSONB(),
        list[Any]: JSONB(),
        list[str]: ARRAY(Text()),
    }


class GlobalModel(Base):
    """A table without a clinic. It must hold nothing clinical and no patient's name."""

    __abstract__ = True

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    created_at: Mapped[datetime] = mapped_column(default=_now, server_default=func.now())


class TenantModel(Base):
    """A table of one clinic: primary key `(tenant_id, id)`; `tenant_id` is stamped by the tenant scope, never by hand."""

    __abstract__ = True

    tenant_id: Mapped[uuid.UUID] = mapped_column(primary_key=True, sort_order=-20)
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id, sort_order=-19)
    # Set here as well as by the database: a value that only the server knows would cost a query to read back.
    created_at: Mapped[datetime] = mapped_column(default=_now, server_default=func.now(), sort_order=90)
    updated_at: Mapped[datetime] = mapped_column(default=_now, onupdate=_now, server_default=func.now(), sort_order=91)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        table = cls.__dict__.get("__table__")
        if table is None:
            return
        for column in list(table.columns):
            target = column.info.get("tenant_ref")
            if target:
                table.append_constraint(_composite_key(column, target))


def _composite_key(column: Column[Any], target: str) -> ForeignKeyConstraint:
    # Deferred to the commit: a unit of work may insert both ends in any order, and a merge may move rows freely.
    return ForeignKeyConstraint(
        ["tenant_id", column.name],
        [f"{target}.tenant_id", f"{target}.id"],
        deferrable=True,
        initially="DEFERRED",
        use_alter=False,
    )


def ref(table: str, *, nullable: bool = False, index: bool = False) -> Any:
    """A column that points at `table` through a composite foreign key `(tenant_id, column) → table(tenant_id, id)`."""
    return mapped_column(nullable=nullable, index=index, info={"tenant_ref": table})


def patient_key(*, nullable: bool = False, index: bool = False) -> Any:
    """A column pointing at the patient the row belongs to; merging and erasing patients follow exactly these keys."""
    return ref("core_patient", nullable=nullable, index=index)


def practitioner_key(*, nullable: bool = False, index: bool = False) -> Any:
    return ref("core_practitioner", nullable=nullable, index=index)
