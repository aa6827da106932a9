"""What every plugin must keep, whoever wrote it: checks that an author's test run inherits for the plugin under test.

Use it as `test_conformance = conformance_checks("labs")`-style parametrisation over `CHECKS`; each check takes the loaded
plugin and the gathered registry and returns faults in words. It needs no database; migrations are checked by
`schema_faults`, which does.
"""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from qanun.access import Grant, Permissions
from qanun.audit import AuditEventType
from qanun.db import Base, TenantModel
from qanun.events import EventHandler, EventType
from qanun.i18n import Message
from qanun.plugins import LoadedPlugin
from qanun.registry import Registry
from qanun.web import NavItem
from qanun.web.templating import environment, package_folder

_INLINE = re.compile(r"<script(?![^>]*\bsrc=)|<style\b|\sstyle\s*=|\son[a-z]+\s*=\s*[\"']|javascript:", re.IGNORECASE)
_PHYSICAL = re.compile(
    r"(?<![\w-])(?:margin|padding|border)-(?:left|right)\b|(?<![\w-])(?:left|right)\s*:\s*[\d-]|text-align\s*:\s*(?:left|right)"
)

Check = Callable[[LoadedPlugin, Registry], list[str]]


def _sources(plugin: LoadedPlugin) -> Iterator[Path]:
    folder = package_folder(plugin.slug)
    assert folder is not None
    yield from (path for path in sorted(folder.rglob("*.py")) if "migrations" not in path.parts)


def imports_only_the_public_api(plugin: LoadedPlugin, registry: Registry) -> list[str]:
    """`qanun.api`, and for the media worker's process `qanun.crypto`, which has no tenant and no session."""
    faults = []
    for path in _sources(plugin):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                root = name.split(".", 1)[0]
                if root == "qanun" and name not in {"qanun.api", "qanun.api.migrations", "qanun.crypto"}:
                    faults.append(f"{path.name} imports {name}")
                if root.startswith("qanun_") and root != plugin.package:
                    faults.append(f"{path.name} imports another plugin: {name}")
    return faults


def permissions_are_granted_and_used(plugin: LoadedPlugin, registry: Registry) -> list[str]:
    faults = []
    texts = "".join(path.read_text(encoding="utf-8") for path in _sources(plugin) if path.name != "permissions.py")
    granted = {str(p) for grant in registry.all(Grant) for p in grant.permissions}
    for entry in registry.entries(type(Permissions)):
        if entry.plugin != plugin.slug:
            continue
        for permission in entry.item:
            if not re.fullmatch(rf"{plugin.slug}\.[a-z-]+:[a-z-]+", str(permission)):
                faults.append(f"{permission} is not spelled {plugin.slug}.resource:action")
            if str(permission) not in granted:
                faults.append(f"{permission} is granted to no role")
            if f".{permission.name}" not in texts.replace("permissions=", ""):
                faults.append(f"{permission} is used nowhere")
    return faults


def permissions_are_said_in_words(plugin: LoadedPlugin, registry: Registry) -> list[str]:
    """An administrator who edits a role reads them."""
    own = [entry.item for entry in registry.entries(type(Permissions)) if entry.plugin == plugin.slug]
    return [f"{one} says nothing in words (N_)" for kind in own for one in kind if not isinstance(one.words, Message)]


def tables_are_prefixed_and_belong_to_a_clinic(plugin: LoadedPlugin, registry: Registry) -> list[str]:
    faults = []
    for mapper in Base.registry.mappers:
        if mapper.class_.__module__.split(".", 1)[0] != plugin.package:
            continue
        table = mapper.local_table.name  # type: ignore[attr-defined]
        if not table.startswith(f"{plugin.slug}_"):
            faults.append(f"table {table} lacks the prefix {plugin.slug}_")
        if not issubclass(mapper.class_, TenantModel):
            faults.append(f"table {table} belongs to no clinic")
    return faults


def templates_parse_and_hold_nothing_inline(plugin: LoadedPlugin, registry: Registry) -> list[str]:
    folder = package_folder(plugin.slug)
    assert folder is not None
    faults = []
    for path in sorted((folder / "templates").rglob("*.html")):
        text = path.read_text(encoding="utf-8")
        environment().parse(text)
        faults += [f"{path.name}: inline {found.group(0)!r}" for found in _INLINE.finditer(text)]
    for path in sorted((folder / "static").rglob("*.css")):
        if "vendor" not in path.parts:
            css = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
            faults += [f"{path.name}: physical direction {found.group(0)!r}" for found in _PHYSICAL.finditer(css)]
    return faults


def templates_are_all_used(plugin: LoadedPlugin, registry: Registry) -> list[str]:
    folder = package_folder(plugin.slug)
    assert folder is not None
    texts = "".join(path.read_text(encoding="utf-8") for path in _sources(plugin))
    templates = sorted((folder / "templates").rglob("*.html"))
    texts += "".join(path.read_text(encoding="utf-8") for path in templates)
    names = [str(path.relative_to(folder / "templates")) for path in templates]
    return [f"template {name} is used nowhere" for name in names if name not in texts]


def labels_are_translatable(plugin: LoadedPlugin, registry: Registry) -> list[str]:
    faults = []
    for kind in registry.kinds():
        for entry in registry.entries(kind):
            label = getattr(entry.item, "label", None)
            if entry.plugin == plugin.slug and label is not None and not isinstance(label, Message):
                faults.append(f"{kind.__name__} {entry.item.id}: its label is not marked with N_")
    return faults


def audit_types_say_how_they_are_redacted(plugin: LoadedPlugin, registry: Registry) -> list[str]:
    known = {"holds-no-personal-data", "erase-detail"}
    entries = [entry.item for entry in registry.entries(AuditEventType) if entry.plugin == plugin.slug]
    return [f"{item.id}: redaction {item.redaction!r}" for item in entries if item.redaction not in known]


def events_have_valid_examples_and_handlers_a_source(plugin: LoadedPlugin, registry: Registry) -> list[str]:
    faults = []
    for entry in registry.entries(EventType):
        if entry.plugin == plugin.slug:
            fields = {field.name for field in dataclasses.fields(entry.item.event)}
            if set(entry.item.example) != fields:
                faults.append(f"{entry.item.id}: its example has not exactly the fields {sorted(fields)}")
            if entry.item.event.type != entry.item.id:
                faults.append(f"{entry.item.id}: the event calls itself {entry.item.event.type}")
    handlers = [entry.item for entry in registry.entries(EventHandler) if entry.plugin == plugin.slug]
    named = re.compile(r"[a-z]+(\.[a-z-]+)+")
    faults += [f"{item.id}: no event is called {item.event!r}" for item in handlers if not named.fullmatch(item.event)]
    return faults


def navigation_leads_only_where_its_holder_may_go(plugin: LoadedPlugin, registry: Registry) -> list[str]:
    known = {str(permission) for kind in registry.all(type(Permissions)) for permission in kind}
    items = [entry.item for entry in registry.entries(NavItem) if entry.plugin == plugin.slug]
    return [f"{item.id}: unknown permission {item.permission}" for item in items if str(item.permission) not in known]


CHECKS: tuple[Check, ...] = (
    imports_only_the_public_api,
    permissions_are_granted_and_used,
    permissions_are_said_in_words,
    tables_are_prefixed_and_belong_to_a_clinic,
    templates_parse_and_hold_nothing_inline,
    templates_are_all_used,
    labels_are_translatable,
    audit_types_say_how_they_are_redacted,
    events_have_valid_examples_and_handlers_a_source,
    navigation_leads_only_where_its_holder_may_go,
)
