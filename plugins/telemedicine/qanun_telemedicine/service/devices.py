"""Things that show their picture in a call: named and let in by the clinician, each with a token that ends.

A device is nobody: it has no account, no consent and no say. Its picture is recorded only while everybody in the call agreed,
as any other picture of that call; who connected it answers for it, and can take it out at once.
"""

from __future__ import annotations

import uuid
from datetime import timedelta

from sqlalchemy import select

from qanun.api import (
    N_,
    Conflict,
    Context,
    Forbidden,
    Invalid,
    NotFound,
    ResourceRef,
    new_id,
    random_token,
    same,
    token_hash,
)
from qanun_telemedicine.models import IN_PROGRESS, OPEN, WRITTEN, Consultation, Device, Participant
from qanun_telemedicine.service import encryption
from qanun_telemedicine.service.consultations import consultation

#: Each takes a place in the room beside the twelve people.
MOST = 2
MOST_NAME = 40
#: A token lets a device connect for this long.
LIFE = timedelta(hours=1)


async def make(ctx: Context, row: Consultation, name: str) -> tuple[Device, str]:
    """A place for a device, and its token, which is told this once. Raises Invalid (name, too many) or Conflict (over, or a
    visit that is encrypted: a device cannot encrypt)."""
    if row.state not in OPEN or row.mode == WRITTEN:
        raise Conflict("the consultation is over")
    encryption.refuse(row)
    name = " ".join(name.split())
    if not 2 <= len(name) <= MOST_NAME:
        raise Invalid({"device": N_("Write what it is, like “Otoscope”.")})
    if len(await devices_of(ctx, row.id)) >= MOST:
        raise Invalid({"device": N_("At most two devices show their picture in one visit. Take one out first.")})
    token = random_token()
    device = Device(
        id=new_id(), consultation_id=row.id, name=name, token_hash=token_hash(token), expires_at=ctx.now + LIFE,
        made_by=ctx.actor.id, session=None, etag="", offer="", connected=False,
    )  # fmt: skip
    ctx.db.add(device)
    await ctx.db.flush()
    _note(ctx, row, "telemedicine.device.invite", device)
    return device, token


async def devices_of(ctx: Context, consultation_id: uuid.UUID) -> list[Device]:
    """Those that were not taken out."""
    statement = select(Device).where(Device.consultation_id == consultation_id, Device.removed_at.is_(None))
    return list((await ctx.db.execute(statement.order_by(Device.id).limit(20))).scalars())


async def device(ctx: Context, row: Consultation, device_id: uuid.UUID) -> Device:
    """Raises NotFound for one of another visit, too."""
    statement = select(Device).where(Device.id == device_id, Device.consultation_id == row.id).with_for_update()
    found = (await ctx.db.execute(statement.execution_options(populate_existing=True))).scalar_one_or_none()
    if found is None:
        raise NotFound("device")
    return found


async def known(ctx: Context, device_id: uuid.UUID, token: str) -> tuple[Consultation, Device]:
    """The device that shows this token, locked, and its visit. Raises NotFound for every reason there is not to know it, so
    that nobody learns from the answer which devices there are."""
    statement = select(Device).where(Device.id == device_id).with_for_update()
    found = (await ctx.db.execute(statement)).scalar_one_or_none()
    shown = token_hash(token)
    if found is None or not same(found.token_hash, shown) or found.removed_at is not None:
        raise NotFound("device")
    return await consultation(ctx, found.consultation_id), found


def may_come(ctx: Context, row: Consultation, found: Device) -> None:
    """Raises Forbidden (the token is too old), Conflict (no call runs, or an encrypted one)."""
    if found.expires_at <= ctx.now:
        raise Forbidden("the token is too old: make a new one in the call")
    if row.state != IN_PROGRESS:
        raise Conflict("the call does not run")
    encryption.refuse(row)


def joined(ctx: Context, row: Consultation, found: Device, session: uuid.UUID, etag: str, offer: str) -> None:
    """It has negotiated its way; media follows."""
    found.session, found.etag, found.offer, found.connected = session, etag, offer, False
    found.joined_at = ctx.now
    _note(ctx, row, "telemedicine.device.join", found)


def left(ctx: Context, row: Consultation, found: Device) -> None:
    """Its connection is over; with its token it may come again."""
    if found.session is not None:
        found.session, found.etag, found.offer, found.connected = None, "", "", False
        _note(ctx, row, "telemedicine.device.leave", found)


async def heard_of(ctx: Context, row: Consultation, device_id: uuid.UUID, connected: bool) -> None:
    """The media worker says that its media can flow, or that it is gone. Several may say so; the first is enough."""
    found = await device(ctx, row, device_id)
    if connected and found.session is not None and not found.connected:
        found.connected = True
        _changed(ctx, row)
    elif not connected:
        left(ctx, row, found)


def take_out(ctx: Context, row: Consultation, found: Device) -> None:
    """Its token opens nothing any more."""
    if found.removed_at is None:
        left(ctx, row, found)
        found.removed_at = ctx.now
        _note(ctx, row, "telemedicine.device.remove", found)


async def names(ctx: Context, consultation_id: uuid.UUID) -> dict[str, str]:
    """Everybody's and everything's name by the id that a recording knows, also of those who are gone."""
    people = select(Participant.id, Participant.name).where(Participant.consultation_id == consultation_id)
    things = select(Device.id, Device.name).where(Device.consultation_id == consultation_id)
    return {str(id): name for what in (people, things) for id, name in (await ctx.db.execute(what.limit(500))).all()}


def _note(ctx: Context, row: Consultation, type: str, found: Device) -> None:
    ctx.audit(
        type, patient_id=row.patient_id, entity=ResourceRef("Consultation", row.id), detail={"device": str(found.id)}
    )
    _changed(ctx, row)


def _changed(ctx: Context, row: Consultation) -> None:
    ctx.notify("telemedicine.consultation", consultation=row.id, patient=row.patient_id)
