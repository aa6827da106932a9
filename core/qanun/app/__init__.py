"""The composition root: load plugins, fill the registry, wire the real services, build the web application or the worker.

Nothing below knows this room; nothing here decides anything a room below could decide.
"""

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
