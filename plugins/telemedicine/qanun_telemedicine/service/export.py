"""Copies of recordings that leave the clinic: who asked, for whom, why, and exactly which bytes were handed out.

A copy is a ZIP: the recording as Matroska with a mark on it, a slip that says what it is, signed by the clinic with the
file's SHA-256 in it, and a few words for whoever receives it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import time
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from qanun.api import N_, Conflict, Context, Invalid, Key, NotFound, ResourceRef, SigningKey, new_id
from qanun_telemedicine.models import Recording
from qanun_telemedicine.models_kept import RecordingExport
from qanun_telemedicine.recording import player
from qanun_telemedicine.recording.bundle import Mark
from qanun_telemedicine.service import devices
from qanun_telemedicine.service.recording import binding, folder, recording, recording_key
from qanun_telemedicine.service.retention import FINISHED
from qanun_telemedicine.service.signing import canonical, signer

PURPOSES: Mapping[str, object] = {
    "patient": N_("The patient asked for a copy"),
    "court": N_("A court or an authority asks for it"),
    "care": N_("Another clinic goes on with the care"),
    "teaching": N_("Teaching or supervision"),
    "other": N_("Something else"),
}
#: Once somebody took their consent back, a copy goes only to the patient and to who may demand it.
DESPITE_WITHDRAWAL = ("patient", "court")
LIFETIME = timedelta(minutes=30)
_LEAST_REASON, _MOST = 10, 2000

_READ_ME = """This folder holds a copy of a recorded video consultation.

recording.mkv  every person's picture and sound as tracks of their own. Players such as VLC and mpv show the mark that says
               whose copy this is; it is a forced subtitle track and stands in the file's title and tags as well. The
               pictures themselves were not encoded again.
slip.json      what this is, who made the copy, when, for whom and why, with the SHA-256 of recording.mkv, signed by the
               clinic (Ed25519 over the text of "body"). A file with another SHA-256 is not the one that was handed out.

It is a part of somebody's medical record. Keep it sealed, give it to nobody else, destroy it when it is not needed any more.
"""


async def ask_export(ctx: Context, record: Recording, form: Mapping[str, str]) -> RecordingExport:
    """Write down who wants a copy for whom and why; only then there is something to fetch, for half an hour, by them alone.

    Raises Invalid (no purpose, recipient or reason; a purpose that a withdrawn consent does not allow) and Conflict (it
    still runs, or is destroyed).
    """
    if record.state not in FINISHED:
        raise Conflict("there is nothing to take out")
    purpose, recipient, reason = (form.get(name, "").strip() for name in ("purpose", "recipient", "reason"))
    faults: dict[str, object] = {}
    if purpose not in PURPOSES:
        faults["purpose"] = N_("Choose one of the listed values.")
    elif record.withdrawn_at is not None and purpose not in DESPITE_WITHDRAWAL:
        faults["purpose"] = N_("Somebody took the consent back: a copy goes to the patient or to a court only.")
    if len(recipient) < 2:
        faults["recipient"] = N_("Write who gets the copy.")
    if len(reason) < _LEAST_REASON:
        faults["reason"] = N_("Write the reason in a sentence.")
    for name, text in (("recipient", recipient), ("reason", reason)):
        if len(text) > _MOST:
            faults[name] = N_("This text is too long.")
    if faults:
        raise Invalid(faults)
    made = RecordingExport(
        id=new_id(), recording_id=record.id, patient_id=record.patient_id, purpose=purpose, recipient=recipient,
        reason=reason, asked_by=ctx.actor.id, asked_by_name=ctx.actor.name, asked_at=ctx.now, expires_at=ctx.now + LIFETIME,
    )  # fmt: skip
    ctx.db.add(made)
    await ctx.db.flush()
    ctx.audit(
        "telemedicine.export.ask", patient_id=record.patient_id, entity=ResourceRef("Recording", record.id),
        detail={"export": str(made.id), "purpose": purpose},
    )  # fmt: skip
    return made


async def export_of(ctx: Context, recording_id: uuid.UUID, id: uuid.UUID) -> RecordingExport:
    """One copy that the acting person asked for. Raises NotFound for anybody else's, another recording's, another clinic's."""
    statement = select(RecordingExport).where(
        RecordingExport.id == id, RecordingExport.recording_id == recording_id, RecordingExport.asked_by == ctx.actor.id
    )
    found = (await ctx.db.execute(statement)).scalar_one_or_none()
    if found is None:
        raise NotFound("export")
    return found


async def exports_of(ctx: Context, recording_id: uuid.UUID) -> list[RecordingExport]:
    """Every copy there was, the newest first."""
    statement = select(RecordingExport).where(RecordingExport.recording_id == recording_id)
    return list((await ctx.db.execute(statement.order_by(RecordingExport.asked_at.desc()).limit(100))).scalars())


@dataclass(frozen=True, slots=True)
class Copy:
    """Everything that making a copy needs outside of a transaction. `finished` is filled while `pieces` runs."""

    place: Path
    key: Key
    bound: bytes
    names: Mapping[str, str]
    mark: Mark
    slip: Mapping[str, Any]
    signer: SigningKey
    finished: dict[str, Any] = field(default_factory=dict)

    def pieces(self) -> Iterator[bytes]:
        """The ZIP, piece by piece; blocking. Raises `player.Damaged` and `player.Empty`."""
        out = _Out()
        stamp = time.gmtime()[:6]
        with player.Recording(self.place, self.key, self.bound) as opened, zipfile.ZipFile(out, "w") as archive:
            bundle = opened.bundle(self.names, self.mark)
            digest = hashlib.sha256()
            with archive.open(zipfile.ZipInfo("recording.mkv", stamp), "w", force_zip64=True) as file:
                for piece in bundle.iterate():
                    digest.update(piece)
                    file.write(piece)
                    yield out.take()
            self.finished.update(octets=bundle.size, sha256=digest.digest())
            body = canonical({**self.slip, "octets": bundle.size, "sha256": digest.hexdigest()})
            signed = {
                "body": body,
                "signature": base64.b64encode(self.signer.sign(body.encode())).decode(),
                "public_key": base64.b64encode(self.signer.public).decode(),
            }
            archive.writestr(zipfile.ZipInfo("slip.json", stamp), json.dumps(signed, indent=1, ensure_ascii=False))
            archive.writestr(zipfile.ZipInfo("READ-ME.txt", stamp), _READ_ME)
        yield out.take()


class _Out(io.RawIOBase):
    """Where zipfile writes to: nothing is kept but what was not taken yet."""

    def __init__(self) -> None:
        super().__init__()
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._held += data
        return len(data)

    def take(self) -> bytes:
        data = bytes(self._held)
        self._held.clear()
        return data


async def prepare_copy(ctx: Context, export: RecordingExport) -> Copy:
    """Open the way to the bytes, once per fetching, and write that down first. Raises Conflict when the half hour is over
    or the recording was destroyed since."""
    if export.expires_at <= ctx.now:
        raise Conflict("the time for fetching this copy is over")
    record = await recording(ctx, export.recording_id)
    if record.state not in FINISHED:
        raise Conflict("there is nothing to take out")
    names = await devices.names(ctx, record.consultation_id)
    number, when = str(export.id)[-12:], ctx.local(export.asked_at).strftime("%Y-%m-%d %H:%M %Z")
    line = ctx.locale.gettext(
        "Confidential copy for %(recipient)s · %(when)s · taken out by %(name)s · number %(number)s",
        domain="qanun_telemedicine",
    ) % {"recipient": export.recipient, "when": when, "name": export.asked_by_name, "number": number}
    slip = {
        "slip": "qanun.telemedicine.export/1", "clinic": str(ctx.tenant.id), "clinic_name": ctx.tenant.name,
        "export": str(export.id), "recording": str(record.id), "recorded_from": record.started_at.isoformat(),
        "recorded_to": record.stopped_at.isoformat() if record.stopped_at else "", "purpose": export.purpose,
        "recipient": export.recipient, "reason": export.reason, "taken_out_by": export.asked_by_name,
        "taken_out_at": export.asked_at.isoformat(), "file": "recording.mkv",
        "consent_withdrawn": record.withdrawn_at is not None,
    }  # fmt: skip
    tags = {
        "EXPORT": str(export.id), "RECIPIENT": export.recipient, "EXPORTED_BY": export.asked_by_name,
        "DATE_EXPORTED": export.asked_at.isoformat(), "PURPOSE": export.purpose, "COMMENT": line,
    }  # fmt: skip
    ctx.audit(
        "telemedicine.export.fetch", patient_id=record.patient_id, entity=ResourceRef("Recording", record.id),
        detail={"export": str(export.id)},
    )  # fmt: skip
    return Copy(
        folder(ctx, record), await recording_key(ctx, record), binding(ctx, record), names,
        Mark(f"{ctx.tenant.name} · {number}", line, tags), slip, await signer(ctx),
    )  # fmt: skip


async def handed_out(ctx: Context, export: RecordingExport, finished: Mapping[str, Any]) -> None:
    """The whole copy went out: keep what it was."""
    export.fetched_at, export.octets, export.sha256 = ctx.now, finished["octets"], finished["sha256"]
    ctx.audit(
        "telemedicine.export.finish", patient_id=export.patient_id, entity=ResourceRef("Recording", export.recording_id),
        detail={"export": str(export.id), "octets": export.octets, "sha256": finished["sha256"].hex()},
    )  # fmt: skip
