"""Puts what was done with media nodes into the audit of every clinic of the machine, for each of them is carried by all nodes.

The gateway has no database: it keeps a journal, and this job copies what a clinic's chain does not hold yet, within a minute. An
entry that was copied and is copied again is not written twice.
"""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import select

from qanun.api import AuditEvent, Context, ResourceRef
from qanun_telemedicine.nodes.registry import Entry, journal

_PREFIX = "telemedicine.node."
_MOST = 200


async def witness(ctx: Context) -> None:
    """Idempotent."""
    entries = await asyncio.to_thread(journal, ctx.runtime.config.state_dir / "nodes", _MOST)
    if not entries:
        return
    bodies = (
        await ctx.db.execute(
            select(AuditEvent.body)
            .where(AuditEvent.type.startswith(_PREFIX))
            .order_by(AuditEvent.seq.desc())
            .limit(2 * _MOST)
        )
    ).scalars()
    held = {json.loads(body).get("detail", {}).get("entry") for body in bodies}
    for entry in entries:
        if entry.id not in held:
            ctx.audit(f"{_PREFIX}{entry.act}", entity=ResourceRef("Device", UUID(entry.node)), detail=_detail(entry))


def _detail(entry: Entry) -> dict[str, str]:
    """The names are a machine's and an account's on the machine, not a patient's."""
    told = {
        "entry": entry.id, "at": datetime.fromtimestamp(entry.at, UTC).isoformat(timespec="seconds"), "name": entry.name,
        "by": entry.by, "why": entry.why,
    }  # fmt: skip
    return {name: value for name, value in told.items() if value}
