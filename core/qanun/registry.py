"""A passive, typed container of contributions, and the isolated calling of them.

Rooms ask it for what plugins contributed (`registry.all(NavItem)`) without knowing any plugin. It never imports one:
`qanun.plugins` fills it once at start, then it is frozen. What runs later is called through `Registry.call_soft`, so
that one faulty contribution costs a small error card and never the page.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import structlog

from qanun.errors import ConfigurationError, QanunError

T = TypeVar("T")
R = TypeVar("R")

FailureClass = Literal["boot", "soft", "closed", "durable", "atomic"]

SOFT_BUDGET_SECONDS = 2.0

log = structlog.get_logger("qanun.registry")


@dataclass(frozen=True, slots=True)
class Contributed:
    """A contribution together with the slug of the plugin that made it (`core` for core's own)."""

    plugin: str
    item: Any


@dataclass(frozen=True, slots=True)
class Failure:
    """What a soft call leaves behind when it failed: enough for an error card and an operator, no patient data."""

    plugin: str
    contribution: str
    error: str
    timed_out: bool = False


class Registry:
    """Contributions by type. Ids (`slug.name`) are unique per type; conflicts name both plugins."""

    def __init__(self) -> None:
        self._items: dict[type, list[Contributed]] = {}
        self._ids: dict[tuple[type, str], Contributed] = {}
        self._frozen = False
        self.bundled: frozenset[str] = frozenset({"core"})
        self.failures: dict[str, int] = {}

    def add(self, plugin: str, item: object) -> None:
        """Raises ConfigurationError when frozen or when the id is taken or does not start with the plugin's slug."""
        self.extend(plugin, [item])

    def extend(self, plugin: str, items: Iterable[object]) -> None:
        """Add all of `items` or, when one is refused, none."""
        if self._frozen:
            raise ConfigurationError(f"plugin {plugin}: contributions are gathered at start only")
        ids: dict[tuple[type, str], Contributed] = {}
        entries = [Contributed(plugin, item) for item in items]
        for entry in entries:
            kind, identity = type(entry.item), getattr(entry.item, "id", None)
            if not isinstance(identity, str):
                continue
            if not identity.startswith(f"{plugin}."):
                raise ConfigurationError(
                    f"plugin {plugin}: {kind.__name__} id {identity!r} must start with '{plugin}.'"
                )
            known = self._ids.get((kind, identity)) or ids.get((kind, identity))
            if known is not None:
                raise ConfigurationError(f"{kind.__name__} {identity!r} is contributed by {known.plugin} and {plugin}")
            ids[(kind, identity)] = entry
        self._ids.update(ids)
        for entry in entries:
            self._items.setdefault(type(entry.item), []).append(entry)

    def freeze(self) -> None:
        """Sort by `order` (then plugin), then refuse every further addition."""
        for entries in self._items.values():
            entries.sort(key=lambda entry: (getattr(entry.item, "order", 100), entry.plugin))
        self._frozen = True

    def entries(self, kind: type, *, enabled: frozenset[str] | None = None) -> list[Contributed]:
        """Contributions of `kind` with their plugin; `enabled` keeps those of core and of the given plugins."""
        found = self._items.get(kind, [])
        if enabled is None:
            return list(found)
        return [entry for entry in found if entry.plugin == "core" or entry.plugin in enabled]

    def all(self, kind: type[T], *, enabled: frozenset[str] | None = None) -> list[T]:
        return [entry.item for entry in self.entries(kind, enabled=enabled)]

    def get(self, kind: type[T], identity: str) -> T | None:
        found = self._ids.get((kind, identity))
        return found.item if found else None

    def kinds(self) -> list[type]:
        return list(self._items)

    async def call_soft(
        self, entry: Contributed, function: Callable[..., Awaitable[R]], *args: Any, **kwargs: Any
    ) -> R | Failure:
        """Await one contribution within the soft budget; an error becomes a `Failure`, logged with the plugin's name.

        Errors that a person must see as they are (`QanunError` such as Forbidden) pass through: they are answers.
        """
        name = getattr(entry.item, "id", type(entry.item).__name__)
        try:
            async with asyncio.timeout(SOFT_BUDGET_SECONDS):
                return await function(*args, **kwargs)
        except TimeoutError:
            failure = Failure(entry.plugin, name, "timeout", timed_out=True)
        except QanunError:
            raise
        except Exception as error:
            failure = Failure(entry.plugin, name, type(error).__name__)
            log.warning("contribution_failed", plugin=entry.plugin, contribution=name, exc_info=True)
        self.failures[name] = self.failures.get(name, 0) + 1
        log.warning("contribution_replaced_by_card", plugin=entry.plugin, contribution=name, error=failure.error)
        return failure
