"""What the appliance's tests share: a site file that is right, and changes to it."""

import copy
import tomllib

import pytest

SITE = """
version = 1
language = "ar"

[clinic]
name = "Al-Razi Family Clinic"
name_alt = "عيادة الرازي"
slug = "al-razi"
timezone = "Africa/Casablanca"
currency = "MAD"
country = "MA"
phone = "+212 522 000 000"

[administrator]
name = "Salma Idrissi"
email = "admin@al-razi.example"

[hosts]
names = ["clinic.lan", "192.168.7.10"]

[network]
mode = "static"
hostname = "qanun"
interface = "en*"
address = "192.168.7.10/24"
gateway = "192.168.7.1"
dns = ["192.168.7.1"]

[time]
servers = ["192.168.7.1"]

[certificate]
kind = "own"

[backup]
target = "/mnt/backup"

[ssh]
mode = "off"
"""


@pytest.fixture
def site_text() -> str:
    return SITE


@pytest.fixture
def site_table():
    """The table of a right site file, to be changed."""
    return copy.deepcopy(tomllib.loads(SITE))
