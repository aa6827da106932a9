"""One person's live connection to a consultation: signalling for media, chat, consents, and every change of state.

A socket holds no truth. What it needs it reads; what it learns it stores; whoever reconnects, to whichever process, goes
on where they were. It closes within a second of the session's end.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec
import structlog
from litestar.exceptions import WebSocketDisconnect

from qanun.api import Context, Invalid, NotFound, OpenContext, QanunError, Unavailable, still_allowed
from qanun_telemedicine import schemas, service
from qanun_telemedicine.acts import Acts, Socket
from qanun_telemedicine.captions.line import Caption, captions_line
from qanun_telemedicine.media import ice_servers, media_of
from qanun_telemedicine.models import ADMITTED, IN_PROGRESS, Consultation
from qanun_telemedicine.replies import file_of, media_code, tag
from qanun_telemedicine.service import quality, together, transcripts
from qanun_telemedicine.service.consultations import TOPIC
from qanun_telemedicine.service.devices import heard_of
from qanun_telemedicine.settle import recording_failed, settle
from qanun_telemedicine.sfu.client import MediaError
from qanun_telemedicine.sfu.protocol import Event

log = structlog.get_logger("qanun.telemedicine")

#: How often the session is looked at, and how often the person's presence is noted.
_CHECK_S = 0.7
_SEEN_EVERY = 14
#: How often a worker that did not answer is told again to stop recording, in looks at the session.
_AGAIN_EVERY = 2
#: A page that says nothing this long is gone, whatever the network says.
_SILENT_S = 20.0
_CHECK_PATIENCE = 8
#: Refusals of a seat in the call that its page explains.
_STAYS_OUT = ("locked", "full", "unsealed", "apart", "closed-record")
_SIGNED_OUT, _TAKEN_OVER, _GARBAGE = 4401, 4409, 4400


class Line(Acts):
    """One connection. `run` returns when it is over; nothing it raises reaches other connections."""

    def __init__(self, socket: Socket, open_context: OpenContext, consultation_id: uuid.UUID) -> None:
        super().__init__(socket, open_context, consultation_id)
        self._telling = asyncio.Lock()
        self._heard = 0.0
        self._last_line: uuid.UUID | None = None
        self._patient: uuid.UUID | None = None
        self._sampled = 0.0
        self._staff = False

    async def run(self) -> None:
        async with self.open_context() as ctx:
            row, person = await self._row(ctx)
            if ctx.actor.kind == "patient" and row.patient_id is None:
                raise NotFound("consultation")
            call = await together.call_for(ctx, row)
            person = person if call.id == row.id else await service.attend(ctx, call)
            self.call_id, self.room, self.person = call.id, call.room, str(person.id)
            self._patient, self._together = row.patient_id, call.patient_id is None
            self._staff = ctx.actor.kind == "user"
            runtime, tenant_id = ctx.runtime, ctx.tenant.id
            servers = ice_servers(ctx, self.person)
        with contextlib.suppress(Unavailable):
            self._media = media_of(runtime)
        await self.socket.accept()
        self._heard = asyncio.get_running_loop().time()
        async with contextlib.AsyncExitStack() as stack:
            notices = await stack.enter_async_context(runtime.live.listen(tenant_id))
            works = [self._read(), self._notices(notices), self._watch()]
            if self._media is not None:
                works.append(self._events(stack.enter_context(self._media.listen(self.room))))
            if (line := captions_line(runtime)) is not None:
                works.append(self._captions(stack.enter_context(line.listen(self.room))))
            await self._send(
                {"type": "welcome", "me": self.person, "ice_servers": servers, "video": self._media is not None}
            )
            await self._tell_all()
            tasks = [asyncio.create_task(work) for work in works]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                    if isinstance(outcome, Exception) and not isinstance(
                        outcome, WebSocketDisconnect | ConnectionError
                    ):
                        log.error("consultation_socket_failed", exc_info=outcome)
                await asyncio.shield(self._gone())

    # --- reading ----------------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        faults = 0
        while True:
            text = await self.socket.receive_data("text")
            self._heard = asyncio.get_running_loop().time()
            try:
                message = schemas.DECODER.decode(text)
            except (msgspec.DecodeError, ValueError):
                faults += 1
                if faults > 20:
                    await self._close(_GARBAGE)
                    return
                await self._send({"type": "problem", "code": "malformed"})
                continue
            await self._do(message)

    async def _do(self, message: schemas.Message) -> None:
        number = getattr(message, "number", None)
        try:
            await self._act(message)
        except MediaError as error:
            await self._send({"type": "error", "number": number, "code": error.code})
        except Invalid as error:
            async with self.open_context() as ctx:
                fields = {name: ctx.locale.resolve(text) for name, text in error.fields.items()}
            await self._send({"type": "problem", "code": error.code, "fields": fields, "about": tag(message)})
        except QanunError as error:
            if number is not None:
                await self._send({"type": "error", "number": number, "code": media_code(error)})
                if error.details.get("code") in _STAYS_OUT:
                    await self._send({"type": "problem", "code": error.details["code"], "about": tag(message)})
            else:
                await self._send({"type": "problem", "code": error.code, "about": tag(message)})
        except (WebSocketDisconnect, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever failed, the call goes on
            # The database is away, most likely. The page keeps what it has and says so.
            log.warning("consultation_message_failed", about=tag(message), error=type(error).__name__)
            await self._send({"type": "problem", "code": "unavailable", "about": tag(message)})

    # --- telling ----------------------------------------------------------------------------------------------------------

    async def _close(self, code: int) -> None:
        with contextlib.suppress(Exception):
            async with self._sending:
                await self.socket.close(code)

    async def _tell_all(self) -> None:
        """State and chat as they are now; only what is new is sent."""
        async with self._telling:
            await self._tell_news()

    async def _tell_news(self) -> None:
        async with self.open_context() as ctx:
            row, person = await self._row(ctx)
            state = await service.snapshot(ctx, row, person)
            lines: list[Any] = []
            authors: Mapping[uuid.UUID, str] = {}
            if row.group_id is None or row.state == IN_PROGRESS:
                call = await together.call_for(ctx, row)
                lines = await self._lines(ctx, call)
                authors = await together.names(ctx, call, [author for _, author in lines])
            files = await service.attachments_of(ctx, [line.id for line, _ in lines])
            taken = await self._taken_over(ctx)
        if taken:
            await self._close(_TAKEN_OVER)
            return
        if state != self._last_state:
            self._last_state = state
            await self._send(state)
        for line, author in lines:
            self._last_line = line.id
            await self._send({
                "type": "said", "id": str(line.id), "client_id": str(line.client_id), "text": line.text,
                "from": str(author.id), "name": authors[author.id], "me": str(author.id) == self.person, "at": line.sent_at.isoformat(),
                "file": file_of(files.get(line.id)),
            })  # fmt: skip

    async def _lines(self, ctx: Context, row: Consultation) -> list[Any]:
        """What was said and this person has not heard; guests, and a group's patients, hear nothing from before they were let
        in."""
        since = None
        if ctx.actor.kind == "patient" and row.patient_id is None:
            since = (await service.consultation(ctx, self.consultation_id)).admitted_at
        if ctx.actor.kind == "guest":
            me = await service.acting_guest(ctx, row.id)
            if me.state != ADMITTED:
                return []
            since = me.admitted_at
        return await service.said(ctx, row.id, after=self._last_line, since=since)

    async def _taken_over(self, ctx: Context) -> bool:
        """A newer connection of the same person (another tab, another phone) has the call now."""
        if self.place != "call":
            return False
        here = await service.present(ctx, self.call_id)
        held = [stay.connection for one, stay in here if str(one.id) == self.person and stay.place == "call"]
        return bool(held) and held[0] not in ("", self.connection)

    async def _notices(self, queue: asyncio.Queue[Any]) -> None:
        mine = {str(self.consultation_id), str(self.call_id)}
        while True:
            notice = await queue.get()
            # Who leads a group is told of the visits in it.
            visits = ((self._last_state or {}).get("group") or {}).get("visits", ())
            about = notice.ids.get("consultation")
            about_me = notice.topic == TOPIC and (about in mine or about in {one["id"] for one in visits})
            # Others leaving the queue move this patient forward.
            queued = notice.topic == TOPIC and self.place == "lobby"
            if about_me or queued or notice.topic == "core.reconnected":
                with _outage_survived():
                    await self._tell_all()

    async def _events(self, queue: asyncio.Queue[Event]) -> None:
        while True:
            event = await queue.get()
            mine = event.participant == self.person
            with _outage_survived():
                if event.event == "worker.restarted":
                    await self._send({"type": "restarted"})
                elif event.event == "participant.tracks" and mine:
                    await self._send({"type": "tracks", **event.data})
                elif event.event == "participant.layers" and mine:
                    await self._send({"type": "layers", **event.data})
                elif event.event == "participant.sound" and mine:
                    await self._send({"type": "sound", **event.data})
                elif event.event == "participant.quality" and mine:
                    await self._send({"type": "quality", **event.data})
                    await self._sample(event.data)
                elif event.event == "participant.speaker" and self.place == "call":
                    await self._send({"type": "speaker", "participant": event.participant})
                elif event.event in ("participant.connected", "participant.disconnected"):
                    await self._device(event.participant, event.event == "participant.connected")
                elif event.event == "recording.lost":
                    # The way from a media node to the recorder broke for long: what goes on is a new part.
                    await settle(self.open_context, self._worker(), self.call_id)
                elif event.event == "recording.failed":
                    problem = str(event.data.get("problem", "failed"))
                    await recording_failed(self.open_context, self.call_id, self._worker(), problem)

    async def _captions(self, queue: asyncio.Queue[Caption]) -> None:
        """What was said, for who is in the call while captions are on."""
        while True:
            caption = await queue.get()
            state = self._last_state or {}
            told = state.get("captions") or {}
            if self.place == "call" and told.get("asked"):
                await self._send({"type": "caption", "participant": caption.participant, "text": caption.text})
                if told["kept"]["asked"]:
                    with _outage_survived():
                        await self._keep(caption)

    async def _keep(self, caption: Caption) -> None:
        async with self.open_context() as ctx:
            row, _ = await self._call(ctx, lock=True)
            await transcripts.keep(ctx, row, caption)

    async def _device(self, name: str, connected: bool) -> None:
        """News of a device: whose page hears it writes it down."""
        if name in {one["id"] for one in (self._last_state or {}).get("devices", ())}:
            async with self.open_context() as ctx:
                row, _ = await self._row(ctx)
                await heard_of(ctx, row, uuid.UUID(name), connected)

    async def _sample(self, figures: dict[str, Any]) -> None:
        now = asyncio.get_running_loop().time()
        if self.place != "call" or now - self._sampled < 10:
            return
        self._sampled = now
        async with self.open_context() as ctx:
            quality.sample(ctx, self.call_id, uuid.UUID(self.person), figures, self._seen)
        self._seen = {name: self._seen[name] for name in ("width", "relayed", "network") if name in self._seen}

    # --- watching over it -------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Ends the connection when the session ended, the record was closed to them, or the page fell silent; notes that the
        person is here."""
        turn, failures = 0, 0
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_CHECK_S)
            turn += 1
            if loop.time() - self._heard > _SILENT_S:
                return
            try:
                if not await still_allowed(self.socket, active=turn % _SEEN_EVERY == 0, patient_id=self._patient):
                    await self._put_out()
                    return
                if self._staff:
                    with contextlib.suppress(MediaError):
                        await self._keep_apart()
                if turn % _SEEN_EVERY == 0:
                    await self._note_presence()
                elif turn % _AGAIN_EVERY == 0 and self._records_against_a_no():
                    await self._settle_again()
                failures = 0
            except (QanunError, MediaError):
                raise
            except Exception as error:  # noqa: BLE001 - whatever failed, the call goes on
                # The records are away. The call goes on for a while: it needs nothing of them.
                failures += 1
                if failures == 1:
                    log.warning("consultation_check_failed", error=type(error).__name__)
                if failures > _CHECK_PATIENCE * 60:
                    return

    def _records_against_a_no(self) -> bool:
        """By what was told last: a recording runs although somebody said no or the clinic stopped it."""
        told = (self._last_state or {}).get("recording") or {"state": "none"}
        return told["state"] in ("recording", "paused") and (told["declined"] or not told["asked"])

    async def _settle_again(self) -> None:
        """The worker was told to stop and did not answer: it is told until it does."""
        if self._media is not None:
            with contextlib.suppress(MediaError):
                await settle(self.open_context, self._media, self.call_id)

    async def _note_presence(self) -> None:
        async with self.open_context() as ctx:
            row, person = await self._row(ctx)
            await service.seen(ctx, person.id, self.connection)
            if self.place == "call" and row.id != self.call_id and row.state == IN_PROGRESS:
                row, person = await self._call(ctx)
                await service.seen(ctx, person.id, self.connection)
            swept = await service.sweep(ctx, row)
            # Also what an act could not bring about: then the worker did not answer, or nobody was left to tell it.
            wrong = row.state == IN_PROGRESS and service.unsettled(await service.plan(ctx, row))
        if swept or wrong:
            await self._settle_again()
        await self._tell_all()

    async def _put_out(self) -> None:
        """The session is over: out of the media at once, too."""
        if self.place == "call" and self._media is not None:
            with contextlib.suppress(MediaError):
                await self._media.client.leave(self.room, self.person)
        await self._close(_SIGNED_OUT)

    async def _gone(self) -> None:
        """The connection is over, for whatever reason but a spoken one: the person may come back."""
        if self._trip is not None:
            with contextlib.suppress(Exception):
                await self._trip.end()
        if not self.place:
            return
        with contextlib.suppress(Exception):
            async with self.open_context() as ctx:
                row, person = await (self._call if self.place == "call" else self._row)(ctx)
                await service.loosen(ctx, row, person, self.connection)


@contextlib.contextmanager
def _outage_survived() -> Any:
    """A failing database or media worker does not end the connection; what was missed is told with the next change."""
    try:
        yield
    except (WebSocketDisconnect, ConnectionError, asyncio.CancelledError):
        raise
    except Exception as error:  # noqa: BLE001 - the next update says the same
        log.warning("consultation_update_missed", error=type(error).__name__)
