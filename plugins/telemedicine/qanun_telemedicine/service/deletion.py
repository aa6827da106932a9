"""Destroying a recording so that it can be proven: its key is thrown away, and a signed certificate says what that was.

With the key gone nobody can read the files any more, wherever a copy of them lies; the files themselves go in the
background. What this cannot reach, the certificate says: backups of the database that were made before still hold the
wrapped key until they are overwritten.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from qanun.api import N_, AuditEvent, Conflict, Context, CryptoError, Invalid, NotFound, ResourceRef, new_id
from qanun_telemedicine.models import Recording
from qanun_telemedicine.models_kept import DeletionCertificate, RecordingReview
from qanun_telemedicine.service.recording import folder, recording, recording_key
from qanun_telemedicine.service.retention import FINISHED, LEAST_LETTERS, MOST_LETTERS, current_policy, held, lock
from qanun_telemedicine.service.signing import canonical, genuine, signer

HELD = "a legal hold stands on this recording"
_READ = 1 << 20
#: How far away a decision to keep may put the next question.
MOST_PUT_OFF = timedelta(days=366 * 30)


async def destroy(ctx: Context, record: Recording, *, why: str, note: str = "") -> DeletionCertificate:
    """Throw the key away, sign what happened. `why` is `due` or `withdrawn`. Raises Conflict: held, still running, or
    destroyed already."""
    # Placing a hold locks the same row: whichever comes second sees the other.
    await lock(ctx, Recording.id == record.id)
    if record.state not in FINISHED:
        raise Conflict("this recording is not one that can be destroyed")
    if await held(ctx, record):
        raise Conflict(HELD)
    place = folder(ctx, record)
    files = await asyncio.to_thread(_files, place)
    policy = await current_policy(ctx)
    try:
        key_id = (await recording_key(ctx, record)).id.hex()
    except CryptoError:
        key_id = ""  # it could not be opened; it is thrown away all the same
    body: dict[str, Any] = {
        "certificate": "qanun.telemedicine.deletion/1",
        "clinic": str(ctx.tenant.id),
        "recording": str(record.id),
        "consultation": str(record.consultation_id),
        "recorded_from": record.started_at.isoformat(),
        "recorded_to": record.stopped_at.isoformat() if record.stopped_at else "",
        "key": {"id": key_id, "wrapped_sha256": hashlib.sha256(record.key).hexdigest()},
        "files": files,
        "why": why,
        "kept_until": record.keep_until.isoformat() if record.keep_until else "",
        "policy": str(policy.id) if policy else "",
        "decided_by": str(ctx.actor.id) if ctx.actor.kind != "system" else "policy",
        "destroyed_at": ctx.now.isoformat(),
        "method": "The data key (AES-256) was erased; the sealed files cannot be read without it and are removed.",
        "limits": "Backups of the database made before this moment hold the wrapped key until they are overwritten.",
    }
    text = canonical(body)
    key = await signer(ctx)
    certificate = DeletionCertificate(
        id=new_id(), recording_id=record.id, body=text, signature=key.sign(text.encode()), public_key=key.public,
        issued_at=ctx.now,
    )  # fmt: skip
    ctx.db.add(certificate)
    record.key, record.state, record.deleted_at = b"", "deleted", ctx.now
    await _close_reviews(ctx, record, note)
    await ctx.db.flush()
    ctx.audit(
        "telemedicine.recording.destroy", patient_id=record.patient_id, entity=ResourceRef("Recording", record.id),
        detail={"why": why, "certificate": str(certificate.id), "sha256": hashlib.sha256(text.encode()).hexdigest()},
    )  # fmt: skip
    ctx.defer("telemedicine.erase_files", recording_id=str(record.id))
    ctx.notify("telemedicine.review", recording=record.id)
    return certificate


async def _close_reviews(ctx: Context, record: Recording, note: str) -> None:
    waits = select(RecordingReview).where(RecordingReview.recording_id == record.id, RecordingReview.decision.is_(None))
    for review in (await ctx.db.execute(waits)).scalars():
        _decided(ctx, review, "delete", note)


def _decided(ctx: Context, review: RecordingReview, decision: str, note: str) -> None:
    review.decision, review.decided_at, review.note = decision, ctx.now, note
    review.decided_by, review.decided_by_name = ctx.actor.id, ctx.actor.name


async def decide_review(
    ctx: Context, review: RecordingReview, record: Recording, decision: str, note: str, again_on: date | None = None
) -> DeletionCertificate | None:
    """A person's answer: `delete`, or `keep` with the reason and the day on which it is asked again.

    A second identical press changes nothing. Raises Invalid (no reason, no day) and Conflict (held, decided otherwise).
    """
    note = note.strip()
    if review.decision is not None:
        if review.decision == decision:
            return None
        raise Conflict("this was decided already")
    faults: dict[str, object] = {}
    if decision not in ("keep", "delete"):
        faults["decision"] = N_("Choose one of the listed values.")
    if len(note) < LEAST_LETTERS:
        faults["note"] = N_("Write why, in a few words.")
    elif len(note) > MOST_LETTERS:
        faults["note"] = N_("This text is too long.")
    today = ctx.local(ctx.now).date()
    if decision == "keep" and (again_on is None or not today < again_on <= today + MOST_PUT_OFF):
        faults["again_on"] = N_("Choose a day in the future on which it is asked again.")
    if faults:
        raise Invalid(faults)
    if decision == "delete":
        return await destroy(ctx, record, why=review.reason, note=note)
    _decided(ctx, review, "keep", note)
    review.again_on = again_on
    ctx.audit(
        "telemedicine.recording.keep", patient_id=record.patient_id, entity=ResourceRef("Recording", record.id),
        detail={"review": str(review.id), "again_on": str(again_on)},
    )  # fmt: skip
    ctx.notify("telemedicine.review", recording=record.id)
    return None


def _files(place: Path) -> list[dict[str, Any]]:
    found = []
    for path in sorted(place.iterdir()) if place.is_dir() else []:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while piece := file.read(_READ):
                digest.update(piece)
        found.append({"name": path.name, "octets": path.stat().st_size, "sha256": digest.hexdigest()})
    return found


def erase(place: Path) -> None:
    """Remove a destroyed recording's folder. Idempotent."""
    if place.is_dir():
        for path in place.iterdir():
            path.unlink(missing_ok=True)
        place.rmdir()


# --- looking at the proof -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Proof:
    """A certificate and what of it holds now: the signature, the missing key, the missing files, the audit's own entry."""

    certificate: DeletionCertificate
    record: Recording
    genuine: bool
    keyless: bool
    fileless: bool
    audited: bool

    @property
    def holds(self) -> bool:
        return self.genuine and self.keyless and self.fileless and self.audited


async def proof(ctx: Context, id: uuid.UUID) -> Proof:
    """Raises NotFound for an unknown certificate and for another clinic's."""
    statement = select(DeletionCertificate).where(DeletionCertificate.id == id)
    found = (await ctx.db.execute(statement)).scalar_one_or_none()
    if found is None:
        raise NotFound("certificate")
    record = await recording(ctx, found.recording_id)
    written = select(AuditEvent.body).where(
        AuditEvent.type == "telemedicine.recording.destroy",
        AuditEvent.entity == str(ResourceRef("Recording", record.id)),
    )
    digest = hashlib.sha256(found.body.encode()).hexdigest()
    bodies = (await ctx.db.execute(written.limit(5))).scalars()
    there = await asyncio.to_thread(folder(ctx, record).exists)
    return Proof(
        found, record, genuine(found.public_key, found.signature, found.body), record.key == b"", not there,
        any(digest in body for body in bodies),
    )  # fmt: skip


async def certificates(ctx: Context, *, limit: int = 50) -> list[DeletionCertificate]:
    """The newest first."""
    statement = select(DeletionCertificate).order_by(DeletionCertificate.issued_at.desc()).limit(limit)
    return list((await ctx.db.execute(statement)).scalars())
