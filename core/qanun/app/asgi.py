"""The factory a web server is pointed at: `qanun.app.asgi:create`."""

from __future__ import annotations

import gc

from litestar import Litestar

from qanun.app.build import assemble
from qanun.app.logs import configure_logs
from qanun.app.web import web_application
from qanun.config import Config


def create() -> Litestar:
    configure_logs()
    application = web_application(assemble(Config.from_environment()))
    # What was made until now lives as long as the process: the collector need not walk it, nor start every 700 objects
    # when a page makes ten thousand.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    return application
