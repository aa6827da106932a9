"""Photos and documents sent in the chat: looked at before they are kept, sealed, and given out as what they are and no other.

A name and a browser's word for the type prove nothing: the first bytes decide. What could be run by a browser (HTML, SVG)
is not taken, and nothing is ever shown inside our own pages but pictures.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import select

from qanun.api import N_, Conflict, Context, Invalid, NotFound, ResourceRef, new_id
from qanun_telemedicine.models import Attachment, ChatMessage, Consultation, Participant
from qanun_telemedicine.service.chat import say

MOST_OCTETS = 10 * 1024 * 1024
MOST_NAME = 120
#: Content type → the bytes that such a file begins with, and what its name ends with.
TYPES = {
    "image/jpeg": ((b"\xff\xd8\xff",), ".jpg"),
    "image/png": ((b"\x89PNG\r\n\x1a\n",), ".png"),
    "image/webp": ((b"RIFF",), ".webp"),
    "application/pdf": ((b"%PDF-",), ".pdf"),
}
PICTURES = frozenset({"image/jpeg", "image/png", "image/webp"})


async def attach(
    ctx: Context,
    row: Consultation,
    person: Participant,
    client_id: uuid.UUID,
    name: str,
    content: bytes,
    text: str = "",
) -> Attachment:
    """Send a file as a line of the chat; sending again with the same `client_id` does nothing.

    Raises Invalid (no file, too large, not one of `TYPES`) and what `say` raises.
    """
    if row.patient_id is None or row.group_id is not None:
        raise Conflict("no files are sent in a group")
    kind = recognised(content)
    name = _clean(name, kind)
    line = await say(ctx, row, person, client_id, text.strip() or name)
    known = await _of_line(ctx, line.id)
    if known is not None:
        return known
    id = new_id()
    blob = await ctx.blobs.put(
        ctx, content, owner=ResourceRef("Attachment", id), content_type=kind, patient_id=row.patient_id
    )  # fmt: skip
    kept = Attachment(
        id=id, consultation_id=row.id, message_id=line.id, patient_id=row.patient_id, blob_id=blob.id, name=name,
        content_type=kind, size=len(content),
    )  # fmt: skip
    ctx.db.add(kept)
    await ctx.db.flush()
    ctx.audit(
        "telemedicine.attachment.send", patient_id=row.patient_id, entity=ResourceRef("Consultation", row.id),
        detail={"attachment": str(id), "type": kind, "size": len(content)},
    )  # fmt: skip
    return kept


def recognised(content: bytes) -> str:
    """The type that the bytes themselves show. Raises Invalid."""
    if not content:
        raise Invalid({"file": N_("Choose a file first.")})
    if len(content) > MOST_OCTETS:
        raise Invalid({"file": N_("This file is too large: at most 10 MB.")})
    for kind, (beginnings, _) in TYPES.items():
        if content.startswith(beginnings) and (kind != "image/webp" or content[8:12] == b"WEBP"):
            return kind
    raise Invalid({"file": N_("Only photos (JPEG, PNG, WebP) and PDF documents can be sent.")})


def _clean(name: str, kind: str) -> str:
    """A file name without a path, without control and direction characters, ending as its type does."""
    bare = re.split(r"[/\\]", name)[-1]
    bare = "".join(letter for letter in bare if letter.isprintable() and letter not in "\u202a\u202b\u202c\u202d\u202e")
    stem, ending = (bare.rsplit(".", 1)[0] if "." in bare else bare).strip(), TYPES[kind][1]
    return f"{stem[: MOST_NAME - len(ending)] or 'file'}{ending}"


async def _of_line(ctx: Context, message_id: uuid.UUID) -> Attachment | None:
    return (await ctx.db.execute(select(Attachment).where(Attachment.message_id == message_id))).scalar_one_or_none()


async def attachments_of(ctx: Context, lines: Iterable[uuid.UUID]) -> dict[uuid.UUID, Attachment]:
    """By the line that carries it."""
    wanted = list(lines)
    if not wanted:
        return {}
    found = select(Attachment).where(Attachment.message_id.in_(wanted))
    return {one.message_id: one for one in (await ctx.db.execute(found)).scalars()}


async def attachment(
    ctx: Context, row: Consultation, id: uuid.UUID, *, since: datetime | None = None
) -> tuple[Attachment, bytes]:
    """A file of this consultation and its bytes, opened for whoever acts: written down. `since`: none older than that.

    Raises NotFound, also for another consultation's, and CryptoError when the bytes were changed.
    """
    statement = (
        select(Attachment)
        .join(ChatMessage, ChatMessage.id == Attachment.message_id)
        .where(Attachment.id == id, Attachment.consultation_id == row.id)
    )
    if since is not None:
        statement = statement.where(ChatMessage.sent_at >= since)
    found = (await ctx.db.execute(statement)).scalar_one_or_none()
    if found is None:
        raise NotFound("attachment")
    _, content = await ctx.blobs.get(ctx, found.blob_id)
    ctx.audit(
        "telemedicine.attachment.read", patient_id=row.patient_id, entity=ResourceRef("Consultation", row.id),
        detail={"attachment": str(found.id)},
    )  # fmt: skip
    return found, content
