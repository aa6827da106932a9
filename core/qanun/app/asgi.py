"""The factory a web server is pointed at: `qanun.app.asgi:create`."""

from __future__ import annotations

from litestar import Litestar

from qanun.app.build import assemble
from qanun.app.logs import configure_logs
from qanun.app.web import web_application
from qanun.config import Config


def create() -> Litestar:
    configure_logs()
    return web_application(assemble(Config.from_environment()))
