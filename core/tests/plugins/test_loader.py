"""A faulty plugin is set aside with its reason; a bundled one stops the start; conflicts name both."""

from dataclasses import dataclass
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest

from qanun.errors import ConfigurationError
from qanun.plugins import Plugin, hookimpl, loader
from qanun.registry import Failure, Registry
from qanun.web import NavItem


def _item(identity: str) -> NavItem:
    return NavItem(id=identity, label="x", icon="x", href="/x", permission="core.session:use")


class Good(Plugin):
    slug, label = "good", "Good"

    @hookimpl
    def nav_items(self):
        return [_item("good.first")]


class Broken(Plugin):
    slug, label = "broken", "Broken"

    @hookimpl
    def nav_items(self):
        raise RuntimeError("no such table")


class Misspelt(Plugin):
    slug, label = "misspelt", "Misspelt"

    @hookimpl
    def nav_itmes(self):
        return []


class Thief(Plugin):
    slug, label = "thief", "Thief"

    @hookimpl
    def nav_items(self):
        return [_item("good.first")]


class Needy(Plugin):
    slug, label, requires = "needy", "Needy", ("absent",)


@dataclass
class _Entry:
    name: str
    plugin: object
    requires: tuple[str, ...] = ("qanun>=0.1,<0.2",)
    module: str = "qanun_example.plugin"

    @property
    def dist(self):
        return SimpleNamespace(name=f"qanun-{self.name}", version="1.0", requires=list(self.requires))

    def load(self):
        if isinstance(self.plugin, Exception):
            raise self.plugin
        return self.plugin


@pytest.fixture
def installed(monkeypatch):
    def install(*entries: _Entry | EntryPoint):
        monkeypatch.setattr(loader, "entry_points", lambda group: list(entries))
        registry = Registry()
        return registry, loader.load_plugins(registry)

    return install


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (_Entry("broken", Broken()), "no such table"),
        (_Entry("misspelt", Misspelt()), "nav_itmes"),
        (_Entry("needy", Needy()), "absent"),
        (_Entry("importless", ImportError("no module named numpy")), "numpy"),
        (_Entry("tomorrow", Good(), requires=("qanun>=9",)), "qanun>=9"),
        (_Entry("othername", Good()), "othername"),
        (_Entry("thief", Thief()), "good.first"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_faulty_plugin_is_set_aside_with_its_reason_and_the_others_run(installed, entry, reason):
    registry, plugins = installed(_Entry("good", Good()), entry)
    assert [plugin.slug for plugin in plugins.ready] == ["good"]
    aside = next(plugin for plugin in plugins.loaded if plugin.slug == entry.name)
    assert reason in aside.fault
    assert [item.id for item in registry.all(NavItem)] == ["good.first"]


def test_a_plugin_of_the_wrong_version_is_never_imported(installed):
    class Trap(_Entry):
        def load(self):
            raise AssertionError("imported")

    _, plugins = installed(Trap("tomorrow", None, requires=("qanun>=9",)))
    assert "AssertionError" not in plugins.loaded[0].fault


def test_a_bundled_plugin_that_fails_stops_the_start(installed):
    with pytest.raises(ConfigurationError, match="emr"):
        installed(_Entry("emr", ImportError("gone")))


def test_after_the_start_nothing_can_be_added(installed):
    registry, _ = installed(_Entry("good", Good()))
    registry.freeze()
    with pytest.raises(ConfigurationError):
        registry.add("good", _item("good.second"))


async def test_a_raising_and_a_hanging_contribution_cost_a_card_each_and_never_the_page(monkeypatch):
    import asyncio

    from qanun import registry as module

    monkeypatch.setattr(module, "SOFT_BUDGET_SECONDS", 0.05)
    registry = Registry()
    registry.add("good", _item("good.first"))
    entry = registry.entries(NavItem)[0]

    async def fails() -> str:
        raise RuntimeError("secret detail")

    async def hangs() -> str:
        await asyncio.sleep(60)
        return "late"

    async def works() -> str:
        return "here"

    results = [await registry.call_soft(entry, function) for function in (fails, hangs, works)]
    assert isinstance(results[0], Failure) and results[0].error == "RuntimeError"
    assert isinstance(results[1], Failure) and results[1].timed_out
    assert results[2] == "here"
    assert "secret detail" not in str(results[0])
