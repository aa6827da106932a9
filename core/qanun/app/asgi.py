"""The factory a web server is pointed at: `qanun.app.asgi:create`."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from litestar import Litestar


def create() -> Litestar:
    # All of what is loaded now stays: to look for garbage in it again and again is a tenth of what a start takes.
    gc.disable()
    from qanun.app.build import assemble
    from qanun.app.logs import configure_logs
    from qanun.app.web import web_application
    from qanun.config import Config

    configure_logs()
    application = web_application(assemble(Config.from_environment()))
    # What was made until now lives as long as the process: the collector need not walk it, nor start every 700 objects
    # when a page makes ten thousand. It is not collected first: that walks two hundred thousand objects for two thousand.
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    gc.enable()
    return application
