"""Where devices bring their picture in: WHIP (RFC 9725), known by a bearer token that was made in the call.

An offer by POST, its answer with the session's address; PATCH for candidates (which we do not need: clients reach us) and ICE
restarts; DELETE to leave. Errors are sentences in plain text for whoever sets the device up, and tell nothing of the visit.
"""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from litestar import Controller, Request, Response
from litestar.exceptions.http_exceptions import RequestEntityTooLarge

from qanun.api import (
    Conflict,
    Context,
    Forbidden,
    NotFound,
    Unavailable,
    clinic_context,
    delete,
    get,
    new_id,
    patch,
    post,
    put,
)
from qanun_telemedicine.media import Media, ice_servers, media_of
from qanun_telemedicine.models import Consultation, Device
from qanun_telemedicine.service import devices
from qanun_telemedicine.sfu.client import MediaError

Request_ = Request[Any, Any, Any]

_SDP, _FRAGMENT = "application/sdp", "application/trickle-ice-sdpfrag"
_MOST_BYTES = 100_000
_WHY = "a device's token, compared before anything is done"
_UFRAG = re.compile(r"^a=ice-ufrag:([A-Za-z0-9+/]{4,256})\r?$", re.MULTILINE)
_PWD = re.compile(r"^a=ice-pwd:([A-Za-z0-9+/]{22,256})\r?$", re.MULTILINE)
#: A page of somebody else may be a device: without a cookie there is nothing for it to misuse.
_ANYWHERE = {
    "access-control-allow-origin": "*", "access-control-expose-headers": "Location, Link, ETag",
    "access-control-allow-methods": "POST, PATCH, DELETE, OPTIONS", "access-control-max-age": "86400",
    "access-control-allow-headers": "Authorization, Content-Type, If-Match", "accept-post": _SDP, "accept-patch": _FRAGMENT,
}  # fmt: skip
#: The media server's words for what is wrong with an offer; whatever else it says is no fault of the device.
_BUSY = {"unavailable", "draining", "internal", "busy"}


class WhipController(Controller):
    path = "/telemedicine/whip/{clinic:str}/{device_id:uuid}"

    # Also of the answers to OPTIONS, which the framework makes by itself.
    opt = {"public": _WHY, "bearer": True}
    response_headers = _ANYWHERE

    @get(["/", "/{session:uuid}"], public=_WHY, bearer=True)
    async def look(self) -> Response[Any]:
        return _not_for_that()

    @put(["/", "/{session:uuid}"], public=_WHY, bearer=True)
    async def replace(self) -> Response[Any]:
        return _not_for_that()

    @post("/", public=_WHY, bearer=True, request_max_body_size=_MOST_BYTES)
    async def begin(self, request: Request_, clinic: str, device_id: UUID) -> Response[Any]:
        if _type(request) != _SDP:
            return _no(415, f"the offer must be {_SDP}")
        try:
            offer = await _text(request)
            async with clinic_context(request, clinic) as ctx:
                row, device = await devices.known(ctx, device_id, _token(request))
                devices.may_come(ctx, row, device)
                return await _join(ctx, request, row, device, offer)
        except NotFound:
            return _unknown()
        except Forbidden as error:
            return _no(403, str(error.message))
        except Conflict:
            return _no(409, "no call that a device could join runs at the moment")
        except RequestEntityTooLarge:
            return _large()
        except Unavailable:
            return _no(503, "video is not set up on this server")
        except MediaError as error:
            return _refused(error)

    @patch("/{session:uuid}", public=_WHY, bearer=True, request_max_body_size=_MOST_BYTES)
    async def update(self, request: Request_, clinic: str, device_id: UUID, session: UUID) -> Response[Any]:
        if _type(request) != _FRAGMENT:
            return _no(415, f"what changes must be {_FRAGMENT}")
        try:
            fragment = await _text(request)
            async with clinic_context(request, clinic) as ctx:
                row, device = await devices.known(ctx, device_id, _token(request))
                if device.session != session:
                    return _no(404, "this session is over")
                return await _change(ctx, row, device, fragment, request.headers.get("if-match", ""))
        except NotFound:
            return _unknown()
        except RequestEntityTooLarge:
            return _large()
        except Unavailable:
            return _no(503, "video is not set up on this server")
        except MediaError as error:
            return _no(404, "this session is over") if error.code in ("gone", "no-room") else _refused(error)

    @delete("/{session:uuid}", public=_WHY, bearer=True, status_code=200)
    async def end(self, request: Request_, clinic: str, device_id: UUID, session: UUID) -> Response[Any]:
        try:
            async with clinic_context(request, clinic) as ctx:
                row, device = await devices.known(ctx, device_id, _token(request))
                if device.session != session:
                    return _no(404, "this session is over")
                await out_of_the_media(ctx, row, device)
                devices.left(ctx, row, device)
        except NotFound:
            return _unknown()
        return Response(None, status_code=200)


async def out_of_the_media(ctx: Context, row: Consultation, device: Device) -> None:
    """At once, whatever the device does. A worker that does not answer is not waited for: its room ends with the call."""
    try:
        await media_of(ctx.runtime).client.leave(row.room, str(device.id))
    except (MediaError, Unavailable):
        return


async def _join(ctx: Context, request: Request_, row: Consultation, device: Device, offer: str) -> Response[Any]:
    media = media_of(ctx.runtime)
    if device.session is not None and await _lives(media, row, device):
        return _no(409, "a device is connected with this token already", **{"retry-after": "10"})
    described = await media.client.join(row.room, str(device.id), offer)
    session, etag = new_id(), _etag(described.sdp)
    try:
        devices.joined(ctx, row, device, session, etag, _without_addresses(offer))
        await ctx.db.flush()
    except BaseException:
        await out_of_the_media(ctx, row, device)
        raise
    headers = {"location": f"{request.url.path.rstrip('/')}/{session}", "etag": etag}
    links = _links(ice_servers(ctx, str(device.id)))
    if links:
        headers["link"] = links
    return Response(described.sdp.encode(), status_code=201, media_type=_SDP, headers=headers)


async def _lives(media: Media, row: Consultation, device: Device) -> bool:
    try:
        there = (await media.client.stats(row.room)).get(row.room, {})
    except MediaError:
        return False
    return bool(there.get(str(device.id), {}).get("connected"))


async def _change(ctx: Context, row: Consultation, device: Device, fragment: str, match: str) -> Response[Any]:
    ufrag, pwd = _UFRAG.search(fragment), _PWD.search(fragment)
    before = _UFRAG.search(device.offer)
    restarts = ufrag is not None and (before is None or ufrag[1] != before[1])
    if not match:
        return _no(428, "If-Match is missing")
    if match != device.etag and not (restarts and match == "*"):
        return _no(412, "the ICE session is another one by now")
    if not restarts:
        # Its addresses are not needed: it reaches us, and we answer where it comes from.
        return Response(None, status_code=204)
    assert ufrag is not None
    if pwd is None:
        return _no(400, "an ICE restart needs a=ice-ufrag and a=ice-pwd")
    offer = _UFRAG.sub(f"a=ice-ufrag:{ufrag[1]}\r", _PWD.sub(f"a=ice-pwd:{pwd[1]}\r", device.offer))
    described = await media_of(ctx.runtime).client.offer(row.room, str(device.id), offer)
    device.offer, device.etag = offer, _etag(described.sdp)
    wanted = ("a=group:", "m=", "a=mid:", "a=ice-ufrag:", "a=ice-pwd:", "a=candidate:", "a=end-of-candidates")
    lines = [line for line in described.sdp.splitlines() if line.startswith(wanted)]
    first = next(
        (number for number, line in enumerate(lines) if number and line.startswith("m=") and _later(lines, number)),
        None,
    )
    body = "\r\n".join(lines[:first]) + "\r\n"
    return Response(body.encode(), status_code=200, media_type=_FRAGMENT, headers={"etag": device.etag})


def _later(lines: list[str], number: int) -> bool:
    """Whether another section came before: all go over the first one's way."""
    return any(line.startswith("m=") for line in lines[:number])


def _type(request: Request_) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _text(request: Request_) -> str:
    return (await request.body()).decode("utf-8", "replace")


def _token(request: Request_) -> str:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def _etag(answer: str) -> str:
    found = _UFRAG.search(answer)
    return f'"{found[1]}"' if found else '"-"'


def _without_addresses(offer: str) -> str:
    return "\r\n".join(line for line in offer.splitlines() if not line.startswith("a=candidate:")) + "\r\n"


def _links(servers: list[dict[str, Any]]) -> str:
    """The relay, as WHIP tells of it."""
    return ", ".join(
        f'<{url}>; rel="ice-server"; username="{one["username"]}"; credential="{one["credential"]}"; credential-type="password"'
        for one in servers
        for url in one["urls"]
    )


def _no(status: int, words: str, **headers: str) -> Response[Any]:
    return Response(f"{words}\n", status_code=status, media_type="text/plain", headers=headers)


def _not_for_that() -> Response[Any]:
    """Kept free by the standard."""
    return _no(405, "an offer comes by POST", allow="POST, PATCH, DELETE, OPTIONS")


def _large() -> Response[Any]:
    return _no(413, f"more than {_MOST_BYTES // 1000} kilobytes are not read")


def _unknown() -> Response[Any]:
    return _no(401, "this address and this token do not belong together", **{"www-authenticate": "Bearer"})


def _refused(error: MediaError) -> Response[Any]:
    if error.code in _BUSY:
        return _no(503, "the media server does not answer", **{"retry-after": "2"})
    if error.code == "full":
        return _no(503, "the call is full", **{"retry-after": "30"})
    return _no(400 if error.code == "malformed" else 422, f"this offer cannot be taken ({error.code}): {error}")
