"""Confirming who the patient is: at least two identifiers, recorded with who compared what and how."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import select

from qanun.api import N_, Conflict, Context, Invalid, ResourceRef
from qanun_telemedicine.models import SCHEDULED, WAITING, Consultation, IdentityCheck

#: Identifier → the ways it can be compared, the usual one first.
IDENTIFIERS: Mapping[str, tuple[str, ...]] = {
    "name": ("said", "shown"),
    "birth-date": ("said", "shown"),
    "document": ("shown", "read-out"),
    "phone": ("called-back",),
    "photo": ("compared",),
}
LEAST = 2
MOST_NOTE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityForm:
    """What the clinician marked. `how` maps each compared identifier to the way it was compared."""

    how: Mapping[str, str] = field(default_factory=dict)
    matches: bool = True
    note: str = ""


async def latest_check(ctx: Context, consultation_id: uuid.UUID) -> IdentityCheck | None:
    statement = (
        select(IdentityCheck)
        .where(IdentityCheck.consultation_id == consultation_id)
        .order_by(IdentityCheck.checked_at.desc(), IdentityCheck.id.desc())
        .limit(1)
    )
    return (await ctx.db.execute(statement)).scalar_one_or_none()


async def check_identity(ctx: Context, row: Consultation, form: IdentityForm) -> IdentityCheck:
    """Record a comparison. Raises Invalid (too few, unknown, a mismatch without a word about it) or Conflict (too late).

    After a mismatch, confirming needs a note that says how it was cleared up: nobody is let in silently.
    """
    if row.state not in (SCHEDULED, WAITING):
        raise Conflict("the identity was confirmed before the patient came in")
    faults: dict[str, object] = {}
    if any(name not in IDENTIFIERS or how not in IDENTIFIERS[name] for name, how in form.how.items()):
        faults["identifiers"] = N_("Choose one of the listed values.")
    elif form.matches and len(form.how) < LEAST:
        faults["identifiers"] = N_("Compare at least two, for example name and date of birth.")
    elif not form.how:
        faults["identifiers"] = N_("Mark what you compared.")
    note = form.note.strip()
    if len(note) > MOST_NOTE:
        faults["note"] = N_("This text is too long.")
    elif not form.matches and len(note) < 3:
        faults["note"] = N_("Write what does not match.")
    else:
        before = await latest_check(ctx, row.id)
        if form.matches and before is not None and before.outcome == "mismatch" and len(note) < 3:
            faults["note"] = N_("It did not match before. Write how that was cleared up.")
    if faults:
        raise Invalid(faults)
    check = IdentityCheck(
        consultation_id=row.id, outcome="confirmed" if form.matches else "mismatch",
        identifiers=[{"identifier": name, "how": how} for name, how in form.how.items()], note=note,
        checked_by=ctx.actor.id, checked_by_name=ctx.actor.name, checked_at=ctx.now,
    )  # fmt: skip
    ctx.db.add(check)
    await ctx.db.flush()
    ctx.audit(
        "telemedicine.identity.confirm" if form.matches else "telemedicine.identity.mismatch",
        patient_id=row.patient_id, entity=ResourceRef("Consultation", row.id),
        detail={"check": str(check.id), "identifiers": [f"{name}:{how}" for name, how in sorted(form.how.items())]},
    )  # fmt: skip
    ctx.notify("telemedicine.consultation", consultation=row.id, patient=row.patient_id)
    return check
