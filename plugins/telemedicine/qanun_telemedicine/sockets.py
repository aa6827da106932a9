"""One person's live connection to a consultation: signalling for media, chat, consents, and every change of state.

A socket holds no truth. What it needs it reads; what it learns it stores; whoever reconnects, to whichever process, goes
on where they were. It closes within a second of the session's end.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog
from litestar import WebSocket
from litestar.exceptions import WebSocketDisconnect

from qanun.api import (
    Conflict,
    Context,
    Forbidden,
    Invalid,
    OpenContext,
    QanunError,
    Unavailable,
    still_allowed,
)
from qanun_telemedicine import schemas, service
from qanun_telemedicine.check import RoundTrip
from qanun_telemedicine.media import Media, ice_servers, media_of
from qanun_telemedicine.models import ADMITTED, IN_PROGRESS, OPEN, Consultation, Participant
from qanun_telemedicine.moderation import admitted_guest, confirm_place, in_group, write_concern
from qanun_telemedicine.permissions import Telemedicine
from qanun_telemedicine.replies import answer, file_of, media_code, tag
from qanun_telemedicine.service import group, quality
from qanun_telemedicine.service.consultations import TOPIC
from qanun_telemedicine.settle import recording_failed, settle
from qanun_telemedicine.sfu.client import MediaError
from qanun_telemedicine.sfu.protocol import Event

log = structlog.get_logger("qanun.telemedicine")

Socket = WebSocket[Any, Any, Any]

#: How often the session is looked at, and how often the person's presence is noted.
_CHECK_S = 0.7
_SEEN_EVERY = 14
#: How often a worker that did not answer is told again to stop recording, in looks at the session.
_AGAIN_EVERY = 2
#: A page that says nothing this long is gone, whatever the network says.
_SILENT_S = 20.0
_CHECK_PATIENCE = 8
_SIGNED_OUT, _TAKEN_OVER, _GARBAGE = 4401, 4409, 4400


class Line:
    """One connection. `run` returns when it is over; nothing it raises reaches other connections."""

    def __init__(self, socket: Socket, open_context: OpenContext, consultation_id: uuid.UUID) -> None:
        self.socket = socket
        self.open_context = open_context
        self.consultation_id = consultation_id
        self.connection = uuid.uuid4().hex
        self.place = ""
        self._sending = asyncio.Lock()
        self._telling = asyncio.Lock()
        self._heard = 0.0
        self._last_line: uuid.UUID | None = None
        self._last_state: dict[str, Any] | None = None
        self._sampled = 0.0
        self._media: Media | None = None
        self._trip: RoundTrip | None = None
        self._seen: dict[str, Any] = {}
        self.room = ""
        self.person = ""

    async def run(self) -> None:
        async with self.open_context() as ctx:
            row, person = await self._row(ctx)
            self.room, self.person = row.room, str(person.id)
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
                if error.details.get("code") in ("locked", "full"):
                    await self._send({"type": "problem", "code": error.details["code"], "about": tag(message)})
            else:
                await self._send({"type": "problem", "code": error.code, "about": tag(message)})
        except (WebSocketDisconnect, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever failed, the call goes on
            # The database is away, most likely. The page keeps what it has and says so.
            log.warning("consultation_message_failed", about=tag(message), error=type(error).__name__)
            await self._send({"type": "problem", "code": "unavailable", "about": tag(message)})

    async def _act(self, message: schemas.Message) -> None:
        match message:
            case schemas.Ping():
                await self._send({"type": "pong"})
            case schemas.Seen():
                self._seen = {
                    "freezes": self._seen.get("freezes", 0) + message.freezes, "width": message.width,
                    "relayed": message.relayed, "network": message.network,
                }  # fmt: skip
            case schemas.Check():
                await self._check(message)
            case schemas.Servers():
                async with self.open_context() as ctx:
                    servers = ice_servers(ctx, self.person)
                await self._send({"type": "servers", "ice_servers": servers})
            case schemas.Join():
                await self._join(message)
            case schemas.Offer():
                described = await self._worker().client.offer(self.room, self.person, message.sdp, message.sources)
                await self._send(answer(message.number, described))
            case schemas.Back():
                await self._come()
            case schemas.Leave():
                await self._leave()
            case schemas.Enter():
                await self._enter()
            case schemas.Concern():
                await self._with_row(lambda ctx, row, person: write_concern(ctx, row, message.text), lock=True)
            case schemas.Place():
                await self._with_row(lambda ctx, row, person: confirm_place(ctx, row, message), lock=True)
            case schemas.Say():
                await self._with_row(
                    lambda ctx, row, person: service.say(ctx, row, person, message.id, message.text), inside=True
                )
            case schemas.Consent():
                await self._with_row(
                    lambda ctx, row, person: service.decide(ctx, row, person, message.decision, message.version),
                    lock=True, inside=True,
                )  # fmt: skip
                await settle(self.open_context, self._worker(), self.consultation_id)
            case schemas.AskToRecord():
                await self._ask_to_record(message.on)
            case schemas.AskPicture():
                await self._with_row(
                    lambda ctx, row, person: service.ask_picture(ctx, row, message.participant), lock=True
                )
            case schemas.AnswerPicture():
                await self._with_row(
                    lambda ctx, row, person: service.answer_picture(
                        ctx, row, person, message.id, message.decision, message.version
                    ),
                    inside=True,
                )
            case schemas.PauseRecording():
                await self._pause_recording(message.on)
            case schemas.Hand() | schemas.Muted() | schemas.Mute() | schemas.Lower() | schemas.Lock():
                await self._with_row(
                    lambda ctx, row, person: in_group(ctx, row, person, message), lock=True, inside=True
                )

    # --- acts -------------------------------------------------------------------------------------------------------------

    async def _row(self, ctx: Context, *, lock: bool = False) -> tuple[Consultation, Participant]:
        row = await service.consultation(ctx, self.consultation_id, lock=lock)
        return row, await service.attend(ctx, row)

    async def _with_row(
        self, act: Callable[[Context, Consultation, Participant], Awaitable[Any]], *, lock: bool = False,
        inside: bool = False,
    ) -> None:  # fmt: skip
        """`inside`: only for guests who were let in; what others may, the act itself knows."""
        async with self.open_context() as ctx:
            row, person = await self._row(ctx, lock=lock)
            if inside:
                await admitted_guest(ctx, row)
            await act(ctx, row, person)

    def _worker(self) -> Media:
        if self._media is None:
            raise Unavailable("video is not set up on this server")
        return self._media

    async def _come(self) -> Media:
        """The person is in the call through this connection: written down before any media of theirs exists."""
        media = self._worker()

        async def come(ctx: Context, row: Consultation, person: Participant) -> None:
            if row.state != IN_PROGRESS:
                raise Forbidden("not admitted") if row.state in OPEN else Conflict("the consultation is over")
            await admitted_guest(ctx, row)
            await group.may_come(ctx, row, person)
            await service.arrive(ctx, row, person, "call", self.connection)

        await self._with_row(come, lock=True)
        self.place = "call"
        # Who has not been asked must not be recorded.
        await settle(self.open_context, media, self.consultation_id)
        return media

    async def _join(self, message: schemas.Join) -> None:
        media = await self._come()
        described = await media.client.join(self.room, self.person, message.sdp, message.sources)
        await self._send(answer(message.number, described))

    async def _check(self, message: schemas.Check) -> None:
        """The page tries its devices before anybody is there; who is in the call needs no try."""
        if self.place == "call" or (self._last_state or {}).get("state") not in OPEN:
            raise Conflict("there is nothing to try for")
        if self._trip is None:
            self._trip = RoundTrip(self._worker(), self.connection, self._send)
        await self._trip.step(message)

    async def _leave(self) -> None:
        place, self.place = self.place, ""
        await self._with_row(lambda ctx, row, person: service.depart(ctx, row, person, self.connection))
        if place == "call":
            with contextlib.suppress(MediaError):
                await self._worker().client.leave(self.room, self.person)
            await settle(self.open_context, self._worker(), self.consultation_id)

    async def _enter(self) -> None:
        async def enter(ctx: Context, row: Consultation, person: Participant) -> None:
            if ctx.actor.kind == "guest":
                await service.wait(ctx, row, person, self.connection)
            elif ctx.actor.kind == "patient":
                await service.enter_waiting_room(ctx, row, person, self.connection)
            else:
                raise Forbidden("only patients and guests wait")

        await self._with_row(enter, lock=True)
        self.place = self.place or "lobby"

    async def _ask_to_record(self, on: bool) -> None:
        async def ask(ctx: Context, row: Consultation, person: Participant) -> None:
            if ctx.actor.kind != "user":
                raise Forbidden("the clinic asks")
            await (service.ask_to_record if on else service.stop_asking)(ctx, row)

        await self._with_row(ask, lock=True)
        await settle(self.open_context, self._worker(), self.consultation_id)

    async def _pause_recording(self, on: bool) -> None:
        async def pause(ctx: Context, row: Consultation, person: Participant) -> None:
            ctx.require(Telemedicine.CONSULTATION_HOLD)
            await service.hold(ctx, row, on)

        await self._with_row(pause, lock=True)
        await settle(self.open_context, self._worker(), self.consultation_id)

    # --- telling ----------------------------------------------------------------------------------------------------------

    async def _send(self, message: dict[str, Any]) -> None:
        async with self._sending:
            await self.socket.send_data(msgspec.json.encode(message).decode())

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
            lines = await self._lines(ctx, row)
            files = await service.attachments_of(ctx, [line.id for line, _ in lines])
            taken = await self._taken_over(ctx, person)
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
                "from": str(author.id), "name": author.name, "me": author.id == person.id, "at": line.sent_at.isoformat(),
                "file": file_of(files.get(line.id)),
            })  # fmt: skip

    async def _lines(self, ctx: Context, row: Consultation) -> list[Any]:
        """What was said and this person has not heard; guests hear nothing from before they were let in."""
        since = None
        if ctx.actor.kind == "guest":
            me = await service.acting_guest(ctx, row.id)
            if me.state != ADMITTED:
                return []
            since = me.admitted_at
        return await service.said(ctx, row.id, after=self._last_line, since=since)

    async def _taken_over(self, ctx: Context, person: Participant) -> bool:
        """A newer connection of the same person (another tab, another phone) has the call now."""
        if self.place != "call":
            return False
        here = await service.present(ctx, self.consultation_id)
        held = [stay.connection for one, stay in here if one.id == person.id and stay.place == "call"]
        return bool(held) and held[0] not in ("", self.connection)

    async def _notices(self, queue: asyncio.Queue[Any]) -> None:
        mine = str(self.consultation_id)
        while True:
            notice = await queue.get()
            about_me = notice.topic == TOPIC and notice.ids.get("consultation") == mine
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
                elif event.event == "participant.quality" and mine:
                    await self._send({"type": "quality", **event.data})
                    await self._sample(event.data)
                elif event.event == "participant.speaker" and self.place == "call":
                    await self._send({"type": "speaker", "participant": event.participant})
                elif event.event == "recording.failed":
                    problem = str(event.data.get("problem", "failed"))
                    await recording_failed(self.open_context, self.consultation_id, self._worker(), problem)

    async def _sample(self, figures: dict[str, Any]) -> None:
        now = asyncio.get_running_loop().time()
        if self.place != "call" or now - self._sampled < 10:
            return
        self._sampled = now
        async with self.open_context() as ctx:
            quality.sample(ctx, self.consultation_id, uuid.UUID(self.person), figures, self._seen)
        self._seen = {name: self._seen[name] for name in ("width", "relayed", "network") if name in self._seen}

    # --- watching over it -------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Ends the connection when the session ended, or the page fell silent; notes that the person is here."""
        turn, failures = 0, 0
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_CHECK_S)
            turn += 1
            if loop.time() - self._heard > _SILENT_S:
                return
            try:
                if not await still_allowed(self.socket, active=turn % _SEEN_EVERY == 0):
                    await self._put_out()
                    return
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
                await settle(self.open_context, self._media, self.consultation_id)

    async def _note_presence(self) -> None:
        async with self.open_context() as ctx:
            row = await service.consultation(ctx, self.consultation_id)
            await service.seen(ctx, uuid.UUID(self.person), self.connection)
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
                row, person = await self._row(ctx)
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
