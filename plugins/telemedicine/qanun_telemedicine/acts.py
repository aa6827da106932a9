"""What a person's message does: each act in a transaction of its own, then the media worker brought in line with it.

The connection that carries the messages, its life and what it is told in turn are `sockets.Line`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from litestar import WebSocket

from qanun.api import Conflict, Context, Forbidden, OpenContext, Unavailable
from qanun_telemedicine import schemas, service
from qanun_telemedicine.captions.line import captions_line
from qanun_telemedicine.check import RoundTrip
from qanun_telemedicine.listen import listen
from qanun_telemedicine.media import Media, ice_servers
from qanun_telemedicine.models import IN_PROGRESS, OPEN, Consultation, Participant
from qanun_telemedicine.moderation import admitted_guest, confirm_place, in_group, write_concern
from qanun_telemedicine.permissions import Telemedicine
from qanun_telemedicine.replies import answer
from qanun_telemedicine.service import apart, captions, encryption, group, together, transcripts
from qanun_telemedicine.settle import settle
from qanun_telemedicine.sfu.client import MediaError

Socket = WebSocket[Any, Any, Any]


class Acts:
    """The acts of one person in one consultation, through one connection."""

    def __init__(self, socket: Socket, open_context: OpenContext, consultation_id: uuid.UUID) -> None:
        self.socket = socket
        self.open_context = open_context
        self.consultation_id = consultation_id
        #: Where the call is: the visit itself, or its group's call.
        self.call_id = consultation_id
        self.connection = uuid.uuid4().hex
        self.place = ""
        self.room = ""
        self.person = ""
        self._sending = asyncio.Lock()
        self._last_state: dict[str, Any] | None = None
        self._media: Media | None = None
        self._trip: RoundTrip | None = None
        #: Whether the call is a group's.
        self._together = False
        self._seen: dict[str, Any] = {}

    async def _send(self, message: dict[str, Any]) -> None:
        async with self._sending:
            await self.socket.send_data(msgspec.json.encode(message).decode())

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
            case schemas.Keys():
                await self._with_row(
                    lambda ctx, row, person: encryption.lend(ctx, row, person, message.sealed), lock=True, inside=True
                )
            case schemas.AskCaptions():
                await self._ask_captions(message.on)
            case schemas.AnswerCaptions():
                await self._with_row(
                    lambda ctx, row, person: captions.answer(ctx, row, person, message.decision, message.version),
                    lock=True, inside=True,
                )  # fmt: skip
                await listen(self.open_context, self._worker(), self.call_id)
            case schemas.AskTranscript():
                await self._ask_transcript(message.on)
            case schemas.AnswerTranscript():
                await self._with_row(
                    lambda ctx, row, person: transcripts.answer(ctx, row, person, message.decision, message.version),
                    lock=True, inside=True,
                )  # fmt: skip
                await listen(self.open_context, self._worker(), self.call_id)
            case schemas.GroupAnswer():
                await self._answer_group(message)
            case schemas.Compared():
                await self._with_row(
                    lambda ctx, row, person: encryption.compared(ctx, row, person, message.same), inside=True
                )
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
                await settle(self.open_context, self._worker(), self.call_id)
            case schemas.AskToRecord():
                await self._ask_to_record(message.on)
            case schemas.AskPicture():
                await self._with_row(
                    lambda ctx, row, person: service.ask_picture(ctx, row, message.participant), lock=True, inside=True
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
        """The person's own visit, or the group's call for who leads it."""
        row = await service.call_of(ctx, self.consultation_id, lock=lock)
        return row, await service.attend(ctx, row)

    async def _call(self, ctx: Context, *, lock: bool = False) -> tuple[Consultation, Participant]:
        """The call, and the person as the others in it know them. Raises NotFound while they are not let into a group."""
        row = await service.call_of(ctx, self.call_id, lock=lock)
        return row, await service.attend(ctx, row)

    async def _with_row(
        self, act: Callable[[Context, Consultation, Participant], Awaitable[Any]], *, lock: bool = False,
        inside: bool = False,
    ) -> None:  # fmt: skip
        """`inside`: an act of the call, for guests only when they were let in; what others may, the act itself knows."""
        async with self.open_context() as ctx:
            row, person = await (self._call if inside else self._row)(ctx, lock=lock)
            if inside:
                await admitted_guest(ctx, row)
            await act(ctx, row, person)

    def _worker(self) -> Media:
        if self._media is None:
            raise Unavailable("video is not set up on this server")
        return self._media

    async def _come(self, key: str | None = None) -> Media:
        """`key`: the page's own public key, when it connects; who only comes back has said it before. The person is in the call through this connection: written down before any media of theirs exists."""
        media = self._worker()

        async def come(ctx: Context, row: Consultation, person: Participant) -> None:
            if row.state != IN_PROGRESS:
                raise Forbidden("not admitted") if row.state in OPEN else Conflict("the consultation is over")
            await admitted_guest(ctx, row)
            if row.group_id is not None:
                await service.depart(ctx, row, person)
                row, person = await self._call(ctx, lock=True)
            await group.may_come(ctx, row, person)
            await apart.may_sit(ctx, row, person)
            await encryption.bring_key(ctx, row, person, key)
            await service.arrive(ctx, row, person, "call", self.connection)

        await self._with_row(come, lock=True)
        self.place = "call"
        # Before a picture of anybody comes or goes.
        await self._keep_apart()
        # Who has not been asked must not be recorded.
        await settle(self.open_context, media, self.call_id)
        await listen(self.open_context, media, self.call_id)
        return media

    async def _keep_apart(self) -> None:
        """In a group, nobody of staff with a patient whose record is closed to them: out of the media first, then out of the
        call, so that a media worker that does not answer is told again. Raises MediaError then."""
        if not self._together or self.place != "call":
            return
        async with self.open_context() as ctx:
            call, person = await self._call(ctx)
            # Whoever was parted through another page does not know it yet.
            parting, shut = await apart.to_part(ctx, call), await apart.meets_closed(ctx, call, person)
        if parting:
            async with self.open_context() as ctx:
                call = await service.call_of(ctx, self.call_id, lock=True)
                people = await apart.to_part(ctx, call)
                for one in people:
                    await self._worker().client.leave(self.room, str(one.id))
                await apart.part(ctx, call, people)
        if shut:
            self.place = ""
            await self._send({"type": "problem", "code": "closed-record", "about": "join"})

    async def _join(self, message: schemas.Join) -> None:
        media = await self._come(message.key)
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
        async with self.open_context() as ctx:
            row, person = await (self._call if place == "call" else self._row)(ctx)
            await service.depart(ctx, row, person, self.connection)
        if place == "call":
            await self._out_of_the_media()

    async def _out_of_the_media(self) -> None:
        with contextlib.suppress(MediaError):
            await self._worker().client.leave(self.room, self.person)
        await settle(self.open_context, self._worker(), self.call_id)

    async def _answer_group(self, message: schemas.GroupAnswer) -> None:
        """Who does not agree to the group any more is out of its call at once."""
        was_in = self.place == "call" and message.decision == together.REFUSED
        if was_in:
            await self._leave()
        await self._with_row(
            lambda ctx, row, person: together.answer(ctx, row, message.decision, message.version, message.name),
            lock=True,
        )

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

        await self._with_row(ask, lock=True, inside=True)
        await settle(self.open_context, self._worker(), self.call_id)

    async def _ask_captions(self, on: bool) -> None:
        async def ask(ctx: Context, row: Consultation, person: Participant) -> None:
            ctx.require(Telemedicine.CONSULTATION_HOLD)
            if on and captions_line(ctx.runtime) is None:
                raise Unavailable("nothing writes captions on this server")
            if not on:
                await transcripts.finish(ctx, row)
            await captions.ask(ctx, row, person, on)

        await self._with_row(ask, lock=True, inside=True)
        await listen(self.open_context, self._worker(), self.call_id)

    async def _ask_transcript(self, on: bool) -> None:
        async def ask(ctx: Context, row: Consultation, person: Participant) -> None:
            ctx.require(Telemedicine.CONSULTATION_HOLD)
            if on and captions_line(ctx.runtime) is None:
                raise Unavailable("nothing writes captions on this server")
            await transcripts.ask(ctx, row, person, on)

        await self._with_row(ask, lock=True, inside=True)
        await listen(self.open_context, self._worker(), self.call_id)

    async def _pause_recording(self, on: bool) -> None:
        async def pause(ctx: Context, row: Consultation, person: Participant) -> None:
            ctx.require(Telemedicine.CONSULTATION_HOLD)
            await service.hold(ctx, row, on)

        await self._with_row(pause, lock=True, inside=True)
        await settle(self.open_context, self._worker(), self.call_id)
