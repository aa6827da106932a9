"""`from room import name`, carried out when the name is first asked for: what Python 3.15 writes `lazy from`.

A process that needs one small room does not pay for the others: the media worker seals recordings with `qanun.crypto`
and would otherwise carry the web framework and the database with it (0.8 s and 70 MB, measured, per core).
The import statements of the namespace stay the one list of where a name comes from: they are read from its source.
"""

import ast
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def on_demand(namespace: str) -> Callable[[str], Any]:
    """A module's `__getattr__` that carries out the imports under the module's `if TYPE_CHECKING:`."""
    module = sys.modules[namespace]
    where = _imports(module)

    def load(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {namespace!r} has no attribute {name!r}", name=name, obj=module)
        room, original = where[name]
        value = getattr(importlib.import_module(room), original)
        setattr(module, name, value)
        return value

    return load


def _imports(module: Any) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for block in ast.parse(Path(module.__file__).read_bytes()).body:
        if not (isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"):
            continue
        for statement in block.body:
            assert isinstance(statement, ast.ImportFrom) and statement.module and not statement.level
            found |= {one.asname or one.name: (statement.module, one.name) for one in statement.names}
    return found
