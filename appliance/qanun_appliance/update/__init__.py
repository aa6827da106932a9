"""Releases: proven before they are believed, staged beside what runs, started when the clinic says so, left when they fail."""

from qanun_appliance.update.bundle import Refused, Release, pack, trusted_keys
from qanun_appliance.update.slots import Disk, this_disk
from qanun_appliance.update.stage import reboot, roll_back, stage, status, tidy

__all__ = [
    "Disk",
    "Refused",
    "Release",
    "pack",
    "reboot",
    "roll_back",
    "stage",
    "status",
    "this_disk",
    "tidy",
    "trusted_keys",
]
