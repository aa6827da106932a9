"""Administration of people: who works here, in which roles, what a role may do, and the code for who cannot get in."""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import Any

from litestar import Request, Response
from sqlalchemy import select

from qanun.access import Core, people
from qanun.access.people import Person, PersonDraft, staff_roles
from qanun.context import Context
from qanun.errors import Conflict, Forbidden, Invalid, TooMany
from qanun.i18n import N_
from qanun.identity import Patient, recovery, signin
from qanun.identity.specialties import SPECIALTIES
from qanun.web.authorise import public_context, runtime_of
from qanun.web.forms import Form
from qanun.web.furniture import NavItem
from qanun.web.pages import page, redirect
from qanun.web.routing import get, post
from qanun.web.security import session_cookie
from qanun.web.way_in import entrance

Req = Request[Any, Any, Any]
HERE_ALREADY = N_("Somebody with this e-mail works here already.")
ELSEWHERE = N_(
    "This person works in another clinic on this server too. Only somebody who is an administrator of both can do this."
)
NAV = (
    NavItem(id="core.people", label=N_("People"), icon="users-group", href="/people", permission=Core.PEOPLE_MANAGE,
            key="u", order=85),
)  # fmt: skip


def _roles(ctx: Context) -> list[tuple[str, object]]:
    return [(role.name, role.label) for role in staff_roles(ctx.registry)]


async def _all(
    ctx: Context, *, status: int = 200, values: Any = None, errors: Any = None, chosen: Any = ()
) -> Response[str]:
    return page(
        ctx, "core/people.html", status=status, people=await people.people(ctx), roles=_roles(ctx), limit=people.LIMIT,
        values=values or {}, errors=errors or {}, chosen=chosen, named=dict(_roles(ctx)), specialties=SPECIALTIES,
    )  # fmt: skip


async def _one(ctx: Context, who: Person, *, status: int = 200, errors: Any = None, code: str = "", chosen: Any = None,
               added: bool = False) -> Response[str]:  # fmt: skip
    return page(
        ctx, "core/person.html", status=status, person=who, roles=_roles(ctx), errors=errors or {}, code=code, added=added,
        chosen=who.membership.roles if chosen is None else chosen, hours=int(recovery.LIFE.total_seconds() // 3600),
    )  # fmt: skip


@get("/people", permission=Core.PEOPLE_MANAGE)
async def list_(ctx: Context) -> Response[str]:
    return await _all(ctx)


@post("/people", permission=Core.PEOPLE_MANAGE, fresh=True)
async def let_in(ctx: Context, form: Form) -> Response[str]:
    """A new person, with the code that they choose their password by."""
    values = {name: form.text(name) for name in ("name", "name_alt", "email", "specialty", "room", "licence")}
    roles = tuple(form.all("roles"))
    try:
        who = await people.let_in(ctx, PersonDraft(roles=roles, **values))
    except Invalid as error:
        return await _all(ctx, status=422, values=values, errors=error.fields, chosen=roles)
    except Conflict:
        return await _all(ctx, status=409, values=values, errors={"email": HERE_ALREADY}, chosen=roles)
    code = ""
    if not who.has_password:
        with suppress(Forbidden):  # another clinic let them in first: its administrator has the code
            code = await recovery.make_code(ctx, who.user, removes_passkeys=False)
    return await _one(ctx, who, code=code, added=True)


@get("/people/{user_id:uuid}", permission=Core.PEOPLE_MANAGE)
async def person(ctx: Context, user_id: uuid.UUID) -> Response[str]:
    return await _one(ctx, await people.person(ctx, user_id))


@post("/people/{user_id:uuid}/roles", permission=Core.PEOPLE_MANAGE, fresh=True)
async def set_roles(ctx: Context, user_id: uuid.UUID, form: Form) -> Response[str]:
    roles = form.all("roles")
    try:
        await people.set_roles(ctx, user_id, roles)
    except Invalid as error:
        return await _one(ctx, await people.person(ctx, user_id), status=422, errors=error.fields, chosen=roles)
    except Conflict:
        who = await people.person(ctx, user_id)
        return await _one(ctx, who, status=409, errors={"roles": people.LAST}, chosen=roles)
    return redirect(ctx, f"/people/{user_id}")


@post("/people/{user_id:uuid}/code", permission=Core.PEOPLE_MANAGE, fresh=True)
async def code(ctx: Context, user_id: uuid.UUID, form: Form) -> Response[str]:
    """Shown once, on this answer alone."""
    who = await people.person(ctx, user_id)
    try:
        made = await recovery.make_code(ctx, who.user, removes_passkeys=form.flag("lost"))
    except Forbidden:
        return await _one(ctx, who, status=403, errors={"code": ELSEWHERE})
    return await _one(ctx, who, code=made)


@post("/people/{user_id:uuid}/end", permission=Core.PEOPLE_MANAGE, fresh=True)
async def end(ctx: Context, user_id: uuid.UUID) -> Response[str]:
    try:
        await people.end_membership(ctx, user_id)
    except Conflict:
        return await _one(ctx, await people.person(ctx, user_id), status=409, errors={"end": people.LAST})
    return redirect(ctx, "/people")


# --- what a role may do -------------------------------------------------------------------------------------------------


async def _role(
    request: Req, ctx: Context, role: str, *, status: int = 200, errors: Any = None, saved: bool = False
) -> Response[str]:
    names: dict[str, object] = {"core": N_("In general")}
    names |= {loaded.slug: loaded.plugin.label for loaded in request.app.state.plugins.ready}
    lines = await people.role_lines(ctx, role)
    groups: dict[str, list[Any]] = {"core": []}
    for line in lines:
        groups.setdefault(line.plugin, []).append(line)
    labelled = [(names.get(slug, slug), group) for slug, group in groups.items()]
    return page(
        ctx, "core/role.html", status=status, role=role, roles=_roles(ctx), groups=labelled, errors=errors or {}, saved=saved
    )  # fmt: skip


@get("/roles/{role:str}", permission=Core.PEOPLE_MANAGE)
async def role(request: Req, ctx: Context, role: str) -> Response[str]:
    return await _role(request, ctx, role)


@post("/roles/{role:str}", permission=Core.PEOPLE_MANAGE, fresh=True)
async def set_role(request: Req, ctx: Context, role: str, form: Form) -> Response[str]:
    try:
        await people.set_role(ctx, role, form.all("permission"))
    except Invalid as error:
        return await _role(request, ctx, role, status=422, errors=error.fields)
    return await _role(request, ctx, role, saved=True)


# --- who cannot get in --------------------------------------------------------------------------------------------------


@get("/sign-in/recover", public="a one-time code from an administrator")
async def recover_page(request: Req) -> Response[str]:
    return entrance(request, "core/recover.html", values={"email": "", "code": ""}, errors={})


@post("/sign-in/recover", public="a one-time code from an administrator")
async def recover(request: Req, form: Form) -> Response[str]:
    runtime = runtime_of(request)
    kept = {"email": form.text("email"), "code": form.text("code")}
    try:
        token, user, held = await recovery.recover(
            runtime.database, kept["email"], kept["code"], form.get("password", "")
        )
    except Invalid as error:
        return entrance(request, "core/recover.html", 422, values=kept, errors=error.fields)
    except TooMany as error:
        resting = {"code": N_("Too many attempts. Wait a few minutes and try again.")}
        answer = entrance(request, "core/recover.html", 429, values=kept, errors=resting)
        answer.headers["Retry-After"] = str(error.retry_after)
        return answer
    for tenant, roles in await signin.clinics_of(runtime.database, user.id):
        async with public_context(request, tenant) as ctx:
            ctx.audit(
                "core.person.recovered",
                detail={"user": user.id, "roles": roles, "code": held.id, "removed_passkeys": held.removes_passkeys},
            )
    cookie = session_cookie("staff", token, secure=runtime.config.secure_cookies)
    return redirect(None, "/", cookies=[cookie])


# --- a patient who cannot get in -----------------------------------------------------------------------------------------


async def _renewal(ctx: Context, mrn: str, *, link: str = "", errors: Any = None, status: int = 200) -> Response[str]:
    return page(ctx, "core/portal_renewal.html", status=status, values={"mrn": mrn}, link=link, errors=errors or {})


@get("/portal-access", permission=Core.PORTAL_INVITE)
async def renewal_page(ctx: Context, mrn: str = "") -> Response[str]:
    return await _renewal(ctx, mrn[:40])


@post("/portal-access", permission=Core.PORTAL_INVITE, fresh=True)
async def renew(request: Req, ctx: Context, form: Form) -> Response[str]:
    """A link by which a patient chooses a new password, proven by the date of birth; shown once, good for a day."""
    mrn = form.text("mrn")
    found = select(Patient.id).where(Patient.mrn == mrn.upper(), Patient.voided_at.is_(None))
    patient_id = (await ctx.db.execute(found)).scalar_one_or_none()
    if patient_id is None:
        return await _renewal(ctx, mrn, errors={"mrn": N_("No record has this number.")}, status=422)
    home = f"/portal/{ctx.tenant.slug}"
    token = await signin.invite(ctx, patient_id, home, life=recovery.LIFE, renews=True)
    return await _renewal(ctx, mrn, link=f"{runtime_of(request).config.base_url}{home}/i/{token}")


PEOPLE_ROUTES = (
    renewal_page,
    renew,
    list_,
    let_in,
    person,
    set_roles,
    code,
    end,
    role,
    set_role,
    recover_page,
    recover,
)
