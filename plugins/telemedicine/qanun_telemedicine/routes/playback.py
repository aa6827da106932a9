"""Playing a recording: one seekable file per participant, decrypted on the way out, every viewing in the audit."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from litestar import Controller, Request, Response
from litestar.response import Stream
from sqlalchemy import select

from qanun.api import AuditEvent, Context, CryptoError, Key, NotFound, OpenContext, ResourceRef, Unavailable, get, page
from qanun_telemedicine import service
from qanun_telemedicine.models import Recording
from qanun_telemedicine.permissions import Telemedicine
from qanun_telemedicine.recording import player
from qanun_telemedicine.recording.view import View
from qanun_telemedicine.service.devices import names
from qanun_telemedicine.service.export import PURPOSES, exports_of
from qanun_telemedicine.service.recording import binding, folder
from qanun_telemedicine.service.retention import FINISHED
from qanun_telemedicine.views import people

#: What one answer holds at most; a browser asks for the rest as it needs it.
_PIECE = 1 << 20
_RANGE = re.compile(r"bytes=(\d{1,15})-(\d{0,15})")
#: Seeking about in one sitting is one viewing.
_SITTING = timedelta(minutes=10)

Request_ = Request[Any, Any, Any]


class PlaybackController(Controller):
    path = "/telemedicine/recordings/{recording_id:uuid}"

    @get("/", permission=Telemedicine.RECORDING_PLAY)
    async def watch(self, ctx: Context, recording_id: UUID) -> Response[str]:
        return await watch_page(ctx, await service.readable(ctx, recording_id))

    @get("/{participant:str}/{number:int}", permission=Telemedicine.RECORDING_PLAY, live=True)
    async def stream(
        self, open_context: OpenContext, request: Request_, recording_id: UUID, participant: str, number: int
    ) -> Response[Any]:
        async with open_context() as ctx:
            record = await service.readable(ctx, recording_id)
            if record.state == "deleted":
                raise NotFound("recording")
            key = await service.recording_key(ctx, record)
            await _note_viewing(ctx, record)
            place, bound = folder(ctx, record), binding(ctx, record)
            # What still grows is laid out anew each time.
            shelf = (record.id, record.updated_at) if record.state in FINISHED else None
        asked = _RANGE.fullmatch(request.headers.get("range", ""))
        start, last = (int(asked[1]), int(asked[2]) if asked[2] else None) if asked else (0, None)

        async def read(start: int, last: int | None) -> _Piece:
            return await asyncio.to_thread(_read, shelf, place, key, bound, participant, number, start, last)

        try:
            piece = await read(start, last)
        except (KeyError, FileNotFoundError, player.Empty):
            raise NotFound("recording") from None
        except (player.Damaged, CryptoError):
            raise Unavailable("the recording is damaged") from None
        headers = {"accept-ranges": "bytes", "etag": f'"{piece.etag}"', "content-disposition": "inline"}
        if start >= piece.size:
            return Response(b"", status_code=416, headers={"content-range": f"bytes */{piece.size}"})
        if asked:
            headers["content-range"] = f"bytes {start}-{start + len(piece.body) - 1}/{piece.size}"
            return Response(piece.body, status_code=206, media_type=piece.mime, headers=headers)

        async def whole() -> AsyncIterator[bytes]:
            at = 0
            while at < piece.size:
                part = await read(at, None)
                yield part.body
                at += len(part.body)

        return Stream(whole(), media_type=piece.mime, headers={**headers, "content-length": str(piece.size)})


async def watch_page(
    ctx: Context, record: Recording, *, values: Mapping[str, Any] | None = None, errors: Mapping[str, Any] | None = None,
    status: int = 200,
) -> Response[str]:  # fmt: skip
    """The page on which a recording plays; `values` and `errors` are of the form that asks for a copy."""
    row = await service.consultation(ctx, record.consultation_id)
    patient, practitioner = await people(ctx, row)
    seats: list[player.Seat] = []
    problem = "destroyed"
    if record.state != "deleted":
        key = await service.recording_key(ctx, record)
        await _note_viewing(ctx, record)
        seats, problem = await asyncio.to_thread(_seats, folder(ctx, record), key, binding(ctx, record))
    known = await names(ctx, row.id)
    shown = [
        {"name": known.get(seat.participant, ""), "video": seat.has_video, "number": seat.number, "source": seat.source,
         "src": f"/telemedicine/recordings/{record.id}/{seat.participant}/{seat.number}"}
        for seat in seats
    ]  # fmt: skip
    return page(
        ctx, "telemedicine/recording.html", status=status, media=True, recording=record, consultation=row, patient=patient,
        practitioner=practitioner, seats=shown, problem=problem, purposes=PURPOSES,
        may_export=ctx.can(Telemedicine.RECORDING_EXPORT) and record.state in FINISHED,
        exports=await exports_of(ctx, record.id), values=dict(values or {}), errors=dict(errors or {}),
    )  # fmt: skip


async def _note_viewing(ctx: Context, record: Recording) -> None:
    entity = ResourceRef("Recording", record.id)
    recently = select(AuditEvent.id).where(
        AuditEvent.type == "telemedicine.recording.view", AuditEvent.entity == str(entity),
        AuditEvent.actor_id == ctx.actor.id, AuditEvent.at > ctx.now - _SITTING,
    )  # fmt: skip
    if (await ctx.db.execute(recently.limit(1))).first() is None:
        ctx.audit("telemedicine.recording.view", patient_id=record.patient_id, entity=entity)


def _seats(place: Path, key: Key, bound: bytes) -> tuple[list[player.Seat], str]:
    try:
        with player.Recording(place, key, bound) as opened:
            return opened.seats(), ""
    except player.Empty:
        return [], "empty"
    except (player.Damaged, CryptoError):
        return [], "damaged"


@dataclass(frozen=True, slots=True)
class _Piece:
    body: bytes
    size: int
    mime: str
    etag: str


class _Shelf:
    """The last views of finished recordings as they are laid out, without key and without media: where which frame lies.

    A browser asks for an hour in hundreds of pieces, and laying an hour out takes most of a second.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._views: OrderedDict[tuple[object, ...], View] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: tuple[object, ...]) -> View | None:
        with self._lock:
            view = self._views.get(name)
            if view is not None:
                self._views.move_to_end(name)
            return view

    def put(self, name: tuple[object, ...], view: View) -> None:
        with self._lock:
            # What it reads from is closed in a moment; the next reader brings its own.
            self._views[name] = view.reading(_nothing)
            while len(self._views) > self._most:
                self._views.popitem(last=False)


def _nothing(part: int, offset: int, size: int) -> bytes:
    raise RuntimeError("a view from the shelf is read through `reading`")


_shelf = _Shelf(8)


def _read(
    shelf: tuple[object, ...] | None, place: Path, key: Key, bound: bytes, participant: str, number: int, start: int,
    last: int | None,
) -> _Piece:  # fmt: skip
    name = (*shelf, participant, number) if shelf else None
    known = _shelf.get(name) if name else None
    if known is not None:
        with player.frames_of(place, key, bound) as source:
            return _piece(known.reading(source), start, last)
    with player.Recording(place, key, bound) as opened:
        view = opened.view(participant, number)
        if name:
            _shelf.put(name, view)
        return _piece(view, start, last)


def _piece(view: View, start: int, last: int | None) -> _Piece:
    end = min(view.size, start + _PIECE, (last + 1) if last is not None else view.size)
    return _Piece(view.read(start, end - start) if start < end else b"", view.size, view.mime, view.etag)
