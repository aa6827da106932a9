"""What a plugin can hang into the life of a process, and what it asks of the machine around it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qanun.access import Runtime
    from qanun.context import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifespan:
    """A connection kept while the web process runs: `open(runtime)`; what it yields is `runtime.services[id]`."""

    id: str
    open: Callable[[Runtime], AbstractAsyncContextManager[Any]]
    order: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemService:
    """A daemon beside the web process. `command` uses `{state_dir}`-style fields of the configuration and `{python}`.

    `prepare`, when given, is run to its end before every start: it writes what the daemon reads. Ports are (protocol, port).
    On an appliance it runs as the account `user` and writes only in `folders` below the state folder. `needs` names a field of
    the configuration without which there is nothing for it to do, and it is not started.
    """

    id: str
    command: Sequence[str]
    prepare: Sequence[str] = ()
    ports: Sequence[tuple[str, int]] = ()
    per_core: bool = False
    user: str = "qanun"
    folders: Sequence[str] = ()
    needs: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoClinic:
    """What seeders share about a demonstration clinic while it is filled; `notes` passes ids from one to the next."""

    random: Any
    patients: list[Any] = field(default_factory=list)
    practitioners: list[Any] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSeeder:
    """Fills one demonstration clinic: `seed(ctx, clinic)`, in `order`, in one transaction each.

    `renew` runs at later starts: what would have gone stale by then is there afresh, and what was done meanwhile stays.
    """

    id: str
    seed: Callable[[Context, DemoClinic], Awaitable[None]]
    renew: Callable[[Context, DemoClinic], Awaitable[None]] | None = None
    order: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class CliCommand:
    """`qanun <slug> <name> …`: `run(arguments)` gets what follows and returns the exit code."""

    id: str
    summary: str
    run: Callable[[Sequence[str]], int]
