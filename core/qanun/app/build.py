"""Assembling a process: configuration → registry → runtime."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from qanun.access import Runtime
from qanun.access.permissions import GRANTS, ROLES, Core, check_grants
from qanun.app.core_contributions import AUDIT_EVENTS, JOBS
from qanun.config import Config
from qanun.crypto import load_master_key
from qanun.db import Database
from qanun.events import LiveLine
from qanun.notifications import CHANNELS
from qanun.notifications import JOBS as NOTIFICATION_JOBS
from qanun.plugins import Plugins, load_plugins
from qanun.records import Records
from qanun.registry import Registry
from qanun.storage import BlobStore, Keyring
from qanun.web.closed_records import PRIVACY
from qanun.web.people import NAV


@dataclass(slots=True)
class Assembly:
    """A process's parts, wired."""

    config: Config
    registry: Registry
    plugins: Plugins
    runtime: Runtime


def gather(only: Iterable[str] | None = None) -> tuple[Registry, Plugins]:
    """Core's own contributions and every plugin's, checked and frozen. Needs no database."""
    registry = Registry()
    registry.add("core", Core)
    for items in (ROLES, GRANTS, AUDIT_EVENTS, JOBS, NOTIFICATION_JOBS, CHANNELS, NAV, PRIVACY):
        registry.extend("core", items)
    plugins = load_plugins(registry, only=only)
    registry.freeze()
    check_grants(registry)
    return registry, plugins


def assemble(config: Config, *, only: Iterable[str] | None = None) -> Assembly:
    """Everything but open connections; those are made on first use."""
    registry, plugins = gather(only)
    runtime = Runtime(
        config=config,
        database=Database(config.database_url, pool_size=config.pool_size),
        registry=registry,
        keys=Keyring(load_master_key(config.master_key_file)),
        blobs=BlobStore.local(config.state_dir / "blobs"),
        live=LiveLine(config.database_url),
        slugs=plugins.slugs,
        records_for=Records,
    )
    return Assembly(config, registry, plugins, runtime)
