"""Backups that are proven: taken as one moment, restored into a copy every night and compared, refused when damaged."""

from qanun_appliance.backup.drill import drill
from qanun_appliance.backup.restic import Damaged, Restic, WrongBackupKey
from qanun_appliance.backup.restore import restore
from qanun_appliance.backup.store import repository, store_at
from qanun_appliance.backup.take import Live, back_up, back_up_log

__all__ = [
    "Damaged",
    "Live",
    "Restic",
    "WrongBackupKey",
    "back_up",
    "back_up_log",
    "drill",
    "repository",
    "restore",
    "store_at",
]
