"""What one participant's page needs to know of a consultation, in one message: nothing that is not theirs to see."""

from __future__ import annotations

from typing import Any

from qanun.api import Context
from qanun_telemedicine.models import WAITING, Consultation, Participant
from qanun_telemedicine.service.listing import position
from qanun_telemedicine.service.presence import connected, present
from qanun_telemedicine.service.recording import WORDING_VERSION, decisions, plan


async def snapshot(ctx: Context, row: Consultation, me: Participant) -> dict[str, Any]:
    """State, who is in the call, where the recording stands. Names only of those who are in the call."""
    here = await present(ctx, row.id)
    wanted = await plan(ctx, row)
    known = await decisions(ctx, row)
    mine = known.get(me.id)
    return {
        "type": "state",
        "state": row.state,
        "admitted_at": row.admitted_at.isoformat() if row.admitted_at else None,
        "position": await position(ctx, row) if row.state == WAITING else None,
        "concern": row.concern,
        "patient_here": any(person.kind == "patient" and connected(ctx, stay) for person, stay in here),
        "people": [
            {
                "id": str(person.id),
                "name": person.name,
                "kind": person.kind,
                "connected": connected(ctx, stay),
                "me": person.id == me.id,
            }
            for person, stay in here
            if stay.place == "call"
        ],
        "recording": {
            "asked": row.recording_asked_at is not None,
            "state": wanted.running.state if wanted.running else "none",
            "needed": len(wanted.needed),
            "given": len(wanted.given),
            "declined": bool(wanted.against),
            "mine": mine.decision if mine else "open",
            "wording": WORDING_VERSION,
        },
    }
