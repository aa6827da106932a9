"""`qanun appliance …`: thin; each command reads its words and calls one module."""

from __future__ import annotations

from qanun.api import CliCommand
from qanun_appliance.commands import carrying, keeping, releasing, setting_up, wizard

COMMANDS: tuple[CliCommand, ...] = (
    *setting_up.COMMANDS,
    *keeping.COMMANDS,
    *releasing.COMMANDS,
    *wizard.COMMANDS,
    *carrying.COMMANDS,
)
