"""Every route × every role × {own clinic, another clinic}: the verdict written in `route_matrix.toml` is what happens.

A route without a row fails here. Ids in paths are random, so that what is allowed answers "not here" and never 500.
"""

import re
import tomllib
import uuid
from pathlib import Path

import pytest

from qanun.app.web import all_routes
from qanun.testing.clinics import ROLES

MATRIX = tomllib.loads((Path(__file__).parent / "route_matrix.toml").read_text(encoding="utf-8"))
EVERYBODY = (*ROLES, "patient", "guest")
AUDIENCES = {"patient": "portal", "guest": "guest"}


def _routes(application):
    for path, handler in all_routes(application):
        for method in sorted(getattr(handler, "http_methods", {"WEBSOCKET"}) - {"HEAD", "OPTIONS"}):
            yield method, path, handler


def _url(path: str, slug: str) -> str:
    url = path.replace("{clinic:str}", slug)
    url = re.sub(r"\{\w+:uuid\}", lambda _: str(uuid.uuid4()), url)
    url = re.sub(r"\{\w+:(?:int|decimal)\}", "1", url)
    return re.sub(r"\{\w+:\w+\}", "nothing", url)


def test_every_route_has_a_row_and_every_row_a_route(application):
    routes = {f"{method} {path}" for method, path, _ in _routes(application)}
    assert sorted(routes - set(MATRIX)) == [], "routes without a row"
    assert sorted(set(MATRIX) - routes) == [], "rows without a route"


def test_the_rows_say_what_the_routes_declare(application):
    for method, path, handler in _routes(application):
        row = MATRIX[f"{method} {path}"]
        if handler.opt.get("public"):
            assert row["roles"] == ["public"], path
        else:
            own = AUDIENCES.get(row["roles"][0], "staff")
            assert handler.opt["audience"] == own and (own == "staff" or len(row["roles"]) == 1), path
            assert row["permission"] == str(handler.opt["permission"]), path


@pytest.mark.parametrize("role", EVERYBODY)
async def test_a_role_gets_through_exactly_where_its_row_says(application, clinic, other_clinic, role):
    """Also for the other clinic's portal: a patient or guest of one clinic is a stranger in the other."""
    if role == "patient":
        client = await clinic.portal(await clinic.patient())
    elif role == "guest":
        client = await clinic.guest()
    else:
        client = await clinic.client(role)
    wrong = []
    for method, path, _ in _routes(application):
        row = MATRIX[f"{method} {path}"]
        # Streams do not end, and signing out would end the walk: both have tests of their own.
        if method == "WEBSOCKET" or row["roles"] == ["public"] or path.endswith(("/live", "/sign-out")):
            continue
        answer = await client.request(method, _url(path, clinic.tenant.slug), data={} if method != "GET" else None)
        way_in = answer.headers.get("location", "") + answer.headers.get("x-qanun-sign-in", "")
        shown_out = answer.status_code in (303, 401) and ("sign-in" in way_in or re.fullmatch(r"/guest/[^/]+", way_in))
        through = not shown_out and answer.status_code != 403
        if through != (role in row["roles"]) or answer.status_code >= 500:
            wrong.append(f"{role} {method} {path}: {answer.status_code}")
        if role in AUDIENCES and "{clinic:str}" in path:
            elsewhere = await client.request(method, _url(path, other_clinic.tenant.slug))
            if elsewhere.status_code not in (303, 401, 404):
                wrong.append(f"{role} elsewhere {method} {path}: {elsewhere.status_code}")
    assert wrong == []
