"""Booked visits, a real media worker behind the web application, and pages that speak over its sockets.

Clinics and people come from `qanun.testing`; the `clinic` fixture of the folder `sfu` is another one.
"""

import asyncio
import contextlib
import json
import socket as sockets
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import select

from qanun.api import BookedAppointment
from qanun.audit import AuditEvent
from qanun.testing.plugin import free_port
from qanun.web.security import COOKIES
from qanun_telemedicine import service
from qanun_telemedicine.media import SERVICE, Media
from qanun_telemedicine.models import Consultation, Guest
from qanun_telemedicine.sfu.supervisor import Supervisor, WorkerSpec

PATIENCE_S = 30.0


async def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait until `condition` (plain or async) gives something true; fail with `what` when it never does."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        if asyncio.get_running_loop().time() > deadline:
            pytest.fail(f"waited in vain: {what}")
        await asyncio.sleep(0.05)


class Page:
    """One open page's socket, spoken to as a server would: straight into the ASGI application."""

    def __init__(self, application: Any, path: str, cookie: tuple[str, str] | None, origin: str) -> None:
        headers = [(b"host", b"clinic.test"), (b"origin", origin.encode())]
        if cookie is not None:
            headers.append((b"cookie", f"{cookie[0]}={cookie[1]}".encode()))
        self._scope = {
            "type": "websocket", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "scheme": "ws",
            "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": headers,
            "client": ("127.0.0.1", 50000), "server": ("clinic.test", 80), "subprotocols": [], "extensions": {}, "state": {},
        }  # fmt: skip
        self._application = application
        self._towards: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.accepted = False
        self.closed: int | None = None
        #: Everything the server said, in order.
        self.heard: list[dict[str, Any]] = []

    async def open(self) -> "Page":
        self._towards.put_nowait({"type": "websocket.connect"})
        self._task = asyncio.create_task(self._application(self._scope, self._towards.get, self._take))
        await until(lambda: self.accepted or self.closed is not None or self._task.done(), "the socket is answered")
        return self

    async def _take(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "websocket.accept":
                self.accepted = True
            case "websocket.close":
                self.closed = message.get("code", 1000)
            case "websocket.send":
                self.heard.append(json.loads(message.get("text") or message["bytes"]))

    def send(self, type: str, **values: Any) -> None:
        self.send_text(json.dumps({"type": type, **values}))

    def send_text(self, text: str) -> None:
        self._towards.put_nowait({"type": "websocket.receive", "text": text})

    def said(self, type: str, **values: Any) -> list[dict[str, Any]]:
        return [one for one in self.heard if one["type"] == type and values.items() <= one.items()]

    async def hears(self, type: str, **values: Any) -> dict[str, Any]:
        """The newest message of that type with those values; waits for one."""
        await until(
            lambda: self.said(type, **values) or self.closed is not None, f"{type} {values} in {self.heard[-3:]}"
        )
        found = self.said(type, **values)
        assert found, f"closed with {self.closed} before {type} {values}"
        return found[-1]

    async def sees(self, what: Callable[[dict[str, Any]], Any], description: str) -> dict[str, Any]:
        """Wait until the newest state of the visit is so."""
        await until(lambda: (state := self.said("state")) and what(state[-1]), description)
        return self.said("state")[-1]

    async def ask(self, type: str, number: int, **values: Any) -> dict[str, Any]:
        """A numbered request's answer or error."""
        self.send(type, number=number, **values)
        await until(
            lambda: self.said("answer", number=number) or self.said("error", number=number), f"{type} is answered"
        )
        return (self.said("answer", number=number) or self.said("error", number=number))[0]

    async def close(self) -> None:
        self._towards.put_nowait({"type": "websocket.disconnect", "code": 1001})
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._task, 15)


@dataclass
class Visit:
    """A booked video visit."""

    clinic: Any
    patient: Any
    id: uuid.UUID
    appointment_id: uuid.UUID
    pages: list[Page]

    @property
    def href(self) -> str:
        return f"/telemedicine/consultations/{self.id}"

    @property
    def portal(self) -> str:
        return f"/portal/{self.clinic.tenant.slug}/visits/{self.id}"

    async def row(self) -> Consultation:
        async with self.clinic.context() as ctx:
            return await service.consultation(ctx, self.id)

    @contextlib.asynccontextmanager
    async def acting(self, who: str = "doctor") -> AsyncIterator[tuple[Any, Consultation, Any]]:
        """(context, locked row, participant) of a role of staff or of the `patient`."""
        actor = self.clinic.patient_actor(self.patient) if who == "patient" else self.clinic.actor(who)
        async with self.clinic.context(actor=actor) as ctx:
            row = await service.consultation(ctx, self.id, lock=True)
            yield ctx, row, await service.attend(ctx, row)

    async def wait(self) -> None:
        """The patient goes to the waiting room."""
        async with self.acting("patient") as (ctx, row, person):
            await service.enter_waiting_room(ctx, row, person, "phone")

    async def admit(self) -> None:
        """The patient waits, is confirmed and let in."""
        await self.wait()
        await self.admit_now()

    async def admit_now(self) -> None:
        """Who waits already is confirmed and let in."""
        async with self.acting() as (ctx, row, _):
            await service.check_identity(ctx, row, service.IdentityForm(how={"name": "said", "birth-date": "said"}))
            await service.admit(ctx, row)

    async def come(self, who: str, connection: str = "one") -> None:
        async with self.acting(who) as (ctx, row, person):
            await service.arrive(ctx, row, person, "call", connection)

    async def plan(self) -> service.Plan:
        async with self.acting() as (ctx, row, _):
            return await service.plan(ctx, row)

    async def invites(self, name: str = "Huda Alami", role: str = "interpreter", by: str = "doctor") -> "Invited":
        """A guest who has a link in hand."""
        async with self.acting(by) as (ctx, row, _):
            guest = await service.invite_to(ctx, row, name, role)
            await ctx.db.flush()
            link = (await service.guests_seen(ctx, row, links=True))[-1].link
        return Invited(self, guest.id, link.removeprefix("http://clinic.test"))

    async def page(self, who: str = "doctor", *, by: "Visit | None" = None, origin: str = "http://clinic.test") -> Page:
        """An open socket of staff's or the `patient`'s page; `by` somebody of another visit, with their cookie."""
        them = by or self
        if who == "patient":
            path, cookie = f"{self.portal}/socket", (COOKIES["portal"], await them.clinic.portal_token(them.patient))
        else:
            path, cookie = f"{self.href}/socket", (COOKIES["staff"], await them.clinic.staff_token(who))
        page = await Page(self.clinic.application, path, cookie, origin).open()
        self.pages.append(page)
        return page

    async def stranger(self) -> Page:
        """Nobody who is signed in, at staff's socket."""
        page = await Page(self.clinic.application, f"{self.href}/socket", None, "http://clinic.test").open()
        self.pages.append(page)
        return page

    async def audited(self) -> list[AuditEvent]:
        async with self.clinic.context("system") as ctx:
            statement = select(AuditEvent).where(AuditEvent.patient_id == self.patient.id).order_by(AuditEvent.seq)
            return list((await ctx.db.execute(statement)).scalars())

    async def noted(self, type: str) -> list[dict[str, Any]]:
        """The details of every audited act of that type."""
        return [json.loads(event.body).get("detail", {}) for event in await self.audited() if event.type == type]


@dataclass
class Invited:
    """A guest of a visit. `link` is the path of the link that they were sent."""

    visit: Visit
    id: uuid.UUID
    link: str
    token: str = ""

    @property
    def address(self) -> str:
        return f"/guest/{self.visit.clinic.tenant.slug}/visits/{self.visit.id}"

    async def enters(self) -> Any:
        """Comes in by the link: a client that is this guest's browser."""
        browser = self.visit.clinic.anonymous()
        answer = await browser.post(self.link)
        assert answer.status_code == 303, answer.status_code
        self.token = browser.cookies[COOKIES["guest"]]
        return browser

    async def page(self, *, of: "Visit | None" = None) -> Page:
        """Their page's socket; of another visit, when one is given."""
        if not self.token:
            await self.enters()
        path = f"/guest/{(of or self.visit).clinic.tenant.slug}/visits/{(of or self.visit).id}/socket"
        clinic = (of or self.visit).clinic
        page = await Page(clinic.application, path, (COOKIES["guest"], self.token), "http://clinic.test").open()
        self.visit.pages.append(page)
        return page

    async def row(self) -> Guest:
        async with self.visit.clinic.context() as ctx:
            return await service.guest(ctx, await service.consultation(ctx, self.visit.id), self.id)

    async def let_in(self) -> None:
        async with self.visit.acting() as (ctx, row, _):
            await service.admit_guest(ctx, row, await service.guest(ctx, row, self.id), ["vouched"])


@pytest_asyncio.fixture
async def book() -> AsyncIterator[Callable[..., Any]]:
    """`await book(clinic)`: a video visit in half an hour, with a patient of its own unless one is given."""
    pages: list[Page] = []

    async def made(clinic: Any, patient: Any = None) -> Visit:
        patient = patient or await clinic.patient()
        async with clinic.context("reception") as ctx:
            booked = BookedAppointment(
                id=uuid.uuid4(), patient_id=patient.id, practitioner_id=clinic.practitioner.id,
                start=ctx.now + timedelta(minutes=30), end=ctx.now + timedelta(minutes=50),
            )  # fmt: skip
            await service.prepare(ctx, booked)
            await ctx.db.flush()
            row = await service.for_appointment(ctx, booked.id)
            assert row is not None
        return Visit(clinic, patient, row.id, booked.id, pages)

    yield made
    for page in pages:
        await page.close()


def own_address() -> str:
    """An address of this machine that is not the loopback: ICE leaves that one out."""
    with sockets.socket(sockets.AF_INET, sockets.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


@pytest_asyncio.fixture
async def live(assembly: Any) -> None:
    """Notices reach the open pages of this process."""
    if assembly.runtime.live._task is None:
        assembly.runtime.live.start()


@pytest_asyncio.fixture(scope="session")
async def supervised(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Supervisor, list[Media]]]:
    """A media worker in a process of its own, and who hears of its events now: a start costs more than most tests."""
    hearing: list[Media] = []
    spec = WorkerSpec(
        tmp_path_factory.mktemp("media") / "media.sock", f"0.0.0.0:{free_port(sockets.SOCK_DGRAM)}", [own_address()]
    )
    supervisor = Supervisor([spec], lambda _, event: hearing[-1].heard(event) if hearing else None)
    await supervisor.start(wait=90)
    yield supervisor, hearing
    await supervisor.stop()


@pytest_asyncio.fixture
async def worker(assembly: Any, live: None, supervised: tuple[Supervisor, list[Media]]) -> AsyncIterator[Supervisor]:
    """The media worker, empty, known to the web application."""
    supervisor, hearing = supervised
    client = supervisor.clients[0]
    hearing.append(Media(client))
    assembly.runtime.services[SERVICE] = hearing[-1]
    yield supervisor
    del assembly.runtime.services[SERVICE]
    hearing.clear()
    # A test may have ended it; its successor has no rooms.
    await until(lambda: client.connected, "the worker serves again")
    for room in await client.stats():
        await client.close_room(room)
