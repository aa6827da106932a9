"""A call that is encrypted end to end: chosen before it begins, its keys agreed between the pages, nothing here opens it.

Every page makes a key pair for the call and gives its public half with the join; each sender's page seals its sender key
for each of the others. This keeps and hands on both. That no process of ours exchanged a public key, only the people can
tell: their pages reckon a safety code from all of them, and they read it to each other.
"""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Mapping

from sqlalchemy import delete, or_, select

from qanun.api import Conflict, Context, Forbidden, ResourceRef, new_id
from qanun_telemedicine.models import IN_PROGRESS, SCHEDULED, WAITING, WRITTEN, Consultation, Participant, SealedKey
from qanun_telemedicine.service.presence import present

#: A point of P-256, uncompressed.
_KEY_OCTETS, _KEY_BEGINS = 65, 4


async def choose(ctx: Context, row: Consultation, on: bool) -> None:
    """Encrypt the call end to end, or not. Raises Conflict once it has begun, and for one in writing; twice changes nothing."""
    if row.mode == WRITTEN or row.state not in (SCHEDULED, WAITING):
        raise Conflict("whether it is encrypted is chosen before it begins")
    refuse_group(row)
    if on == row.encrypted:
        return
    row.encrypted = on
    _note(ctx, row, "telemedicine.encryption.choose", {"on": on})
    ctx.notify("telemedicine.consultation", consultation=row.id, patient=row.patient_id)


def refuse(row: Consultation) -> None:
    """Raises Conflict when the server was to take part in an encrypted call."""
    if row.encrypted:
        raise Conflict("the call is end-to-end encrypted")


def refuse_group(row: Consultation) -> None:
    """Raises Conflict for what a call with several patients does not have."""
    if row.patient_id is None or row.group_id is not None:
        raise Conflict("not in a group")


async def bring_key(ctx: Context, row: Consultation, person: Participant, key: str | None) -> None:
    """The page of a person who joins says its public key; None: the page that joined before only comes back.

    Raises Forbidden (`unsealed`) for a page without one, so that nobody is in an encrypted call in the clear.
    """
    if not row.encrypted:
        return
    if key is None:
        if not person.public_key:
            raise Forbidden("this page has no key", code="unsealed")
        return
    if not _is_point(key):
        raise Forbidden("this page has no key", code="unsealed")
    if key != person.public_key:
        person.public_key = key
        # What was sealed for or by the page before is of no use to this one.
        await _drop(ctx, or_(SealedKey.sender_id == person.id, SealedKey.receiver_id == person.id))


def _is_point(key: str) -> bool:
    try:
        octets = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        return False
    return len(octets) == _KEY_OCTETS and octets[0] == _KEY_BEGINS


async def lend(ctx: Context, row: Consultation, person: Participant, sealed: Mapping[uuid.UUID, str]) -> None:
    """This person's sender key for the others who are in the call; it replaces the one before.

    Raises Conflict when the call is not an encrypted one or this person is not in it. Whoever is not in it gets none.
    """
    here = {one.id for one, stay in await present(ctx, row.id) if stay.place == "call"}
    if not row.encrypted or row.state != IN_PROGRESS or person.id not in here:
        raise Conflict("they are not in an encrypted call")
    # Also those who left: what they were given counts no longer.
    await _drop(ctx, SealedKey.sender_id == person.id)
    for receiver in here & set(sealed) - {person.id}:
        ctx.db.add(
            SealedKey(
                id=new_id(), consultation_id=row.id, sender_id=person.id, receiver_id=receiver, sealed=sealed[receiver]
            )
        )
    await ctx.db.flush()
    ctx.notify("telemedicine.consultation", consultation=row.id, patient=row.patient_id)


async def lent_to(ctx: Context, row: Consultation, person: Participant) -> list[dict[str, str]]:
    """The others' sender keys as they were sealed for this person."""
    if not row.encrypted:
        return []
    statement = select(SealedKey).where(SealedKey.consultation_id == row.id, SealedKey.receiver_id == person.id)
    found = (await ctx.db.execute(statement.order_by(SealedKey.sender_id))).scalars()
    return [{"from": str(one.sender_id), "sealed": one.sealed} for one in found]


async def compared(ctx: Context, row: Consultation, person: Participant, same: bool) -> None:
    """Somebody says whether the safety code is the same on both sides. Raises Conflict outside of an encrypted call."""
    if not row.encrypted or row.state != IN_PROGRESS:
        raise Conflict("there is no safety code")
    _note(ctx, row, "telemedicine.encryption.compare", {"participant": str(person.id), "same": same})


async def forget(ctx: Context, row: Consultation) -> None:
    """The call is over: no key of it is left here."""
    if not row.encrypted:
        return
    await _drop(ctx, SealedKey.consultation_id == row.id)
    people = select(Participant).where(Participant.consultation_id == row.id, Participant.public_key != "")
    for person in (await ctx.db.execute(people)).scalars():
        person.public_key = ""


async def _drop(ctx: Context, which: object) -> None:
    await ctx.db.execute(delete(SealedKey).where(which))  # type: ignore[arg-type]


def _note(ctx: Context, row: Consultation, type: str, detail: Mapping[str, object]) -> None:
    ctx.audit(type, patient_id=row.patient_id, entity=ResourceRef("Consultation", row.id), detail=detail)
