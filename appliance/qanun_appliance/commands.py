"""`qanun appliance …`: thin; each command calls one module."""

from __future__ import annotations

from qanun.api import CliCommand

COMMANDS: tuple[CliCommand, ...] = ()
