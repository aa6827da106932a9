"""The composition root: load plugins, fill the registry, wire the real services, build the web application or the worker.

Nothing below knows this room; nothing here decides anything a room below could decide. Its parts are loaded when they are
asked for: a command that only names itself does not carry the web framework along.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qanun.app.build import Assembly, assemble
    from qanun.app.lifespan import CliCommand, DemoSeeder, Lifespan, SystemService
    from qanun.app.web import web_application
    from qanun.app.worker import run_worker

__all__ = [
    "Assembly",
    "CliCommand",
    "DemoSeeder",
    "Lifespan",
    "SystemService",
    "assemble",
    "run_worker",
    "web_application",
]

_PARTS = {"Assembly": "build", "assemble": "build", "web_application": "web", "run_worker": "worker"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_PARTS.get(name, 'lifespan')}"), name)
    globals()[name] = value
    return value
