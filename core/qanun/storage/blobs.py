"""Encrypted blobs: each sealed whole under its own data key, content-typed, owned by a resource and (often) a patient.

For files of up to `LIMIT` bytes. Streams that grow while they are written (recordings) keep their own sealed files and
take only their key from the keyring.
"""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from pathlib import Path

import obstore
from obstore.store import LocalStore, ObjectStore
from sqlalchemy import LargeBinary, select
from sqlalchemy.orm import Mapped, mapped_column

from qanun.context import Context, ResourceRef
from qanun.crypto import bind, open_, seal
from qanun.db import TenantModel, new_id, patient_key
from qanun.errors import Invalid, NotFound

LIMIT = 64 * 1024 * 1024


class Blob(TenantModel):
    """What is known of a blob beside its bytes. Deleting the row throws the key away: what is left cannot be read."""

    __tablename__ = "core_blob"

    patient_id: Mapped[uuid.UUID | None] = patient_key(nullable=True, index=True)
    owner: Mapped[str]
    content_type: Mapped[str]
    size: Mapped[int]
    sha256: Mapped[bytes] = mapped_column(LargeBinary)
    key: Mapped[bytes] = mapped_column(LargeBinary)


class BlobStore:
    """Puts and gets blobs for a context. The object's path is `<tenant>/<id>`; nothing in it tells what it is."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    @classmethod
    def local(cls, folder: Path) -> BlobStore:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return cls(LocalStore(prefix=str(folder)))

    async def put(
        self, ctx: Context, content: bytes, *, owner: ResourceRef, content_type: str,
        patient_id: uuid.UUID | None = None,
    ) -> Blob:  # fmt: skip
        """Store `content`; the row commits with the context. Raises Invalid when it is larger than `LIMIT`."""
        if len(content) > LIMIT:
            raise Invalid({"file": "too large"}, limit=LIMIT)
        blob_id = new_id()
        key, wrapped = await ctx.keys.new_data_key(ctx.db, ctx.tenant.id, "blob", blob_id)
        sealed = seal(content, key, context=bind("blob", ctx.tenant.id, blob_id))
        blob = Blob(
            id=blob_id, patient_id=patient_id, owner=str(owner), content_type=content_type, size=len(content),
            sha256=hashlib.sha256(content).digest(), key=wrapped,
        )  # fmt: skip
        ctx.db.add(blob)
        await obstore.put_async(self._store, _path(ctx.tenant.id, blob_id), sealed)
        return blob

    async def get(self, ctx: Context, blob_id: uuid.UUID) -> tuple[Blob, bytes]:
        """The row and the bytes. Raises NotFound; raises qanun.crypto.CryptoError when the bytes were tampered with."""
        blob = (await ctx.db.execute(select(Blob).where(Blob.id == blob_id))).scalar_one_or_none()
        if blob is None:
            raise NotFound("blob")
        key = await ctx.keys.open_data_key(ctx.db, ctx.tenant.id, blob.key, "blob", blob_id)
        try:
            found = await obstore.get_async(self._store, _path(ctx.tenant.id, blob_id))
            sealed = bytes(await found.bytes_async())
        except FileNotFoundError:
            raise NotFound("blob") from None
        return blob, open_(sealed, key, context=bind("blob", ctx.tenant.id, blob_id))

    async def destroy(self, ctx: Context, blob_id: uuid.UUID) -> bytes:
        """Throw the blob's key away with its row: from the commit on nobody can read it, wherever a copy lies. Gives the
        SHA-256 of what it held. Raises NotFound. `erase` then removes the bytes."""
        blob = (await ctx.db.execute(select(Blob).where(Blob.id == blob_id))).scalar_one_or_none()
        if blob is None:
            raise NotFound("blob")
        await ctx.db.delete(blob)
        await ctx.db.flush()
        return blob.sha256

    async def erase(self, ctx: Context, blob_id: uuid.UUID) -> None:
        """Remove the bytes of a blob that was destroyed; for after that commit. One that still has its row is left alone."""
        if (await ctx.db.execute(select(Blob.id).where(Blob.id == blob_id))).first() is None:
            with contextlib.suppress(FileNotFoundError):
                await obstore.delete_async(self._store, _path(ctx.tenant.id, blob_id))


def _path(tenant_id: uuid.UUID, blob_id: uuid.UUID) -> str:
    return f"{tenant_id}/{blob_id}"
