"""The keyring: unwraps a clinic's key with the master key and makes data keys under it."""

from __future__ import annotations

import uuid

from sqlalchemy import LargeBinary, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from qanun.crypto import Key, bind, code, open_, seal, unwrap_key, wrap_key
from qanun.db import TenantModel, trusted


class TenantKey(TenantModel):
    """A clinic's key, wrapped under the appliance's master key. The newest row is used, older ones still open."""

    __tablename__ = "core_tenant_key"

    wrapped: Mapped[bytes] = mapped_column(LargeBinary)
    number: Mapped[int] = mapped_column(default=1)


class Keyring:
    """Tenant keys by tenant id, unwrapped once per process; `forget` drops one (after a rotation)."""

    def __init__(self, master: Key) -> None:
        self._master = master
        self._keys: dict[uuid.UUID, Key] = {}

    def code(self, body: bytes, *purpose: str) -> bytes:
        """32 bytes that only this machine can make of `body` for this purpose: to know later what it gave out itself."""
        return code(body, self._master, context=bind(*purpose))

    async def tenant_key(self, session: AsyncSession, tenant_id: uuid.UUID) -> Key:
        """The clinic's key; made on first use. Two first users at once agree, by a fixed row id."""
        known = self._keys.get(tenant_id)
        if known is not None:
            return known
        context = bind("tenant-key", tenant_id)
        newest = select(TenantKey.wrapped).order_by(TenantKey.number.desc()).limit(1)
        wrapped = (await session.execute(newest)).scalar_one_or_none()
        if wrapped is None:
            fresh = wrap_key(Key.generate(), under=self._master, context=context)
            row = {"tenant_id": tenant_id, "id": uuid.uuid5(tenant_id, "key-1"), "wrapped": fresh, "number": 1}
            await session.execute(trusted(insert(TenantKey).values(row).on_conflict_do_nothing()))
            # Not cached: this transaction may still roll back, and the key with it.
            wrapped = (await session.execute(newest)).scalar_one()
            return unwrap_key(wrapped, under=self._master, context=context)
        key = unwrap_key(wrapped, under=self._master, context=context)
        self._keys[tenant_id] = key
        return key

    async def new_data_key(
        self, session: AsyncSession, tenant_id: uuid.UUID, *context: str | uuid.UUID
    ) -> tuple[Key, bytes]:
        """A fresh data key and its wrapped form, bound to the clinic and to `context` (what it is for)."""
        key = Key.generate()
        under = await self.tenant_key(session, tenant_id)
        return key, wrap_key(key, under=under, context=bind("data-key", tenant_id, *context))

    async def open_data_key(
        self, session: AsyncSession, tenant_id: uuid.UUID, wrapped: bytes, *context: str | uuid.UUID
    ) -> Key:
        """Raises qanun.crypto.CryptoError when the key belongs to another clinic or another purpose."""
        under = await self.tenant_key(session, tenant_id)
        return unwrap_key(wrapped, under=under, context=bind("data-key", tenant_id, *context))

    async def seal(self, session: AsyncSession, tenant_id: uuid.UUID, plaintext: bytes, *context: str) -> bytes:
        """Seal a small secret (a token, a password of a third system) under the clinic's key."""
        return seal(plaintext, await self.tenant_key(session, tenant_id), context=bind(*context, tenant_id))

    async def open(self, session: AsyncSession, tenant_id: uuid.UUID, sealed: bytes, *context: str) -> bytes:
        return open_(sealed, await self.tenant_key(session, tenant_id), context=bind(*context, tenant_id))
