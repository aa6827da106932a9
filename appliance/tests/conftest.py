"""What the appliance's tests share: a site file that is right, and changes to it."""

import copy
import os
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path

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


@pytest.fixture(scope="session")
def site_text() -> str:
    return SITE


@pytest.fixture
def site_table():
    """The table of a right site file, to be changed."""
    return copy.deepcopy(tomllib.loads(SITE))


@pytest.fixture
def shared_folder():
    """A folder that PostgreSQL's account may enter, too: pytest's own are closed to it."""
    folder = Path(tempfile.mkdtemp(prefix="qanun-appliance-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def programs():
    """Debian's PostgreSQL, as on a box; without it the test has nothing to run."""
    from qanun_appliance.apply import postgres_programs
    from qanun_appliance.places import Places

    if os.geteuid() == 0:
        import pwd

        try:
            pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("no account postgres here")
    try:
        return postgres_programs(Places())
    except Exception as missing:
        pytest.skip(str(missing))


CODE = Path(sys.executable).parent


@pytest.fixture(scope="session")
def box(site_text):
    """One box for all tests that need one: seeded, saved once; nobody changes its disk."""
    from appliance.tests.boxes import made_box
    from qanun.api import ConfigurationError

    if shutil.which("restic") is None:
        pytest.skip("restic is not installed here")
    try:
        with made_box(site_text) as made:
            yield made
    except ConfigurationError as missing:
        pytest.skip(str(missing))
