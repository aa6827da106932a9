"""Taking a marked copy of a recording out: the reason first, then the page from which it is fetched, then the file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import structlog
from litestar import Controller, Response
from litestar.response import Stream

from qanun.api import Context, CryptoError, Form, Invalid, OpenContext, Unavailable, get, page, post, redirect
from qanun_telemedicine import service
from qanun_telemedicine.permissions import Telemedicine
from qanun_telemedicine.recording import player
from qanun_telemedicine.routes.playback import watch_page
from qanun_telemedicine.service import export

log = structlog.get_logger("qanun.telemedicine")


class ExportController(Controller):
    path = "/telemedicine/recordings/{recording_id:uuid}/exports"

    @post("/", permission=Telemedicine.RECORDING_EXPORT, fresh=True)
    async def ask(self, ctx: Context, recording_id: UUID, form: Form) -> Response[str]:
        record = await service.readable(ctx, recording_id)
        values = {name: form.text(name) for name in ("purpose", "recipient", "reason")}
        try:
            made = await export.ask_export(ctx, record, values)
        except Invalid as error:
            return await watch_page(ctx, record, values=values, errors=error.fields, status=422)
        return redirect(ctx, f"/telemedicine/recordings/{recording_id}/exports/{made.id}")

    @get("/{export_id:uuid}", permission=Telemedicine.RECORDING_EXPORT)
    async def shown(self, ctx: Context, recording_id: UUID, export_id: UUID) -> Response[str]:
        """What was written down, and the link to the file, for as long as it may be fetched."""
        record = await service.readable(ctx, recording_id)
        made = await export.export_of(ctx, recording_id, export_id)
        return page(
            ctx, "telemedicine/export.html", export=made, recording=record, purposes=export.PURPOSES,
            may_fetch=made.expires_at > ctx.now and record.state in ("stopped", "failed"),
        )  # fmt: skip

    @get("/{export_id:uuid}/file", permission=Telemedicine.RECORDING_EXPORT, fresh=True)
    async def file(self, open_context: OpenContext, recording_id: UUID, export_id: UUID) -> Response[Any]:
        async with open_context() as ctx:
            await service.readable(ctx, recording_id)
            made = await export.export_of(ctx, recording_id, export_id)
            copy = await export.prepare_copy(ctx, made)
        pieces = copy.pieces()
        try:
            # The first piece is made before the answer begins: what cannot be opened gets a clear error, not half a file.
            first = await asyncio.to_thread(next, pieces)
        except (player.Damaged, player.Empty, CryptoError, FileNotFoundError):
            raise Unavailable("the recording is damaged or empty") from None

        async def stream() -> AsyncIterator[bytes]:
            yield first
            while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                yield piece
            async with open_context() as ctx:
                await export.handed_out(ctx, await export.export_of(ctx, recording_id, export_id), copy.finished)

        name = f"recording-{str(export_id)[-12:]}.zip"
        return Stream(
            stream(), media_type="application/zip", headers={"content-disposition": f'attachment; filename="{name}"'}
        )
