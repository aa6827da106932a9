"""The one sheet of a clinic that comes back: which disk its backup is on, and the key that stands on paper.

What it hands to root is checked there again (`homecoming`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from litestar import Response

from qanun.api import N_, Form, bare_page, get, post, redirect
from qanun_appliance.secrets import tidy_key
from qanun_appliance.wizard.disks import BackupDisk
from qanun_appliance.wizard.pages import CODE, Pages, Req, is_inside, pages_of

SHEET = "return"
_FIELDS = ("disk", "key", "typed_disk", "network")
_LONGEST = 2000


@get("/setup/return", public=CODE)
async def return_page(request: Req) -> Response[str]:
    pages = pages_of(request)
    if not is_inside(request) or pages.desk.begun:
        return redirect(None, "/setup")
    return await _sheet(request, pages)


@post("/setup/return", public=CODE)
async def return_begin(request: Req, form: Form) -> Response[str]:
    """Right, and root begins; wrong, and everything that was typed stays."""
    pages = pages_of(request)
    if not is_inside(request) or pages.desk.begun:
        return redirect(None, "/setup")
    typed = {name: form.text(name)[:_LONGEST] for name in _FIELDS if name in form}
    pages.desk.keep(SHEET, typed)
    if form.text("go") == "look":
        return await _sheet(request, pages)
    values, there = _values(pages), await asyncio.to_thread(pages.disks)
    errors = faults(values, there, pages.keys)
    if errors:
        return await _sheet(request, pages, status=422, errors=errors)
    pages.desk.write("network", await asyncio.to_thread(pages.current))
    pages.desk.write("return", {**values, "key": tidy_key(values["key"])})
    pages.desk.begin("return")
    return redirect(None, "/")


def _values(pages: Pages) -> dict[str, str]:
    usual = {"disk": "", "key": "", "typed_disk": "", "network": "before"}
    return {**usual, **pages.desk.answers().get(SHEET, {})}


def faults(values: Mapping[str, str], there: list[BackupDisk], keys: Mapping[str, str]) -> dict[str, Any]:
    """Field → sentence."""
    found: dict[str, Any] = {}
    usable = {one.choice for one in there if one.choice.startswith("disk:")}
    if not values["disk"]:
        found["disk"] = N_("Choose the disk with the backup.")
    elif values["disk"] not in usable:
        found["disk"] = N_("This disk is not plugged in any more.")
    if not tidy_key(values["key"]):
        found["key"] = N_("This is needed.")
    own = keys.get("disk", "").strip().upper()
    if own and values["typed_disk"].strip().upper() != own.rsplit("-", 1)[-1]:
        found["typed_disk"] = N_("That is not the last group of this key.")
    if values["network"] not in {"before", "now"}:
        found["network"] = N_("Choose one of the two.")
    return found


async def _sheet(
    request: Req, pages: Pages, *, status: int = 200, errors: Mapping[str, Any] | None = None
) -> Response[str]:  # fmt: skip
    there = await asyncio.to_thread(pages.disks)
    values = _values(pages)
    usable = [one for one in there if one.choice.startswith("disk:")]
    if not values["disk"] and len(usable) == 1:
        values["disk"] = usable[0].choice
    return bare_page(
        request, "appliance/setup/return.html", status=status, values=values, errors=errors or {}, disks=usable,
        keys=pages.keys,
    )  # fmt: skip


HANDLERS = (return_page, return_begin)
