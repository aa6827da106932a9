"""Every installed plugin keeps the contract; the same checks run for a stranger's."""

import pytest

from qanun.app.build import gather
from qanun.app.web import all_routes
from qanun.db.migrations import pending
from qanun.testing.conformance import CHECKS
from qanun.web import NavItem

_REGISTRY, _PLUGINS = gather()


@pytest.mark.parametrize("plugin", _PLUGINS.ready, ids=lambda plugin: plugin.slug)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_plugin_keeps_the_contract(plugin, check):
    assert check(plugin, _REGISTRY) == []


@pytest.mark.parametrize("lineage", _PLUGINS.lineages(), ids=lambda lineage: lineage.slug)
@pytest.mark.filterwarnings("ignore")
def test_models_and_migrations_agree(postgres, lineage):
    assert pending(postgres.owner_url, lineage).ops == []


def test_a_navigation_entry_asks_for_exactly_the_permission_of_its_page(application):
    routes = {
        path: handler.opt["permission"]
        for path, handler in all_routes(application)
        if "GET" in getattr(handler, "http_methods", ())
    }
    for item in _REGISTRY.all(NavItem):
        assert routes.get(item.href.split("?")[0]) == str(item.permission), item.id
