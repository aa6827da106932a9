"""Every unit of ours is shut in as systemd itself judges it: its own analysis over the rendered files, no service started."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from qanun.app import SystemService
from qanun.app.build import gather
from qanun_appliance.apply import apply
from qanun_appliance.places import Places
from qanun_appliance.render import Machine
from qanun_appliance.site import parse_site

#: systemd's own measure, times ten: 0 is shut in wholly, 100 not at all.
MOST = 30
#: What is not shut in, and why.
OPEN = {
    "qanun-give-up.service": "systemd's own systemd-bless-boot, for a moment before the machine starts again: it looks for the start-up "
    "partition by itself and renames a file there, as systemd's own unit does without being shut in",
}  # fmt: skip


@pytest.fixture(scope="module")
def rated(tmp_path_factory, site_text):
    """The exposure of every service of ours, from a machine with everything that a site can ask for."""
    import tomllib

    place = tmp_path_factory.mktemp("shut-in")
    table = tomllib.loads(site_text) | {
        "media": {"nodes": ["192.168.7.20"]}, "captions": {"recogniser": "http://192.168.7.30:8000"},
        "mail": {"host": "mail.al-razi.example", "from": "clinic@al-razi.example"},
    }  # fmt: skip
    on = Machine(memory_mb=8192, cores=4, postgres_bin="/usr/lib/postgresql/17/bin", slot=True)
    apply(parse_site(table), Places(place, Path(sys.executable).parent), gather()[0].all(SystemService), on, [])
    units = sorted(path.name for path in (place / "etc/systemd/system").glob("qanun-*.service") if path.is_file())
    # What starts one of several workers has a name only with its number.
    named = [name.replace("@.", "@1.") for name in units]
    words = ["systemd-analyze", "security", "--offline=yes", f"--root={place}", "--no-pager", "--json=short"]
    found = {}
    for name in named:
        done = subprocess.run(
            [*words, f"--threshold={MOST}", name], capture_output=True, text=True, timeout=60, check=False
        )
        if "Failed to" in done.stderr or not done.stdout.strip():
            pytest.skip(f"systemd-analyze cannot judge files here: {done.stderr.strip()[:200]}")
        open_doors = [one["json_field"] for one in json.loads(done.stdout) if one.get("set") is False]
        found[name] = (done.returncode == 0, open_doors)
    return found


def test_no_unit_of_ours_is_more_exposed_than_systemd_calls_ok(rated):
    assert {"qanun-wish-stage.service", "qanun-wish-rollback.service", "qanun-wish-restart.service", "qanun-apply.service",
            "qanun-setup-work.service", "qanun-setup-disk.service", "qanun-renew.service", "qanun-captions.service"} <= set(rated)  # fmt: skip
    exposed = {name: doors for name, (well, doors) in rated.items() if not well}
    assert set(exposed) == set(OPEN), exposed


def test_what_the_page_asks_of_root_has_no_network_and_becomes_nobody_else(rated):
    for name in ("stage", "rollback", "restart"):
        doors = set(rated[f"qanun-wish-{name}.service"][1])
        assert not doors & {
            "PrivateNetwork",
            "CapabilityBoundingSet_CAP_SYS_ADMIN",
            "CapabilityBoundingSet_CAP_SET_UID_GID_PCAP",
        }
        assert ("PrivateDevices" in doors) == (name != "restart"), "only whoever writes to the slots sees disks"
