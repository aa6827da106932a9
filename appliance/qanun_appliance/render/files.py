"""A file as it should be, and what must happen when it was not."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """`path` is absolute on the machine. `then` names what is reloaded or restarted when it changed: `unit:reload`,
    `unit:restart`, or `daemon-reload`."""

    path: str
    content: str
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"
    then: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A symbolic link: an enabled unit, or one that is masked (`/dev/null`)."""

    path: str
    target: str
    then: tuple[str, ...] = ("daemon-reload",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What rendering must know of the machine itself. `slot` says that it runs our image and not a stock Debian,
    `postgres_tells` that its PostgreSQL was built to tell systemd when it takes connections, as Debian's is."""

    memory_mb: int
    cores: int
    postgres_bin: str
    slot: bool = False
    postgres_tells: bool = True

    @property
    def postgres_major(self) -> int:
        return int(next(part for part in self.postgres_bin.split("/") if part.isdigit()))


HEAD = "# Written by `qanun appliance apply` from /var/lib/qanun/site.toml. Changes made here are lost.\n"
