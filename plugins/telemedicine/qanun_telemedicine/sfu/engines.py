"""Which data plane a worker runs: the C engine where it is there, else the Python engine, or the one that was asked for."""

import logging

from qanun_telemedicine.sfu import native
from qanun_telemedicine.sfu.addresses import Address, shown
from qanun_telemedicine.sfu.engine import Engine
from qanun_telemedicine.sfu.engine_c import CEngine
from qanun_telemedicine.sfu.engine_python import PythonEngine

log = logging.getLogger(__name__)

CHOICES = ("auto", "c", "python")


def open_engine(choice: str, listen: Address) -> Engine:
    """An engine on this address; says in the log which one it is and why. Raises Unavailable when "c" cannot be had."""
    if choice == "python":
        engine: Engine = PythonEngine(listen)
    else:
        try:
            engine = CEngine(listen)
        except native.Unavailable as reason:
            if choice == "c":
                raise
            log.warning("no C engine: %s", reason)
            engine = PythonEngine(listen)
    log.info("media engine: %s, at %s", engine.kind, shown(engine.address))
    return engine
