"""The pages: a code, nine sheets, and how far the work is. They write nothing but the sheet; root does the rest."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from litestar import Litestar, Response
from litestar.connection import ASGIConnection
from litestar.datastructures import Cookie, State
from litestar.handlers import BaseRouteHandler

from qanun.api import (
    N_,
    Form,
    Invalid,
    NotFound,
    TooMany,
    bare_application,
    bare_page,
    configure_logs,
    get,
    json_response,
    locales,
    post,
    reader_locale,
    redirect,
)
from qanun_appliance import trust
from qanun_appliance.wizard import countries, disks, network, returning, steps
from qanun_appliance.wizard.desk import Answers, Desk
from qanun_appliance.wizard.pages import CODE, COOKIE, Pages, Req, is_inside, pages_of, state_of
from qanun_appliance.wizard.plain import plain_listener

__all__ = ["Pages", "application", "create"]


def create() -> Litestar:
    """The application as the unit starts it."""
    configure_logs()  # before anything could write down what somebody typed
    folder = Path(os.environ["QANUN_SETUP_DIR"])
    desk = Desk(folder)
    host, _, port = os.environ.get("QANUN_SETUP_HTTP", "").rpartition(":")
    pages = Pages(
        desk=desk,
        root=(folder / "qanun-ca.crt").read_bytes(),
        keys=desk.read("keys"),
        http=(host, int(port)) if port else None,
    )
    return application(pages)


def application(pages: Pages) -> Litestar:
    @asynccontextmanager
    async def beside(_: Litestar) -> AsyncIterator[None]:
        if pages.http is None:
            yield
            return
        files = {path: (kind, content) for path, kind, content in _trusted(pages)}
        async with plain_listener(*pages.http, files):
            yield

    handlers = [
        start,
        code_page,
        enter,
        progress,
        again,
        paper,
        trusted_file,
        square,
        health,
        *returning.HANDLERS,
        show,
        keep,
    ]
    made = bare_application(handlers, guards=[_near_only], lifespan=[beside])
    made.state = State({"pages": pages})
    return made


async def _near_only(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """From elsewhere there is nothing here."""
    address = connection.client.host if connection.client else ""
    if not network.is_near(address, await asyncio.to_thread(network.own_networks)):
        raise NotFound("page")


# --- the way in ------------------------------------------------------------------------------------------------------


@get("/", public=CODE)
async def start(request: Req) -> Response[str]:
    pages = pages_of(request)
    if not pages.desk.begun or not is_inside(request):
        return redirect(None, "/setup")
    return await _progress_page(request, pages)


@get("/setup", public=CODE)
async def code_page(request: Req) -> Response[str]:
    if not is_inside(request):
        return _code(request)
    if pages_of(request).desk.begun:
        return redirect(None, "/")
    answers = pages_of(request).desk.answers()
    return redirect(None, f"/setup/{next((name for name in steps.NAMES if name not in answers), 'summary')}")


def _code(request: Req, status: int = 200, errors: Mapping[str, Any] | None = None, **headers: str) -> Response[str]:
    return bare_page(
        request, "appliance/setup/code.html", status=status, errors=errors or {}, values={}, path="/setup",
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )  # fmt: skip


@post("/setup", public=CODE)
async def enter(request: Req, form: Form) -> Response[str]:
    try:
        token = pages_of(request).door.enter(form.text("code")[:64])
    except Invalid as wrong:
        return _code(request, 422, wrong.fields)
    except TooMany as rest:
        said = N_("Too many wrong codes. The screen shows another one; wait half a minute.")
        return _code(request, 429, {"code": said}, Retry_After=str(rest.retry_after))
    secure = request.url.scheme == "https"
    cookie = Cookie(key=COOKIE, value=token, path="/", httponly=True, secure=secure, samesite="strict")
    return redirect(None, "/setup", cookies=[cookie])


# --- the sheets ------------------------------------------------------------------------------------------------------


@get("/setup/{name:str}", public=CODE)
async def show(request: Req, name: str) -> Response[str]:
    pages, step = pages_of(request), steps.step(name)
    if not is_inside(request) or pages.desk.begun:
        return redirect(None, "/setup")
    if step is None:
        raise NotFound("page")
    return await _sheet(request, pages, step)


@post("/setup/{name:str}", public=CODE)
async def keep(request: Req, name: str, form: Form) -> Response[str]:
    """What was typed is kept, right or wrong, whichever way somebody goes on."""
    pages, step = pages_of(request), steps.step(name)
    if not is_inside(request) or pages.desk.begun:
        return redirect(None, "/setup")
    if step is None:
        raise NotFound("page")
    typed = {
        name: form[name] if name in {"password", "again"} else form.text(name) for name in step.fields if name in form
    }
    before = pages.desk.answers().get(step.name, {})
    if step.name == "administrator" and not typed.get("password") and not typed.get("again") and before.get("password"):
        typed = {name: value for name, value in typed.items() if name not in {"password", "again"}}
    if any(len(value) > 2000 for value in typed.values()):
        raise Invalid(message="too long")
    pages.desk.keep(step.name, typed)
    if form.text("go") == "back":
        return redirect(None, f"/setup/{steps.preceding(step.name)}")
    filled, current = await _filled(request, pages)
    wrong = steps.faults(filled, current, pages.keys)
    if step.name == "summary":
        if wrong:
            return await _sheet(request, pages, step, status=422)
        pages.desk.write("network", current)
        pages.desk.write("chosen", filled)
        pages.desk.begin("new")
        return redirect(None, "/")
    errors = wrong.get(step.name, {})
    if not errors:
        tried = await asyncio.to_thread(_try, pages, step, filled, current)
        if tried and not (form.flag("all_the_same") and not {"address", "disk"} & set(tried)):
            return await _sheet(
                request, pages, step, status=422, errors=tried, may_force=not {"address", "disk"} & set(tried)
            )
        return redirect(None, f"/setup/{steps.following(step.name)}")
    return await _sheet(request, pages, step, status=422, errors=errors)


def _try(pages: Pages, step: steps.Step, filled: Answers, current: Mapping[str, Any]) -> dict[str, Any]:
    """What can be tried before it is kept."""
    values = filled[step.name]
    if step.name == "network":
        if values["mode"] == "dhcp":
            return (
                {}
                if current.get("address")
                else {"mode": N_("No network gave this machine an address yet. Is the cable in?")}
            )
        if values["address"] == current.get("address"):
            return {}
        mac = next(
            (one["mac"] for one in current.get("interfaces", ()) if one["name"] == values["interface"]), current["mac"]
        )
        named = values["interface"] if "*" not in values["interface"] else str(current["interface"])
        return pages.trial(named, values["address"], values["gateway"], mac)
    if step.name == "backup" and disks.is_choice(values["kind"]):
        there = any(one.choice == values["kind"] for one in pages.disks())
        return {} if there else {"disk": N_("This disk is not plugged in any more.")}
    if step.name == "backup" and values["kind"] == "folder" and not pages.is_mounted(values["target"]):
        return {"target": N_("No disk of its own is mounted in this folder: a backup on the same disk is none.")}
    if step.name == "time":
        servers = values["servers"].split()
        if servers and all(pages.clock_of(server) is None for server in servers[:4]):
            return {"servers": N_("None of them answers.")}
    return {}


async def _filled(request: Req, pages: Pages) -> tuple[Answers, dict[str, Any]]:
    current = await asyncio.to_thread(pages.current)
    return steps.filled(pages.desk.answers(), current, reader_locale(request).code), current


async def _sheet(
    request: Req, pages: Pages, step: steps.Step, *, status: int = 200, errors: Mapping[str, Any] | None = None,
    may_force: bool = False,
) -> Response[str]:  # fmt: skip
    filled, current = await _filled(request, pages)
    answers, wrong = pages.desk.answers(), steps.faults(filled, current, pages.keys)
    values = {name: value for name, value in filled[step.name].items() if name not in {"password", "again"}}
    done = {name for name in steps.NAMES if name in answers and not wrong.get(name)}
    country = filled["language"]["country"]
    return bare_page(
        request, step.template, status=status, step=step, steps=steps.STEPS, done=done, values=values,
        number=steps.NAMES.index(step.name) + 1, errors=errors or {}, may_force=may_force, current=current, wrong=wrong,
        chosen=filled, site=steps.table(filled, current) if step.name == "summary" else {}, keys=pages.keys,
        clinic_languages=[(locale.code, locale.name) for locale in locales()],
        countries=countries.countries(reader_locale(request).language), zones=countries.zones(country),
        has_password=bool(answers.get("administrator", {}).get("password")), fingerprint=trust.fingerprint(pages.root),
        address=str(current.get("address", "")).split("/")[0] or "127.0.0.1",
        disks=await asyncio.to_thread(pages.disks) if step.name in {"backup", "summary"} else [],
    )  # fmt: skip


# --- keys and certificate --------------------------------------------------------------------------------------------


@get("/setup/paper", public=CODE)
async def paper(request: Req) -> Response[str]:
    """The recovery keys alone on a page, to be printed. The key of a clinic that comes back is on paper already."""
    pages = pages_of(request)
    if not is_inside(request) or pages.desk.begun:
        return redirect(None, "/setup")
    filled, _ = await _filled(request, pages)
    returns = "disk" in request.query_params
    keys = {name: key for name, key in pages.keys.items() if name == "disk" or not returns}
    clinic = "" if returns else filled["clinic"]["name"]
    return bare_page(request, "appliance/setup/paper.html", keys=keys, clinic=clinic)


def _trusted(pages: Pages) -> tuple[tuple[str, str, bytes], ...]:
    return (
        ("/qanun-ca.crt", "application/x-x509-ca-cert", pages.root),
        ("/qanun-ca.mobileconfig", "application/x-apple-aspen-config", trust.profile(pages.root)),
    )


@get(["/qanun-ca.crt", "/qanun-ca.mobileconfig"], public="the machine's root certificate is public")
async def trusted_file(request: Req) -> Response[bytes]:
    kind, content = next(
        (kind, content) for path, kind, content in _trusted(pages_of(request)) if path == request.url.path
    )
    return Response(content, media_type=kind)


@get("/setup/square/{what:str}", public="an address of this machine, as a square for cameras")
async def square(request: Req, what: str) -> Response[bytes]:
    if what not in {"crt", "mobileconfig"}:
        raise NotFound("square")
    current = await asyncio.to_thread(pages_of(request).current)
    address = str(current.get("address", "")).split("/")[0] or str(request.url.hostname)
    return Response(trust.square(f"http://{address}/qanun-ca.{what}"), media_type="image/svg+xml")


# --- how far it is ---------------------------------------------------------------------------------------------------


async def _progress_page(request: Req, pages: Pages) -> Response[str]:
    hosts = _hosts(pages)
    # The page asks the new address whether it is there yet; nothing else may be asked from it.
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; form-action 'self'; "
        f"base-uri 'none'; frame-ancestors 'none'; connect-src 'self' {' '.join(f'https://{host}' for host in hosts)}"
    )
    return bare_page(
        request,
        "appliance/setup/progress.html",
        progress=state_of(pages),
        hosts=hosts,
        headers={"content-security-policy": policy},
    )


def _hosts(pages: Pages) -> list[str]:
    """Where the machine will be found; of a clinic that comes back it is known when its site file is there."""
    if pages.desk.way == "return":
        return [str(name) for name in pages.desk.read("hosts").get("names", ())]
    chosen, current = pages.desk.read("chosen"), pages.desk.read("network")
    found: list[str] = steps.table(chosen, current)["hosts"]["names"] if chosen else []
    return found


@get("/setup/progress", public=CODE)
async def progress(request: Req) -> Response[Any]:
    """For the page's script: how far, and the list anew."""
    pages = pages_of(request)
    if not is_inside(request) or not pages.desk.begun:
        raise NotFound("page")
    state = state_of(pages)
    html = bare_page(request, "appliance/setup/parts/work.html", progress=state).content
    return json_response({"state": state["state"], "over": state["over"], "hosts": _hosts(pages), "html": html})


@post("/setup/again", public=CODE)
async def again(request: Req) -> Response[str]:
    """After a failure: back to where it was begun, with everything that was typed."""
    pages = pages_of(request)
    if is_inside(request) and pages.desk.progress().get("state") == "failed":
        to = "/setup/return" if pages.desk.way == "return" else "/setup/summary"
        pages.desk.again()
        return redirect(None, to)
    return redirect(None, "/setup")


@get("/health", public="says that there is no clinic yet")
async def health() -> Response[bytes]:
    return json_response({"status": "setting-up"}, status=503)
