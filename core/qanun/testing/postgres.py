"""A throw-away PostgreSQL of its own for one test session, in a temporary folder, prepared like an appliance's."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

from qanun.db.embedded import EmbeddedPostgres


class ScratchPostgres(EmbeddedPostgres):
    """`start()` gives a running cluster on a Unix socket only; `stop()` removes every trace. Durability is off."""

    def __init__(self, *, durable: bool = False) -> None:
        super().__init__(Path(tempfile.mkdtemp(prefix="qanun-pg-")), durable=durable)
        atexit.register(self.stop)

    def start(self) -> ScratchPostgres:
        super().start()
        return self

    def stop(self) -> None:
        self.halt(at_once=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.folder.parent / f"{self.folder.name}-program", ignore_errors=True)
