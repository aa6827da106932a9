"""What a plugin can put on a page: navigation entries, contents of slots, providers of search results."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from qanun.context import Context
from qanun.contracts import PatientPage, View


@dataclass(frozen=True, slots=True, kw_only=True)
class NavItem:
    """An entry of the rail. `permission` must equal the page's own, so that nobody is led to a closed door.

    `key` is the letter after `g` that goes there. `roles`, when given, narrows the entry to those roles' homes.
    """

    id: str
    label: object
    icon: str
    href: str
    permission: str
    key: str = ""
    order: int = 100
    roles: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotContent:
    """Something for a named place on another plugin's page (`chart.dock`, `day.side`, `portal.home`).

    `render(ctx, **params)` gives a view or None; a failure becomes a small error card, the page stays.
    """

    id: str
    slot: str
    permission: str
    render: Callable[..., Awaitable[View | None]]
    order: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class PageScript:
    """A module on every page of the staff's frame, for who holds `permission`: what must reach them wherever they are.

    `src` is a static file of the plugin (`labs/alarm.js`); it costs every page its bytes, so it is small.
    """

    id: str
    src: str
    permission: str


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One line in the palette. `text` is a second, quieter line; `href` where Enter goes."""

    title: str
    href: str
    text: str = ""
    icon: str = "search"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchProvider:
    """Results for the palette: `search(ctx, query, limit)`."""

    id: str
    label: object
    permission: str
    search: Callable[[Context, str, int], Awaitable[Sequence[SearchHit]]]
    order: int = 100


def visible_nav(ctx: Context) -> list[NavItem]:
    """The rail's entries for this person in this clinic."""
    items: list[Any] = ctx.registry.all(NavItem, enabled=ctx.enabled)
    return [i for i in items if ctx.can(i.permission) and (not i.roles or i.roles & ctx.actor.roles)]


def patient_href(ctx: Context, patient_id: uuid.UUID) -> str:
    """The page where this person opens that patient; empty when there is none they may open."""
    for item in ctx.registry.all(PatientPage, enabled=ctx.enabled):
        if ctx.can(item.permission):
            return item.href(patient_id)
    return ""
