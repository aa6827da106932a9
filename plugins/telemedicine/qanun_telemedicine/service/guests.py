"""Relatives, interpreters and colleagues from elsewhere: invited by name and role, let in by a clinician, put out again.

A guest has no account. Their link works once; what they reach by it is this one call and nothing of the patient's record.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select

from qanun.api import N_, Conflict, Context, Invalid, NotFound, ResourceRef, invite_guest, new_id, revoke_guest
from qanun_telemedicine.models import (
    ADMITTED,
    GUEST_ROLES,
    IN_PROGRESS,
    INVITED,
    OPEN,
    REMOVED,
    WAITING,
    Consultation,
    Guest,
    Participant,
    Presence,
)
from qanun_telemedicine.service import presence
from qanun_telemedicine.service.presence import acting_guest

#: With doctor and patient, twelve.
MOST = 10
MOST_NAME = 120
#: A link works this long after the planned end, or after it was made.
LINK_LIFE = timedelta(hours=12)
#: How one can know that a guest is who they say. Their name is on the invitation; one of these has to be added.
WAYS = {
    "vouched": N_("the patient says who it is"),
    "document": N_("identity card held to the camera"),
    "known": N_("known to me in person"),
    "called-back": N_("called back on a number we have"),
}
ROLE_LABELS = {"relative": N_("Relative"), "interpreter": N_("Interpreter"), "colleague": N_("Colleague")}
LOCKED = N_("The call is locked. Open it first.")
LOCKED_GROUP = "the call of the group is locked"
NOT_WAITING = N_("This person does not wait for a call that runs.")
_ORDER = {WAITING: 0, ADMITTED: 1, INVITED: 2}
_AFTERWARDS = timedelta(minutes=10)
_SEAL = "telemedicine.guest"


@dataclass(frozen=True, slots=True)
class GuestSeen:
    """A guest as the clinic sees them. `here`: their page is open; `link` while it was not used and can be copied."""

    guest: Guest
    here: bool
    link: str


async def invite(ctx: Context, row: Consultation, name: str, role: str) -> Guest:
    """Make a guest and their one-time link. Raises Invalid (name, role, too many) or Conflict (over)."""
    if row.state not in OPEN:
        raise Conflict("the consultation is over")
    if row.group_id is not None:
        raise Conflict("guests come to the group's call")
    name = " ".join(name.split())
    faults: dict[str, object] = {}
    if not 2 <= len(name) <= MOST_NAME:
        faults["name"] = N_("Write the name of the person.")
    if role not in GUEST_ROLES:
        faults["role"] = N_("Choose one of the listed values.")
    if not faults and len([one for one in await guests_of(ctx, row) if one.state != REMOVED]) >= MOST:
        faults["name"] = N_("At most ten guests come to one visit.")
    if faults:
        raise Invalid(faults)
    guest = Guest(
        id=new_id(), consultation_id=row.id, name=name, role=role, state=INVITED, invited_by=ctx.actor.id, identity=[]
    )
    await _link(ctx, row, guest)
    ctx.db.add(guest)
    _note(ctx, row, "telemedicine.guest.invite", guest, role=role)
    return guest


async def renew(ctx: Context, row: Consultation, guest: Guest) -> None:
    """A new link in place of the old one, which opens nothing from now on; whoever came by it has to be let in again."""
    if row.state not in OPEN or guest.state == REMOVED:
        raise Conflict("there is nothing to come to")
    await _leave(ctx, row, guest)
    await revoke_guest(ctx, guest.pass_id)
    guest.state, guest.waiting_since, guest.admitted_at, guest.identity = INVITED, None, None, []
    await _link(ctx, row, guest)
    _note(ctx, row, "telemedicine.guest.renew", guest)


async def _link(ctx: Context, row: Consultation, guest: Guest) -> None:
    guest.expires_at = max(ctx.now, row.ends_at) + LINK_LIFE
    target = f"/guest/{ctx.tenant.slug}/visits/{row.id}"
    guest.pass_id, token = await invite_guest(ctx, guest.name, target, life=guest.expires_at - ctx.now)
    guest.invitation = await ctx.keys.seal(ctx.db, ctx.tenant.id, token.encode(), _SEAL, str(guest.id))


async def guest_link(ctx: Context, guest: Guest) -> str:
    """The link as made last; empty once the guest came by it, or it ended."""
    if guest.invitation is None or guest.state != INVITED or guest.expires_at <= ctx.now:
        return ""
    token = await ctx.keys.open(ctx.db, ctx.tenant.id, guest.invitation, _SEAL, str(guest.id))
    return f"{ctx.runtime.config.base_url}/guest/{ctx.tenant.slug}/i/{token.decode()}"


async def guests_of(ctx: Context, row: Consultation) -> list[Guest]:
    statement = select(Guest).where(Guest.consultation_id == row.id).order_by(Guest.id).limit(100)
    return list((await ctx.db.execute(statement)).scalars())


async def guests_seen(ctx: Context, row: Consultation, *, links: bool) -> list[GuestSeen]:
    """All who were not put out, those who wait first; with `links` for who may invite."""
    guests = [one for one in await guests_of(ctx, row) if one.state != REMOVED]
    if not guests:
        return []
    here = {person.subject for person, stay in await presence.present(ctx, row.id) if presence.connected(ctx, stay)}
    return [
        GuestSeen(guest, _subject(guest) in here, await guest_link(ctx, guest) if links else "")
        for guest in sorted(guests, key=lambda one: _ORDER[one.state])
    ]


async def guest(ctx: Context, row: Consultation, guest_id: uuid.UUID) -> Guest:
    """Raises NotFound for one of another visit, too."""
    statement = select(Guest).where(Guest.id == guest_id, Guest.consultation_id == row.id).with_for_update()
    found = (await ctx.db.execute(statement.execution_options(populate_existing=True))).scalar_one_or_none()
    if found is None:
        raise NotFound("guest")
    return found


async def wait(ctx: Context, row: Consultation, person: Participant, connection: str) -> None:
    """The guest is ready and waits to be let in; once let in, they need not wait again. Raises Conflict when over."""
    if row.state not in OPEN:
        raise Conflict("the consultation is over")
    me = await guest(ctx, row, (await acting_guest(ctx, row.id)).id)
    if me.state == ADMITTED:
        return
    await presence.arrive(ctx, row, person, "lobby", connection)
    if me.state == INVITED:
        me.state, me.waiting_since, me.invitation = WAITING, ctx.now, None
        _note(ctx, row, "telemedicine.guest.wait", me)
    _changed(ctx, row)


async def admit_guest(ctx: Context, row: Consultation, guest: Guest, ways: Iterable[str]) -> None:
    """Let a guest in, knowing how they were recognised. Raises Invalid (no way said) or Conflict (nobody waits, no call)."""
    if guest.state == ADMITTED:
        return
    known = [way for way in WAYS if way in set(ways)]
    if not known:
        raise Invalid({"ways": N_("Mark how you know who this is.")})
    if row.locked_at is not None:
        raise Conflict("the call is locked", code="locked")
    if row.state != IN_PROGRESS or guest.state != WAITING:
        raise Conflict("this guest does not wait for a call that runs")
    guest.state, guest.identity = ADMITTED, known
    guest.admitted_at, guest.admitted_by, guest.admitted_by_name = ctx.now, ctx.actor.id, ctx.actor.name
    _note(ctx, row, "telemedicine.guest.admit", guest, ways=known)


async def remove(ctx: Context, row: Consultation, guest: Guest) -> None:
    """Put a guest out, or take the invitation back: their link and their session end, they cannot come again by it."""
    if guest.state == REMOVED:
        return
    await _leave(ctx, row, guest)
    await revoke_guest(ctx, guest.pass_id)
    guest.state, guest.invitation, guest.removed_at, guest.removed_by = REMOVED, None, ctx.now, ctx.actor.id
    _note(ctx, row, "telemedicine.guest.remove", guest)


async def close_all(ctx: Context, row: Consultation) -> None:
    """The visit is over: links open nothing any more. Sessions end a little later, so that pages can still say it."""
    guests = await guests_of(ctx, row)
    for one in guests:
        one.invitation = None
        if one.state == INVITED:
            await revoke_guest(ctx, one.pass_id)
    if guests:
        ctx.defer("telemedicine.close_guests", at=ctx.now + _AFTERWARDS, consultation_id=str(row.id))


async def shut(ctx: Context, row: Consultation) -> None:
    """Every pass of a visit that is over. Twice changes nothing."""
    if row.state not in OPEN:
        for one in await guests_of(ctx, row):
            await revoke_guest(ctx, one.pass_id)


async def _leave(ctx: Context, row: Consultation, guest: Guest) -> None:
    statement = (
        select(Participant)
        .where(Participant.consultation_id == row.id, Participant.subject == _subject(guest))
        .join(Presence, Presence.participant_id == Participant.id)
        .limit(1)
    )
    person = (await ctx.db.execute(statement)).scalars().first()
    if person is not None:
        await presence.depart(ctx, row, person)


def _subject(guest: Guest) -> str:
    return f"Guest/{guest.id}"


def _note(ctx: Context, row: Consultation, type: str, guest: Guest, **detail: object) -> None:
    ctx.audit(
        type, patient_id=row.patient_id, entity=ResourceRef("Consultation", row.id),
        detail={"guest": str(guest.id), **detail},
    )  # fmt: skip
    _changed(ctx, row)


def _changed(ctx: Context, row: Consultation) -> None:
    ctx.notify("telemedicine.consultation", consultation=row.id, patient=row.patient_id)
