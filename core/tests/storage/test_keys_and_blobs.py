"""Keys belong to one clinic and one purpose; what lies on the disk is unreadable without them."""

import hashlib

import pytest
from sqlalchemy import select, update

from qanun.context import ResourceRef
from qanun.crypto import CryptoError, Key
from qanun.errors import NotFound
from qanun.storage import Blob, Keyring

SECRET = b"chest x-ray of nobody" * 40


async def _stored(clinic):
    patient = await clinic.patient()
    async with clinic.context() as ctx:
        blob = await ctx.blobs.put(
            ctx, SECRET, owner=ResourceRef("Patient", patient.id), content_type="image/png", patient_id=patient.id
        )
    return blob.id


async def test_a_blob_comes_back_as_it_was_and_the_other_clinic_cannot_even_name_it(clinic, other_clinic):
    blob_id = await _stored(clinic)
    async with clinic.context() as ctx:
        blob, content = await ctx.blobs.get(ctx, blob_id)
    assert (content, blob.size, blob.content_type) == (SECRET, len(SECRET), "image/png")
    async with other_clinic.context() as ctx:
        with pytest.raises(NotFound):
            await ctx.blobs.get(ctx, blob_id)


async def test_what_lies_on_the_disk_shows_nothing_and_a_flipped_byte_is_refused(clinic):
    blob_id = await _stored(clinic)
    path = clinic.assembly.config.state_dir / "blobs" / str(clinic.tenant.id) / str(blob_id)
    sealed = bytearray(path.read_bytes())
    assert b"x-ray" not in sealed
    sealed[len(sealed) // 2] ^= 1
    path.write_bytes(bytes(sealed))
    async with clinic.context() as ctx:
        with pytest.raises(CryptoError):
            await ctx.blobs.get(ctx, blob_id)


async def test_a_data_key_opens_only_in_its_clinic_for_its_purpose_under_its_master_key(clinic, other_clinic):
    keys = clinic.assembly.runtime.keys
    async with clinic.context() as ctx:
        key, wrapped = await keys.new_data_key(ctx.db, clinic.tenant.id, "recording", "1")
        assert await keys.open_data_key(ctx.db, clinic.tenant.id, wrapped, "recording", "1") == key
        with pytest.raises(CryptoError):
            await keys.open_data_key(ctx.db, clinic.tenant.id, wrapped, "recording", "2")
        with pytest.raises(CryptoError):
            await Keyring(Key.generate()).open_data_key(ctx.db, clinic.tenant.id, wrapped, "recording", "1")
    async with other_clinic.context() as ctx:
        with pytest.raises(CryptoError):
            await keys.open_data_key(ctx.db, other_clinic.tenant.id, wrapped, "recording", "1")


async def test_a_destroyed_blob_is_gone_and_its_bytes_go_only_then(clinic, other_clinic):
    blob_id = await _stored(clinic)
    path = clinic.assembly.config.state_dir / "blobs" / str(clinic.tenant.id) / str(blob_id)
    async with other_clinic.context() as ctx:
        with pytest.raises(NotFound):
            await ctx.blobs.destroy(ctx, blob_id)
    async with clinic.context() as ctx:
        await ctx.blobs.erase(ctx, blob_id)
    assert path.exists(), "what still has its key is left alone"
    async with clinic.context() as ctx:
        assert await ctx.blobs.destroy(ctx, blob_id) == hashlib.sha256(SECRET).digest()
    async with clinic.context() as ctx:
        with pytest.raises(NotFound):
            await ctx.blobs.get(ctx, blob_id)
        for _ in range(2):
            await ctx.blobs.erase(ctx, blob_id)
    assert not path.exists()


async def test_throwing_the_wrapped_key_away_erases_the_blob(clinic):
    blob_id = await _stored(clinic)
    async with clinic.context() as ctx:
        await ctx.db.execute(update(Blob).where(Blob.id == blob_id).values(key=b"\0" * 84))
    async with clinic.context() as ctx:
        with pytest.raises(CryptoError):
            await ctx.blobs.get(ctx, blob_id)
        assert (await ctx.db.execute(select(Blob.size))).scalar_one() == len(SECRET)
