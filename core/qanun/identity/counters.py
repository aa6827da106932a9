"""Gap-free numbers per clinic (MRN, later invoices): a row per counter, locked until the transaction ends."""

from __future__ import annotations

from sqlalchemy import BigInteger, UniqueConstraint
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

from qanun.context import Context
from qanun.db import TenantModel, new_id, trusted


class Counter(TenantModel):
    __tablename__ = "core_counter"
    __table_args__ = (UniqueConstraint("tenant_id", "name"),)

    name: Mapped[str]
    value: Mapped[int] = mapped_column(BigInteger, default=0)


async def advance(ctx: Context, name: str, by: int = 1) -> int:
    """The new value of counter `name`, made on first use. Rolled-back work gives its numbers back."""
    statement = (
        insert(Counter)
        .values(tenant_id=ctx.tenant.id, id=new_id(), name=name, value=by)
        .on_conflict_do_update(index_elements=["tenant_id", "name"], set_={"value": Counter.value + by})
        .returning(Counter.value)
    )
    return int((await ctx.db.execute(trusted(statement))).scalar_one())
