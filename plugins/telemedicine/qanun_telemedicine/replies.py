"""What a socket says: answers, codes and files in the words of the page's protocol. Nothing here decides anything."""

from __future__ import annotations

from typing import Any

import msgspec

from qanun.api import Conflict, Forbidden, NotFound, QanunError
from qanun_telemedicine import schemas
from qanun_telemedicine.models import Attachment


def answer(number: int, described: Any) -> dict[str, Any]:
    """The media worker's answer to the offer of that number."""
    return {
        "type": "answer",
        "number": number,
        "sdp": described.sdp,
        "tracks": [msgspec.to_builtins(track) for track in described.tracks],
        "wanted": described.wanted,
        "connection": described.connection,
        "revision": described.revision,
    }


def tag(message: schemas.Message) -> str:
    return str(message.__struct_config__.tag)


def media_code(error: QanunError) -> str:
    """`closed` and `forbidden` make the page's media session give up; anything else is tried again."""
    if isinstance(error, Conflict | NotFound):
        return "closed"
    return "forbidden" if isinstance(error, Forbidden) else error.code


def file_of(found: Attachment | None) -> dict[str, Any] | None:
    """What a line of the chat carries; the page gets the bytes at its own address of the file."""
    if found is None:
        return None
    return {"id": str(found.id), "name": found.name, "type": found.content_type, "size": found.size}
