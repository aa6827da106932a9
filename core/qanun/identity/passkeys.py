"""Passkeys (WebAuthn level 3): made for one host name, discoverable, and only with the person verified by their device.

Staff's work in every clinic they belong to, a patient's in the one clinic it was made in; neither opens the other's door.
A password keeps working beside them. Attestation is not asked for: a clinic does not choose its people's phones.
"""

from __future__ import annotations

import json
import struct
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from qanun.context import Context
from qanun.db import Database, new_id
from qanun.errors import Conflict, Invalid, NotFound
from qanun.i18n import N_
from qanun.identity import challenges
from qanun.identity.confirm import mark_confirmed, owner_of_session
from qanun.identity.models import PatientAccount, User
from qanun.identity.passkey_models import PatientPasskey, UserPasskey
from qanun.identity.signin import admit_patient, admit_staff, refuse_if_resting, register_failure
from qanun.storage import Keyring
from qanun.tenancy import TenantInfo, global_session

LIMIT = 20
REFUSED = N_("This passkey does not open anything here. Use another one, or your password.")
CLONED = N_("This passkey has been copied to another device and is closed. Remove it, and make a new one.")
#: ES256, EdDSA, RS256: what phones, laptops and security keys make.
_ALGORITHMS = (-7, -8, -257)
_MALFORMED = (
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    AssertionError,
    NotImplementedError,
    struct.error,
)

Passkey = UserPasskey | PatientPasskey


@dataclass(frozen=True, slots=True)
class Place:
    """The host a passkey is made for (WebAuthn's relying party) and the one origin its answers may come from."""

    rp_id: str
    origin: str


def place(base_url: str) -> Place | None:
    """The place of this server's address; None when it is a bare IP number, for which no browser makes a passkey."""
    parts = urlsplit(base_url)
    host = (parts.hostname or "").lower()
    if not host or ":" in host or host.replace(".", "").isdigit():
        return None
    return Place(host, f"{parts.scheme}://{parts.netloc.lower()}")


def _server(where: Place, name: str) -> Any:
    # Here and not above: it reads a list of all public suffixes, which only who uses a passkey is to wait for.
    from fido2.server import Fido2Server
    from fido2.webauthn import (
        AttestationConveyancePreference,
        PublicKeyCredentialParameters,
        PublicKeyCredentialRpEntity,
        PublicKeyCredentialType,
    )

    server: Any = Fido2Server(
        PublicKeyCredentialRpEntity(id=where.rp_id, name=name),
        attestation=AttestationConveyancePreference.NONE,
        verify_origin=lambda origin: origin == where.origin,
    )
    kind = PublicKeyCredentialType.PUBLIC_KEY
    server.allowed_algorithms = [PublicKeyCredentialParameters(type=kind, alg=alg) for alg in _ALGORITHMS]
    server.timeout = int(challenges.LIFE.total_seconds() * 1000)
    return server


def _handle(owner: User | PatientAccount) -> bytes:
    """WebAuthn's user handle: whose passkey it is, without saying who. One clinic's account is not another's."""
    if isinstance(owner, User):
        return b"s" + owner.id.bytes
    return b"p" + owner.tenant_id.bytes + owner.id.bytes


def _door(actor_kind: str) -> str:
    return "staff" if actor_kind == "user" else "portal"


# --- the owner's own list -----------------------------------------------------------------------------------------------


async def passkeys_of(ctx: Context) -> Sequence[Passkey]:
    """The signed-in person's passkeys, newest first."""
    if ctx.actor.kind == "user":
        mine = select(UserPasskey).where(UserPasskey.user_id == ctx.actor.id)
        return (await ctx.db.execute(mine.order_by(UserPasskey.created_at.desc()).limit(LIMIT))).scalars().all()
    theirs = select(PatientPasskey).where(PatientPasskey.account_id == ctx.actor.id)
    return (await ctx.db.execute(theirs.order_by(PatientPasskey.created_at.desc()).limit(LIMIT))).scalars().all()


async def _mine(ctx: Context, passkey_id: uuid.UUID) -> Passkey:
    """Raises NotFound for somebody else's, another clinic's and an unknown one alike."""
    for passkey in await passkeys_of(ctx):
        if passkey.id == passkey_id:
            return passkey
    raise NotFound("passkey")


def named(text: str) -> str:
    """A passkey's name as typed, or Invalid."""
    name = " ".join(text.split())
    if not name:
        raise Invalid({"name": N_("Give it a name that you recognise, such as “My phone”.")})
    if len(name) > 60:
        raise Invalid({"name": N_("Use at most 60 characters.")})
    return name


async def rename(ctx: Context, passkey_id: uuid.UUID, name: str) -> None:
    passkey = await _mine(ctx, passkey_id)
    passkey.name = named(name)
    ctx.audit("core.passkey.rename", patient_id=ctx.actor.patient_id, detail={"passkey": passkey.id})


async def remove(ctx: Context, passkey_id: uuid.UUID) -> None:
    passkey = await _mine(ctx, passkey_id)
    await ctx.db.delete(passkey)
    ctx.audit("core.passkey.remove", patient_id=ctx.actor.patient_id, detail={"passkey": passkey.id})


async def remove_all_of_user(session: AsyncSession, user_id: uuid.UUID) -> None:
    await session.execute(delete(UserPasskey).where(UserPasskey.user_id == user_id))


# --- making one ---------------------------------------------------------------------------------------------------------


async def registration_options(ctx: Context, keys: Keyring, where: Place) -> dict[str, Any]:
    """What the browser's `credentials.create` is given, as WebAuthn's JSON. Passkeys already there are named, so that a
    device is not registered twice."""
    owner = await owner_of_session(ctx)
    existing = await passkeys_of(ctx)
    if len(existing) >= LIMIT:
        raise Conflict("there are twenty passkeys already", field="name")
    staff = isinstance(owner, User)
    login = owner.email if isinstance(owner, User) else owner.login
    server = _server(where, "Qanun" if staff else ctx.tenant.name)
    options, _ = server.register_begin(
        {"id": _handle(owner), "name": login, "displayName": owner.name if isinstance(owner, User) else login},
        credentials=[{"type": "public-key", "id": one.credential_id} for one in existing if one.rp_id == where.rp_id],
        resident_key_requirement="required",
        user_verification="required",
        challenge=challenges.make(keys, ctx.now, "register", _door(ctx.actor.kind), str(ctx.actor.session_id)),
    )
    return dict(dict(options)["publicKey"])


async def register(ctx: Context, keys: Keyring, where: Place, name: str, answer: Any) -> Passkey:
    """Keep what the device made. Raises Invalid when the answer is not one to a question this session was asked."""
    label = named(name)
    owner = await owner_of_session(ctx)
    try:
        challenge = _challenge(answer)
        if not challenges.good(keys, challenge, ctx.now, "register", _door(ctx.actor.kind), str(ctx.actor.session_id)):
            raise ValueError("not a challenge of this session")
        made = _server(where, "").register_complete(_state(challenge), answer)
        credential = made.credential_data
        if credential.public_key.get(3) not in _ALGORITHMS:
            raise ValueError("an algorithm that was not offered")
        transports = [str(one)[:20] for one in answer["response"].get("transports") or [] if isinstance(one, str)][:8]
    except _MALFORMED:
        raise Invalid({"passkey": REFUSED}) from None
    if not await challenges.spend(ctx.db, challenge, ctx.now):
        raise Invalid({"passkey": REFUSED})
    common: dict[str, Any] = {
        "id": new_id(), "name": label, "rp_id": where.rp_id, "credential_id": bytes(credential.credential_id),
        "attested": bytes(credential), "sign_count": made.counter, "transports": transports, "failures": 0,
        "backup_eligible": made.is_backup_eligible(), "backed_up": made.is_backed_up(),
    }  # fmt: skip
    passkey: Passkey
    if isinstance(owner, User):
        passkey = UserPasskey(user_id=owner.id, **common)
    else:
        passkey = PatientPasskey(account_id=owner.id, patient_id=owner.patient_id, **common)
    ctx.db.add(passkey)
    await ctx.db.flush()
    detail = {"passkey": passkey.id, "synced": made.is_backup_eligible()}
    ctx.audit("core.passkey.register", patient_id=ctx.actor.patient_id, detail=detail)
    return passkey


# --- using one ----------------------------------------------------------------------------------------------------------


def sign_in_options(keys: Keyring, where: Place, now: datetime, tenant: TenantInfo | None) -> dict[str, Any]:
    """For `credentials.get`: names no account, whoever asks. `tenant` is the portal's clinic, None for staff."""
    door = ("staff", "") if tenant is None else ("portal", str(tenant.id))
    return _request_options(where, challenges.make(keys, now, "sign-in", *door))


async def confirm_options(ctx: Context, keys: Keyring, where: Place) -> dict[str, Any]:
    challenge = challenges.make(keys, ctx.now, "confirm", _door(ctx.actor.kind), str(ctx.actor.session_id))
    mine = [one for one in await passkeys_of(ctx) if one.rp_id == where.rp_id and one.cloned_at is None]
    return _request_options(where, challenge, mine)


def _request_options(where: Place, challenge: bytes, only: Sequence[Passkey] = ()) -> dict[str, Any]:
    options, _ = _server(where, "").authenticate_begin(
        [{"type": "public-key", "id": one.credential_id, "transports": one.transports or None} for one in only] or None,
        user_verification="required",
        challenge=challenge,
    )
    return dict(dict(options)["publicKey"])


async def sign_in_staff_by_passkey(database: Database, keys: Keyring, where: Place, answer: Any) -> tuple[str, User]:
    """A new staff session's token and the user. Raises Invalid: unknown, wrong, used before and disabled look the same."""
    async with global_session(database) as session:
        now = datetime.now(UTC)
        wanted = _credential_id(answer)
        found = select(UserPasskey).where(UserPasskey.credential_id == wanted, UserPasskey.rp_id == where.rp_id)
        passkey = (await session.execute(found.with_for_update())).scalar_one_or_none()
        if passkey is None:
            raise Invalid({"passkey": REFUSED})
        owner = select(User).where(User.id == passkey.user_id, User.disabled_at.is_(None)).with_for_update()
        user = (await session.execute(owner)).scalar_one_or_none()
        if user is None:
            raise Invalid({"passkey": REFUSED})
        try:
            await _check(session, keys, where, passkey, user, answer, now, "sign-in", "staff", "")
        except Invalid:
            await session.commit()  # the failure counts, and a copied passkey stays closed
            raise
        token = await admit_staff(session, user)
        await session.commit()
        return token, user


async def sign_in_patient_by_passkey(ctx: Context, keys: Keyring, where: Place, answer: Any) -> str | None:
    """A new portal session's token; None when it is refused (the caller commits the counted failure)."""
    wanted = _credential_id(answer)
    found = select(PatientPasskey).where(PatientPasskey.credential_id == wanted, PatientPasskey.rp_id == where.rp_id)
    passkey = (await ctx.db.execute(found.with_for_update())).scalar_one_or_none()
    if passkey is None:
        return None
    owner = select(PatientAccount).where(PatientAccount.id == passkey.account_id).with_for_update()
    account = (await ctx.db.execute(owner)).scalar_one()
    try:
        await _check(ctx.db, keys, where, passkey, account, answer, ctx.now, "sign-in", "portal", str(ctx.tenant.id))
    except Invalid:
        ctx.audit("core.portal.sign-in-refused", patient_id=account.patient_id, detail={"method": "passkey"})
        return None
    return await admit_patient(ctx, account, "passkey")


async def confirm_by_passkey(ctx: Context, keys: Keyring, where: Place, answer: Any) -> bool:
    """Whether the session's own owner answered; then it is fresh. The caller commits a counted failure."""
    owner = await owner_of_session(ctx)
    wanted = _credential_id(answer)
    mine = [one for one in await passkeys_of(ctx) if one.credential_id == wanted and one.rp_id == where.rp_id]
    if not mine:
        return False
    purpose = ("confirm", _door(ctx.actor.kind), str(ctx.actor.session_id))
    try:
        await _check(ctx.db, keys, where, mine[0], owner, answer, ctx.now, *purpose)
    except Invalid:
        ctx.audit("core.session.confirm-refused", patient_id=ctx.actor.patient_id, detail={"method": "passkey"})
        return False
    await mark_confirmed(ctx, "passkey")
    return True


async def _check(
    session: AsyncSession, keys: Keyring, where: Place, passkey: Passkey, owner: User | PatientAccount, answer: Any,
    now: datetime, *purpose: str,
) -> None:  # fmt: skip
    """Raises Invalid unless `answer` is the first right one to a question of ours, by this passkey, for this owner."""
    from fido2.webauthn import AttestedCredentialData, AuthenticationResponse

    refuse_if_resting(passkey, now)
    if passkey.cloned_at is not None:
        raise Invalid({"passkey": CLONED})
    try:
        challenge = _challenge(answer)
        if not challenges.good(keys, challenge, now, *purpose):
            raise ValueError("not a challenge for this")
        credential = AttestedCredentialData(passkey.attested)
        _server(where, "").authenticate_complete(_state(challenge), [credential], answer)
        response = AuthenticationResponse.from_dict(answer).response
        # A discoverable passkey says whose it is; when it must (nobody was asked for by name), it has to be this owner's.
        if response.user_handle != _handle(owner) and (response.user_handle is not None or purpose[0] == "sign-in"):
            raise ValueError("somebody else's")
    except _MALFORMED:
        register_failure(passkey, now)
        raise Invalid({"passkey": REFUSED}) from None
    if not await challenges.spend(session, challenge, now):
        raise Invalid({"passkey": REFUSED})
    told = response.authenticator_data
    if (told.counter or passkey.sign_count) and told.counter <= passkey.sign_count:
        passkey.cloned_at = now
        raise Invalid({"passkey": CLONED})
    passkey.failures, passkey.locked_until = 0, None
    passkey.sign_count, passkey.backed_up, passkey.last_used_at = told.counter, told.is_backed_up(), now


def _state(challenge: bytes) -> dict[str, Any]:
    from fido2.utils import websafe_encode

    return {"challenge": websafe_encode(challenge), "user_verification": "required"}


def _credential_id(answer: Any) -> bytes:
    from fido2.utils import websafe_decode

    try:
        return bytes(websafe_decode(answer["rawId"]))
    except _MALFORMED:
        raise Invalid({"passkey": REFUSED}) from None


def _challenge(answer: Any) -> bytes:
    """The challenge that the answer says it answers; whether it is one of ours is looked at next."""
    from fido2.utils import websafe_decode

    told = json.loads(websafe_decode(answer["response"]["clientDataJSON"]))
    return bytes(websafe_decode(told["challenge"]))
