"""Finding plugins by entry point, checking them before import, and gathering what they contribute.

A stranger's plugin that fails is set aside with its reason and the clinic works on; a bundled one that fails stops the
start, because then the image itself is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path
from typing import Any, ClassVar

import pluggy
import structlog
from packaging.requirements import InvalidRequirement, Requirement

from qanun.db.lineage import Lineage
from qanun.errors import ConfigurationError
from qanun.plugins import hookspecs
from qanun.registry import Registry

GROUP = "qanun.plugins"
BUNDLED = frozenset({"emr", "scheduling", "telemedicine", "portal", "appliance"})

log = structlog.get_logger("qanun.plugins")


class Plugin:
    """Base of a plugin's manifest. Subclasses set the class attributes and implement hooks with `@hookimpl`."""

    slug: ClassVar[str]
    label: ClassVar[object]
    requires: ClassVar[tuple[str, ...]] = ()


@dataclass(slots=True)
class LoadedPlugin:
    """One installed plugin: ready, or set aside with `fault`."""

    slug: str
    distribution: str
    version: str
    plugin: Plugin | None = None
    package: str = ""
    fault: str = ""
    contributions: int = 0

    def lineage(self) -> Lineage | None:
        """Its migrations, when it has any tables."""
        if self.plugin is None:
            return None
        folder = _package_folder(self.package) / "migrations"
        return Lineage(self.slug, folder) if (folder / "versions").is_dir() else None


@dataclass(slots=True)
class Plugins:
    """All installed plugins, in the order in which they load (what they require first)."""

    loaded: list[LoadedPlugin] = field(default_factory=list)
    routes: list[tuple[str, Any]] = field(default_factory=list)

    @property
    def ready(self) -> list[LoadedPlugin]:
        return [plugin for plugin in self.loaded if plugin.plugin is not None]

    @property
    def slugs(self) -> frozenset[str]:
        return frozenset(plugin.slug for plugin in self.ready)

    def lineages(self) -> list[Lineage]:
        core = Lineage("core", _package_folder("qanun") / "migrations")
        return [core, *(found for plugin in self.ready if (found := plugin.lineage()))]


def _package_folder(package: str) -> Path:
    import importlib

    module = importlib.import_module(package)
    assert module.__file__ is not None
    return Path(module.__file__).parent


def load_plugins(registry: Registry, *, only: Iterable[str] | None = None) -> Plugins:
    """Load every installed plugin (or `only` those slugs) and gather its contributions into `registry`.

    Raises ConfigurationError when a bundled plugin cannot be loaded.
    """
    wanted = None if only is None else frozenset(only)
    found = [entry for entry in entry_points(group=GROUP) if wanted is None or entry.name in wanted]
    registry.bundled |= BUNDLED
    plugins = Plugins()
    for entry in sorted(found, key=lambda item: item.name):
        plugins.loaded.append(_import(entry))
    plugins.loaded = _in_order(plugins.loaded)
    for loaded in plugins.ready:
        try:
            _gather(loaded, registry, plugins)
        except Exception as error:  # noqa: BLE001 - whatever a stranger's hook raises sets only that plugin aside
            _set_aside(loaded, error)
    return plugins


def _import(entry: EntryPoint) -> LoadedPlugin:
    distribution = entry.dist.name if entry.dist else entry.module
    loaded = LoadedPlugin(entry.name, distribution, entry.dist.version if entry.dist else "0")
    loaded.package = entry.module.split(".", 1)[0]
    try:
        _check_version(entry)
        plugin = entry.load()
        if not isinstance(plugin, Plugin) or plugin.slug != entry.name:
            raise ConfigurationError(f"entry point {entry.name} does not name a Plugin of that slug")  # noqa: TRY301
        loaded.plugin = plugin
    except Exception as error:  # noqa: BLE001
        _set_aside(loaded, error)
    return loaded


def _check_version(entry: EntryPoint) -> None:
    """The pip requirement is the API range; it is compared before the plugin's code is imported."""
    running = version("qanun")
    for text in (entry.dist.requires if entry.dist else None) or []:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.name.lower() == "qanun" and not requirement.specifier.contains(running, prereleases=True):
            raise ConfigurationError(f"made for qanun{requirement.specifier}, this is {running}")


def _set_aside(loaded: LoadedPlugin, error: Exception) -> None:
    loaded.plugin, loaded.fault = None, f"{type(error).__name__}: {error}"
    if loaded.slug in BUNDLED:
        raise ConfigurationError(f"bundled plugin {loaded.slug} does not start: {loaded.fault}") from error
    log.error("plugin_set_aside", plugin=loaded.slug, fault=loaded.fault)


def _in_order(loaded: list[LoadedPlugin]) -> list[LoadedPlugin]:
    by_slug = {plugin.slug: plugin for plugin in loaded}
    ordered: list[LoadedPlugin] = []

    def place(plugin: LoadedPlugin, above: tuple[str, ...]) -> None:
        if plugin in ordered:
            return
        if plugin.slug in above:
            raise ConfigurationError(f"plugins require one another in a circle: {' → '.join((*above, plugin.slug))}")
        for slug in plugin.plugin.requires if plugin.plugin else ():
            if slug in by_slug:
                place(by_slug[slug], (*above, plugin.slug))
        ordered.append(plugin)

    for plugin in loaded:
        place(plugin, ())
    return ordered


def _gather(loaded: LoadedPlugin, registry: Registry, plugins: Plugins) -> None:
    """Ask one plugin for everything. pluggy checks that every hook it implements exists."""
    assert loaded.plugin is not None
    manager = pluggy.PluginManager("qanun")
    manager.add_hookspecs(hookspecs)
    manager.register(loaded.plugin, loaded.slug)
    manager.check_pending()
    for requirement in loaded.plugin.requires:
        if requirement not in plugins.slugs:
            raise ConfigurationError(f"plugin {loaded.slug} needs {requirement}, which is not installed")
    routes: list[Any] = []
    items: list[Any] = []
    for name in sorted(vars(hookspecs)):
        caller = getattr(manager.hook, name, None)
        if not isinstance(caller, pluggy.HookCaller):
            continue
        found = [item for answer in caller() for item in answer or ()]
        (routes if name == "routes" else items).extend(found)
    # Everything was given before anything is taken: a plugin set aside halfway leaves nothing behind.
    registry.extend(loaded.slug, items)
    plugins.routes.extend((loaded.slug, item) for item in routes)
    loaded.contributions = len(items) + len(routes)
